r"""A fleet for all rates of a set: routed in fixed shares, and no fleet that is much cheaper.

The rates u are any of a set U (`fluid.uncertainty`). With shares f_kj of type j sent to kind k, whatever the rates, the
rows of kind k hold for all of U if and only if they hold at their worst:

    n_k >= (1 + eta) max_i sigma_U(h^k_i f_k),        (h f)_j = h_j f_j                                     (upper)

a fleet that carries every u of U, proved by the support functions. Over a box the fleet of the corner does so with any
routing, and none that is cheaper carries the corner: exact, `plan_fleet` of the corner. Otherwise the shares tried are
those of the plans for the nominal rates, for the worst points of the rows, and, of few types, for the corner of the box
around U; the cheapest fleet counts. Each worst point is one of the rates that are possible, and a fleet for all of them
carries it, so

    cost >= the cost of plan_fleet at any worst point                                                       (lower)

(of draws of a bootstrap no set is named, and there is no such bound). Where rows hold with a confidence, they do so
kind by kind: the row of a kind that is fullest at the true rates is a fixed one. With one kind both are
ceil((1 + eta) e_U), e_U the robust edge load. Between the two lies what routing could gain by following the rates, and
the search left. Source: derived here; mathematics, section 18.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fluid.arrays import Floats
from fluid.errors import InputError
from fluid.planning.fleet import FleetPlan, plan_fleet
from fluid.planning.kinds import Kind, Rows, counts_of, most_of, prices_of, rows_of
from fluid.uncertainty.bootstrap import Bootstrap
from fluid.uncertainty.box import Box
from fluid.uncertainty.worst import UncertaintySet
from fluid.workload import Workload

CARRIES = 1 - 1e-7  # of a row, as `fluid.planning.whole_fleet` counts it
FEW = 64  # types, whose largest rates are looked at
MOST_POINTS = 4  # worst points that are planned for
NEARLY = 1e-12  # of the nominal rate: a type that is absent from a worst point


@dataclass(frozen=True, eq=False)
class RobustPlan:
    """Counts (K,) that carry all rates of a set, routed in `shares` (K, J), beside the `nominal` plan.

    `counts` are None where there are none, `reason` then says why; no fleet for all of them costs less than `bound`
    (None where nothing is proved).
    """

    nominal: FleetPlan
    counts: Floats | None
    shares: Floats | None
    bound: float | None
    reason: str = ""

    def __repr__(self) -> str:
        if self.counts is None:
            return f"RobustPlan(none: {self.reason[:80]})"
        least = "" if self.bound is None else f", at least {self.bound:.6g}"
        return f"RobustPlan(cost {self.cost:.6g}, {self.price:+.6g} for certainty{least})"

    @property
    def cost(self) -> float:
        """sum_k p_k n_k; infinite where there are none."""
        return float("inf") if self.counts is None else float(prices_of(self.nominal.kinds) @ self.counts)

    @property
    def price(self) -> float:
        """What it costs more than the nominal plan."""
        return self.cost - self.nominal.cost


def plan_robust(workload: Workload, kinds: Sequence[Kind], possible: UncertaintySet, headroom: float = 0.0, *,
                spare: int = 0) -> RobustPlan:
    """Return a cheap fleet for every rate of a set; `spare` replicas may be lost where the set is a box.

    >>> from fluid import IterationTime, PromptType, Replica
    >>> mix = Workload([PromptType(200, 1000, 20.0, "chat"), PromptType(8000, 50, 10.0, "document")])
    >>> kinds = [Kind("big", Replica(500_000, IterationTime(0.009, 1.5e-7, 2e-5, 2e-5)), price=4.0),
    ...          Kind("small", Replica(60_000, IterationTime(0.012, 4e-7, 5e-5, 5e-5)), price=1.2)]
    >>> plan_robust(mix, kinds, Box.around(mix.rates, 0.1))
    RobustPlan(cost 21.2, +1.6 for certainty, at least 21.2)
    """
    nominal = plan_fleet(workload, kinds, headroom, spare=spare)
    if spare and not isinstance(possible, Box):
        raise InputError("spare", "0 unless the set is a box", spare, "fleet")
    if isinstance(possible, Box):
        corner = plan_fleet(workload.at_rates(possible.high), kinds, headroom, spare=spare)
        shares = None if corner.rates is None else corner.rates / corner.workload.rates
        return RobustPlan(nominal, corner.counts, shares, corner.cost, corner.reason)
    return _searched(nominal, possible)


def _searched(nominal: FleetPlan, possible: UncertaintySet) -> RobustPlan:
    """The cheapest counts for the shares of the nominal plan, of plans for worst points, and of that for the corner."""
    workload, kinds, headroom = nominal.workload, nominal.kinds, nominal.headroom
    rows, fleets, planned, bound = rows_of(workload, kinds), [nominal, *_of_corner(nominal, possible)], 0, 0.0
    best: tuple[Floats, Floats] | None = None
    while fleets:
        plan = fleets.pop(0)
        if plan.counts is None or plan.rates is None:
            continue
        shares = plan.rates / plan.workload.rates
        counts, worst = _needed(rows, kinds, shares, possible, headroom)
        if np.all(counts <= most_of(kinds)) and (best is None or prices_of(kinds) @ (counts - best[0]) < 0):
            best = counts, shares
        for point in worst[: MOST_POINTS - planned]:
            fleets.append(plan_fleet(workload.at_rates(np.maximum(point, NEARLY * workload.rates)), kinds, headroom))
            planned, bound = planned + 1, max(bound, fleets[-1].cost)
    proved = None if isinstance(possible, Bootstrap) else bound
    if best is None:
        reason = nominal.reason or "no fixed routing over the replicas there are carries all of these rates"
        return RobustPlan(nominal, None, None, proved, reason)
    return RobustPlan(nominal, best[0], best[1], proved)


def _of_corner(nominal: FleetPlan, possible: UncertaintySet) -> list[FleetPlan]:
    """The plan for the largest rate of each type, where they are few."""
    types = len(nominal.workload)
    if types > FEW or isinstance(possible, Bootstrap):
        return []
    corner = np.array([possible.worst(np.eye(types)[j]).value for j in range(types)])
    return [plan_fleet(nominal.workload.at_rates(corner), nominal.kinds, nominal.headroom)]


def _needed(rows: Rows, kinds: tuple[Kind, ...], shares: Floats, possible: UncertaintySet,
            headroom: float) -> tuple[Floats, list[Floats]]:
    """The counts that shares take over a set, and the worst points of the kinds' fullest rows, the dearest first."""
    loads, points = np.zeros(len(kinds)), list[tuple[float, Floats]]()
    for k, each in enumerate(kinds):
        worst = [possible.worst(rows.values[i] * shares[k]) for i in np.flatnonzero(rows.kind == k)]
        fullest = max(worst, key=lambda found: found.value)
        loads[k] = max(fullest.value, 0.0)
        points.append((each.price * fullest.value, fullest.point))
    counts = np.maximum(np.ceil((1 + headroom) * CARRIES * loads), counts_of(kinds))
    used = [point for cost, point in sorted(points, key=lambda each: -each[0]) if cost > 0 and point.min() >= 0]
    return counts, used
