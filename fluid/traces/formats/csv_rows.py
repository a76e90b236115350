"""The rows of a trace in CSV: the columns found by their names, the rows below them in chunks.

Columns are separated by commas; where the first line has none, by semicolons or tabs, as spreadsheets write them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from typing import Any

from fluid.errors import FileError
from fluid.files.text_file import TextFile
from fluid.traces.formats.format import (
    CHUNK,
    CHUNK_TEXT,
    Asked,
    Chunk,
    Format,
    Rows,
    in_unit,
    listed,
    measured,
    named,
    normal,
    of_name,
    recognised,
    unknown,
)

FEW = 64  # rows, after which the characters of a chunk are looked at
MOST_COLUMNS = 10_000


def csv_rows(text: TextFile, asked: Asked) -> Rows:
    """The rows of a CSV: in the named format, with the columns given, or in the format its first row shows."""
    reader = csv.reader(text.csv_lines(), delimiter=text.separator, skipinitialspace=True, strict=True)
    header = _header(reader, text)
    found = in_unit(_format(header, text.source, asked), asked)
    spent = found.spent if asked.measured else ()
    positions = [_position(each, header, text.source) for each in (*found.columns.names, *spent)]
    return Rows(found, _chunks(reader, text, len(header), positions, found, len(spent)))


def _format(header: list[str], source: str, asked: Asked) -> Format:
    """The format of a table with this header."""
    found = recognised(header)
    if asked.columns is not None:
        return named(asked.columns, found)
    if asked.name is not None:
        return of_name(asked.name, found, source)
    if found is None:
        raise FileError(source, "", unknown(header, "columns"))
    return found


def _header(reader: Any, text: TextFile) -> list[str]:
    """The first row that is not blank: the names of the columns."""
    try:
        header: list[str] = next((row for row in reader if "".join(row).strip()), [])
    except csv.Error as error:
        raise FileError(text.source, "", f"must begin with the names of its columns ({error})") from None
    if len(header) > MOST_COLUMNS:
        raise FileError(text.source, "", f"must have at most {MOST_COLUMNS:,} columns (got {len(header):,})")
    text.row_end = reader.line_num
    return header


def _position(name: str, header: list[str], source: str) -> int:
    """The index of the name in the header: an exact match, or else one up to case and surrounding blanks."""
    exact = [i for i, each in enumerate(header) if each == name]
    found = exact or [i for i, each in enumerate(header) if normal(each) == normal(name)]
    if len(found) != 1:
        wrong = "more than one column" if found else "no column"
        raise FileError(source, "", f'has {wrong} "{name}" (its columns are {listed(header)})')
    return found[0]


def _chunks(reader: Any, text: TextFile, width: int, columns: list[int], found: Format, spent: int) -> Iterator[Chunk]:
    """The rows below the header in chunks; a row begins on the line after the one where the row before it ends.

    The last `spent` of the columns are measured times.
    """
    fields_of = itemgetter(*columns)
    while True:
        places, fields, broken, before = list[int](), list[str](), list[tuple[int, str]](), text.row_end
        enough = text.given + CHUNK_TEXT
        while len(places) + len(broken) < CHUNK and text.given < enough:
            start = text.row_end
            try:
                for row in islice(reader, FEW):
                    if len(row) == width:
                        places.append(text.row_end + 1)
                        fields += fields_of(row)  # flat: rows kept as objects burden the garbage collector
                    elif "".join(row).strip():
                        broken.append((text.row_end + 1, f"the row must have {width} fields like the header "
                                                         f"(got {len(row)})"))
                    text.row_end = reader.line_num
            except csv.Error as error:
                broken.append((text.row_end + 1, f"the row must be a CSV row ({error})"))
                text.row_end = reader.line_num
            if text.row_end == start:
                break
        if text.row_end == before:
            return
        prompt, output, *rest = (fields[i :: len(columns)] for i in range(len(columns)))
        time = rest[: len(rest) - spent]
        chunk = Chunk(places, prompt, output, time[0] if time else None, broken)
        if spent:
            ttft, latency = measured(found, rest[len(rest) - spent :], chunk.time)
            chunk = chunk._replace(ttft=ttft, latency=latency)
        yield chunk
