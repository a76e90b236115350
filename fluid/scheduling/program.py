r"""The program of a day: whole replicas of each kind on a circle of pieces of time, at least cost.

Piece i lasts d_i hours of the period and asks for f_i times the demand; n_ki replicas of kind k serve in it, and u_ki
are those that begin to at its start, ordered s_k earlier. On the circle, i - 1 before the first being the last,

    min sum_ki p_k (d_i n_ki + s_k u_ki)                                 paid for from the order on
    u_ki >= n_ki - n_k,i-1
    n_ki >= sum of u_ka over the starts a less than (least_time - start_up)_k ago
    n_ki + (those ordered by the end of i that do not serve yet) <= most_k
    sum_k a_ck n_ki >= f_i             for every cut c                   (`fluid.planning.whole_fleet`)

**Bound.** For any y >= 0 and any x within its limits, c.x >= y.g + sum over the variables of the least of (c - A'y) x:
a sum, whatever solver y comes from (`bounded`). **One kind** has limits n_ki >= ceil(f_i e) in place of cuts. Without a
least time and `most` the rows are then those of a flow (n_ki runs along the circle, u_ki and what is released run from
and to a pool), which is totally unimodular, so that the linear program has whole optima and the bound is the cost.

Source: derived here; the second rows of it are the minimum up-times of unit commitment (Rajan and Takriti, 2005);
mathematics, section 20.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from fluid.arrays import Bools, Floats, Ints
from fluid.errors import FluidwaitError
from fluid.planning.kinds import Kind, counts_of, most_of, prices_of
from fluid.varying_rates import Schedule

HOUR, FEW_KINDS = 3600.0, 2
EXACT, ROUGH = (1e-6, 20_000), (5e-3, 300)  # the relative gap at which the search ends, and its most nodes
SAME = 1e-9  # of a period: moments so near are one


class Pieces(NamedTuple):
    """The circle: `edges` (G + 1,) in seconds from 0 to the period, and the `factors` (G,) on the demand between them.
    """

    edges: Floats
    factors: Floats

    @property
    def hours(self) -> Floats:
        """d, shape (G,)."""
        lengths: Floats = np.diff(self.edges) / HOUR
        return lengths


def pieces_of(schedule: Schedule, moments: Floats) -> Pieces:
    """The windows of a schedule, cut at further moments (s, on the circle)."""
    clock = np.concatenate([[0.0], np.cumsum(schedule.durations)])
    times = np.sort(np.concatenate([clock, np.mod(moments, schedule.period)]))
    edges = times[np.concatenate([[True], np.diff(times) > SAME * schedule.period])]
    if schedule.period - edges[-1] > SAME * schedule.period:
        edges = np.append(edges, schedule.period)
    middles = (edges[:-1] + edges[1:]) / 2
    within = np.clip(np.searchsorted(clock, middles) - 1, 0, len(schedule.factors) - 1)
    return Pieces(edges, schedule.factors[within])


@dataclass(frozen=True, eq=False)
class Program:
    """min costs.x with matrix @ x >= floor, least <= x <= most; x of `shape` blocks (blocks, K, G): n, u and, with
    spare replicas, what is left of n and whether any is. `whole` says which x are whole."""

    costs: Floats
    matrix: sparse.csr_matrix
    floor: Floats
    least: Floats
    most: Floats
    whole: Ints
    shape: tuple[int, int, int]

    def relaxed(self) -> tuple[Floats, Floats]:
        """The optimum with fractions of replicas and the prices of its rows, both a solver's."""
        found = linprog(self.costs, A_ub=-self.matrix, b_ub=-self.floor, method="highs",
                        bounds=np.stack([self.least, self.most], axis=1))
        if found.x is None:
            raise FluidwaitError(f"the solver HIGHS finds no schedule where the peak's fleet is one: {found.message}")
        return found.x, np.maximum(-found.ineqlin.marginals, 0.0)

    def solved(self) -> tuple[Floats, bool]:
        """The cheapest whole x, and whether the search ended: then within 1e-6 of the least, of more than two kinds
        0.5%."""
        unit = float(self.costs.max())
        gap, nodes = EXACT if self.shape[1] <= FEW_KINDS else ROUGH
        found = milp(self.costs / unit, integrality=self.whole, bounds=Bounds(self.least, self.most),
                     constraints=LinearConstraint(self.matrix, self.floor, np.inf),
                     options={"mip_rel_gap": gap, "node_limit": nodes})
        if found.x is None:
            raise FluidwaitError(f"the solver HIGHS finds no whole schedule: {found.message}")
        return found.x, found.status == 0

    def bounded(self, multipliers: Floats) -> float:
        """The bound of the module for multipliers y >= 0 of the rows."""
        rest = self.costs - self.matrix.T @ multipliers
        return float(multipliers @ self.floor + np.sum(np.where(rest > 0, rest * self.least, rest * self.most)))

    def excess(self, x: Floats) -> float:
        """The largest excess of a row or limit at x, relative to its size."""
        size = np.maximum(abs(self.matrix) @ np.abs(x), 1.0)
        over = np.max((self.floor - self.matrix @ x) / size, initial=0.0)
        return float(max(over, np.max(self.least - x), np.max((x - self.most) / np.maximum(self.most, 1.0)), 0.0))


