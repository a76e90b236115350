"""Files are there whole or not at all, on a disk that is full too; links and devices stay what they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fluid.errors import FileError
from fluid.files.written import write_file, write_files

LIMITED = """
import resource, signal, sys
from pathlib import Path
sys.dont_write_bytecode = True  # it would be cut off
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from fluid.files.written import write_files
try:
    write_files(Path(sys.argv[1]), {"first": b"new", "second": b"x" * 10_000, "third": b"new"})
except ValueError as error:
    print(error)
"""


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden files included."""
    return sorted(os.listdir(folder))


def test_files_are_written_and_written_again(tmp_path: Path) -> None:
    """Text as UTF-8, bytes as they are, in a folder that is made; nothing else is left there."""
    folder = tmp_path / "a" / "b"
    write_files(folder, {"one": "é\n", "two": b"\x00"})
    write_files(folder, {"one": "second\n"})
    assert (folder / "one").read_bytes() == b"second\n"
    assert (folder / "two").read_bytes() == b"\x00"
    assert names(folder) == ["one", "two"]


def test_where_one_does_not_fit_none_has_changed(tmp_path: Path) -> None:
    """A process that may write 4 KB to a file stands for a full disk: the file is named, and the rest is as before."""
    (tmp_path / "first").write_text("old")
    run = subprocess.run([sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == f"{tmp_path / 'second'}: cannot be written: File too large"
    assert names(tmp_path) == ["first"]
    assert (tmp_path / "first").read_text() == "old"


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    """Who points report.json elsewhere does not lose what is there."""
    target, link = tmp_path / "target", tmp_path / "report.json"
    target.write_text("precious")
    link.symlink_to(target)
    write_file(link, "new")
    assert target.read_text() == "precious"
    assert not link.is_symlink()
    assert link.read_text() == "new"


@pytest.mark.parametrize("place", ["folder", "device", "nowhere/file", "nul\0"])
def test_what_cannot_be_written_is_one_line(place: str, tmp_path: Path) -> None:
    """A folder in the way, a device, a folder that is not there, a name that is none."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to(os.devnull)
    with pytest.raises(FileError, match="cannot be written") as refused:
        write_file(tmp_path / place, "text")
    assert "\n" not in str(refused.value)
    assert names(tmp_path) == ["device", "folder"]
