"""Overload: which requests to admit where a fleet of n_k replicas cannot carry them all.

With s_j = sum_k x_kj / lambda_j <= 1 the share of type j that is admitted, over sum_j h^k_ij x_kj <= n_k,

    requests        max sum_j v_j x_j                 a request of type j has the value v_j
    tokens          max sum_j v_j R_j x_j             an output token of type j has it
    max-min         max t,  s_j >= t v_j              then, those that can have no more held, the next lowest, and so on
    proportional    max sum_j v_j ln s_j

**Certificates**, for any prices y >= 0 of the rows (`fluid.planning.kinds`), and for max-min any weights beta >= 0 with
sum_j beta_j v_j = 1; each is the Lagrangian, maximised type by type:

    sum_j u_j x_j  <=  sum_k a_k n_k + sum_j lambda_j (u_j - mu_j)+            u_j = v_j, or v_j R_j
    t              <=  sum_k a_k n_k + sum_j (beta_j - lambda_j mu_j)+
    sum_j v_j ln s_j <= sum_k a_k n_k + sum_j [v_j ln s - s lambda_j mu_j],    s = min(1, v_j/(lambda_j mu_j))

With one row the first is a fractional knapsack: types are admitted by u_j/h_j, the largest first, and one in part. In
the last s_j = min(1, v_j/(lambda_j mu_j)): shares fall as the work of a type grows. Source: derived here; mathematics,
section 16.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Floats
from fluid.errors import InputError, one_of
from fluid.planning.demand import checked_counts
from fluid.planning.kinds import Kind, Rows, rows_of
from fluid.planning.margins import Margins, Residuals, gained
from fluid.planning.programs import proportional, raised
from fluid.planning.sifting import most_valuable
from fluid.workload import Workload

REQUESTS, TOKENS, MAX_MIN, PROPORTIONAL = "requests", "tokens", "max-min", "proportional"
OBJECTIVES = (REQUESTS, TOKENS, MAX_MIN, PROPORTIONAL)
MOST_LEVELS = 50  # of shares that differ, by max-min
HELD = 1e-9  # the part of the worth of a level from which on a type holds it down


@dataclass(frozen=True, eq=False)
class Admission:
    """Which rates to admit: `rates` (K, J) requests/s by kind and type, of `value`, at most `bound`.

    `values` (J,) are v; `prices` (R,) of the rows prove the bound, with the weights `lifts` (J,) for max-min (else 0).
    A type that fits no kind that is there is not admitted, and counts for nothing.
    """

    workload: Workload
    kinds: tuple[Kind, ...]
    counts: Floats
    objective: str
    values: Floats
    rates: Floats
    value: float
    bound: float
    prices: Floats
    lifts: Floats

    def __repr__(self) -> str:
        return (f"Admission({self.objective}: {self.admitted.sum():.6g} of {self.workload.rate:g} requests/s, "
                f"value {self.value:.6g}, bound {self.bound:.6g})")

    @property
    def admitted(self) -> Floats:
        """Requests/s of each type, shape (J,)."""
        total: Floats = self.rates.sum(axis=0)
        return total

    @property
    def shares(self) -> Floats:
        """The share of each type that is admitted, shape (J,)."""
        return self.admitted / self.workload.rates

    @property
    def gap(self) -> float:
        """How far the value may be from the best, relative ("proportional": of the geometric mean of shares)."""
        return _gap(self.objective, self.value, self.bound, float(self.values.sum()))

    @property
    def tolls(self) -> Floats:
        """mu_j, what a request of each type takes of others' value; infinite where it fits nowhere: (J,)."""
        return _there(rows_of(self.workload, self.kinds), self.counts).worth(self.prices)

    @property
    def worth(self) -> Floats:
        """What the value gains with one more request/s of each type that arrives, shape (J,): (u_j - mu_j)+.

        Raises InputError but for "requests" and "tokens".
        """
        if self.objective not in (REQUESTS, TOKENS):
            raise InputError("worth", 'asked of "requests" or "tokens"', self.objective, "Admission")
        found: Floats = np.maximum(_of_a_request(self.objective, self.workload, self.values) - self.tolls, 0.0)
        return found

    @property
    def margins(self) -> tuple[Margins, ...]:
        """How the value moves with the data of each kind, and with one more of its replicas, if any."""
        return gained(rows_of(self.workload, self.kinds), self.kinds, self.prices, self.rates)

    def check(self) -> Residuals:
        """Recompute value and bound from the half-spaces, by sums alone: feasibility, prices below 0, the gap."""
        rows = _there(rows_of(self.workload, self.kinds), self.counts)
        over = float(np.max((rows.fullest(self.rates) - self.counts) / np.maximum(self.counts, 1.0)))
        astray = float(np.max(np.where(rows.fits, -self.rates, self.rates) / self.workload.rates))
        primal = max(0.0, over, astray, float(np.max(self.shares)) - 1)
        served = rows.served
        off = 0.0
        if self.objective == MAX_MIN and served.any():
            off = abs(float(self.lifts[served] @ self.values[served]) - 1)
        below = max(0.0, float(-self.prices.min()), float(-self.lifts.min()), off)
        value = _value(self.objective, self.workload, self.values, self.shares, served)
        bound = _bound(self.objective, self.workload, rows, self.counts, self.values, self.prices, self.lifts)
        return Residuals(primal, below, _gap(self.objective, value, bound, float(self.values[served].sum())))


