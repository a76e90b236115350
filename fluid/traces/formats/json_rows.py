"""The rows of a trace in JSON, whatever its shape: what its beginning shows decides how the rest is read.

    an object a line                    the objects are requests (`records`), or runs of a benchmark (`bench_results`)
    one list of objects                 the objects are requests
    lists in one object                 `bench_results`, `guidellm`, or the lists that the user names
    objects on several lines each       as an object a line

Where the user names keys they win: a key whose value is a list is a column, as in {"input": [5, 9], ...}; a key that
goes through a list, as requests.input in {"requests": [{"input": 5}, ...]}, is that key in each of its objects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from fluid.errors import FileError
from fluid.files.json_object import NotJsonError, Wanted, parts
from fluid.files.text_file import TextFile
from fluid.traces.formats import aiperf, sessions, sharegpt
from fluid.traces.formats.bench_results import MOST_REQUESTS, bench_rows, is_result
from fluid.traces.formats.format import (
    AIPERF,
    LLMSERVINGSIM,
    SHAREGPT,
    Asked,
    Chunk,
    Columns,
    Format,
    Rows,
    in_unit,
    listed,
    named,
    of_name,
    recognised,
    unknown,
)
from fluid.traces.formats.guidellm import guidellm_rows
from fluid.traces.formats.records import (
    LINE,
    REQUEST,
    Batch,
    Kind,
    column,
    elements_of,
    keyed,
    lines_of,
    parsed,
    record_rows,
    under,
)

FEW = 16  # objects that are looked at
SPECIAL = {AIPERF.name: aiperf.KIND, SHAREGPT.name: sharegpt.KIND, LLMSERVINGSIM.name: sessions.KIND}
_KEY = re.compile(r'"([^"\\]{1,80})"\s*:')


def json_rows(text: TextFile, asked: Asked) -> Rows:
    """The rows of a trace in JSON: in the named format, under the keys given, or in the format its beginning shows."""
    a_line, first = _beginning(text.head)
    keys = {key for each in first for key in each} or set(_KEY.findall(text.head))
    if asked.columns is not None:
        if not _in_objects(first, asked.columns):
            return _named_lists(text, asked.columns)
        kind = keyed(in_unit(named(asked.columns, recognised(keys)), asked))
        _check_keys(first, asked.columns, text.source)
    elif asked.name in ("vllm", "sglang") or (asked.name is None and is_result(keys)):
        return bench_rows(text, asked)
    elif asked.name == "guidellm" or (asked.name is None and "benchmarks" in keys):
        return guidellm_rows(text, asked)
    else:
        kind = _kind(first, keys, asked.name, text.source)
    if kind is aiperf.KIND:  # whose client may have waited for ends, and does not say
        asked = asked._replace(measured=True)
    batches, place = (lines_of(text), LINE) if a_line else (elements_of(text), REQUEST)
    return record_rows(batches, kind, asked, place)


def _beginning(head: str) -> tuple[bool, list[dict[str, Any]]]:
    """Whether the text has an object a line, and the first objects in it, as far as they are in its head."""
    head = head.lstrip()
    lines = [line.strip() for line in islice(head.splitlines(), 4 * FEW) if line.strip()][:FEW]
    if head[:1] == "[" or (head[:1] == "{" and lines[0][-1] != "}"):
        return False, list(_elements(head))
    return True, [found for line in lines if isinstance(found := parsed(line), dict)]


def _elements(head: str) -> Iterator[dict[str, Any]]:
    """The first objects of a list, or of a row of objects, that are whole in the head."""
    decoder, at = json.JSONDecoder(), int(head[:1] == "[")
    for _ in range(FEW):
        at = next((i for i in range(at, len(head)) if head[i] not in " \t\r\n,"), len(head))
        try:
            found, at = decoder.raw_decode(head, at)
        except (ValueError, RecursionError):
            return
        if isinstance(found, dict):
            yield found


def _kind(first: list[dict[str, Any]], keys: set[str], name: str | None, source: str) -> Kind:
    """The kind of objects that a file has: the one named, or the one that its first objects show."""
    if name is not None:
        return SPECIAL[name] if name in SPECIAL else keyed(of_name(name, recognised(keys), source))
    if any(map(aiperf.is_aiperf, first)):
        return aiperf.KIND
    if any(map(sharegpt.is_conversation, first)):
        if not any(map(sharegpt.has_counts, first)):
            raise FileError(source, "", sharegpt.NO_COUNTS)
        return sharegpt.KIND
    found = recognised(keys)
    if found is LLMSERVINGSIM or any(map(sessions.is_session, first)):
        return sessions.KIND
    if found is None:
        raise FileError(source, "", unknown(sorted(keys), "keys") if keys else "must be JSON, an object a line or one "
                                    "list or object, or a CSV")
    return keyed(found)


def _in_objects(first: list[dict[str, Any]], columns: Columns) -> bool:
    """Whether the keys named are those of objects, and not of lists or in lists."""
    if not first:
        return False
    parents = [columns.prompt.rpartition(".")[0].split(".")[:i] for i in range(1, 8)]
    holders = {".".join(parent) for parent in parents} - {""}
    return not any(isinstance(under(each, key), list) for each in first for key in (columns.prompt, *holders))


def _check_keys(first: list[dict[str, Any]], columns: Columns, source: str) -> None:
    """Raise FileError where none of the first objects has a key that the user named."""
    for name in columns.names:
        if all(under(each, name) is None for each in first):
            keys = listed(list(dict.fromkeys(key for each in first for key in each)))
            raise FileError(source, "", f'has no key "{name}" (its keys are {keys})')


def _named_lists(text: TextFile, columns: Columns) -> Rows:
    """The rows of lists that the user names, or of objects in a list."""
    found = named(columns, None)
    return Rows(found, _list_chunks(text, found), REQUEST)


def _list_chunks(text: TextFile, found: Format) -> Iterator[Chunk]:
    names = found.columns.names
    parents = [each.split(".") for each in names]
    holders = tuple({".".join(each[:i]) for each in parents for i in range(1, len(each))})
    lists: dict[str, list[Any]] = {}
    place = 1
    try:
        for part in parts(text, Wanted(lists=names, records=holders, values=names)):
            if part.ended:
                if names[0] in part.value:  # an object that was too long to be seen in the head of the file
                    yield _objects_chunk([(place, part.value)], "", found)
                    place += 1
            elif part.path in names:
                values = lists.setdefault(part.path, [])
                values += part.value
                if len(values) > MOST_REQUESTS:
                    raise FileError(text.source, part.path, f"must have at most {MOST_REQUESTS:,} entries")
            else:
                yield _objects_chunk(list(enumerate(part.value, start=place)), part.path, found)
                place += len(part.value)
    except NotJsonError:
        raise FileError(text.source, "", "must be JSON, an object a line or one list or object, or a CSV") from None
    if place == 1:
        yield _lists_chunk(lists, names, text.source)


def _objects_chunk(batch: Batch, holder: str, found: Format) -> Chunk:
    """The requests that are objects in a list."""
    objects = [(place, each) for place, each in batch if isinstance(each, dict)]
    broken = [(place, "the row must be a JSON object") for place, each in batch if not isinstance(each, dict)]
    names = [name.removeprefix(f"{holder}.") if holder else name for name in found.columns.names]
    inside = [column([each for _, each in objects], name) for name in names]
    return Chunk([place for place, _ in objects], inside[0], inside[1], inside[2] if len(inside) > 2 else None, broken)


def _lists_chunk(lists: dict[str, list[Any]], names: tuple[str, ...], source: str) -> Chunk:
    """The requests whose fields stand in a list each."""
    for name in names:
        if name not in lists:
            raise FileError(source, "", f'has no list "{name}"' + (f" (it has {listed(list(lists))})" if lists else ""))
        if len(lists[name]) != len(lists[names[0]]):
            problem = f"must have {len(lists[names[0]])} entries like {names[0]} (got {len(lists[name])})"
            raise FileError(source, name, problem)
    prompt, output, *time = (lists[name] for name in names)
    return Chunk(list(range(1, len(prompt) + 1)), prompt, output, time[0] if time else None, [])
