r"""The delays of a run, as targets name them: `ttft_p99` is the 99th percentile of the time to the first token.

    latency  completion - arrival                              ttft  first token - arrival
    tpot     (completion - first token) / (R - 1)              itl   the time between a token and the next, every one

The first three have a value for each request that arrives in the window; one that is not over yet counts with its age
in latency and TTFT, and not in TPOT, for which it has no value (nor has a single output token). Gaps between tokens are
those that end in the window, however many a request has (`verification.token_gaps`): engines' benchmarks pool them so.
They need a run that was recorded, without it they are NaN. Percentiles are those of
`verification.statistics.percentiles`: of the N values in order the one at place ceil(q (N - 1)), from 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fluid.arrays import Floats
from verification.experiments.measures import Window
from verification.experiments.targets.names import DELAYS, PERCENTS, QUANTITIES, STATISTICS
from verification.run import Gaps, Run
from verification.statistics.intervals import Interval
from verification.statistics.percentiles import percentile

SHARES = tuple(percent / 100 for percent in PERCENTS)


@dataclass(frozen=True)
class Delays:
    """Every statistic of the delays of a window, seconds, in the order of `DELAYS`.

    `at_least` are those that requests which did not finish, `unfinished` of them, may make larger than they are here.
    """

    values: tuple[float, ...]
    at_least: frozenset[str]
    unfinished: int

    def __repr__(self) -> str:
        return f"Delays(latency {self.of('latency'):.4g} s, TTFT {self.of('ttft'):.4g} s)"

    def of(self, name: str) -> float:
        """The delay of a name, such as "ttft_p99"."""
        return self.values[DELAYS.index(name)]


class OverReplications:
    """What has the interval of every delay over replications, by its name."""

    delays: Mapping[str, Interval]

    @property
    def latency(self) -> Interval:
        """Mean latency, seconds."""
        return self.delays["latency"]

    @property
    def latency_p99(self) -> Interval:
        """The 99th percentile of the latency, seconds."""
        return self.delays["latency_p99"]

    @property
    def ttft(self) -> Interval:
        """Mean time to the first token, seconds."""
        return self.delays["ttft"]


def delays(run: Run, window: Window) -> Delays:
    """Return the delays of the requests that arrive in a window, and of the gaps that end in it."""
    part = slice(*np.searchsorted(run.arrivals.times, [window.start, window.last_arrival]))
    fits = run.fits[part]
    if not fits.any():
        return Delays((math.nan,) * len(DELAYS), frozenset(), 0)
    age = run.end_time - run.arrivals.times[part][fits]
    found = {name: _of_requests(each[part][fits], age) for name, each in (("latency", run.latency), ("ttft", run.ttft))}
    between = run.time_between_tokens[part][fits]
    known = between[np.isfinite(between)]
    found["tpot"] = _of_requests(known, known)
    found["itl"] = _of_gaps(run.gaps, window), ()
    at_least = frozenset(name + STATISTICS[place] for name, (_, places) in found.items() for place in places)
    values = tuple(float(value) for name in QUANTITIES for value in found[name][0])
    return Delays(values, at_least, int(np.isnan(run.latency[part][fits]).sum()))


def _of_requests(values: Floats, ages: Floats) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """The statistics of delays, NaN where not over; and the places of those that may be larger."""
    if not len(values):
        return (math.nan,) * len(STATISTICS), ()
    open_ = np.isnan(values)
    found = [percentile(values, ages, share) for share in SHARES]
    statistics = (float(np.where(open_, ages, values).mean()), *(each.value for each in found))
    return statistics, (*((0,) if open_.any() else ()), *(i + 1 for i, each in enumerate(found) if each.at_least))


def _of_gaps(gaps: Gaps | None, window: Window) -> tuple[float, ...]:
    """The statistics of gaps that are counted."""
    none = (math.nan,) * len(STATISTICS)
    if gaps is None:
        return none
    rows = slice(*np.searchsorted(gaps.end, [window.start, window.end], side="right"))
    seconds, count = gaps.seconds[rows], gaps.count[rows]
    if not len(seconds):
        return none
    order = np.argsort(seconds)
    upto = count[order]
    np.cumsum(upto, out=upto)
    ranks = [math.ceil(share * (int(upto[-1]) - 1)) for share in SHARES]
    places = np.searchsorted(upto, ranks, side="right")
    return (float(seconds @ count / upto[-1]), *seconds[order[places]].tolist())
