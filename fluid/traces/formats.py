"""The formats of request traces: what a row is, and which fields hold the lengths and the moment of a request.

    azure      CSV, TIMESTAMP (date and time), ContextTokens, GeneratedTokens      the Azure LLM inference traces
    burstgpt   CSV, Timestamp (s), Request tokens, Response tokens (0: failed)     BurstGPT, both releases
    vidur      CSV, arrived_at (s), num_prefill_tokens, num_decode_tokens          Vidur's processed traces
    mooncake   a JSON object a line: timestamp (ms), input_length, output_length   Mooncake's traces
    vllm       JSON, input_lens, output_lens, errors, duration (s), start_times    vllm bench serve --save-detailed
    columns    any CSV, by the names of its columns

A file that begins with a brace is JSON, any other a CSV whose first row names the columns: in any order, other columns
beside them, case and blanks around a name ignored. Older versions of vLLM write no `start_times`, and some of its
clients leave them 0: then there are no moments, and the rate is that of the requests over `duration`. Sources: the
files themselves; vllm/benchmarks/serve.py.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from fluid.errors import FileError, InputError, shown
from fluid.textfile import TextFile
from fluid.traces.fields import Column

NAME = "the name of a column"
CHUNK = 4096  # rows: larger ones leave the processor's caches


@dataclass(frozen=True)
class Columns:
    """The names of the columns of a CSV that hold prompt tokens, output tokens and, if any does, the moment.

    Moments are numbers of seconds or dates and times, told apart by the first of them.
    """

    prompt: str
    output: str
    time: str | None = None

    def __post_init__(self) -> None:
        for key in ("prompt", "output", "time"):
            value = getattr(self, key)
            if not isinstance(value, str) and not (key == "time" and value is None):
                raise InputError(key, NAME, value, "columns")

    @classmethod
    def of(cls, format: str | None, prompt_column: str | None,  # noqa: A002, the word of flags and files
           output_column: str | None, time_column: str | None) -> Columns | None:
        """Return the columns as a user names them, in part or not at all, for a format that is known or to be found.

        None where no column is named and the format needs none. Raises InputError for the first name that is missing.
        """
        if format != "columns" and prompt_column is None and output_column is None and time_column is None:
            return None
        if prompt_column is None or output_column is None:
            why = ', for the format "columns"' if format == "columns" else ""
            raise InputError("prompt_column" if prompt_column is None else "output_column", NAME + why, None)
        return cls(prompt_column, output_column, time_column)


class Format(NamedTuple):
    """A format by name: its columns, how many units of its numeric times make a second, if output 0 is a failure."""

    name: str
    columns: Columns
    per_second: float = 1.0
    fails: bool = False


AZURE = Format("azure", Columns("ContextTokens", "GeneratedTokens", "TIMESTAMP"))
BURSTGPT = Format("burstgpt", Columns("Request tokens", "Response tokens", "Timestamp"), fails=True)
VIDUR = Format("vidur", Columns("num_prefill_tokens", "num_decode_tokens", "arrived_at"))
MOONCAKE = Format("mooncake", Columns("input_length", "output_length", "timestamp"), per_second=1000.0)
VLLM = Format("vllm", Columns("input_lens", "output_lens", "start_times"), fails=True)
TABLES = {each.name: each for each in (AZURE, BURSTGPT, VIDUR)}
FORMATS = (*TABLES, "mooncake", "vllm", "columns")


class Chunk(NamedTuple):
    """Some rows of a file, in order: where each begins, its three fields; apart from them rows without such fields."""

    places: list[int]
    prompt: Column
    output: Column
    time: Column | None
    broken: list[tuple[int, str]]


class Rows(NamedTuple):
    """The rows of a trace: their format, in chunks; what places count ("line"); the duration (s) the file states."""

    format: Format
    chunks: Iterator[Chunk]
    place: str = "line"
    duration: float | None = None


def find_rows(text: TextFile, name: str | None, columns: Columns | None) -> Rows:
    """The rows of a trace of the named format, or of the one its first row shows."""
    begins_json = text.head.lstrip().startswith("{")
    if name is None and columns is None and begins_json:
        first = text.head.lstrip().partition("\n")[0]
        name = "mooncake" if f'"{MOONCAKE.columns.prompt}"' in first else "vllm"
    if name == "mooncake":
        return Rows(MOONCAKE, _mooncake(text))
    if name == "vllm":
        return _vllm(text)
    return _table(text, name, columns)


def _table(text: TextFile, name: str | None, columns: Columns | None) -> Rows:
    reader = csv.reader(text.lines(), skipinitialspace=True, strict=True)
    header = _header(reader, text.source)
    if columns is not None:
        found = Format("columns", columns)
    elif name is not None:
        found = TABLES[name]
    else:
        found = _recognised(header, text.source)
    wanted = found.columns
    names = [each for each in (wanted.prompt, wanted.output, wanted.time) if each is not None]
    return Rows(found, _table_chunks(reader, len(header), [_find(each, header, text.source) for each in names]))


def _header(reader: Any, source: str) -> list[str]:
    """The first row that is not blank."""
    try:
        return next((row for row in reader if "".join(row).strip()), [])
    except csv.Error as error:
        raise FileError(source, "", f"must begin with the names of its columns ({error})") from None


def _recognised(header: list[str], source: str) -> Format:
    given = {_bare(each) for each in header}
    for each in TABLES.values():
        if {_bare(str(name)) for name in (each.columns.prompt, each.columns.output, each.columns.time)} <= given:
            return each
    known = ", ".join(FORMATS[:-1])
    raise FileError(source, "", f"must be a trace in one of the formats {known}, or a CSV with its columns named "
                                f"(its first row is {_listed(header)})")


def _find(name: str, header: list[str], source: str) -> int:
    """Where the header has the name: as it stands, or else but for case and blanks around it."""
    exact = [i for i, each in enumerate(header) if each == name]
    found = exact or [i for i, each in enumerate(header) if _bare(each) == _bare(name)]
    if len(found) != 1:
        wrong = "more than one column" if found else "no column"
        raise FileError(source, "", f'has {wrong} "{name}" (its columns are {_listed(header)})')
    return found[0]


def _bare(name: str) -> str:
    return name.strip().casefold()


def _listed(header: list[str]) -> str:
    text = ", ".join(each.strip() for each in header)
    return text if len(text) <= 200 else text[:197] + "..."


def _table_chunks(reader: Any, width: int, columns: list[int]) -> Iterator[Chunk]:
    """The rows below the header in chunks; a row begins on the line after the one where the row before it ends."""
    fields_of, end = itemgetter(*columns), reader.line_num
    while True:
        places, fields, broken, before = [], list[str](), [], end
        try:
            for row in islice(reader, CHUNK):
                if len(row) == width:
                    places.append(end + 1)
                    fields += fields_of(row)  # flat: rows kept as objects burden the garbage collector
                elif "".join(row).strip():
                    broken.append((end + 1, f"the row must have {width} fields like the header (got {len(row)})"))
                end = reader.line_num
        except csv.Error as error:
            broken.append((end + 1, f"the row must be a CSV row ({error})"))
            end = reader.line_num
        if end == before:
            return
        prompt, output, *time = (fields[i :: len(columns)] for i in range(len(columns)))
        yield Chunk(places, prompt, output, time[0] if time else None, broken)


def _mooncake(text: TextFile) -> Iterator[Chunk]:
    keys = MOONCAKE.columns
    lines = enumerate(text.lines(), start=1)
    while some := list(islice(lines, CHUNK)):
        parsed = [(place, _parsed(line)) for place, line in some if line.strip()]
        objects = [(place, value) for place, value in parsed if isinstance(value, dict)]
        broken = [(place, "the row must be a JSON object") for place, value in parsed if not isinstance(value, dict)]
        prompt, output, time = ([value.get(key) for _, value in objects]
                                for key in (keys.prompt, keys.output, keys.time))
        yield Chunk([place for place, _ in objects], prompt, output, time, broken)


def _vllm(text: TextFile) -> Rows:
    result = _parsed(text.document())
    if not isinstance(result, dict):
        others = ", ".join(each for each in FORMATS if each not in ("vllm", "columns"))
        raise FileError(text.source, "", "must be one JSON object, as vllm bench serve writes it, or a trace in one of "
                                         f"the formats {others}")
    prompt, output = (_list(result, key, text.source) for key in ("input_lens", "output_lens"))
    if len(output) != len(prompt):
        problem = f"must have {len(prompt)} entries like input_lens (got {len(output)})"
        raise FileError(text.source, "output_lens", problem)
    errors, times = result.get("errors"), result.get("start_times")
    if isinstance(errors, list) and len(errors) == len(output):
        output = [0 if error else tokens for error, tokens in zip(errors, output, strict=True)]
    if not (isinstance(times, list) and len(times) == len(prompt)
            and all(time for time, tokens in zip(times, output, strict=True) if tokens)):
        times = None
    duration = _duration(result.get("duration"), text.source)
    chunk = Chunk(list(range(1, len(prompt) + 1)), prompt, output, times, [])
    return Rows(VLLM, iter([chunk]), "request", duration)


def _duration(given: Any, source: str) -> float | None:
    """The seconds a benchmark took; None where it does not say."""
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
    """The JSON value, None where the text is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