def program(pieces: Pieces, kinds: tuple[Kind, ...], slopes: Floats, asked: Bools, least: Floats, upper: Floats,
            spare: int) -> Program:
    """The program for cuts of `slopes` (C, K), `asked` (C, G) of some pieces, counts from `least` (K, G) to `upper`.
    """
    K, G = least.shape
    blocks = 2 if spare == 0 or not len(slopes) else 4
    prices, hours = prices_of(kinds)[:, None], pieces.hours
    starts = np.array([[each.start_up / HOUR] for each in kinds])
    costs = np.zeros((blocks, K, G))
    costs[0], costs[1] = prices * hours, prices * starts
    most = np.zeros((blocks, K, G))
    most[:3] = upper[:, None]
    if blocks == 4:
        most[3] = 1.0
    lower = np.zeros((blocks, K, G))
    lower[0] = least
    whole = np.zeros((blocks, K, G), dtype=np.int64)
    whole[0], whole[3:] = 1, 1
    rows = _Rows((blocks, K, G))
    _times(rows, pieces, kinds)
    _cuts(rows, pieces.factors, slopes, asked, spare, upper)
    return Program(costs.ravel(), rows.matrix, np.array(rows.floor), lower.ravel(), most.ravel(), whole.ravel(),
                   (blocks, K, G))


class _Rows:
    """Rows sum of coefficient * x[block, k, i] >= floor, collected one by one."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape, self.floor = shape, list[float]()
        self._at, self._columns, self._values = list[int](), list[int](), list[float]()

    def add(self, floor: float, *terms: tuple[int, int, int, float]) -> None:
        for block, k, i, value in terms:
            self._at.append(len(self.floor))
            self._columns.append((block * self.shape[1] + k) * self.shape[2] + i)
            self._values.append(value)
        self.floor.append(floor)

    @property
    def matrix(self) -> sparse.csr_matrix:
        shape = (len(self.floor), int(np.prod(self.shape)))
        return sparse.csr_matrix((self._values, (self._at, self._columns)), shape=shape)


def _times(rows: _Rows, pieces: Pieces, kinds: tuple[Kind, ...]) -> None:
    """What begins to serve, how long it is kept at least, and the most there can be."""
    starts, ends, period = pieces.edges[:-1], pieces.edges[1:], pieces.edges[-1]
    for k, each in enumerate(kinds):
        kept, most = each.least_time - each.start_up, most_of(kinds)[k]
        for i in range(len(starts)):
            rows.add(0.0, (1, k, i, 1.0), (0, k, i, -1.0), (0, k, i - 1 if i else len(starts) - 1, 1.0))
            if kept > 0:
                bound = _soon(starts[i] - starts, kept, period)
                rows.add(0.0, (0, k, i, 1.0), *((1, k, int(a), -1.0) for a in np.flatnonzero(bound)))
            if np.isfinite(most) and each.start_up > 0:
                ordered = _soon(starts - ends[i], each.start_up, period)
                rows.add(-most, (0, k, i, -1.0), *((1, k, int(a), -1.0) for a in np.flatnonzero(ordered)))


def _soon(after: Floats, within: float, period: float) -> Bools:
    """Whether moments so long after another one, on the circle, come within a time."""
    later = np.mod(after + SAME * period, period) - SAME * period
    return later < within - SAME * period


def _cuts(rows: _Rows, factors: Floats, slopes: Floats, asked: Bools, spare: int, upper: Floats) -> None:
    """The cuts of each piece; with spare ones for the loss of each kind, as in `fluid.planning.whole_fleet`."""
    K, G = rows.shape[1:]
    for i in range(G):
        if rows.shape[0] == 4:
            for k in range(K):
                rows.add(0.0, (0, k, i, 1.0), (2, k, i, -1.0), (3, k, i, -float(spare)))
                rows.add(0.0, (3, k, i, float(upper[k])), (2, k, i, -1.0))
        for a in slopes[asked[:, i]]:
            whole = [(0, k, i, float(a[k])) for k in range(K) if a[k] > 0]
            losses = [k for k in range(K) if a[k] > 0] if rows.shape[0] == 4 else []
            if not losses:
                rows.add(float(factors[i]), *whole)
            for k in losses:
                rows.add(float(factors[i]), *(term for term in whole if term[1] != k), (2, k, i, float(a[k])))


def least_counts(kinds: tuple[Kind, ...], pieces: Pieces) -> Floats:
    """What is there already and stays, in every piece: (K, G)."""
    return np.repeat(counts_of(kinds)[:, None], len(pieces.factors), axis=1)
