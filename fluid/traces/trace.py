"""Request traces: the requests that were sent to a server, their lengths and arrival times.

Request i = 1..N arrives t_i seconds after the first, with l_i prompt tokens, and is answered with R_i tokens. As a
workload at the total rate Lambda a trace is one prompt type for each distinct pair (l, R), at rate Lambda n / N with n
the requests of that pair. Its own rate is N / (t_N - t_1). KV work w_i is that of `fluid.stages`; its sum is an
integer of any size, so its mean is correctly rounded. Formats: `fluid.traces.formats`. Source: mathematics, section
12.1.
"""

from __future__ import annotations

import math
import os
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fluid.arrays import MOST_TOKENS, Floats, Ints
from fluid.errors import InputError, one_line, one_of, real, whole
from fluid.progress import Progress
from fluid.replica import IterationTime, Replica
from fluid.stages import StageProfile, stage_profile
from fluid.tables import duration
from fluid.traces.binning import Binned, cells_of, lengths_of
from fluid.traces.fields import TOKENS, UNITS, countable
from fluid.traces.formats.format import FORMATS, Asked, Columns, ReadAs
from fluid.traces.request_table import read_table
from fluid.workload import Workload

__all__ = ["Binned", "Columns", "Pairs", "RatesOverTime", "Trace", "read_trace"]

# whole prefill, blocks of one token, first token by "decode"
LENGTHS_ONLY = Replica(kv_capacity=2**50, iteration_time=IterationTime(1.0, 0.0))
MOST_WINDOWS = 10**7
Array = TypeVar("Array", bound=NDArray[Any])


class Pairs(NamedTuple):
    """The distinct length pairs, sorted: lengths and `counts` of requests; `types` is each request's pair (index)."""

    prompt: Ints
    output: Ints
    counts: Ints
    types: Ints


class RatesOverTime(NamedTuple):
    """Requests/s between consecutive edges (s): `edges` of shape (I + 1,), `rates` of shape (I,)."""

    edges: Floats
    rates: Floats


