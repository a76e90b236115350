"""The convex programs of this room, in cvxpy: linear ones by HiGHS (as SciPy has it: by interior points, then a
crossover to a vertex; ten thousand types take seconds), the logarithmic one by Clarabel.

Their variables are shares f_kj = x_kj/lambda_j of each type sent to each kind that it fits, so that no number depends
on the units of rates; rows are divided by the size of the fleet. What comes back are shares and prices of the rows,
both still as a solver has them, within its tolerances: who uses them repairs both (`Rows.worth`, `repaired`).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from fluid.arrays import Bools, Floats
from fluid.errors import FluidwaitError
from fluid.planning.kinds import Rows

HIGHS, CLARABEL = "HIGHS", "CLARABEL"
TIGHT: dict[str, Any] = {"method": "highs-ipm", "primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance":
1e-9}


def cvxpy() -> Any:
    """The module, which takes a second to load, and which only planning needs; its types are not complete."""
    return import_module("cvxpy")


class Solved(NamedTuple):
    """The `value`, shares `f` (K, J), `counts` (K,) or levels, `prices` of the rows (R,), all of them a solver's."""

    value: float
    shares: Floats
    counts: Floats
    prices: Floats


class Level(NamedTuple):
    """A `level`, shares (K, J), `prices` (R,) and `lifts`, the worth of a share of each type that is served."""

    level: float
    shares: Floats
    prices: Floats
    lifts: Floats


class Shares:
    """The variables f of the pairs that fit, and the two linear maps: row loads A f, and totals by type S f."""

    def __init__(self, rows: Rows, rates: Floats) -> None:
        cp = cvxpy()

        self.rows, self.kinds, self.types = rows, *np.nonzero(rows.fits)
        self.f = cp.Variable(len(self.kinds), nonneg=True)
        pair = np.full(rows.fits.shape, -1)
        pair[self.kinds, self.types] = np.arange(len(self.kinds))
        at, types = np.nonzero(rows.fits[rows.kind])
        loads = sparse.csr_matrix((rows.values[at, types] * rates[types], (at, pair[rows.kind[at], types])),
                                  shape=(len(rows.values), len(self.kinds)))
        total = sparse.csr_matrix((np.ones(len(self.kinds)), (self.types, np.arange(len(self.kinds)))),
                                  shape=(rows.fits.shape[1], len(self.kinds)))
        self.loads, self.totals = loads @ self.f, total[rows.served] @ self.f

    @property
    def found(self) -> Floats:
        """The shares (K, J) of a program that is solved, none below 0."""
        shares = np.zeros(self.rows.fits.shape)
        shares[self.kinds, self.types] = np.maximum(self.f.value, 0.0)
        return shares


def proportional(rows: Rows, rates: Floats, counts: Floats, weights: Floats) -> Solved:
    """max sum_j w_j ln (S f)_j with A f <= counts, S f <= 1; weights w (J,)."""
    cp = cvxpy()

    shares, size, mine = Shares(rows, rates), _most(counts), weights[rows.served]
    carried = shares.loads / size <= counts[rows.kind] / size
    unit = float(mine.sum())
    problem = cp.Problem(cp.Maximize((mine / unit) @ cp.log(shares.totals)), [carried, shares.totals <= 1])
    _must(_solve(problem, CLARABEL))
    return Solved(float(problem.value) * unit, shares.found, counts, np.maximum(carried.dual_value, 0.0) * unit / size)


def raised(rows: Rows, rates: Floats, counts: Floats, weights: Floats, held: Bools, floor: Floats,
           ) -> Level:
    """max t with S f >= t w for types not held, S f >= floor for those held, S f <= 1.

    Types are those that are served, in order: `weights`, `held` and `floor` have their shape.
    """
    cp = cvxpy()

    shares, level = Shares(rows, rates), cp.Variable()
    size, free = _most(counts), np.flatnonzero(~held)
    carried = shares.loads / size <= counts[rows.kind] / size
    lifted = shares.totals[free] >= level * weights[free]
    limits = [carried, lifted, shares.totals <= 1]
    if held.any():
        limits.append(shares.totals[np.flatnonzero(held)] >= floor[held] * (1 - 1e-10))
    _must(_solve(cp.Problem(cp.Maximize(level), limits), HIGHS))
    worth = np.zeros(len(held))
    worth[free] = np.maximum(lifted.dual_value, 0.0)
    return Level(float(level.value), shares.found, np.maximum(carried.dual_value, 0.0) / size, worth)


def _solve(problem: Any, solver: str) -> bool:
    """Whether the problem has an optimum; raises FluidwaitError where the solver fails."""
    cp = cvxpy()

    name, given = (cp.SCIPY, {"scipy_options": dict(TIGHT)}) if solver == HIGHS else (solver, {})
    try:
        problem.solve(solver=name, **given)
    except cp.error.SolverError as error:
        raise FluidwaitError(f"the solver {solver} failed: {error}") from None
    if problem.status in (cp.INFEASIBLE, cp.settings.INFEASIBLE_OR_UNBOUNDED):
        return False
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise FluidwaitError(f"the solver {solver} found no optimum: {problem.status}")
    return True


def _must(solved: bool) -> None:
    if not solved:
        raise FluidwaitError("the solver HIGHS finds a program infeasible that always has a solution")


def _most(counts: Floats) -> float:
    return float(counts.max())


def size_of(rows: Rows, rates: Floats) -> float:
    """About how many replicas it takes: each type on the kind of which it needs least."""
    needs = np.full(rows.fits.shape, np.inf)
    for k in range(len(needs)):
        needs[k] = np.where(rows.fits[k], rows.values[rows.kind == k].max(axis=0) * rates, np.inf)
    return max(float(needs.min(axis=0)[rows.served].sum()), 1e-12)


def factor_of(rows: Rows, rates: Floats, counts: Floats) -> float:
    """A factor on all rates that is carried, each type having its share of the fleet's time."""
    alone = np.zeros(rows.fits.shape[1])
    for k in range(len(rows.fits)):
        own = rows.values[rows.kind == k].max(axis=0) * rates
        alone += np.where(rows.fits[k] & (own > 0), counts[k] / np.where(own > 0, own, 1.0), 0.0)
    return float(1.0 / np.sum(1.0 / alone[rows.served]))