def admit(workload: Workload, kinds: Sequence[Kind], counts: ArrayLike, objective: str = REQUESTS,
          values: ArrayLike | None = None) -> Admission:
    """Return which rates of a workload a fleet of `counts` (K,) should admit, with prices that prove it.

    `objective` is "requests", "tokens", "max-min" or "proportional"; `values` v (J,), by default 1 of every type.
    Raises InputError for another objective, for values that are not positive, and where there is no replica.

    >>> from fluid import IterationTime, PromptType, Replica
    >>> mix = Workload([PromptType(512, 20, 200.0, "short"), PromptType(512, 200, 50.0, "long")])
    >>> found = admit(mix, [Kind("a100", Replica(137_000, IterationTime(0.0106, 4.013e-7)))], [1])
    >>> found.shares.round(3).tolist(), found.check().holds()
    ([0.953, 0.0], True)
    """
    one_of("objective", objective, OBJECTIVES, "admit")
    rows, fleet = rows_of(workload, kinds), checked_counts(counts, len(kinds))
    if not fleet.any():
        raise InputError("counts", "above 0 for some kind", counts, "admit")
    worth = _values(values, len(workload))
    there = _there(rows, fleet)
    lifts, shares, prices = np.zeros(len(workload)), np.zeros(rows.fits.shape), np.zeros(len(rows.values))
    if there.served.any():
        shares, prices, lifts = _solved(objective, workload, there, fleet, worth)
    rates = _repaired(there, shares, workload.rates, fleet)
    value = _value(objective, workload, worth, rates.sum(axis=0) / workload.rates, there.served)
    bound = _bound(objective, workload, there, fleet, worth, prices, lifts)
    return Admission(workload, tuple(kinds), fleet, objective, worth, rates, value, bound, prices, lifts)


def _solved(objective: str, workload: Workload, rows: Rows, counts: Floats,
            values: Floats) -> tuple[Floats, Floats, Floats]:
    """Shares (K, J), prices (R,) and lifts (J,)."""
    lifts = np.zeros(len(workload))
    if objective == MAX_MIN:
        return _filled(workload.rates, rows, counts, values)
    if objective == PROPORTIONAL:
        found = proportional(rows, workload.rates, counts, values)
    else:
        found = most_valuable(rows, workload.rates, counts, _of_a_request(objective, workload, values))
    return found.shares, found.prices, lifts


def _filled(rates: Floats, rows: Rows, counts: Floats, values: Floats) -> tuple[Floats, Floats, Floats]:
    """Raise the lowest level; hold those that keep it down; raise the next. The prices are those of the first."""
    served = rows.served
    weights = values[served]
    held, floor = np.zeros(len(weights), dtype=bool), np.zeros(len(weights))
    first = raised(rows, rates, counts, weights, held, floor)
    found = first
    for _ in range(MOST_LEVELS):
        holding = ~held & (found.lifts * weights > HELD)
        floor = np.where(holding, np.minimum(found.level * weights, 1.0), floor)
        held |= holding
        if held.all() or not holding.any():
            break
        found = raised(rows, rates, counts, weights, held, floor)
    lifts = np.zeros(len(rates))
    lifts[served] = first.lifts / (first.lifts @ weights)
    return found.shares, first.prices, lifts


def _there(rows: Rows, counts: Floats) -> Rows:
    """The rows of a fleet: nothing fits a kind of which there is none."""
    return replace(rows, fits=rows.fits & (counts > 0)[:, None])


def _repaired(rows: Rows, shares: Floats, rates: Floats, counts: Floats) -> Floats:
    """Rates (K, J) that exceed neither the demand nor the fleet."""
    found = rates * np.where(rows.fits, shares, 0.0)
    found = found / np.maximum(found.sum(axis=0) / rates, 1.0)
    needs = rows.fullest(found)
    over = np.where(needs > counts, needs / np.where(counts > 0, counts, 1.0), 1.0)
    within: Floats = found / over[:, None]
    return within


def _of_a_request(objective: str, workload: Workload, values: Floats) -> Floats:
    """u, the value of a request of each type."""
    return values * workload.output_tokens if objective == TOKENS else values


def _value(objective: str, workload: Workload, values: Floats, shares: Floats, served: np.ndarray) -> float:
    """The objective at these shares, types that fit nowhere left out."""
    mine = shares[served]
    if not len(mine):
        return 0.0
    if objective == MAX_MIN:
        return float(np.min(mine / values[served]))
    if objective == PROPORTIONAL:
        return float(values[served] @ np.log(np.maximum(mine, 1e-300)))
    return float((_of_a_request(objective, workload, values) * workload.rates)[served] @ mine)


def _bound(objective: str, workload: Workload, rows: Rows, counts: Floats, values: Floats, prices: Floats,
           lifts: Floats) -> float:
    """The certificate of the module."""
    served = rows.served
    if not served.any():
        return 0.0
    tolls, v = (workload.rates * np.where(served, rows.worth(prices), 0.0))[served], values[served]
    fleet = float(rows.of_kinds(prices) @ counts)
    if objective == MAX_MIN:
        return fleet + float(np.maximum(lifts[served] - tolls, 0.0).sum())
    if objective == PROPORTIONAL:
        share = np.minimum(1.0, v / np.maximum(tolls, 1e-300))
        return fleet + float(np.sum(v * np.log(share) - share * tolls))
    gained = (_of_a_request(objective, workload, values) * workload.rates)[served]
    return fleet + float(np.maximum(gained - tolls, 0.0).sum())


def _gap(objective: str, value: float, bound: float, weight: float) -> float:
    if objective == PROPORTIONAL:
        return float(np.expm1((bound - value) / weight)) if weight > 0 else 0.0
    return bound / value - 1 if value > 0 else bound


def _values(values: ArrayLike | None, types: int) -> Floats:
    if values is None:
        return np.ones(types)
    found = np.asarray(values, dtype=np.float64)
    if found.shape != (types,) or not bool(np.all(np.isfinite(found) & (found > 0))):
        raise InputError("values", f"{types} positive finite numbers, one per type", values, "admit")
    return found
