r"""Lower bounds of the total latency for instances of any size, and the best of them.

Each holds for every feasible schedule; C_i = t_i + o_i is the moment at which request i finishes.

**Volume** (`verification.rounds.schedule`). A request takes A_i = s_i o_i + o_i (o_i + 1)/2 token-rounds, the first k
to finish at least the k smallest A, and the memory gives M a round.

**Area.** Request i holds s_i + j tokens at moment t_i + j; the mean of these moments, weighted by tokens, is
t_i + beta_i with beta_i = sum_j j (s_i + j)/A_i. So

    sum_i C_i = sum_i (o_i - beta_i) + sum_i (1/A_i) sum_u u x_iu       x_iu the tokens that i holds at moment u

Let x be any nonnegative numbers with sum_u x_iu = A_i, x_iu = 0 for u <= a_i and sum_i x_iu <= M: the least of the last
sum is reached by giving every moment to the smallest A_i that have come. For if at u some j has a token while i, there
already and with A_i < A_j, has one at a later u', exchanging them changes the sum by (u' - u)(1/A_j - 1/A_i) < 0. The
sum is computed in whole numbers up to the division by A_i. It is a bound by prices (below) for the best v alone,
without what r_i says of the shape of a ramp.

**Turns.** Requests that need more than half of the memory claim disjoint moments (`verification.hindsight.turns`, k =
1): sorted by length, the m-th last claim C + f is not before (the first claim of any) - 1 + the m shortest claims. The
others are bounded by their area, as if alone: a schedule without some of its requests is feasible for the rest.

**Prices** (`verification.hindsight.prices`). The linear relaxation with turns, by subgradient ascent. See mathematics,
section 7.5.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fluid.arrays import Bools, Ints
from fluid.errors import whole
from fluid.tables import Tabular
from verification.hindsight.prices import Market, ascend, rounded_up
from verification.hindsight.search import mc_sf, total_latency
from verification.hindsight.turns import turns
from verification.rounds.instance import Instance
from verification.rounds.schedule import least_total_latency

STEPS, MOST_CELLS = 300, 10**6


@dataclass(frozen=True)
class LowerBound(Tabular):
    """Bounds of the total latency (rounds) of any schedule of an instance, by where they come from."""

    volume: int
    area: int
    turns: int
    prices: int

    @property
    def best(self) -> int:
        """The largest."""
        return max(self.volume, self.area, self.turns, self.prices)

    def columns(self) -> dict[str, list[object]]:
        names = ("volume", "area", "turns", "prices")
        return {"bound": list(names), "total latency (rounds)": [getattr(self, name) for name in names]}


def lower_bound(instance: Instance, *, steps: int | None = None, known: int | None = None,
                go_on: Callable[[], bool] = lambda: True) -> LowerBound:
    """Return four lower bounds of sum_i (C_i - a_i), the last by `steps` steps of ascent; `go_on` is asked after each.

    `known` is the cost of the best schedule known, MC-SF's where it is not given. Prices reach to the last finish of
    MC-SF. Without `steps` there are 300, or none where (s, o) pairs times horizon exceed 10^6: the bound by prices is
    then 0, and the turns are the best. Raises InputError for negative steps.

    >>> lower_bound(Instance([0, 0], [1, 1], [1, 1], memory=2))
    LowerBound(volume=3, area=3, turns=3, prices=3)
    """
    asked = None if steps is None else whole("steps", steps, "lower_bound", unit="steps", least=0)
    prices = 0
    if len(instance) and asked != 0:
        starts = mc_sf(instance)
        market = Market.of(instance, int((starts + instance.outputs).max()))
        count = asked or (STEPS if len(market.prompts) * market.horizon <= MOST_CELLS else 0)
        prices = rounded_up(ascend(market, known or total_latency(instance, starts), count, go_on)[0]) if count else 0
    return LowerBound(least_total_latency(instance), area_bound(instance), turn_bound(instance), prices)


def area_bound(instance: Instance) -> int:
    """Return the area bound of the total latency, rounds.

    >>> area_bound(Instance([0, 0], [1, 1], [3, 3], memory=4))
    8
    """
    everybody = np.ones(len(instance), dtype=np.bool_)
    return rounded_up(_area(instance, everybody) - int(instance.arrivals.sum()))


def turn_bound(instance: Instance) -> int:
    """Return the bound by turns of those who need more than half of the memory, and by the area of the others, rounds.

    >>> turn_bound(Instance([0, 0], [1, 1], [3, 3], memory=4))
    9
    """
    found = turns(instance.prompts, instance.outputs, instance.memory, together=1)
    claims = found.members
    others = _area(instance, ~claims) - int(instance.arrivals.sum())
    if not claims.any():
        return rounded_up(others)
    earliest = instance.arrivals + instance.outputs
    begin = int((earliest - found.before)[claims].min())
    last = np.maximum(np.sort((earliest + found.after)[claims]), begin - 1 + np.cumsum(np.sort(found.length[claims])))
    return rounded_up(others + int(last.sum() - found.after[claims].sum()))


def _area(instance: Instance, chosen: Bools) -> float:
    """At least the sum of C_i over the chosen, each also at least a_i + o_i in total."""
    a, s, o = (each[chosen] for each in (instance.arrivals, instance.prompts, instance.outputs))
    volume = s * o + o * (o + 1) // 2
    squares = s * o * (o + 1) // 2 + o * (o + 1) * (2 * o + 1) // 6  # sum_j j (s + j)
    shape = float((o - squares / volume).sum())
    return max(shape + _mean_moments(a, volume, instance.memory), float((a + o).sum()))


def _mean_moments(arrivals: Ints, volumes: Ints, memory: int) -> float:
    """The least sum of mean moments: the smallest volume that has come is served first, `arrivals` sorted."""
    total, free, coming, waiting = 0.0, 0, 0, list[tuple[int, int]]()  # `free`: tokens of the moments so far
    while coming < len(arrivals) or waiting:
        if not waiting:
            free = max(free, memory * int(arrivals[coming]))
        while coming < len(arrivals) and memory * int(arrivals[coming]) <= free:
            heapq.heappush(waiting, (int(volumes[coming]), int(volumes[coming])))
            coming += 1
        volume, left = heapq.heappop(waiting)
        until = memory * int(arrivals[coming]) if coming < len(arrivals) else free + left
        taken = min(left, until - free)
        total += (_moments(free + taken, memory) - _moments(free, memory)) / volume
        free += taken
        if left > taken:
            heapq.heappush(waiting, (volume, left - taken))
    return total


def _moments(tokens: int, memory: int) -> int:
    """The sum of the moments of the first tokens, of which there are `memory` at each moment 1, 2, ..."""
    full, rest = divmod(tokens, memory)
    return memory * full * (full + 1) // 2 + rest * (full + 1)
