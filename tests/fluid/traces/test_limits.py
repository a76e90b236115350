"""Limits of what a trace may hold, and of what it takes to read one: files that nobody meant to be read."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from fluid import FileError, Trace, read_trace
from fluid.files import text_file
from fluid.traces import repeats, request_table
from fluid.traces.formats import bench_results, csv_rows, records

VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,374,44\n2.0,396,109\n"
MOONCAKE = """{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}
{"timestamp": 30535, "input_length": 6472, "output_length": 26, "hash_ids": [46, 47, 48]}
"""


def written(folder: Path, content: str | bytes, name: str = "requests.csv") -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def vidur(*rows: str) -> str:
    """A file in Vidur's format: the header is line 1, the first row line 2."""
    return "\n".join(["arrived_at,num_prefill_tokens,num_decode_tokens", *rows]) + "\n"


def rows_of(trace: Trace) -> list[tuple[int, int]]:
    """The lengths of the requests of a trace."""
    return list(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True))


def refusal(path: Path, **options: Any) -> str:
    """What `read_trace` says of a file it refuses, less the file's name; one line."""
    with pytest.raises(FileError) as caught:
        read_trace(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def held_while_refused(path: Path, problem: str) -> int:
    """The most memory that reading a file took until it was refused with that problem, in bytes."""
    tracemalloc.start()
    try:
        assert refusal(path) == problem
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    """100 MiB of one character, 100 KB zipped; at most the 4 Mi characters of a line and a few copies are held."""
    path = written(tmp_path, gzip.compress(VIDUR.encode() + b"7" * (100 * 2**20), compresslevel=1))
    assert held_while_refused(path, "must have lines of at most 4,194,304 characters") < 24 * 2**20


def test_a_value_too_deep_to_be_shown_is_refused_in_one_line(tmp_path: Path) -> None:
    """As deep as the reader of JSON goes, of whose depth the writer of messages is one short."""
    for depth in (900, 980, 990, 993):
        line = '{"timestamp": 1, "input_length": ' + "[" * depth + "]" * depth + ', "output_length": 1}\n'
        assert refusal(written(tmp_path, line), format="mooncake").startswith("1 of 1 rows cannot be used: line 1, ")


def test_a_trace_of_less_than_a_nanosecond_has_no_rate(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, vidur("0,1,1", "1e-300,1,1"))).rate is None
    assert read_trace(written(tmp_path, vidur("0,1,1", "1e-9,1,1"))).rate == pytest.approx(2e9)


def test_fields_of_emoji_on_one_line_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    """A field takes 88 bytes for its 2 characters: 8 Mi of them on the first line, of 1 MB zipped."""
    path = written(tmp_path, gzip.compress(("\U0001f600," * 2**22 + "\n").encode(), compresslevel=1))
    assert held_while_refused(path, "must have lines of at most 4,194,304 characters") < 64 * 2**20


def test_a_row_that_goes_on_over_all_lines_is_refused_before_it_fills_the_memory(tmp_path: Path,
                                                                                monkeypatch: Any) -> None:
    """Half a million fields that hold a line end, on as many lines; each takes 8 bytes of a list and its text."""
    monkeypatch.setattr(text_file, "LONGEST_LINE", 2**16)
    monkeypatch.setattr(text_file, "BLOCK", 2**14)
    path = written(tmp_path, VIDUR + '"a\n",' * 500_000)
    assert held_while_refused(path, "must have rows of at most 65,536 characters") < 8 * 2**20


def test_a_chunk_ends_after_so_many_characters_however_few_its_rows(tmp_path: Path, monkeypatch: Any) -> None:
    """Rows of 1,000 and 10,000 characters; with chunks of 20,000 the rows are the same, and in both formats."""
    csv = vidur(*(f'{i}.{"0" * 1000},5,{i + 1}' for i in range(300)))
    lines = [json.dumps({"timestamp": i, "input_length": 5, "output_length": i + 1, "hash_ids": [],
                         "note": "x" * 10_000}) for i in range(50)]
    for content in (csv, "\n".join(lines)):
        path = written(tmp_path, content)
        expected = rows_of(read_trace(path))
        monkeypatch.setattr(csv_rows, "CHUNK_TEXT", 20_000)
        monkeypatch.setattr(records, "CHUNK_TEXT", 20_000)
        monkeypatch.setattr(text_file, "BLOCK", 5000)
        assert rows_of(read_trace(path)) == expected
        monkeypatch.undo()


def test_a_file_of_which_most_rows_are_bad_is_refused_before_its_end(tmp_path: Path, monkeypatch: Any) -> None:
    """100 bad rows in chunks of 4,096 that are the first: the good ones after them are not read."""
    monkeypatch.setattr(text_file, "MOST_BAD_ROWS", 50)
    path = written(tmp_path, vidur(*["x,x,x"] * 5000, *["1,1,1"] * 5000))
    assert refusal(path).startswith("4,096 of the first 4,096 rows cannot be used: line 2, ")
    assert refusal(written(tmp_path, vidur(*["x,x,x"] * 49, "1,1,1"))).startswith("49 of 50 rows cannot be used")


def test_rows_that_are_no_csv_are_bad_rows_of_one_chunk(tmp_path: Path, monkeypatch: Any) -> None:
    """A stray quote on every line; a chunk for each of them would cost a hundred times more."""
    chunks = []
    add = request_table._Tally.add
    monkeypatch.setattr(request_table._Tally, "add", lambda self, chunk: (chunks.append(chunk), add(self, chunk)))
    assert refusal(written(tmp_path, vidur(*['"a"b,1,1'] * 1000))).startswith("1,000 of 1,000 rows cannot be used")
    assert len(chunks) == 1


@pytest.mark.parametrize(("content", "problem"), [
    (",".join(f"c{i}" for i in range(10_001)) + "\n", "must have at most 10,000 columns (got 10,001)"),
    (vidur(*["1,1,1"] * 11), "must hold at most 10 requests"),
    (json.dumps({"input_lens": [1] * 21, "output_lens": [1] * 21}), "input_lens must have at most 20 entries")])
def test_a_trace_beyond_its_limits_is_refused_with_them(tmp_path: Path, monkeypatch: Any, content: str,
                                                        problem: str) -> None:
    monkeypatch.setattr(request_table, "MOST_REQUESTS", 10)
    monkeypatch.setattr(bench_results, "MOST_REQUESTS", 20)
    assert refusal(written(tmp_path, content)) == problem


def test_a_trace_of_too_many_blocks_says_nothing_of_repeats(tmp_path: Path, monkeypatch: Any) -> None:
    """Five blocks in all, in one chunk."""
    path = written(tmp_path, MOONCAKE, "trace.jsonl")
    monkeypatch.setattr(repeats, "MOST_BLOCKS", 5)
    assert read_trace(path).repeated_tokens is not None
    monkeypatch.setattr(repeats, "MOST_BLOCKS", 4)
    assert read_trace(path).repeated_tokens is None
