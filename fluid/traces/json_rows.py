"""The rows of a trace in JSON: a Mooncake trace, an object a line, or a result of vllm bench serve, a single object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from fluid.errors import FileError, shown
from fluid.files.text_file import TextFile
from fluid.traces.formats import CHUNK, FORMATS, MOONCAKE, VLLM, Chunk, Rows


def mooncake_rows(text: TextFile) -> Rows:
    """The rows of a Mooncake trace: the lines of the file."""
    return Rows(MOONCAKE, _chunks(text))


def _chunks(text: TextFile) -> Iterator[Chunk]:
    keys = MOONCAKE.columns
    lines = enumerate(text.lines(), start=1)
    while some := list(islice(lines, CHUNK)):
        parsed = [(place, _parsed(line)) for place, line in some if line.strip()]
        objects = [(place, value) for place, value in parsed if isinstance(value, dict)]
        broken = [(place, "the row must be a JSON object") for place, value in parsed if not isinstance(value, dict)]
        prompt, output, time = ([value.get(key) for _, value in objects]
                                for key in (keys.prompt, keys.output, keys.time))
        hashes = [value.get("hash_ids") for _, value in objects]
        yield Chunk([place for place, _ in objects], prompt, output, time, broken, hashes)


def vllm_rows(text: TextFile) -> Rows:
    """The rows of a result of vllm bench serve: its requests, all in one chunk."""
    result = _parsed(text.document())
    if not isinstance(result, dict):
        others = ", ".join(each for each in FORMATS if each not in ("vllm", "columns"))
        raise FileError(text.source, "", "must be one JSON object, as vllm bench serve writes it, or a trace in one of "
                                         f"the formats {others}")
    prompt, output = (_list(result, key, text.source) for key in ("input_lens", "output_lens"))
    if len(output) != len(prompt):
        problem = f"must have {len(prompt)} entries like input_lens (got {len(output)})"
        raise FileError(text.source, "output_lens", problem)
    output = _zero_where_failed(output, result.get("errors"))
    times = _start_times(result.get("start_times"), output)
    chunk = Chunk(list(range(1, len(prompt) + 1)), prompt, output, times, [])
    return Rows(VLLM, iter([chunk]), "request", _duration(result.get("duration"), text.source))


def _zero_where_failed(output: list[Any], errors: Any) -> list[Any]:
    if not isinstance(errors, list) or len(errors) != len(output):
        return output
    return [0 if error else tokens for error, tokens in zip(errors, output, strict=True)]


def _start_times(given: Any, output: list[Any]) -> list[Any] | None:
    """The start times; None where the file does not have them, or the client left that of a successful request 0."""
    if not isinstance(given, list) or len(given) != len(output):
        return None
    return given if all(time for time, tokens in zip(given, output, strict=True) if tokens) else None


def _duration(given: Any, source: str) -> float | None:
    """The seconds a benchmark took; None where the file does not say."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < float("inf"):
        raise FileError(source, "duration", f"must be a positive finite number of seconds (got {shown(given)})")
    return float(given)


def _list(result: dict[str, Any], key: str, source: str) -> list[Any]:
    value = result.get(key)
    if not isinstance(value, list):
        raise FileError(source, key, "must be a list of tokens by request, which vllm bench serve writes with "
                                     "--save-result --save-detailed")
    return value


def _parsed(text: str) -> Any:
    """The JSON value; None where the text is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
