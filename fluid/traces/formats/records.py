"""Rows that are JSON objects: an object a line, the elements of a list, or objects one behind the other.

A `Kind` says how the fields of a request are found in its object; most by their keys, others by a function of their
file. A key with dots in it goes into objects, unless there is a key that is written so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fluid.errors import FileError
from fluid.files.json_object import NotJsonError, Wanted, parts
from fluid.files.text_file import TextFile
from fluid.traces.fields import Column
from fluid.traces.formats.format import CHUNK, CHUNK_TEXT, Asked, Chunk, Format, Rows
from fluid.traces.formats.format import measured as measured_by

Batch = list[tuple[int, Any]]  # of objects, with the places where they begin
LINE, REQUEST = "line", "request"


class Fields(NamedTuple):
    """The fields of the requests in some objects; `owners` says whose they are where an object is not one request."""

    prompt: Column
    output: Column
    time: Column | None = None
    hashes: Column | None = None
    ttft: Column | None = None
    latency: Column | None = None
    owners: list[int] | None = None


class Kind(NamedTuple):
    """A format of objects, and the function that finds the fields of some of them; it may add to the `Rows`."""

    format: Format
    fields: Callable[[list[dict[str, Any]], bool, Rows], Fields]


def record_rows(batches: Iterator[Batch], kind: Kind, asked: Asked, place: str) -> Rows:
    """The rows that batches of objects are."""
    rows = Rows(kind.format, iter(()), place)
    rows.chunks = _chunks(batches, kind, asked.measured, rows)
    return rows


def _chunks(batches: Iterator[Batch], kind: Kind, measured: bool, rows: Rows) -> Iterator[Chunk]:
    for batch in batches:
        objects = [(place, value) for place, value in batch if isinstance(value, dict)]
        broken = [(place, "the row must be a JSON object") for place, value in batch if not isinstance(value, dict)]
        places, found = [place for place, _ in objects], kind.fields([value for _, value in objects], measured, rows)
        if found.owners is not None:
            places = [places[owner] for owner in found.owners]
        yield Chunk(places, found.prompt, found.output, found.time, broken, found.hashes, found.ttft, found.latency)


def keyed(found: Format) -> Kind:
    """The kind whose fields stand under the keys of the format."""
    columns = found.columns

    def fields(objects: list[dict[str, Any]], measured: bool, rows: Rows) -> Fields:
        prompt, output = column(objects, columns.prompt), column(objects, columns.output)
        time = None if columns.time is None else column(objects, columns.time)
        hashes = column(objects, "hash_ids") if found.block is not None else None
        ttft, latency = (measured_by(found, [column(objects, key) for key in found.spent], time) if measured
                         else (None, None))
        return Fields(prompt, output, time, hashes, ttft, latency)

    return Kind(found, fields)


def column(objects: list[dict[str, Any]], key: str) -> list[Any]:
    """The values of a key in objects; None where one does not have it."""
    found = [each.get(key) for each in objects]
    return [under(each, key) for each in objects] if "." in key and None in found else found


def under(value: Any, key: str) -> Any:
    """What an object has under a key, which may go into objects; None where it has nothing."""
    if isinstance(value, dict) and key in value:
        return value[key]
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def lines_of(text: TextFile) -> Iterator[Batch]:
    """The objects of a file that has one a line."""
    lines = enumerate(text.lines(), start=1)
    while some := _some(lines):
        yield [(place, parsed(line)) for place, line in some if line.strip()]


def _some(lines: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    """As many lines as make a chunk."""
    some, size = [], 0
    for each in lines:
        some.append(each)
        size += len(each[1])
        if len(some) == CHUNK or size > CHUNK_TEXT:
            break
    return some


def elements_of(text: TextFile) -> Iterator[Batch]:
    """The objects of a file that is a list of them, or that has them one behind the other."""
    place = 1
    try:
        for part in parts(text, Wanted(records=("",), objects=())):
            yield list(enumerate(part.value, start=place))
            place += len(part.value)
    except NotJsonError:
        raise FileError(text.source, "", f"must be JSON (it is not from request {place:,} on)") from None


def parsed(text: str) -> Any:
    """The JSON value; None where the text is not JSON, or has integers of more than some thousand digits."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
