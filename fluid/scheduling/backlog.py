r"""What waits where a fleet carries less than comes, for a while: the fluid backlog, exactly.

The demand is lambda f(t), and the replicas that serve at t carry theta(t) lambda (`fluid.planning.most_demand`), both
constant on pieces of a period. What waits, in seconds of the demand lambda, is reflected at 0 (Lindley, Skorokhod):

    B(t) = sup over s <= t of int_s^t (f - theta)

If a period brings less than it can serve, int f < int theta, the supremum is attained within the last period, so that
two periods from nothing end in the periodic state. Else what waits grows by the difference with every period.

**In seconds.** With C(t) = int_0^t theta, served in order of arrival, what comes at t waits W(t) with

    C(t + W(t)) = C(t) + B(t)

B and C are piecewise linear, so is W: between two of the moments where f or theta changes at t, or theta at t + W(t),
or B reaches 0, all are lines, and the largest of each is at one of these moments. No time step, no error.

Types wait in the proportions in which they come. Source: mathematics, section 20.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Floats
from fluid.errors import InputError
from fluid.planning.demand import carried, checked_counts
from fluid.planning.kinds import Kind, rows_of
from fluid.tables import Tabular, duration
from fluid.varying_rates import Schedule
from fluid.workload import Workload


@dataclass(frozen=True, eq=False)
class Backlog(Tabular):
    """What waits over a period: at `times` (s) `waiting` seconds of the demand at factor 1, and `waits` (s) until it is
    served, each piecewise linear between; `growth` is what a period adds to it, 0 where it is served within each.

    Where it grows the path is that of the first period, which begins with nothing, and `waits` are infinite.
    """

    times: Floats
    waiting: Floats
    waits: Floats
    growth: float = 0.0

    def __repr__(self) -> str:
        if self.growth:
            return f"Backlog(grows by {duration(self.growth)} of the demand with every period)"
        return f"Backlog(up to {duration(self.largest)}, at {self.worst:,.0f} s, gone at {self.drained:,.0f} s)"

    def columns(self) -> dict[str, Sequence[str] | Floats]:
        """The path."""
        return {"at s": self.times, "waiting, s of demand": self.waiting, "wait s": self.waits}

    def caption(self) -> str:
        """The outcome."""
        return repr(self)

    def to_dict(self) -> dict[str, object]:
        """Return the numbers, without the path."""
        bounded = not self.growth
        return {"largest": self.largest if bounded else None, "worst": self.worst if bounded else None,
                "drained": self.drained if bounded else None, "growth": self.growth}

    @property
    def largest(self) -> float:
        """The longest wait, seconds; infinite where it grows."""
        return float(self.waits.max())

    @property
    def worst(self) -> float:
        """When what comes waits longest, s since the start of the period."""
        return float(self.times[int(np.argmax(self.waits))])

    @property
    def drained(self) -> float:
        """The first moment after the worst at which nothing waits, s; beyond the period it is in the next one."""
        empty = self.times[self.waiting <= 0]
        if self.growth or not len(empty):
            return float("inf")
        later = empty[empty >= self.worst]
        return float(later[0]) if len(later) else float(empty[0] + self.times[-1])


def backlog(workload: Workload, kinds: Sequence[Kind], schedule: Schedule, edges: ArrayLike,
            counts: ArrayLike) -> Backlog:
    """Return what waits where counts (G, K) of the kinds serve between `edges` (G + 1,) of a schedule's period (s).

    Raises InputError unless edges rise from 0 to the period and counts are nonnegative.

    >>> from fluid import IterationTime, PromptType, Replica
    >>> mix, replica = Workload([PromptType(512, 20, 500.0)]), Replica(137_000, IterationTime(0.0106, 4.013e-7))
    >>> backlog(mix, [Kind("a100", replica)], Schedule([600, 600], [1.0, 0.3]), [0, 1200], [[2]])
    Backlog(up to 187.1 s, at 600 s, gone at 908 s)
    """
    clock, n = np.asarray(edges, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    rises = clock.ndim == 1 and len(clock) > 1 and bool(np.all(np.diff(clock) > 0)) and clock[0] == 0
    if not rises or abs(clock[-1] / schedule.period - 1) > 1e-9:
        raise InputError("edges", f"moments that rise from 0 to the period of {schedule.period:g} s", edges, "backlog")
    if n.ndim != 2 or len(n) != len(clock) - 1:
        raise InputError("counts", f"{len(clock) - 1} rows, one between each pair of edges", counts, "backlog")
    rows, fleet = rows_of(workload, kinds), tuple(kinds)
    capacity = dict[tuple[float, ...], float]()
    for each in n:
        if tuple(each) not in capacity:
            checked = checked_counts(each, len(fleet))
            capacity[tuple(each)] = carried(workload, fleet, rows, checked).factor
    return reflected(*_merged(schedule, clock, np.array([capacity[tuple(each)] for each in n])))


def _merged(schedule: Schedule, edges: Floats, capacity: Floats) -> tuple[Floats, Floats, Floats]:
    """One set of edges, with the factor and the capacity between them."""
    clock = np.concatenate([[0.0], np.cumsum(schedule.durations)])
    times = np.unique(np.concatenate([clock, np.minimum(edges, schedule.period)]))
    times = times[np.concatenate([[True], np.diff(times) > 1e-9 * schedule.period])]
    middles = (times[:-1] + times[1:]) / 2
    return (times, schedule.factors[np.clip(np.searchsorted(clock, middles) - 1, 0, len(schedule.factors) - 1)],
            capacity[np.searchsorted(edges, middles) - 1])


def reflected(edges: Floats, factors: Floats, capacity: Floats) -> Backlog:
    """The backlog of `factors` (G,) that come and of `capacity` (G,) that serves between `edges` (G + 1,), repeated."""
    lengths = np.diff(edges)
    growth = float(lengths @ (factors - capacity))
    grows = growth > 1e-12 * float(lengths @ factors)
    times, waiting = _path(edges, factors - capacity, 0.0)
    if grows:
        return Backlog(times, waiting, np.full(len(times), np.inf), growth)
    times, waiting = _path(edges, factors - capacity, float(waiting[-1]))
    return _with_waits(times, waiting, edges, capacity)


def _path(edges: Floats, slopes: Floats, start: float) -> tuple[Floats, Floats]:
    """The moments and values of B over one period from B(0) = start, one where it reaches 0 among them."""
    times, values = [0.0], [start]
    for begin, end, slope in zip(edges[:-1].tolist(), edges[1:].tolist(), slopes.tolist(), strict=True):
        now = values[-1] + slope * (end - begin)
        if now < 0 < values[-1]:
            times.append(begin - values[-1] / slope)
            values.append(0.0)
        times.append(end)
        values.append(max(now, 0.0))
    return np.array(times), np.array(values)


def _with_waits(times: Floats, waiting: Floats, edges: Floats, capacity: Floats) -> Backlog:
    """The waits at these moments, and at those that are served when the capacity changes."""
    served = np.concatenate([[0.0], np.cumsum(np.diff(edges) * capacity)])  # C at the edges
    total, period = served[-1], edges[-1]
    ahead = np.interp(times, edges, served) + waiting  # C(t) + B(t), never falling
    whole = int(np.ceil(ahead[-1] / total)) + 1 if total > 0 else 1
    clock = np.concatenate([edges[:-1] + turn * period for turn in range(whole)] + [[whole * period]])
    done = np.concatenate([served[:-1] + turn * total for turn in range(whole)] + [[whole * total]])
    changes = done[(done > ahead[0]) & (done < ahead[-1])]
    rising = np.concatenate([[True], np.diff(ahead) > 0])
    between = np.interp(changes, ahead[rising], times[rising])
    moments = np.unique(np.concatenate([times, between]))
    values = np.interp(moments, times, waiting)
    waits = _until(np.interp(moments, edges, served) + values, clock, done) - moments
    return Backlog(moments, values, np.where(values > 0, np.maximum(waits, 0.0), 0.0))


def _until(work: Floats, clock: Floats, done: Floats) -> Floats:
    """The first moment at which so much is served and more can be: the right inverse of C."""
    after = np.clip(np.searchsorted(done, work, side="right"), 1, len(done) - 1)
    span = done[after] - done[after - 1]
    part = np.where(span > 0, (work - done[after - 1]) / np.where(span > 0, span, 1.0), 1.0)
    moments: Floats = clock[after - 1] + np.clip(part, 0.0, 1.0) * (clock[after] - clock[after - 1])
    return moments
