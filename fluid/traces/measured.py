"""Measured runs: of each request when it arrived, when its first token came and when it ended.

Request i arrives at a_i, gets its first token at f_i and ends at e_i:

    ttft_i = f_i - a_i,    latency_i = e_i - a_i,    tpot_i = (e_i - f_i) / (R_i - 1)

as a client measured them; all in seconds from the first arrival. Requests that failed, or of which the file does not
say when they ended, are left out and counted. A moment before its request's arrival is none; where most are, the file
is refused, for then they are not moments but times since the arrival, or in another unit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from fluid.arrays import Floats, Ints, over_gaps
from fluid.errors import FileError
from fluid.progress import Progress
from fluid.traces.formats.format import Columns, ReadAs
from fluid.traces.request_table import RequestTable, read_table
from fluid.traces.trace import Trace, asked_of

NEEDED = ("diagnosing needs of each request when it arrived, its first token and its end: --time-column, "
          "--first-token-column and --end-column name them in any other file")


@dataclass(frozen=True, eq=False)
class MeasuredRun:
    """Requests in the order of their arrival, arrays of shape (N,): `arrivals`, `ttft` (NaN unknown), `latency` (s).

    `closed` says why the arrivals are no traffic, "" where they may be; `duration` (s) is what the benchmark says it
    took; `unknown` counts requests whose end the file does not tell, `failed` and `skipped` those left out before.
    """

    arrivals: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    ttft: Floats
    latency: Floats
    closed: str = ""
    duration: float | None = None
    source: str = ""
    digest: str = ""
    format: str = ""
    read_as: ReadAs | None = None
    notes: tuple[str, ...] = ()
    failed: int = 0
    skipped: int = 0
    unknown: int = 0

    def __len__(self) -> int:
        return len(self.arrivals)

    @property
    def tpot(self) -> Floats:
        """(end - first token) / (R - 1), seconds; NaN for a single output token."""
        return over_gaps(self.latency - self.ttft, self.output_tokens)

    @property
    def trace(self) -> Trace:
        """The requests as a trace."""
        return Trace(self.prompt_tokens, self.output_tokens, self.arrivals, source=self.source, digest=self.digest,
                     format=self.format)


def read_run(path: str | os.PathLike[str], *, format: str | None = None,  # noqa: A002, the word of flags and files
             columns: Columns | None = None, time_unit: str | None = None, run: int | None = None,
             skip_bad_rows: bool = False, progress: Progress | None = None) -> MeasuredRun:
    """Read a measured run in one of the formats of `read_trace` that has its times.

    Raises FileError, one line, as `read_trace` does, and where the file does not have the times.
    """
    asked = asked_of("read_run", format, columns, time_unit, run)._replace(measured=True)
    table = read_table(path, asked, skip_bad_rows, progress)
    source = os.fspath(path)
    if len(table.runs) > 1 and run is None:
        raise FileError(source, "", f"holds {len(table.runs)} runs: --run chooses one")
    if table.times is None:
        raise FileError(source, "", f"has no arrival times; {NEEDED}")
    if table.latency is None or np.isnan(table.latency).all():
        raise FileError(source, "", f"does not say when requests ended; {NEEDED}")
    latency = _after_arrival(table.latency, "end", source)
    ttft = np.full(len(latency), np.nan) if table.ttft is None else table.ttft
    return _run(table, table.times, np.minimum(_after_arrival(ttft, "first token", source), latency), latency, source)


def _after_arrival(spans: Floats, what: str, source: str) -> Floats:
    """The seconds since arrival, NaN where before it; raises FileError where most are."""
    early = spans < 0
    count = int(np.count_nonzero(early))
    if 2 * count > np.count_nonzero(~np.isnan(spans)):
        raise FileError(source, "", f"has the {what} of {count:,} requests before their arrival: give its moment, in "
                                    "the unit of the arrivals, not the time since")
    return np.where(early, np.nan, spans)


def _run(table: RequestTable, times: Floats, ttft: Floats, latency: Floats, source: str) -> MeasuredRun:
    """The run of a table that has its times: without the requests whose end is not known."""
    known = np.isfinite(latency)
    arrivals = times[known] - times[known][0]
    return MeasuredRun(arrivals, table.prompt[known], table.output[known], ttft[known], latency[known],
                       closed=table.closed, duration=table.stated, source=source, digest=table.digest,
                       format=table.format, read_as=table.read_as, notes=table.notes, failed=table.failed,
                       skipped=table.bad, unknown=int(np.count_nonzero(~known)))
