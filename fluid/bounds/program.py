r"""The least seconds that a second's arrivals take, over all ways to put them into batches: a linear program.

Long-run sums per second over the iterations of a class c (`fluid.bounds.certificate` has the classes and what is known
of a batch): x_c iterations, T_c seconds, z_kc prompt tokens of group k, D_c KV read, H_c KV held, N_c sequences and E_c
decodes beside those that come with prefills. The mean of a largest is at least the largest of the means, so

    min sum_c T_c     T_c >= d0_i x_c + d1_i (D_c + sum_k rho_k z_kc) + d2_i sum_k z_kc + d3_i (N_c + sum_k s_k z_kc)
                      H_c + sum_k h_k z_kc <= C x_c,    N_c + sum_k s_k z_kc <= B x_c,    E_c + sum_k z_kc <= q x_c
                      D_c + sum_k rho_k z_kc <= H_c + sum_k h_k z_kc + p (N_c + sum_k s_k z_kc)
                      z_cc >= q_c x_c,    z_kc = 0 for k > c
                      sum_c z_kc, D_c, H_c, N_c, E_c = what arrives in a second,    sum_c x_c >= iterations

Any policy under which all but o(t) of what arrived by t completes has sums that meet this: arrivals at s times the
rates need s times its least value, at most 1 second in a second. Evictions only add work, pauses only hold KV. Where
one line lies above all others on every batch, or nothing is prefilled, classes gain nothing and one is enough: the
answer is the largest over the lines of d0 max(iterations, held/C, sequences/B, tokens/q) + the rest, the half-spaces
of `fluid.region`.
Source: derived here; mathematics, section 10.3.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from fluid.arrays import TOLERANCE, Floats, Ints
from fluid.bounds.certificate import Certificate, Limits, repaired
from fluid.bounds.demand import Demand


def certified(demand: Demand, limits: Limits, lines: Floats) -> Certificate:
    """Return the prices of the program's optimum, made exactly feasible; lines of shape (I, 4).

    There is one class of batches where one line alone proves as much.
    """
    lines = undominated(lines)
    plain = max((_of_one_line(demand, limits, line[None, :]) for line in lines), key=lambda found: found.value)
    if len(lines) == 1 or not demand.tokens.any():
        return plain
    found = _Program(demand, limits, lines, len(demand.sizes) + 1).solved()
    return found if found.value > plain.value * (1 + TOLERANCE) else plain


def undominated(lines: Floats) -> Floats:
    """The lines that are not below another one in every coefficient, each once."""
    distinct = np.unique(lines, axis=0)
    below = np.all(distinct[:, None, :] <= distinct[None, :, :], axis=2)
    top: Floats = distinct[below.sum(axis=1) == 1]
    return top


def _of_one_line(demand: Demand, limits: Limits, lines: Floats) -> Certificate:
    """The fixed time of an iteration goes to what is scarcest: KV, places, tokens, or iterations themselves."""
    held = demand.held + demand.tokens @ demand.held_each
    sequences = demand.sequences + demand.tokens @ demand.sequences_each
    needs = np.array([held, sequences, demand.decodes + demand.tokens.sum()]) / np.array(limits)
    scarce, overhead = np.zeros((1, 3)), float(lines[0, 0])
    most = int(np.argmax(needs))
    if needs[most] >= demand.iterations:
        scarce[0, most] = overhead / limits[most]
    omega = 0.0 if scarce.any() else overhead
    return repaired(demand, limits, lines, np.ones((1, 1)), scarce, np.zeros(1), np.zeros(1), omega)


class _Program:
    """The program's columns, one block for each kind of variable, every quantity as a share of its total."""

    KINDS = ("x", "T", "D", "H", "N", "E")

    def __init__(self, demand: Demand, limits: Limits, lines: Floats, classes: int) -> None:
        self.demand, self.limits, self.lines, self.classes = demand, limits, lines, classes
        self.groups = len(demand.sizes)
        self.columns = {kind: np.arange(classes) + place * classes for place, kind in enumerate(self.KINDS)}
        self.width = len(self.KINDS) * classes
        self.prefills = self.width + np.arange(self.groups * classes).reshape(classes, self.groups)
        self.width += self.groups * classes

    def solved(self) -> Certificate:
        """Solve, and read the multipliers."""
        upper = np.concatenate([self._times(), self._scarcities(), self._presences(), self._readings(),
                                self._iterations()])
        bounds = np.zeros(len(upper))
        bounds[-1] = -self.demand.iterations
        equal, totals = self._totals()
        found = linprog(self._cost(), A_ub=upper, b_ub=bounds, A_eq=equal, b_eq=totals, bounds=self._ranges(),
                        method="highs")
        if not found.success:  # no multipliers: the certificate of any mixture is true, if weak
            return repaired(self.demand, self.limits, self.lines, np.ones((self.classes, len(self.lines))),
                            np.zeros((self.classes, 3)), np.zeros(self.classes), np.zeros(self.classes), 0.0)
        return self._read(-found.ineqlin.marginals)

    def _cost(self) -> Floats:
        cost = np.zeros(self.width)
        cost[self.columns["T"]] = 1.0
        return cost

    def _ranges(self) -> list[tuple[float, float | None]]:
        """Nothing is negative, and no piece lies in a class of smaller ones."""
        ranges: list[tuple[float, float | None]] = [(0.0, None)] * self.width
        if self.classes > 1:
            for c in range(self.classes):
                for column in self.prefills[c, c:].tolist():
                    ranges[column] = (0.0, 0.0)
        return ranges

    def _times(self) -> Floats:
        """One row for each class and line: line(c) - T_c <= 0."""
        demand, rows = self.demand, np.zeros((self.classes, len(self.lines), self.width))
        for c in range(self.classes):
            for i, (d0, d1, d2, d3) in enumerate(self.lines):
                row = rows[c, i]
                row[self.columns["x"][c]], row[self.columns["T"][c]] = d0, -1.0
                row[self.columns["D"][c]], row[self.columns["N"][c]] = d1, d3
                row[self.prefills[c]] = d1 * demand.read_each + d2 + d3 * demand.sequences_each
        return rows.reshape(-1, self.width)

    def _scarcities(self) -> Floats:
        """Three rows for each class, divided by C, B and q; empty where there is no limit."""
        demand, rows = self.demand, np.zeros((self.classes, 3, self.width))
        each = (demand.held_each, demand.sequences_each, np.ones(self.groups))
        for c in range(self.classes):
            for k, (limit, kind) in enumerate(zip(self.limits, ("H", "N", "E"), strict=True)):
                if np.isfinite(limit):
                    rows[c, k, self.columns["x"][c]] = -1.0
                    rows[c, k, self.columns[kind][c]] = 1.0 / limit
                    rows[c, k, self.prefills[c]] = each[k] / limit
        return rows.reshape(-1, self.width)

    def _presences(self) -> Floats:
        """One row for each group: x_c - z_cc/q_c <= 0."""
        rows = np.zeros((self.classes, self.width))
        for c in range(1, self.classes):
            rows[c, self.columns["x"][c]] = 1.0
            rows[c, self.prefills[c, c - 1]] = -1.0 / self.demand.sizes[c - 1]
        return rows

    def _readings(self) -> Floats:
        """One row for each class, divided by C: read - held - prefixes <= 0."""
        demand, rows = self.demand, np.zeros((self.classes, self.width))
        each = demand.read_each - demand.held_each - demand.prefix * demand.sequences_each
        for c in range(self.classes):
            for kind, value in (("D", 1.0), ("H", -1.0), ("N", -demand.prefix)):
                rows[c, self.columns[kind][c]] = value / self.limits.held
            rows[c, self.prefills[c]] = each / self.limits.held
        return rows

    def _iterations(self) -> Floats:
        row = np.zeros((1, self.width))
        row[0, self.columns["x"]] = -1.0
        return row

    def _totals(self) -> tuple[Floats, Floats]:
        demand = self.demand
        kinds = {"D": demand.read, "H": demand.held, "N": demand.sequences, "E": demand.decodes}
        rows = np.zeros((len(kinds) + self.groups, self.width))
        for place, kind in enumerate(kinds):
            rows[place, self.columns[kind]] = 1.0
        for k in range(self.groups):
            rows[len(kinds) + k, self.prefills[:, k]] = 1.0
        totals = np.concatenate([np.array(list(kinds.values())), demand.tokens])
        size = np.where(totals > 0, totals, 1.0)
        return rows / size[:, None], totals / size

    def _read(self, multipliers: Floats) -> Certificate:
        """From rows to the multipliers of the certificate, in seconds per unit."""
        cuts: Ints = np.cumsum([self.classes * len(self.lines), self.classes * 3, self.classes, self.classes])
        mixture, scarce, presence, reading, iteration = np.split(multipliers, cuts)
        limits = np.array(self.limits)
        prices = scarce.reshape(self.classes, 3) / np.where(np.isfinite(limits), limits, np.inf)
        sizes = np.concatenate([[np.inf], self.demand.sizes])[: self.classes]
        return repaired(self.demand, self.limits, self.lines, mixture.reshape(self.classes, -1), prices,
                        presence / sizes, reading / self.limits.held, float(iteration[0]))
