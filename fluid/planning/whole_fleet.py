"""Whole counts by cuts: the cheapest ones that meet the cuts found so far, until they carry the demand.

The set of counts that carry a demand lambda is {n : a.n >= sum_j lambda_j mu_j for all prices y}. Each round tries the
cheapest whole counts that meet finitely many of these; prices that prove that they do not carry the demand are one
more. Every fleet meets every cut, so that the first one that carries the demand is optimal. It ends, for a round
excludes its counts and there are finitely many within bounds: no kind needs more replicas than carry all it can be
sent, and its spare ones. Of more than a dozen kinds
the cost is least to 1e-4. Source: mathematics, section 16.2 (Benders, 1962).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from fluid.arrays import Floats
from fluid.errors import FluidwaitError
from fluid.planning.demand import Carried, carried
from fluid.planning.kinds import Kind, Rows, counts_of, most_of, prices_of
from fluid.workload import Workload

OPTIMAL, FEASIBLE, INFEASIBLE = "optimal", "feasible", "infeasible"
CARRIES = 1 - 1e-7  # of the demand: a fleet that carries so much is said to carry it
MOST_ROUNDS = 100
FEW_KINDS, EXACT, ROUGH = 12, 1e-9, 1e-4  # of more kinds whole counts are found to a relative gap in the cost
UNMET = 2  # status of milp


class Whole(NamedTuple):
    """The counts found (None: there are none), "optimal", "feasible" or "infeasible", and the cuts that were needed."""

    counts: Floats | None
    status: str
    cuts: int


def carrying(demand: Workload, kinds: tuple[Kind, ...], rows: Rows, spare: int, prices: Floats,
             relaxed: Floats) -> Whole:
    """Return the cheapest whole counts that carry the demand without any `spare` replicas of one kind.

    `prices` (R,) and counts `relaxed` (K,) are those of the relaxation: the first cut, and what is rounded up where the
    search ends before it has an answer.
    """
    least, most = counts_of(kinds), bounds(demand, kinds, rows, spare)
    cuts = _Cuts(demand.rates, rows)
    cuts.add(prices)
    for _ in range(MOST_ROUNDS):
        counts = least_whole(prices_of(kinds), np.array(cuts.slopes), np.full(len(cuts.slopes), 1 - 1e-9), least, most,
                             spare)
        if counts is None:
            return Whole(None, INFEASIBLE, len(cuts.slopes))
        short = [each for each in without(demand, kinds, rows, counts, spare) if each.factor < CARRIES]
        if not short:
            return Whole(counts, OPTIMAL, len(cuts.slopes))
        for each in short:
            cuts.add(each.prices)
    up = np.minimum(np.maximum(np.ceil(relaxed) + spare * (relaxed > 0), least), most)
    if any(each.factor < CARRIES for each in without(demand, kinds, rows, up, spare)):
        raise FluidwaitError(f"no whole fleet was found in {MOST_ROUNDS} rounds; with fewer kinds, or fractions of "
                             "replicas, there is an answer")
    return Whole(up, FEASIBLE, len(cuts.slopes))


def least_whole(prices: Floats, cuts: Floats, needs: Floats, least: Floats, most: Floats, spare: int,
                ) -> Floats | None:
    """min sum_k p_k n_k over whole n from least to most that meet every cut a.n >= b, with `spare` of any kind lost.

    Without spare q = n. Else what is left of kind k is q_k = max(n_k - s, 0), by a binary z_k: q_k <= n_k - s z_k and
    q_k <= most_k z_k. A cut must hold with n_k replaced by q_k, for each k. None where nothing meets that.
    """
    kinds, blocks = len(prices), 1 if spare == 0 else 3
    upper = np.concatenate([most, most, np.ones(kinds)])[:blocks * kinds]
    lower = np.concatenate([least, np.zeros(2 * kinds)])[:blocks * kinds]
    matrix, floor = _rows(cuts, needs, most, spare)
    found = milp(np.concatenate([prices / prices.max(), np.zeros((blocks - 1) * kinds)]), bounds=Bounds(lower, upper),
                 constraints=[LinearConstraint(matrix, floor, np.inf)] if len(floor) else [],
                 integrality=np.ones(blocks * kinds), options={"mip_rel_gap": EXACT if kinds <= FEW_KINDS else ROUGH})
    if found.x is None and found.status != UNMET:
        raise FluidwaitError(f"the solver HIGHS failed: {found.message}")
    return None if found.x is None else np.maximum(np.rint(found.x[:kinds]), 0.0) + 0.0


def _rows(cuts: Floats, needs: Floats, most: Floats, spare: int) -> tuple[sparse.csr_matrix, Floats]:
    """The rows of that program, at least their floor; each cut without one of the kinds it counts."""
    kinds = len(most)
    if spare == 0:
        return sparse.csr_matrix(cuts.reshape(-1, kinds)), needs
    one, none = sparse.identity(kinds, format="csr"), sparse.csr_matrix((kinds, kinds))
    blocks = [sparse.hstack([one, -one, -spare * one]), sparse.hstack([none, -one, sparse.diags(most)])]
    floors = [np.zeros(2 * kinds)]
    for a, b in zip(cuts, needs, strict=True):
        own = sparse.diags(a)
        blocks.append(sparse.hstack([sparse.csr_matrix(np.tile(a, (kinds, 1))) - own, own, none]))
        floors.append(np.full(kinds, b))
    return sparse.vstack(blocks, format="csr"), np.concatenate(floors)


class _Cuts:
    """The slopes a / sum_j lambda_j mu_j of cuts: a.n >= 1 after the division."""

    def __init__(self, rates: Floats, rows: Rows) -> None:
        self.rates, self.rows, self.slopes = rates, rows, list[Floats]()

    def add(self, prices: Floats) -> None:
        need = float(np.sum(self.rates * self.rows.worth(prices)))
        if need > 0:
            self.slopes.append(self.rows.of_kinds(prices) / need)


def without(demand: Workload, kinds: tuple[Kind, ...], rows: Rows, counts: Floats, spare: int) -> list[Carried]:
    """What the fleet carries; with `spare`, what is left of it without so many replicas of each kind it has."""
    if spare == 0:
        return [carried(demand, kinds, rows, counts)]
    losses = []
    for k in np.flatnonzero(counts > 0):
        left = counts.copy()
        left[k] = max(left[k] - spare, 0.0)
        losses.append(carried(demand, kinds, rows, left))
    return losses


def bounds(demand: Workload, kinds: tuple[Kind, ...], rows: Rows, spare: int) -> Floats:
    """The most replicas of each kind that a fleet can use: of those that carry all it can be sent, and spare ones."""
    alone = np.where(rows.fits, demand.rates, 0.0)
    most: Floats = np.minimum(np.ceil(rows.fullest(alone) * (1 + 1e-9)) + spare, most_of(kinds))
    return np.maximum(most, counts_of(kinds))
