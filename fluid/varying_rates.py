r"""Arrival rates that change over time: the hours of a day, a ramp.

A schedule is a list of windows, window i lasting D_i seconds with every rate of a workload times f_i; after the last
window the first begins again. The period is D = sum_i D_i, the mean factor m = sum_i D_i f_i / D.

**Equilibrium per window.** A window fits when f_i lambda lies in the stability region, f_i e <= 1 with e the edge load
(`fluid.region`): a window long against the life of a request comes close to its own equilibrium.

**Backlog.** A window that does not fit leaves requests waiting. Served at the edge of the region, a second of traffic
takes f_i e seconds, so the time needed to serve what waits follows

    B_i = max(0, B_{i-1} + D_i (f_i e - 1)),    B_0 = 0

the waiting time of a request that arrives at the end of window i, in the fluid model. Over many periods it stays
bounded if m e < 1, whatever single windows do; if m e > 1 it grows with every period.

**Arrivals.** Poisson with intensity lambda f(t): a stream of intensity lambda at the times F(t) = int_0^t f,
mapped back by F^-1 (`Schedule.elapsed`, `Schedule.moment`). Sources: mathematics, section 2.7; the time change of an
inhomogeneous Poisson process.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Floats, at_most
from fluid.equilibrium import Equilibrium, solve
from fluid.errors import InputError, real
from fluid.replica import Replica
from fluid.workload import Workload


class WindowEquilibrium(NamedTuple):
    """A window from `start` to `end` (s), its equilibrium, and `backlog`: the seconds to serve what waits then."""

    start: float
    end: float
    equilibrium: Equilibrium
    backlog: float


@dataclass(frozen=True, eq=False)
class Schedule:
    """Windows of `durations` (s) in which all rates are multiplied by `factors`, both of shape (I,), repeated.

    Raises InputError unless there is one factor for each duration and all are positive and finite.

    >>> day = Schedule([12 * 3600, 12 * 3600], [1.5, 0.5])
    >>> day.period, day.mean_factor
    (86400.0, 1.0)
    """

    durations: Floats
    factors: Floats

    def __init__(self, durations: Iterable[float], factors: Iterable[float]) -> None:
        for field, values, unit in (("durations", durations, "seconds"), ("factors", factors, "")):
            array = np.array([real(f"{field}[{i}]", value, "schedule", unit=unit) for i, value in enumerate(values)])
            array.flags.writeable = False
            object.__setattr__(self, field, array)
        if not 0 < len(self.durations) == len(self.factors):
            raise InputError("factors", f"{max(1, len(self.durations))} numbers, one for each window",
                             len(self.factors), "schedule")

    @property
    def period(self) -> float:
        """D, seconds."""
        return float(self.durations.sum())

    @property
    def mean_factor(self) -> float:
        """m, the factor on the rates in the mean over a long time."""
        return float(self.durations @ self.factors / self.period)

    def elapsed(self, times: ArrayLike) -> Floats:
        """F(t) = int_0^t f, seconds of the workload's own rates."""
        whole, rest = np.divmod(np.asarray(times, dtype=np.float64), self.period)
        clock, passed = self._clocks
        within: Floats = whole * passed[-1] + np.interp(rest, clock, passed)
        return within

    def moment(self, elapsed: ArrayLike) -> Floats:
        """t with F(t) = elapsed, seconds."""
        clock, passed = self._clocks
        whole, rest = np.divmod(np.asarray(elapsed, dtype=np.float64), passed[-1])
        times: Floats = whole * self.period + np.interp(rest, passed, clock)
        return times

    @property
    def _clocks(self) -> tuple[Floats, Floats]:
        """t and F(t) at the edges of the windows of one period."""
        start = np.zeros(1)
        return (np.concatenate([start, np.cumsum(self.durations)]),
                np.concatenate([start, np.cumsum(self.durations * self.factors)]))


def solve_windows(workload: Workload, replica: Replica, schedule: Schedule) -> tuple[WindowEquilibrium, ...]:
    """Return the equilibrium of each window of one period, and what waits at its end, starting with nothing waiting.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.013e-7))
    >>> windows = solve_windows(Workload([PromptType(512, 20, 150.0)]), replica, Schedule([600, 600], [1.5, 0.5]))
    >>> [window.equilibrium.stable for window in windows], round(windows[0].backlog)
    ([False, True], 108)
    """
    edge = solve(workload, replica)
    found, start, backlog = [], 0.0, 0.0
    for duration, factor in zip(schedule.durations.tolist(), schedule.factors.tolist(), strict=True):
        load = factor / edge.max_rate_scale if edge.max_rate_scale else np.inf
        backlog = max(0.0, backlog + duration * (load - 1))
        found.append(WindowEquilibrium(start, start + duration, solve(workload.scaled(factor), replica), backlog))
        start += duration
    return tuple(found)


def carries(workload: Workload, replica: Replica, schedule: Schedule) -> bool:
    """Return whether the mean rates lie in the region, m e <= 1: what piles up in a period is served in it."""
    return at_most(schedule.mean_factor, solve(workload, replica).max_rate_scale)
