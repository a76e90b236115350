r"""The linear programs that every plan is made of, solved for many types by looking at few of them at a time.

    cheapest    min p.n        A f <= n,      S f = 1,  least <= n <= most
    largest     max theta      A f <= counts, S f = theta

with shares f_kj of type j sent to kind k and A f the loads of the rows. **Sifting**: given prices y of the rows, type j
costs sum_i y_ki h_kij on kind k, and most types are dearer by far on all kinds but one. Pairs near the least cost are
taken; types with one pair are settled, a constant of the program. Its optimum has new prices, at which every pair not
taken is looked at: those cheaper than what the type pays are taken too, and so on. When there is none the prices are
feasible for the dual of the whole program, and its optimum is found (Bixby et al., 1992). Sets grow, so it ends.

**First prices** are those of types put together: of types whose rows are nearly parallel, the sum of lambda_j h_j is
the load of all that send the same shares, exactly, so that the program of the groups is a restriction of the whole one.
It needs no error bound of its own: what is returned has the certificate of the whole program, by sums over all types
(`fluid.planning.kinds`).

The second is solved as min t with A f <= t counts and S f = 1, theta = 1/t: with theta beside every type's shares HiGHS
took 20 times as long. Programs go to it as sparse matrices, for cvxpy takes as long to write small ones as HiGHS to
solve them. Whom to admit for most value is the first again, with a kind more for what is refused. Source: mathematics,
section 20.4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from fluid.arrays import Bools, Floats, Ints
from fluid.errors import FluidwaitError
from fluid.planning.kinds import Rows
from fluid.planning.programs import Solved, factor_of, size_of

FEW_PAIRS = 3000  # pairs of types and kinds that are all taken at once
GROUPS, FINEST = 400, 0.02  # the most groups that types are put into; a group is at least so wide, in log costs
NEAR = 1e-3  # pairs so near the least cost are taken first
SAME = 1e-10  # relative: a pair cheaper by less is not
DEAR, SAME_COUNT = (10.0, 1e3, 1e5, 1e7), 1e-9
MOST_ROUNDS, MOST_NEW = 100, 1000
Program = Callable[[Rows, Floats, Bools], Solved | None]  # of rows, rates and the pairs taken
CLOSE = {"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9}
INFEASIBLE = 2  # status of linprog


def cheapest(rows: Rows, rates: Floats, prices: Floats, least: Floats, most: Floats) -> Solved | None:
    """min p.n; None where `most` is too small."""
    def solve(rows: Rows, rates: Floats, taken: Bools) -> Solved | None:
        return _cheapest(rows, rates, taken, prices, least, most)

    return _sifted(solve, rows, rates)


def largest(rows: Rows, rates: Floats, counts: Floats) -> Solved:
    """max theta, some kind being there for each type."""
    def solve(rows: Rows, rates: Floats, taken: Bools) -> Solved | None:
        return _largest(rows, rates, taken, counts)

    found = _sifted(solve, rows, rates)
    if found is None:
        raise FluidwaitError("the solver HIGHS finds a program infeasible that always has a solution")
    return found


def most_valuable(rows: Rows, rates: Floats, counts: Floats, values: Floats) -> Solved:
    """max sum_j v_j lambda_j (S f)_j with A f <= counts, S f <= 1; values v of a request (J,).

    It is the cheapest program with one kind more, that of what is refused: its one row counts the value lost. Replicas
    beyond those that are there cost `dear` times about the most that one is worth, so that few pairs are feasible, too;
    where the answer has some, they were not dear enough.
    """
    kinds, unit = len(counts), float(counts.max()) / float(values @ rates)
    lost = replace(rows, values=np.concatenate([rows.values, values[None, :] * unit]),
                   kind=np.append(rows.kind, kinds), fits=np.concatenate([rows.fits, np.ones((1, len(rates)), bool)]))
    for dear in DEAR:
        found = cheapest(lost, rates, np.append(np.full(kinds, dear), 1.0), np.append(counts, 0.0),
                         np.full(kinds + 1, np.inf))
        if found is not None and np.all(found.counts[:kinds] <= counts * (1 + SAME_COUNT)):
            break
    else:
        raise FluidwaitError("the solver HIGHS finds a program infeasible that always has a solution")
    shares = found.shares[:kinds]
    return Solved(float(values @ (rates * shares.sum(axis=0))), shares, counts, found.prices[:-1] / unit)


def _sifted(solve: Program, rows: Rows, rates: Floats) -> Solved | None:
    taken = rows.fits
    if np.count_nonzero(taken) > FEW_PAIRS:
        start = _of_groups(solve, rows, rates)
        taken = rows.fits if start is None else _cheap(rows, start)  # types of a group need not fit split alike
    for _ in range(MOST_ROUNDS):
        found = solve(rows, rates, taken)
        if found is None:  # too few pairs for what there is: all of them
            return None if taken is rows.fits else solve(rows, rates, rows.fits)
        cost = rows.costs(found.prices)
        paid = np.where(taken, cost, np.inf).min(axis=0)
        more = rows.fits & ~taken & (cost < paid * (1 - SAME))
        if not more.any():
            return found
        taken = taken | _largest_gains(more, (paid - cost) * rates)
    return solve(rows, rates, rows.fits)


def _largest_gains(more: Bools, gains: Floats) -> Bools:
    """Of the pairs that are cheaper the `MOST_NEW` that save most: prices of kinds nobody uses are too low at first."""
    if np.count_nonzero(more) <= MOST_NEW:
        return more
    gained = np.where(more, gains, 0.0)
    most: Bools = more & (gained >= np.partition(gained, -MOST_NEW, axis=None)[-MOST_NEW])
    return most


def _cheap(rows: Rows, prices: Floats) -> Bools:
    """The pairs that cost about the least."""
    cost = rows.costs(prices)
    near: Bools = rows.fits & (cost <= cost.min(axis=0) * (1 + NEAR))
    return near


def _of_groups(solve: Program, rows: Rows, rates: Floats) -> Floats | None:
    """The prices of the program in which nearly parallel types are one."""
    group = _groups(rows)
    first = np.unique(group, return_index=True)[1]
    sums = sparse.csr_matrix((rates, (group, np.arange(len(group)))), shape=(len(first), len(group)))
    few = replace(rows, values=np.asarray((sums @ rows.values.T).T), fits=rows.fits[:, first])
    found = solve(few, np.ones(len(first)), few.fits)
    return None if found is None else found.prices


def _groups(rows: Rows) -> Ints:
    """A number for each type: types of one number fit the same kinds, and need of them nearly in proportion."""
    fits, kinds = rows.fits, len(rows.fits)
    needs = np.array([rows.values[rows.kind == k].max(axis=0) for k in range(kinds)])
    logs = np.where(fits & (needs > 0), np.log(np.where(needs > 0, needs, 1.0)), 0.0)
    logs = np.where(fits, logs - logs.sum(axis=0) / np.maximum(fits.sum(axis=0), 1), 0.0)
    width, mixed = FINEST, np.random.default_rng(0).integers(1, 2**62, (2 * kinds, 1))
    while True:
        cells = np.concatenate([np.floor(logs / width).astype(np.int64), fits.astype(np.int64)])
        found: Ints = np.unique(np.sum(cells * mixed, axis=0), return_inverse=True)[1]  # cells by a hash of 64 bits
        if found.max() < GROUPS or width > 16:
            return found
        width *= 2


class _Pairs:
    """The pairs of types and kinds of a program: free ones are its variables, those of settled types a constant load.

    `loads` (R, P) and `totals` (types, P) are the maps of the shares of free pairs; `settled` (R,) is the load of the
    types that have one pair.
    """

    def __init__(self, rows: Rows, rates: Floats, taken: Bools) -> None:
        alone = taken.sum(axis=0) == 1
        self.taken, self.alone = taken, alone
        free = taken & ~alone
        self.kinds, self.types = np.nonzero(free)
        self.settled = np.einsum("rj,rj->r", rows.values, (np.where(taken & alone, rates, 0.0))[rows.kind])
        pair = np.full(free.shape, -1)
        pair[self.kinds, self.types] = np.arange(len(self.kinds))
        at, types = np.nonzero(free[rows.kind])
        shape = (len(rows.values), len(self.kinds))
        self.loads = sparse.csr_matrix((rows.values[at, types] * rates[types], (at, pair[rows.kind[at], types])), shape)
        several, place = np.unique(self.types, return_inverse=True)
        self.totals = sparse.csr_matrix((np.ones(len(self.types)), (place, np.arange(len(self.types)))),
                                        (len(several), len(self.types)))

    def shares(self, f: Floats) -> Floats:
        """The shares (K, J), those of settled types being 1."""
        shares = np.where(self.taken & self.alone, 1.0, 0.0)
        shares[self.kinds, self.types] = np.maximum(f, 0.0)
        return shares


def _cheapest(rows: Rows, rates: Floats, taken: Bools, prices: Floats, least: Floats, most: Floats) -> Solved | None:
    pairs, size, unit = _Pairs(rows, rates, taken), size_of(rows, rates), float(prices.max())
    kinds, free = len(prices), len(pairs.kinds)
    of_kind = sparse.csr_matrix((np.ones(len(rows.kind)), (np.arange(len(rows.kind)), rows.kind)),
                                (len(rows.kind), kinds))
    upper = sparse.hstack([pairs.loads / size, -of_kind], format="csr")
    equal = sparse.hstack([pairs.totals, sparse.csr_matrix((pairs.totals.shape[0], kinds))], format="csr")
    limits = np.concatenate([np.tile([0.0, np.inf], (free, 1)), np.stack([least / size, most / size], axis=1)])
    found = _run(np.concatenate([np.zeros(free), prices / unit]), upper, -pairs.settled / size, equal,
                 np.ones(equal.shape[0]), limits)
    if found is None:
        return None
    return Solved(float(found.fun) * unit * size, pairs.shares(found.x[:free]), np.maximum(found.x[free:], 0.0) * size,
                  np.maximum(-found.ineqlin.marginals, 0.0) * unit)


def _largest(rows: Rows, rates: Floats, taken: Bools, counts: Floats) -> Solved | None:
    """By the least t with A f <= t counts, S f = 1: theta = 1/t."""
    pairs, unit = _Pairs(rows, rates, taken), 1.0 / factor_of(rows, rates, counts)
    free, size = len(pairs.kinds), unit * float(counts.max())
    upper = sparse.hstack([pairs.loads / size, -sparse.csr_matrix(counts[rows.kind, None] * (unit / size))],
                          format="csr")
    equal = sparse.hstack([pairs.totals, sparse.csr_matrix((pairs.totals.shape[0], 1))], format="csr")
    found = _run(np.append(np.zeros(free), 1.0), upper, -pairs.settled / size, equal, np.ones(equal.shape[0]),
                 np.tile([0.0, np.inf], (free + 1, 1)))
    if found is None:
        return None
    theta = 1.0 / (float(found.x[-1]) * unit)
    return Solved(theta, theta * pairs.shares(found.x[:free]), counts, np.maximum(-found.ineqlin.marginals, 0.0))


def _run(costs: Floats, upper: Any, room: Floats, equal: Any, totals: Floats, limits: Floats) -> Any:
    """The answer of linprog, None where there is none; raises FluidwaitError where the solver fails."""
    some = {"A_eq": equal, "b_eq": totals} if equal.shape[0] else {}
    found = linprog(costs, A_ub=upper, b_ub=room, bounds=limits, method="highs", options=CLOSE, **some)
    if found.status == INFEASIBLE:
        return None
    if found.x is None:
        raise FluidwaitError(f"the solver HIGHS found no optimum: {found.message}")
    return found
