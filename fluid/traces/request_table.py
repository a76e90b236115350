"""A trace file as a table of requests: chunks of rows in, three arrays out, every row that cannot be used counted.

A row is kept, failed (an output of 0 tokens, where the format writes that for a failed request) or bad; the first three
bad rows are quoted. Bad rows are refused, together, once the file is read, or skipped if the caller says so. The arrays
grow by 8 to 16 bytes a row, so the memory needed is that of the result and one chunk. At most 2^26 rows are kept.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple

import numpy as np

from fluid.arrays import Bools, Floats, Ints
from fluid.errors import FileError, number_meant, shown
from fluid.files.text_file import QUOTED_ROWS, TextFile, hopeless, opened, refuse_bad_rows
from fluid.progress import Progress
from fluid.traces.closed_loops import closed_loop
from fluid.traces.fields import TOKENS, countable, numbers
from fluid.traces.formats.csv_rows import csv_rows
from fluid.traces.formats.format import AIPERF, Asked, Chunk, ReadAs, Rows
from fluid.traces.formats.json_rows import json_rows
from fluid.traces.repeats import Repeats
from fluid.traces.time_units import Times

MOST_REQUESTS = 2**26
ONLY_JSON = ("mooncake", "bailian", "vllm", "sglang", "aiperf", "guidellm", "llmperf", "sharegpt")


@dataclass(frozen=True)
class RequestTable:
    """The requests of a file in the order of their arrival: `times` are seconds from the first, None if it has none.

    `repeated` are the prompt tokens seen before (`fluid.traces.repeats`), `ttft` and `latency` the seconds to the first
    token and to the end of each (NaN where unknown); None if the file does not say. `closed` says why the times are no
    traffic, "" where they are, `stated` how long a benchmark says it took; `read_as`, `notes` and `runs` what was
    understood.
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
    read_as: ReadAs
    closed: str = ""
    notes: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    ttft: Floats | None = None
    latency: Floats | None = None
    stated: float | None = None


def read_table(path: str | os.PathLike[str], asked: Asked, skip_bad_rows: bool,
               progress: Progress | None) -> RequestTable:
    """Read the requests of a file; raises FileError where it is no trace, or has bad rows that may not be skipped."""
    with opened(path, progress) as text:
        rows = _rows(text, asked)
        tally = _Tally(rows, Times(rows.format, asked.unit, text.source), asked.measured or rows.format is AIPERF)
        for chunk in rows.chunks:
            tally.add(chunk)
            tally.refuse_early(text.source, skip_bad_rows)
        tally.refuse(text.source, skip_bad_rows)
    if asked.run is not None and not rows.runs:
        raise FileError(text.source, "", "holds one run: --run goes with results of several")
    kept = tally.arrays()
    closed = rows.closed or tally.times.burst(kept.times) or _loop(kept)
    if not closed:
        tally.times.check(kept.times)
    return RequestTable(kept.prompt, kept.output, kept.times, None if closed else rows.duration, rows.format.name,
                        text.digest, tally.failed, tally.bad, tuple(tally.quoted), kept.repeated,
                        tally.times.read_as(kept.times is not None), closed, tuple(rows.notes),
                        tuple(rows.runs) if len(rows.runs) > 1 else (), kept.ttft, kept.latency, rows.duration)


def _loop(kept: _Kept) -> str:
    """Why the arrivals are no traffic, where each was sent as another ended; "" elsewhere."""
    if kept.times is None or kept.latency is None or not (kept.latency >= 0).all():
        return ""
    loop = closed_loop(kept.times, kept.latency)
    return "" if loop is None else (f"each request was sent as another ended, {loop.clients:,} under way: their rate "
                                    "is the server's, and no traffic rate is in the file")


def _rows(text: TextFile, asked: Asked) -> Rows:
    """The rows of a trace, in the named format or the one recognised from its beginning."""
    begins_json = text.head.lstrip()[:1] in ("{", "[")
    return json_rows(text, asked) if begins_json or asked.name in ONLY_JSON else csv_rows(text, asked)


class _Kept(NamedTuple):
    """The rows that are kept, in the order of their times."""

    prompt: Ints
    output: Ints
    times: Floats | None
    repeated: Ints | None
    ttft: Floats | None
    latency: Floats | None


class _Tally:
    """The rows read so far: lengths and arrival times of those kept as arrays, numbers of the failed and the bad."""

    def __init__(self, rows: Rows, times: Times, measured: bool) -> None:
        self.rows, self.times, self.measured = rows, times, measured
        self.kept = self.failed = self.bad = 0
        self.quoted: list[str] = []
        self._prompt: list[Any] = []
        self._output: list[Any] = []
        self._times: list[Any] = []
        self._spans: tuple[list[Any], list[Any]] = ([], [])  # to the first token, to the end
        self._repeats, self._repeated = Repeats(rows.format.block or 1), list[Any]()

    def add(self, chunk: Chunk) -> None:
        """Count the rows of a chunk and keep those that can be used."""
        prompt, output = numbers(chunk.prompt), numbers(chunk.output)
        failed: Bools = (output == 0) & self.rows.format.fails
        good = countable(prompt) & countable(output)
        if chunk.time is not None:
            times = self.times.read(chunk.time)
            good &= ~np.isnan(times)
            self._times.append(times[good])
        self._prompt.append(prompt[good].astype(np.int32))
        self._output.append(output[good].astype(np.int32))
        if chunk.hashes is not None:
            hashes = list(compress(chunk.hashes, good))
            self._repeated.append(self._repeats.add(hashes, prompt[good].astype(np.int64)))
        for parts, column in zip(self._spans, (chunk.ttft, chunk.latency) if self.measured else (), strict=False):
            parts.append(np.full(int(np.count_nonzero(good)), np.nan) if column is None else numbers(column)[good])
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

    def arrays(self) -> _Kept:
        """The rows kept, sorted by time; the chunks are released."""
        timed = sum(map(len, self._times)) == self.kept and bool(self._times)  # not in all runs of several
        times = _since_first(_joined(self._times)) if timed else None
        prompt, output = _joined(self._prompt, np.int64), _joined(self._output, np.int64)
        repeated = _joined(self._repeated) if self._repeated and self._repeats.known else None
        ttft, latency = (_joined(parts) if parts else None for parts in self._spans)
        kept = _Kept(prompt, output, times, repeated, ttft, latency)
        if times is not None and np.any(times[1:] < times[:-1]):
            order = np.argsort(times, kind="stable")
            kept = _Kept(*(None if each is None else each[order] for each in kept))  # type: ignore[arg-type]
        for array in kept:
            if array is not None:
                array.flags.writeable = False
        return kept

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
        return f"{names.time} must be {self.times.requirement} (got {shown(chunk.time[i])}){_guess(chunk.time[i])}"


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