@dataclass(frozen=True, eq=False)
class Trace:
    """N requests in the order of their arrival; arrays have shape (N,) and cannot be changed.

    `prompt_tokens` l, `output_tokens` R, `times` (seconds from the first request; None if unknown), `duration` (seconds
    from the first arrival to the last; without times as given). Where it was read from: `format`, `source`, `digest`
    (SHA-256 of the file), `skipped` (bad rows left out, the first of them quoted in `bad_rows`), `failed` (requests,
    which are left out too), `read_as` (its columns and the unit of its times), `notes` (what else was understood, such
    as why it has no traffic rate), `runs` (those of a file with several, in words). `repeated_tokens` are those of each
    prompt that an earlier one began with, None where the trace does not tell (`fluid.traces.repeats`).

    Raises InputError unless there is a request, lengths are whole and positive, and times are sorted and start at 0.

    >>> trace = Trace([374, 396, 374], [44, 109, 44], times=[0.0, 4.5, 6.0])
    >>> len(trace), trace.rate, trace.workload().names, trace.types.tolist()
    (3, 0.5, ('374+44', '396+109'), [0, 1, 0])
    """

    prompt_tokens: Ints
    output_tokens: Ints
    times: Floats | None = None
    duration: float | None = None
    _: KW_ONLY
    format: str = ""
    source: str = "trace"
    digest: str = ""
    skipped: int = 0
    failed: int = 0
    bad_rows: tuple[str, ...] = ()
    repeated_tokens: Ints | None = None
    read_as: ReadAs | None = None
    notes: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        def keep(field: str, value: object) -> None:
            object.__setattr__(self, field, value)

        for field in ("prompt_tokens", "output_tokens"):
            keep(field, _lengths(field, getattr(self, field), self.source))
        if self.times is not None:
            keep("times", _times(self.times, self.source))
            keep("duration", float(self.times[-1]))
        elif self.duration is not None:
            keep("duration", real("duration", self.duration, self.source, unit="seconds", zero=True))
        sizes = {len(self.prompt_tokens), len(self.output_tokens), len(self if self.times is None else self.times)}
        if len(sizes) > 1:
            raise InputError("prompt_tokens, output_tokens and times", "of one length", sorted(sizes), self.source)

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    def __repr__(self) -> str:
        over = "" if self.duration is None else f" over {duration(self.duration)}"
        left_out = f", {self.skipped + self.failed:,} left out" if self.skipped or self.failed else ""
        return (f"Trace({one_line(self.source)[-40:]}: {len(self):,} requests{over}, {self.prompt_tokens.mean():.4g} + "
                f"{self.output_tokens.mean():.4g} tokens on average{left_out})")

    @property
    def rate(self) -> float | None:
        """Requests/s over the duration; None where the duration is unknown, or not a nanosecond."""
        return len(self) / self.duration if self.duration and self.duration >= 1e-9 else None

    @cached_property
    def pairs(self) -> Pairs:
        """The distinct length pairs, in the order of the types of `workload`."""
        stride = MOST_TOKENS + 1
        keys, types, counts = np.unique(self.prompt_tokens * stride + self.output_tokens, return_inverse=True,
                                        return_counts=True)
        return Pairs(*(_locked(each) for each in (keys // stride, keys % stride, counts, types)))

    @property
    def types(self) -> Ints:
        """The type of each request, as its index in `workload`."""
        return self.pairs.types

    def workload(self, rate: float | None = None) -> Workload:
        """Return one prompt type for each distinct length pair, at a total rate (requests/s; the trace's own if None).

        Raises InputError where neither is known.
        """
        prompt, output, counts, _ = self.pairs
        return Workload.from_arrays(prompt, output, counts * (self._rate(rate) / len(self)))

    def binned(self, bins: int, rate: float | None = None) -> Binned:
        """Return a workload of at most `bins` types, and its errors: see `fluid.traces.binning`.

        >>> binned = Trace([10, 10, 10], [4, 6, 8]).binned(1, rate=3.0)
        >>> binned.workload.names, round(binned.kv_work_error, 4), binned.output_tokens_error
        (('10+6',), -0.0144, 0.0)
        """
        most = whole("bins", bins, unit="types")
        prompt, output, counts, types = self.pairs
        cells = cells_of(prompt, output, counts, most)
        prompts, outputs = lengths_of(cells, prompt, output, counts, self._pair_profile(None).kv_units)
        made = replace(self, prompt_tokens=prompts[cells[types]], output_tokens=outputs[cells[types]])
        totals = ((each.total_kv_work(), int(each.prompt_tokens.sum()), int(each.output_tokens.sum()))
                  for each in (made, self))
        errors = ((after - before) / before for after, before in zip(*totals, strict=True))
        return Binned(made.workload(rate), made.types, *errors)

    def kv_work(self, replica: Replica | None = None) -> Ints | Floats:
        """Return w of each request: KV tokens held, summed over its iterations, on a replica.

        Without one: whole prefill, blocks of one token, first token by "decode", so w = (R + 1)(2 l + R) / 2.
        """
        return self._pair_profile(replica).kv_work[self.types]

    def total_kv_work(self, replica: Replica | None = None) -> int | float:
        """Return the sum of `kv_work`, exact however large (correctly rounded where windowed and global layers mix)."""
        profile = self._pair_profile(replica)
        high, low = np.divmod(profile.kv_units, 2**24)  # a product of int64 would overflow
        units = (int(high @ self.pairs.counts) << 24) + int(low @ self.pairs.counts)
        return units if profile.layout.unit == 1 else units / profile.layout.unit

    def mean_kv_work(self, replica: Replica | None = None) -> float:
        """Return the mean of `kv_work`, correctly rounded."""
        return self.total_kv_work(replica) / len(self)

    def scaled(self, rate: float) -> Trace:
        """Return the trace with its times stretched to another rate (requests/s), lengths and order as they are.

        Raises InputError where there are no times, or all are the same.
        """
        rate = real("rate", rate, unit="requests/s")
        times, own = self._spread_times()
        with np.errstate(over="ignore", invalid="ignore"):
            return replace(self, times=times * (own / rate))

    def rates_over_time(self, window: float) -> RatesOverTime:
        """Return the arrival rate in each window of so many seconds; the last window is as long as what is left.

        Windows are half open, except the last, which includes its end: rates times widths add up to N.

        >>> edges, rates = Trace([1] * 4, [1] * 4, times=[0, 1, 2, 5]).rates_over_time(2.0)
        >>> edges.tolist(), rates.tolist()
        ([0.0, 2.0, 4.0, 5.0], [1.0, 0.5, 1.0])
        """
        window = real("window", window, self.source, unit="seconds")
        times, _ = self._spread_times()
        if times[-1] / window > MOST_WINDOWS:
            raise InputError("window", f"long enough for at most {MOST_WINDOWS:,} windows", window, self.source)
        inner = np.arange(1, math.ceil(times[-1] / window * (1 - 1e-12))) * window
        edges = np.concatenate([[0.0], inner, times[-1:]])
        counts = np.diff(np.searchsorted(times, inner), prepend=0, append=len(times))
        return RatesOverTime(edges, counts / np.diff(edges))

    def _pair_profile(self, replica: Replica | None) -> StageProfile:
        prompt, output, counts, _ = self.pairs
        return stage_profile(Workload.from_arrays(prompt, output, counts), replica or LENGTHS_ONLY)

    def _rate(self, rate: float | None) -> float:
        requirement = "requests/s" + ("" if self.rate else ", as the trace has no rate of its own")
        return real("rate", self.rate if rate is None else rate, self.source, unit=requirement)

    def _spread_times(self) -> tuple[Floats, float]:
        """The times and their rate; raises InputError unless there are times that differ."""
        if self.times is None or self.rate is None:
            raise InputError("times", "known, and not all one moment", None, self.source)
        return self.times, self.rate


def read_trace(path: str | os.PathLike[str], *,
               format: str | None = None,  # noqa: A002 - the deployment file's word for it
               columns: Columns | None = None, time_unit: str | None = None, run: int | None = None,
               skip_bad_rows: bool = False, progress: Progress | None = None) -> Trace:
    """Read a request trace, plain or gzipped, in one of the formats of `fluid.traces.formats.format`.

    The format is found from the beginning of the file unless given by name; `columns` names those of any other CSV, or
    the keys of any other JSON; `time_unit` is "s", "ms", "us" or "ns"; `run` chooses one of several runs of a
    benchmark, the first being 1. Rows that cannot be used are refused together, or left out and counted with
    `skip_bad_rows`. `progress` is called with the bytes read so far and in all. Requests are sorted by their times;
    times that are no traffic (all requests at once) are left out, and `notes` says so. Raises FileError, one line, for
    anything wrong, a unit that the file does not tell included.
    """
    asked = asked_of("read_trace", format, columns, time_unit, run)
    table = read_table(path, asked, skip_bad_rows, progress)
    return Trace(table.prompt, table.output, None if table.closed else table.times, table.duration,
                 format=table.format, source=os.fspath(path), digest=table.digest, skipped=table.bad,
                 failed=table.failed, bad_rows=table.quoted, repeated_tokens=table.repeated, read_as=table.read_as,
                 notes=(*([table.closed] if table.closed else []), *table.notes), runs=table.runs)


def asked_of(where: str, format: str | None, columns: Columns | None,  # noqa: A002
             time_unit: str | None, run: int | None) -> Asked:
    """What a user says of a file, checked; raises InputError where options do not go together."""
    if format is not None:
        one_of("format", format, FORMATS, where)
    if time_unit is not None:
        one_of("time_unit", time_unit, tuple(UNITS), where)
    if run is not None:
        run = whole("run", run, where, unit="runs")
    if columns is not None and not isinstance(columns, Columns):
        raise InputError("columns", "a Columns object", columns, where)
    if columns is None and format == "columns":
        raise InputError("columns", 'given with the format "columns"', columns, where)
    if columns is not None and format not in (None, "columns"):
        raise InputError("format", '"columns" where columns are named', format, where)
    return Asked(None if columns is not None else format, columns, time_unit, run)


def _lengths(field: str, values: ArrayLike, where: str) -> Ints:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iuf":
        raise InputError(field, f"numbers in one dimension, each {TOKENS}", values, where)
    wrong = np.flatnonzero(~countable(array))
    if wrong.size:
        raise InputError(f"{field}[{wrong[0]}]", TOKENS, array[wrong[0]].item(), where)
    return _locked(array.astype(np.int64, copy=array.flags.writeable))


def _times(values: ArrayLike, where: str) -> Floats:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iuf":
        raise InputError("times", "numbers of seconds in one dimension", values, where)
    if array[0] != 0 or not np.all(np.isfinite(array)) or np.any(array[1:] < array[:-1]):
        raise InputError("times", "finite seconds, sorted, the first 0", array[:3].tolist(), where)
    return _locked(array.astype(np.float64, copy=array.flags.writeable))


def _locked(array: Array) -> Array:
    array.flags.writeable = False
    return array
