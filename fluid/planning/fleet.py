"""The cheapest fleet for a demand: how many replicas of each kind, and which types go where.

With head-room eta, prices p_k, most_k replicas of kind k and count_k that are there already

    min sum_k p_k n_k     sum_j h^k_ij x_kj <= n_k,   sum_k x_kj = (1 + eta) lambda_j,   count_k <= n_k <= most_k,   n
    whole

**Relaxed**, with fractions of replicas, it is a linear program; for any prices y >= 0 of the rows, feasible or not,

    cost >= (1 + eta) sum_j lambda_j mu_j + sum_k [ count_k (p_k - a_k)+ - most_k (a_k - p_k)+ ]            (bound)

where a_k <= p_k for a kind without most. That is the certificate: sums, no solver.

**Whole.** By duality n carries the demand if and only if a.n >= (1 + eta) sum_j lambda_j mu_j for all prices y:
half-spaces of counts alone, *cuts*. Starting from the relaxation's, the cheapest whole n that meets the cuts found so
far is tried (`fluid.planning.whole_fleet`); where it does not carry the demand, the prices that prove so (`demand`) are
one more cut, which it does not meet. When it does carry the demand it is optimal: every fleet meets the cuts.

**Spare.** With `spare` = s the fleet without any s replicas of one kind, whichever, still carries the demand with its
head-room, routed anew: each cut is asked of n with n_k replaced by max(n_k - s, 0), for each k. s = 1 is N-1.

Source: derived here (the cuts are those of Benders, 1962); mathematics, section 16.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fluid.arrays import Floats
from fluid.errors import InputError, real
from fluid.errors import whole as whole_number
from fluid.planning.demand import Carried, carried, excess
from fluid.planning.kinds import Kind, Rows, counts_of, most_of, prices_of, rows_of
from fluid.planning.margins import Margins, Residuals, moved
from fluid.planning.programs import Solved
from fluid.planning.shortfall import as_if_more, carried_by_all, fits_nowhere, too_few
from fluid.planning.sifting import cheapest
from fluid.planning.whole_fleet import CARRIES, INFEASIBLE, OPTIMAL, carrying
from fluid.workload import Workload

NOTHING = 1e-9  # of the largest rate that is sent to a kind: less is a solver's rounding


@dataclass(frozen=True, eq=False)
class FleetPlan:
    """A fleet of `counts` (K,) for (1 + `headroom`) times the demand, and the certificate of its cost.

    `status` is "optimal", "feasible" (the search for whole counts stopped at `MOST_ROUNDS` rounds) or "infeasible", of
    which `reason` is a sentence. `rates` (K, J) route the demand as it is, evenly filled. `bound` is the least cost
    with fractions of replicas, proved by `prices` (R,) of the rows; `relaxed_counts` and `relaxed_rates` attain it, the
    rates with the head-room. Where it is infeasible because of `most`, `carries` is the share of the demand that all
    there is carries, and `missing` (K,) the fewest replicas more, whatever their kind, that make it feasible.
    """

    workload: Workload
    kinds: tuple[Kind, ...]
    headroom: float
    spare: int
    status: str
    reason: str = ""
    counts: Floats | None = None
    rates: Floats | None = None
    bound: float = 0.0
    prices: Floats | None = None
    relaxed_counts: Floats | None = None
    relaxed_rates: Floats | None = None
    cuts: int = 0
    carries: float | None = None
    missing: Floats | None = None

    def __repr__(self) -> str:
        if self.counts is None:
            return f"FleetPlan({self.status}: {self.reason[:90]})"
        fleet = " + ".join(f"{n:g} x {each.name}" for n, each in zip(self.counts, self.kinds, strict=True) if n)
        return f"FleetPlan({fleet[:80]}, cost {self.cost:.6g}, {self.status}, bound {self.bound:.6g})"

    @property
    def feasible(self) -> bool:
        """Whether there is a fleet."""
        return self.counts is not None

    @property
    def cost(self) -> float:
        """sum_k p_k n_k, infinite where there is no fleet."""
        return float("inf") if self.counts is None else float(prices_of(self.kinds) @ self.counts)

    @property
    def gap(self) -> float:
        """(cost - bound)/cost: what whole counts and spare replicas cost beyond the relaxation, and the search left."""
        return 1.0 if self.counts is None else max(0.0, (self.cost - self.bound) / self.cost)  # but for rounding

    @property
    def filled(self) -> Floats:
        """How full each kind is of the demand as it is, the fullest of its rows over n_k; 0 without replicas: (K,)."""
        if self.counts is None or self.rates is None:
            return np.zeros(len(self.kinds))
        needs = rows_of(self.workload, self.kinds).fullest(self.rates)
        full: Floats = np.where(self.counts > 0, needs / np.where(self.counts > 0, self.counts, 1.0), 0.0)
        return full

    def share(self, k: int) -> Workload | None:
        """What one replica of kind number k is sent of the demand as it is, without types of which it gets none.

        None where there is no replica of the kind, or it is sent nothing.
        """
        if self.counts is None or self.rates is None or not self.counts[k] or not self.rates[k].any():
            return None
        rates = self.rates[k] / self.counts[k]
        return self.workload.some(rates > NOTHING * rates.max(), rates)

    @property
    def limits(self) -> tuple[str, ...]:
        """What fills each kind: "memory", "sequences", "tokens", "time", "tpot" or "link"; "" where nothing is sent."""
        if self.rates is None:
            return ("",) * len(self.kinds)
        rows = rows_of(self.workload, self.kinds)
        loads = rows.loads(self.rates)
        fullest = [int(np.argmax(np.where(rows.kind == k, loads, -1.0))) for k in range(len(self.kinds))]
        return tuple(rows.limit[i] if loads[i] > 0 else "" for i in fullest)

    def check(self) -> Residuals:
        """Recompute routing, counts and bound from the half-spaces, by sums alone; the gap is that of the relaxation.

        `primal` is the relative excess of the demand, with head-room, over the fleet and of the relaxation over its
        rows; `dual` that of a kind's worth over its price, where the kind has no most. Raises InputError where there is
        no fleet.
        """
        if self.counts is None or self.rates is None or self.prices is None or self.relaxed_counts is None or (
                self.relaxed_rates is None):
            raise InputError("check", "asked of a fleet that there is", self.status, "FleetPlan")
        rows, demand = rows_of(self.workload, self.kinds), (1 + self.headroom) * self.workload.rates
        primal = [excess(rows, (1 + self.headroom) * self.rates, self.counts, demand),
                  excess(rows, self.relaxed_rates, self.relaxed_counts, demand)]
        prices, worth = prices_of(self.kinds), rows.of_kinds(self.prices)
        free = np.isinf(most_of(self.kinds))
        over = float(np.max((worth / prices - 1)[free], initial=0.0))
        relaxed = float(prices @ self.relaxed_counts)
        bound = _bound(rows, demand, self.kinds, self.prices)
        return Residuals(max(primal), max(over, float(-self.prices.min()), 0.0), abs(relaxed - bound) / relaxed)

    @property
    def margins(self) -> tuple[Margins, ...]:
        """How the relaxed cost moves with the data of each kind; `replica` is what one more, free, would save."""
        if self.prices is None or self.relaxed_rates is None:
            return ()
        return moved(rows_of(self.workload, self.kinds), self.kinds, self.prices, self.relaxed_rates)

    @property
    def worth(self) -> Floats:
        """How the relaxed cost moves with the rate of each type: (1 + headroom) mu_j, price per request/s, (J,)."""
        if self.prices is None:
            return np.zeros(len(self.workload))
        return (1 + self.headroom) * rows_of(self.workload, self.kinds).worth(self.prices)

    def losing(self, k: int, replicas: int = 1) -> Carried:
        """What the fleet carries without so many replicas of kind k, routed anew."""
        if self.counts is None:
            raise InputError("losing", "asked of a fleet that there is", self.status, "FleetPlan")
        left = self.counts.copy()
        left[k] = max(left[k] - replicas, 0.0)
        return carried(self.workload, self.kinds, rows_of(self.workload, self.kinds), left)


def plan_fleet(workload: Workload, kinds: Sequence[Kind], headroom: float = 0.0, whole: bool = True,
               spare: int = 0) -> FleetPlan:
    """Return the cheapest fleet that carries (1 + `headroom`) times the demand, and without `spare` of any kind.

    With `whole` false, counts may be fractions. "infeasible", with the reason and the smallest change, where a
    type fits no kind or `most` is too small. Raises InputError for a negative head-room, or spare of fractions.

    >>> from fluid import IterationTime, PromptType, Replica
    >>> mix, replica = Workload([PromptType(512, 20, 500.0)]), Replica(137_000, IterationTime(0.0106, 4.013e-7))
    >>> plan_fleet(mix, [Kind("a100", replica, price=2.5)])
    FleetPlan(3 x a100, cost 7.5, optimal, bound 6.55901)
    """
    headroom = real("headroom", headroom, "fleet", zero=True)
    spare = whole_number("spare", spare, "fleet", unit="replicas", least=0, most=1000)
    if spare and not whole:
        raise InputError("spare", "0 where counts may be fractions", spare, "fleet")
    rows, fleet = rows_of(workload, kinds), tuple(kinds)
    asked = FleetPlan(workload, fleet, headroom, spare, INFEASIBLE)
    if not rows.served.all():
        return replace(asked, reason=fits_nowhere(workload, fleet, rows), carries=0.0)
    demand = workload.scaled(1 + headroom)
    if np.any(np.isfinite(most_of(fleet))) and carried_by_all(demand, fleet, rows, spare) < CARRIES:
        return _short(asked, rows, demand, whole)
    relaxed = cheapest(rows, demand.rates, prices_of(fleet), counts_of(fleet), most_of(fleet))
    if relaxed is None:  # all there is carries it but for rounding
        relaxed = cheapest(rows, demand.rates, prices_of(fleet), counts_of(fleet), most_of(fleet) / CARRIES)
    if relaxed is None:
        return _short(asked, rows, demand, whole)
    asked = _relaxed(asked, rows, demand, relaxed)
    if asked.prices is None or asked.relaxed_counts is None:
        return asked
    if not whole:
        return _routed(asked, rows, asked.relaxed_counts, OPTIMAL, 1)
    found = carrying(demand, fleet, rows, spare, asked.prices, asked.relaxed_counts)
    if found.counts is None:
        return _short(asked, rows, demand, whole)
    return _routed(asked, rows, found.counts, found.status, found.cuts)


def _routed(asked: FleetPlan, rows: Rows, counts: Floats, status: str, cuts: int) -> FleetPlan:
    """The demand spread over the fleet so that the fullest row has as much room as can be."""
    found = carried(asked.workload, asked.kinds, rows, counts)
    return replace(asked, status=status, counts=counts, rates=found.rates / found.factor, cuts=cuts)


def _short(asked: FleetPlan, rows: Rows, demand: Workload, whole: bool) -> FleetPlan:
    """No fleet: what all there is carries, and what is missing."""
    share = carried_by_all(demand, asked.kinds, rows, asked.spare)
    better = plan_fleet(asked.workload, as_if_more(asked.kinds), asked.headroom, whole, asked.spare)
    most = most_of(asked.kinds)
    more = np.zeros(len(most)) if better.counts is None else better.counts - np.where(np.isinf(most), np.inf, most)
    missing = np.maximum(more, 0.0)
    return replace(asked, reason=too_few(demand, asked.kinds, share, missing), carries=share, missing=missing)


def _relaxed(asked: FleetPlan, rows: Rows, demand: Workload, found: Solved) -> FleetPlan:
    """The relaxation, repaired: rates that meet the demand, counts that carry them, prices that bound the cost."""
    rates = demand.rates * found.shares / found.shares.sum(axis=0)
    counts = np.maximum(rows.fullest(rates), counts_of(asked.kinds))
    worth, prices = rows.of_kinds(found.prices), prices_of(asked.kinds)
    over = np.where(np.isinf(most_of(asked.kinds)) & (worth > prices), prices / np.where(worth > 0, worth, 1.0), 1.0)
    fair = found.prices * over[rows.kind]
    return replace(asked, bound=_bound(rows, demand.rates, asked.kinds, fair), prices=fair, relaxed_counts=counts,
                   relaxed_rates=rates)


def _bound(rows: Rows, demand: Floats, kinds: tuple[Kind, ...], prices: Floats) -> float:
    """The bound of the module; what a kind without most is worth above its price counts for nothing here."""
    own, worth, most = prices_of(kinds), rows.of_kinds(prices), most_of(kinds)
    spent = counts_of(kinds) * np.maximum(own - worth, 0.0)
    spent -= np.where(np.isinf(most), 0.0, most) * np.maximum(worth - own, 0.0)
    return float(np.sum(demand * rows.worth(prices)) + spent.sum())
