"""What a text may hold, whatever it is the text of: limits passed are refused at once, in one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fluid import FileError
from fluid.files import text_file
from fluid.files.text_file import opened
from fluid.files.whole_file import read_small


def lines_of(path: Path) -> list[str]:
    with opened(path) as text:
        return list(text.lines())


def problem_of(path: Path) -> str:
    """What is wrong with a file."""
    with pytest.raises(FileError) as error:
        lines_of(path)
    return error.value.problem


@pytest.fixture
def small(monkeypatch):
    """Blocks of 8 characters, lines of at most 20, 1,000 in all, in which half may be line ends."""
    for name, value in {"BLOCK": 8, "LONGEST_LINE": 20, "LARGEST_FILE": 1000, "MOST_LINE_ENDS": 4}.items():
        monkeypatch.setattr(text_file, name, value)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("lines", [
    ["a\n", "bc\n"], ["a" * 19 + "\n", "b" * 20 + "\n", "c" * 20], ["", "x\n", "y"], ["abcdefg\n"] * 50])
def test_lines_are_put_together_from_blocks(tmp_path, lines):
    path = tmp_path / "text"
    path.write_text("".join(lines))
    assert lines_of(path) == [line for line in lines if line]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("text", "problem"), [
    ("a\n" + "b" * 21 + "\n", "must have lines of at most 20 characters"),
    ("a\n" + "b" * 21, "must have lines of at most 20 characters"),
    ("abc\n" * 251, "must be at most 1,000 characters long"),
    ("a,b\n" + "\n" * 8, "must be text in lines (5 of 8 characters are line ends)"),
    ("a,b\n" + "\r\n" * 8, "must be text in lines (5 of 8 characters are line ends)"),
    (" " * 9, "must hold text among its first 8 characters"), (" " * 7, "is empty")])
def test_a_text_beyond_a_limit_is_refused_with_the_limit(tmp_path, text, problem):
    path = tmp_path / "text"
    path.write_bytes(text.encode())
    assert problem_of(path) == problem


@pytest.mark.usefixtures("small")
def test_a_row_of_several_lines_is_bounded_like_a_line(tmp_path):
    """Whoever reads says where rows end: here every row but the last ends on its line."""
    path = tmp_path / "text"
    path.write_text("a\n" * 60 + "b23\n" * 20)
    read = []

    def rows() -> None:
        with opened(path) as text:
            for line in text.csv_lines():
                read.append(line)
                text.row_end = len(read) if line == "a\n" else text.row_end

    with pytest.raises(FileError, match="must have rows of at most 20 characters"):
        rows()
    assert 60 < len(read) < 60 + 20


def test_compressed_bytes_that_hold_no_text_are_not_all_read(tmp_path, monkeypatch):
    """Empty members of 20 bytes each, without end."""
    monkeypatch.setattr(text_file, "BLOCK", 100)
    monkeypatch.setattr(text_file, "BARREN", 1000)
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"text") + gzip.compress(b"", mtime=0) * 100)
    assert problem_of(path) == "must be text (1,000 bytes of its gzip stream hold next to none)"


def test_a_gigabyte_of_line_ends_is_refused_after_its_first_block(tmp_path):
    """4 MiB of them here, in 4 KB."""
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"\n" * 2**22))
    assert problem_of(path) == "must be text in lines (1,048,573 of 1,048,576 characters are line ends)"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no endless device here")
def test_a_device_without_end_is_refused():
    assert problem_of(Path("/dev/zero")) == "must be text (it holds NUL bytes, as a binary file does)"
    with pytest.raises(FileError, match=r"/dev/zero: must be at most 100 bytes long"):
        read_small("/dev/zero", 100)


def test_a_small_file_is_read_whole_up_to_its_limit(tmp_path):
    path = tmp_path / "small"
    path.write_bytes(b"x" * 100)
    assert read_small(path, 100) == b"x" * 100
    with pytest.raises(FileError, match="must be at most 99 bytes long"):
        read_small(path, 99)
    with pytest.raises(FileError, match="cannot be read: No such file"):
        read_small(tmp_path / "none", 99)
    with pytest.raises(FileError, match="cannot be read: not a file name"):
        read_small("a\0b", 99)
