"""A trace file as a table of requests: chunks in, three arrays out, every row that cannot be used counted.

A row is kept, failed (an output of 0 tokens, where the format writes that for a failure) or bad; the first three bad
rows are quoted. Bad rows are refused, together, once the file is read, or skipped if the caller says so. The arrays
grow by 8 to 16 bytes a row, so memory is what the result takes and one chunk.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from fluid.arrays import Floats, Ints
from fluid.errors import FileError, shown
from fluid.textfile import Progress, opened
from fluid.traces.fields import (
    DATE_AND_TIME,
    MILLISECONDS,
    SECONDS,
    TOKENS,
    Bools,
    Column,
    countable,
    dates,
    numbers,
    seconds,
)
from fluid.traces.formats import Chunk, Columns, Rows, find_rows

QUOTED = 3


@dataclass(frozen=True)
class Table:
    """The requests of a file in the order of their arrival: `times` are seconds from the first, None if it has none."""

    prompt: Ints
    output: Ints
    times: Floats | None
    duration: float | None
    format: str
    digest: str
    failed: int
    bad: int
    quoted: tuple[str, ...]


def read_table(path: str | os.PathLike[str], name: str | None, columns: Columns | None, skip_bad_rows: bool,
               progress: Progress | None) -> Table:
    """Read the requests of a file; raises FileError where it is no trace, or has bad rows not to be skipped."""
    with opened(path, progress) as text:
        rows = find_rows(text, name, columns)
        tally = _Tally(rows)
        for chunk in rows.chunks:
            tally.add(chunk)
        tally.refuse(text.source, skip_bad_rows)
    prompt, output, times = tally.arrays()
    return Table(prompt, output, times, rows.duration, rows.format.name, text.digest, tally.failed, tally.bad,
                 tuple(tally.quoted))


class _Tally:
    """What the chunks so far hold: kept lengths and moments as arrays, failed and bad rows as counts."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.kept = self.failed = self.bad = 0
        self.quoted: list[str] = []
        self._prompt: list[Any] = []
        self._output: list[Any] = []
        self._moments: list[Any] = []
        self._dated: bool | None = None

    def add(self, chunk: Chunk) -> None:
        """Count the rows of a chunk and keep those that can be used."""
        prompt, output = numbers(chunk.prompt), numbers(chunk.output)
        failed: Bools = (output == 0) & self.rows.format.fails
        good = countable(prompt) & countable(output)
        if chunk.time is not None:
            moments = self._read_moments(chunk.time)
            good &= ~np.isnan(moments)
            self._moments.append(moments[good])
        self._prompt.append(prompt[good].astype(np.int32))
        self._output.append(output[good].astype(np.int32))
        self.kept += int(np.count_nonzero(good))
        self.failed += int(np.count_nonzero(failed))
        self._note(chunk, np.flatnonzero(~(good | failed)))

    def refuse(self, source: str, skip_bad_rows: bool) -> None:
        """Raise FileError where bad rows are not to be skipped, or nothing is left."""
        if self.bad and not (skip_bad_rows and self.kept):
            total = self.kept + self.failed + self.bad
            hint = ["skip them with --skip-bad-rows"] if self.kept else []
            problem = f"{self.bad:,} of {total:,} rows cannot be used: {'; '.join(self.quoted + hint)}"
            raise FileError(source, "", problem)
        if not self.kept:
            raise FileError(source, "", f"holds no request that succeeded ({self.failed:,} failed)" if self.failed
                            else "holds no requests")

    def arrays(self) -> tuple[Ints, Ints, Floats | None]:
        """Prompt tokens, output tokens and seconds from the first request, sorted by them; the parts are let go."""
        times = _from_first(_joined(self._moments)) if self._moments else None
        prompt, output = _joined(self._prompt, np.int64), _joined(self._output, np.int64)
        if times is not None and np.any(times[1:] < times[:-1]):
            order = np.argsort(times, kind="stable")
            prompt, output, times = prompt[order], output[order], times[order]
        for array in (prompt, output, times):
            if array is not None:
                array.flags.writeable = False
        return prompt, output, times

    def _read_moments(self, column: Column) -> Any:
        """The moments as dates or as seconds, whichever the first that can be read is in this file."""
        if self._dated is None:
            dated, numeric = ~np.isnat(dates(column)), ~np.isnan(self._seconds(column))
            first = np.flatnonzero(dated | numeric)[:1]
            self._dated = bool(dated[first[0]]) if first.size else None
        return dates(column) if self._dated else self._seconds(column)

    def _seconds(self, column: Column) -> Floats:
        return seconds(column, self.rows.format.per_second)

    def _note(self, chunk: Chunk, bad: Ints) -> None:
        self.bad += len(bad) + len(chunk.broken)
        wanted = QUOTED - len(self.quoted)
        problems = chunk.broken[:wanted] + [(chunk.places[i], self._problem(chunk, i)) for i in bad[:wanted]]
        self.quoted += [f"{self.rows.place} {place}, {problem}" for place, problem in sorted(problems)[:wanted]]

    def _problem(self, chunk: Chunk, i: int) -> str:
        """What is wrong with the i-th row of the chunk: its first field that cannot be used."""
        names = self.rows.format.columns
        for name, column in ((names.prompt, chunk.prompt), (names.output, chunk.output)):
            if not countable(numbers(column[i : i + 1])).all():
                return f"{name} must be {TOKENS} (got {shown(column[i])})"
        assert chunk.time is not None  # the row is bad, and its lengths are not
        return f"{names.time} must be {self._moment} (got {shown(chunk.time[i])})"

    @property
    def _moment(self) -> str:
        """What a moment must be in this file."""
        number = SECONDS if self.rows.format.per_second == 1 else MILLISECONDS
        return {None: f"{number}, or {DATE_AND_TIME}", True: DATE_AND_TIME, False: number}[self._dated]


def _joined(parts: list[Any], dtype: Any = None) -> Any:
    """The parts as one array; they are let go at once, as both together may fill the memory."""
    whole = np.concatenate(parts, dtype=dtype)
    parts.clear()
    return whole


def _from_first(moments: Any) -> Floats:
    """Dates in ns, or seconds, as seconds from the first."""
    if moments.dtype.kind == "M":
        ticks = moments.view(np.int64)
        ticks -= ticks.min()
        since: Floats = ticks / 1e9
        return since
    moments -= moments.min()
    return np.asarray(moments)
