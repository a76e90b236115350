"""A trace file as a table of requests: chunks of rows in, three arrays out, every row that cannot be used counted.

A row is kept, failed (an output of 0 tokens, where the format writes that for a failed request) or bad; the first three
bad rows are quoted. Bad rows are refused, together, once the file is read, or skipped if the caller says so. The arrays
grow by 8 to 16 bytes a row, so the memory needed is that of the result and one chunk. At most 2^26 rows are kept.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np

from fluid.arrays import Bools, Floats, Ints
from fluid.errors import FileError, number_meant, shown
from fluid.files.text_file import QUOTED_ROWS, TextFile, hopeless, opened, refuse_bad_rows
from fluid.progress import Progress
from fluid.traces.csv_rows import csv_rows
from fluid.traces.fields import (
    DATE_AND_TIME,
    MILLISECONDS,
    SECONDS,
    TOKENS,
    Column,
    countable,
    dates,
    numbers,
    seconds,
)
from fluid.traces.formats import MOONCAKE, Chunk, Columns, Rows
from fluid.traces.json_rows import mooncake_rows, vllm_rows
from fluid.traces.repeats import Repeats

MOST_REQUESTS = 2**26


@dataclass(frozen=True)
class RequestTable:
    """The requests of a file in the order of their arrival: `times` are seconds from the first, None if it has none.

    `repeated` are the prompt tokens seen before (`fluid.traces.repeats`), None if the file does not say.
    """

    prompt: Ints
    output: Ints
    times: Floats | None
    duration: float | None
    format: str
    digest: str
    failed: int
    bad: int
    quoted: tuple[str, ...]
    repeated: Ints | None


def read_table(path: str | os.PathLike[str], name: str | None, columns: Columns | None, skip_bad_rows: bool,
               progress: Progress | None) -> RequestTable:
    """Read the requests of a file; raises FileError where it is no trace, or has bad rows that may not be skipped."""
    with opened(path, progress) as text:
        rows = _rows(text, name, columns)
        tally = _Tally(rows)
        for chunk in rows.chunks:
            tally.add(chunk)
            tally.refuse_early(text.source, skip_bad_rows)
        tally.refuse(text.source, skip_bad_rows)
    prompt, output, times, repeated = tally.arrays()
    return RequestTable(prompt, output, times, rows.duration, rows.format.name, text.digest, tally.failed, tally.bad,
                        tuple(tally.quoted), repeated)


def _rows(text: TextFile, name: str | None, columns: Columns | None) -> Rows:
    """The rows of a trace, in the named format or the one recognised from its first row."""
    begins_json = text.head.lstrip().startswith("{")
    if name is None and columns is None and begins_json:
        first = text.head.lstrip().partition("\n")[0]
        name = "mooncake" if f'"{MOONCAKE.columns.prompt}"' in first else "vllm"
    if name == "mooncake":
        return mooncake_rows(text)
    if name == "vllm":
        return vllm_rows(text)
    return csv_rows(text, name, columns)


class _Tally:
    """The rows read so far: lengths and arrival times of those kept as arrays, numbers of the failed and the bad."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.kept = self.failed = self.bad = 0
        self.quoted: list[str] = []
        self._prompt: list[Any] = []
        self._output: list[Any] = []
        self._times: list[Any] = []
        self._repeats, self._repeated = Repeats(), list[Any]()
        self._dated: bool | None = None  # whether times are dates: unknown until one can be read

    def add(self, chunk: Chunk) -> None:
        """Count the rows of a chunk and keep those that can be used."""
        prompt, output = numbers(chunk.prompt), numbers(chunk.output)
        failed: Bools = (output == 0) & self.rows.format.fails
        good = countable(prompt) & countable(output)
        if chunk.time is not None:
            times = self._read_times(chunk.time)
            good &= ~np.isnan(times)
            self._times.append(times[good])
        self._prompt.append(prompt[good].astype(np.int32))
        self._output.append(output[good].astype(np.int32))
        if chunk.hashes is not None:
            hashes = list(compress(chunk.hashes, good))
            self._repeated.append(self._repeats.add(hashes, prompt[good].astype(np.int64)))
        self.kept += int(np.count_nonzero(good))
        self.failed += int(np.count_nonzero(failed))
        self._note(chunk, np.flatnonzero(~(good | failed)))

    def refuse_early(self, source: str, skip_bad_rows: bool) -> None:
        """Raise FileError where the rows so far are enough to refuse the file: most of many are bad, or too many."""
        if hopeless(self.bad, self.kept):
            refuse_bad_rows(source, self.quoted, self.bad, self.kept + self.failed + self.bad, so_far=True,
                            may_skip=self.kept > 0 and not skip_bad_rows)
        if self.kept > MOST_REQUESTS:
            raise FileError(source, "", f"must hold at most {MOST_REQUESTS:,} requests")

    def refuse(self, source: str, skip_bad_rows: bool) -> None:
        """Raise FileError where there are bad rows that may not be skipped, or no row is kept."""
        if self.bad and not (skip_bad_rows and self.kept):
            total = self.kept + self.failed + self.bad
            refuse_bad_rows(source, self.quoted, self.bad, total, may_skip=self.kept > 0)
        if not self.kept:
            raise FileError(source, "", f"holds no request that succeeded ({self.failed:,} failed)" if self.failed
                            else "holds no requests")

    def arrays(self) -> tuple[Ints, Ints, Floats | None, Ints | None]:
        """Prompt tokens, output tokens, seconds since the first request and prompt tokens seen before, sorted by time;
        the chunks are released.
        """
        times = _since_first(_joined(self._times)) if self._times else None
        prompt, output = _joined(self._prompt, np.int64), _joined(self._output, np.int64)
        repeated = _joined(self._repeated) if self._repeated and self._repeats.known else None
        if times is not None and np.any(times[1:] < times[:-1]):
            order = np.argsort(times, kind="stable")
            prompt, output, times = prompt[order], output[order], times[order]
            repeated = None if repeated is None else repeated[order]
        for array in (prompt, output, times, repeated):
            if array is not None:
                array.flags.writeable = False
        return prompt, output, times, repeated

    def _read_times(self, column: Column) -> Any:
        """The times as dates or as seconds, whichever the first time of this file that can be read is."""
        if self._dated is None:
            dated, numeric = ~np.isnat(dates(column)), ~np.isnan(self._seconds(column))
            first = np.flatnonzero(dated | numeric)[:1]
            self._dated = bool(dated[first[0]]) if first.size else None
        return dates(column) if self._dated else self._seconds(column)

    def _seconds(self, column: Column) -> Floats:
        return seconds(column, self.rows.format.per_second)

    def _note(self, chunk: Chunk, bad: Ints) -> None:
        self.bad += len(bad) + len(chunk.broken)
        wanted = QUOTED_ROWS - len(self.quoted)
        problems = chunk.broken[:wanted] + [(chunk.places[i], self._problem(chunk, i)) for i in bad[:wanted]]
        self.quoted += [f"{self.rows.place} {place}, {problem}" for place, problem in sorted(problems)[:wanted]]

    def _problem(self, chunk: Chunk, i: int) -> str:
        """What is wrong with the i-th row of the chunk: the first of its fields that cannot be used."""
        names = self.rows.format.columns
        for name, column in ((names.prompt, chunk.prompt), (names.output, chunk.output)):
            if not countable(numbers(column[i : i + 1])).all():
                return f"{name} must be {TOKENS} (got {shown(column[i])}){_guess(column[i])}"
        assert chunk.time is not None  # the row is bad, and its lengths are not
        return f"{names.time} must be {self._time_requirement} (got {shown(chunk.time[i])}){_guess(chunk.time[i])}"

    @property
    def _time_requirement(self) -> str:
        """What a time must be in this file."""
        number = SECONDS if self.rows.format.per_second == 1 else MILLISECONDS
        return {None: f"{number}, or {DATE_AND_TIME}", True: DATE_AND_TIME, False: number}[self._dated]


def _guess(value: Any) -> str:
    """A question about a decimal comma, separated thousands, a unit."""
    guess = number_meant(value) if isinstance(value, str) else ""
    return f": {guess}" if guess else ""


def _joined(parts: list[Any], dtype: Any = None) -> Any:
    """The parts as one array; the list of them is emptied, as both together may fill the memory."""
    whole = np.concatenate(parts, dtype=dtype)
    parts.clear()
    return whole


def _since_first(times: Any) -> Floats:
    """Times, as dates in ns or in seconds, as seconds since the earliest."""
    if times.dtype.kind == "M":
        ticks = times.view(np.int64)
        ticks -= ticks.min()
        since: Floats = ticks / 1e9
        return since
    times -= times.min()
    return np.asarray(times)
