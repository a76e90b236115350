"""The rows of a trace in JSON: a Mooncake trace, an object a line, or a result of vllm bench serve, a single object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fluid.errors import FileError, InputError, real, shown
from fluid.files.json_object import read_object
from fluid.files.text_file import TextFile
from fluid.traces.fields import LATEST
from fluid.traces.formats import CHUNK, CHUNK_TEXT, FORMATS, MOONCAKE, VLLM, Chunk, Rows

LENGTHS = ("input_lens", "output_lens")
MOST_REQUESTS = 2**20  # of one benchmark


def mooncake_rows(text: TextFile) -> Rows:
    """The rows of a Mooncake trace: the lines of the file."""
    return Rows(MOONCAKE, _chunks(text))


def _chunks(text: TextFile) -> Iterator[Chunk]:
    keys = MOONCAKE.columns
    lines = enumerate(text.lines(), start=1)
    while some := _some(lines):
        parsed = [(place, _parsed(line)) for place, line in some if line.strip()]
        objects = [(place, value) for place, value in parsed if isinstance(value, dict)]
        broken = [(place, "the row must be a JSON object") for place, value in parsed if not isinstance(value, dict)]
        prompt, output, time = ([value.get(key) for _, value in objects]
                                for key in (keys.prompt, keys.output, keys.time))
        hashes = [value.get("hash_ids") for _, value in objects]
        yield Chunk([place for place, _ in objects], prompt, output, time, broken, hashes)


def _some(lines: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    """As many lines as make a chunk."""
    some, size = [], 0
    for each in lines:
        some.append(each)
        size += len(each[1])
        if len(some) == CHUNK or size > CHUNK_TEXT:
            break
    return some


def vllm_rows(text: TextFile) -> Rows:
    """The rows of a result of vllm bench serve: its requests, all in one chunk."""
    columns = {key: _Column(key, text.source) for key in (*LENGTHS, "errors", "start_times")}
    values = read_object(text, {key: column.take for key, column in columns.items()}, ("duration",))
    if values is None:
        others = ", ".join(each for each in FORMATS if each not in ("vllm", "columns"))
        raise FileError(text.source, "", "must be one JSON object, as vllm bench serve writes it, or a trace in one of "
                                         f"the formats {others}")
    prompt, output = (_given(columns[key]) for key in LENGTHS)
    if len(output) != len(prompt):
        problem = f"must have {len(prompt)} entries like input_lens (got {len(output)})"
        raise FileError(text.source, "output_lens", problem)
    output = _zero_where_failed(output, columns["errors"].values)
    times = _start_times(columns["start_times"].values, output)
    chunk = Chunk(list(range(1, len(prompt) + 1)), prompt, output, times, [])
    return Rows(VLLM, iter([chunk]), "request", _duration(values.get("duration"), text.source))


class _Column:
    """A list of a value for each request, its pieces put together; None where there is no list. Of errors it only
    matters whether there is one.
    """

    def __init__(self, key: str, source: str) -> None:
        self.key, self.source = key, source
        self.values: list[Any] | None = None

    def take(self, piece: list[Any]) -> None:
        """Add a piece."""
        self.values = self.values or []
        self.values += map(bool, piece) if self.key == "errors" else piece
        if len(self.values) > MOST_REQUESTS:
            raise FileError(self.source, self.key, f"must have at most {MOST_REQUESTS:,} entries")


def _zero_where_failed(output: list[Any], errors: list[Any] | None) -> list[Any]:
    if errors is None or len(errors) != len(output):
        return output
    return [0 if error else tokens for error, tokens in zip(errors, output, strict=True)]


def _start_times(given: list[Any] | None, output: list[Any]) -> list[Any] | None:
    """The start times; None where the file does not have them, or the client left that of a successful request 0."""
    if given is None or len(given) != len(output):
        return None
    return given if all(time for time, tokens in zip(given, output, strict=True) if tokens) else None


def _duration(given: Any, source: str) -> float | None:
    """The seconds a benchmark took; None where the file does not say."""
    if given is None:
        return None
    try:
        duration = real("duration", given, unit="seconds")
    except InputError as error:
        raise FileError(source, "duration", f"must be {error.requirement} (got {shown(given)})") from None
    if duration > LATEST:
        raise FileError(source, "duration", f"must be at most {LATEST:g} seconds (got {shown(given)})")
    return duration


def _given(column: _Column) -> list[Any]:
    if column.values is None:
        raise FileError(column.source, column.key, "must be a list of tokens by request, which vllm bench serve writes "
                                                   "with --save-result --save-detailed")
    return column.values


def _parsed(text: str) -> Any:
    """The JSON value; None where the text is not JSON, or has integers of more than some thousand digits."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
