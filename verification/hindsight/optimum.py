"""The hindsight optimum: the least total latency of any schedule, when everything is known from the start.

    min  sum_i (t_i + o_i - a_i)        over the starts t_i >= a_i for which at every moment at most M tokens are held

by the integer program of [J] (`verification.hindsight.program`), in four steps, each of which may already be enough:

 1. MC-SF, and from it a better schedule by annealing (`search.py`): the cost U;
 2. prices of the rounds (`prices.py`): the bound L;
 3. the program without the starts that U and L exclude, solved by HiGHS from the schedule in hand (`solver.py`);
 4. what HiGHS returns is checked in whole numbers; nothing that breaks a moment's memory is taken.

**What is reported.** `objective`, the cost of `starts`; `bound`, the larger of ceil(L) and what HiGHS proves, and

    gap = (objective - bound)/objective            status "optimal" where it is at most the gap asked for (0: proved)

else "time limit", or "interrupted" after KeyboardInterrupt, each with the best schedule and bound reached. Whole
numbers that HiGHS finds in floating point are rounded up less 1e-6. See mathematics, section 7.4.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from fluid.arrays import Ints
from fluid.errors import InputError, real
from fluid.progress import Progress
from verification.hindsight.bounds import lower_bound
from verification.hindsight.prices import Market, ascend, rounded_up
from verification.hindsight.program import program
from verification.hindsight.search import improved, mc_sf, total_latency
from verification.hindsight.solver import solve
from verification.rounds.instance import Instance
from verification.rounds.schedule import Schedule

OPTIMAL, TIME_LIMIT, INTERRUPTED = "optimal", "time limit", "interrupted"
PRICE_STEPS = 600  # and no more than 20 for each request
SLICES = (300, 3000, 30_000, 300_000)  # steps of annealing, one after the other, while a fifth of the time lasts
SEARCH_SHARE, STEPS_FOR_A_PAIR = 0.2, 200  # no slice takes more steps than the latter for each pair of requests


@dataclass(frozen=True, eq=False)
class Hindsight:
    """The best schedule found: `starts` (moments, shape (N,)), its total latency, and the `bound` of every schedule's.

    `status` is "optimal", "time limit" or "interrupted", `seconds` what it took. `mc_sf` is what MC-SF costs on the
    instance when it knows the output lengths.
    """

    instance: Instance
    starts: Ints
    bound: int
    status: str
    mc_sf: int
    seconds: float
    objective: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "objective", total_latency(self.instance, self.starts))

    @property
    def gap(self) -> float:
        """(objective - bound)/objective; 0 without requests."""
        return (self.objective - self.bound) / self.objective if self.objective else 0.0

    @property
    def schedule(self) -> Schedule:
        """The schedule, with its certificate (`Schedule.violations`)."""
        return _schedule(self.instance, self.starts)

    def __str__(self) -> str:
        return (f"{self.status}: total latency {self.objective:,} rounds, at least {self.bound:,} "
                f"(gap {100 * self.gap:.2f}%); MC-SF {self.mc_sf:,}")


def hindsight(instance: Instance, *, time_limit: float = 60.0, gap: float = 0.0, seed: int = 0,
              progress: Progress | None = None) -> Hindsight:
    """Return min sum_i (t_i + o_i - a_i) over feasible schedules, or the best found in `time_limit` seconds.

    `gap` is the relative gap at which to stop, `seed` that of the search for a first schedule. `progress` is called
    with the whole seconds gone and the limit. KeyboardInterrupt ends the work, and the best so far is returned. The
    limit is looked at between steps, and HiGHS has a second more to stop. Raises InputError for a negative time limit,
    or a gap outside [0, 1).

    >>> found = hindsight(Instance([0, 0, 0], [1, 1, 1], [2, 1, 3], memory=4))
    >>> found.status, found.objective, found.bound
    ('optimal', 8, 8)
    """
    limit = real("time_limit", time_limit, "hindsight", unit="seconds", zero=True)
    if real("gap", gap, "hindsight", zero=True) >= 1:
        raise InputError("gap", "a share of the objective in [0, 1)", gap, "hindsight")
    _compile()
    work = _Work(instance, limit, float(gap), progress)
    interrupted = False
    try:
        work.search(seed)
        interrupted = work.solve()
    except KeyboardInterrupt:
        interrupted = True
    status = OPTIMAL if work.done else INTERRUPTED if interrupted else TIME_LIMIT
    return Hindsight(instance, work.starts, work.bound, status, work.mc_sf, work.gone)


@cache
def _compile() -> None:
    """Run the compiled steps once, before the clock starts: the limit is for the instance, not for the compiler."""
    tiny = Instance([0, 0], [1, 1], [1, 1], memory=2)
    improved(tiny, 1)
    ascend(Market.of(tiny, 2), 3, 1, lambda: True)


class _Work:
    """What is known so far: the best starts, their cost, and the bound."""

    def __init__(self, instance: Instance, limit: float, gap: float, progress: Progress | None) -> None:
        self.instance, self.limit, self.gap, self.progress = instance, limit, gap, progress
        self.begun = time.monotonic()
        self.starts = mc_sf(instance)
        self.mc_sf = self.cost = total_latency(instance, self.starts)
        self.bound = max(int(instance.outputs.sum()), lower_bound(instance, steps=0).best)

    @property
    def gone(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.begun

    @property
    def done(self) -> bool:
        return self.cost - self.bound <= self.gap * self.cost

    def search(self, seed: int) -> None:
        """Anneal for longer and longer, each time from another seed."""
        rng = np.random.default_rng(seed)
        for steps in SLICES:
            if self.done or self.gone > SEARCH_SHARE * self.limit or steps > STEPS_FOR_A_PAIR * len(self.instance) ** 2:
                return
            self._take(improved(self.instance, steps, rng))
            self._tell()

    def solve(self) -> bool:
        """Prices, then the program; whether it was interrupted."""
        if self.done or self.gone > self.limit:
            return False
        market = Market.of(self.instance, int((self.starts + self.instance.outputs).max()))
        value, prices = ascend(market, self.cost, min(PRICE_STEPS, 20 * len(self.instance)), self._step)
        self._raise(value)
        if self.done or self.gone > self.limit:
            return False
        made = program(market, prices, value, self.starts, self.cost)
        answer = solve(made, made.values(self.starts), max(self.limit - self.gone, 0.0), self.gap, self._tell)
        self._raise(answer.bound)
        if answer.values is not None:
            self._take(made.starts(answer.values))
        return answer.interrupted

    def _take(self, starts: Ints) -> None:
        cost = total_latency(self.instance, starts)
        if cost < self.cost and not _schedule(self.instance, starts).violations:
            self.starts, self.cost = starts, cost

    def _raise(self, bound: float) -> None:
        if math.isfinite(bound):
            self.bound = max(self.bound, min(rounded_up(bound), self.cost))

    def _step(self) -> bool:
        self._tell()
        return self.gone < self.limit

    def _tell(self) -> None:
        if self.progress:
            self.progress(min(int(self.gone), int(self.limit)), int(self.limit))


def _schedule(instance: Instance, starts: Ints) -> Schedule:
    order = np.argsort(starts, kind="stable")
    return Schedule(instance, order, starts[order], (starts + instance.outputs)[order])
