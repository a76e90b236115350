"""Robust max-affine regression with nonnegative coefficients: the largest of k lines through positive measurements.

Rows x_r (p features, the first a 1) and measurements y_r > 0, r = 1..n. The fit is f_r = max_i x_r b_i with b_i >= 0;
what counts is the relative residual e_r = (y_r - f_r) / f_r over its scale s = 1.4826 median |e_r|. A step assigns row
r to the line that is largest there, gives it the weight w_r = min(1, c s / |e_r|) / f_r^2, solves for every line

    min_{b_i >= 0}  sum over the rows r of line i of  w_r (y_r - x_r b_i)^2                                       (*)

(overheads at least 1e-9 of the least y) and moves to the solution, or only 1/2, 1/4 ... of the way: as far as makes the
weighted squares of y - f fall. With one line a fixed point solves, at its own f and s, the convex problem min_{b >= 0}
sum rho((y_r - x_r b) / (f_r s)) with Huber's rho (c = 1.345: 95% efficient on normal noise). With several it is a local
optimum, as of Magnani and Boyd's alternating partitions: several starts are tried, and the least mean |e| wins. (*) is
solved on the triangle of a QR decomposition of the weighted rows, a quadratic program in p unknowns whatever n is,
compiled once, and polished by least squares on its support. Stopping: f moves by less than 1e-10 of itself, or 200
steps; s is held fixed after 20 of them.

Huber's rho bounds the pull of a single outlier, but slow rows all pull in the same direction. So rows with |e_r| > 5 s
are set aside and the others fitted again, until the same rows are set aside as the time before (at most 20 times).

Of collinear columns only the first is estimated: where, over the rows of a line, a column is a linear combination of
the columns before it, its coefficient is fixed at 0.

Sources: Huber, Robust Statistics (1981), sections 7.6-7.8; Magnani, Boyd, Convex piecewise-linear fitting (Optim. Eng.
2009), section 3. Intervals: `fluid.calibration.coefficient_intervals`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from fluid.arrays import Bools, Floats, Ints

HUBER, SIGMAS = 1.345, 5.0
FEWEST = 8  # rows a line needs: twice the number of coefficients of an iteration time
STEPS, SCALED_STEPS, SETTLED = 200, 20, 1e-10
ROUNDS = 20
SAMPLE = 2000  # rows, at most, on which starts are compared: evenly spaced in the order of the measurements
COLLINEAR = 1e-6  # a column is, when the columns before it leave less than this share of its length unexplained
FINEST = 1e-6  # the least scale: relative residuals below it are rounding errors
LEAST = 1e-9  # the least overhead, as a share of the least measurement


@dataclass(frozen=True, eq=False)
class MaxAffine:
    """A fit: `lines` (k, p), the `scale` s, and for each row its line, `owner`, and whether it is `kept`.

    `estimated` (k, p) is False where a column is, over the rows of its line, collinear with the columns before it; the
    coefficient is then 0.
    """

    lines: Floats
    estimated: Bools
    scale: float
    owner: Ints
    kept: Bools

    def fitted(self, rows: Floats) -> Floats:
        """f = max_i x b_i for rows of shape (n, p)."""
        largest: Floats = (rows @ self.lines.T).max(axis=1)
        return largest

    def owners(self, rows: Floats) -> Ints:
        """The index of the line that is largest at each of the rows."""
        owner: Ints = (rows @ self.lines.T).argmax(axis=1)
        return owner


class QuadraticProgram:
    """min |R b - t|^2 over b >= 0 with p unknowns, compiled once: R (p, p) and t (p,) are its parameters."""

    def __init__(self, unknowns: int) -> None:
        cp: Any = import_module("cvxpy")  # takes a second to load, and ships half its types
        self.b, self.R, self.t = cp.Variable(unknowns), cp.Parameter((unknowns, unknowns)), cp.Parameter(unknowns)
        self.signs, self.solver = self.b >= 0, cp.CLARABEL
        self.problem = cp.Problem(cp.Minimize(cp.sum_squares(self.R @ self.b - self.t)), [self.signs])

    def least_squares(self, rows: Floats, target: Floats, estimated: Bools) -> Floats:
        """The b >= 0 with the least |rows b - target|^2 among those that are 0 where not `estimated`."""
        length = np.linalg.norm(rows[:, estimated], axis=0)
        m = length.size
        corner = np.linalg.qr(np.column_stack([rows[:, estimated] / length, target])).R
        R, t = corner[:m, :m], corner[:m, m]
        whole, goal = np.eye(estimated.size), np.zeros(estimated.size)
        whole[:m, :m], goal[:m] = R, t / np.linalg.norm(t)
        self.R.value, self.t.value = whole, goal
        self.problem.solve(solver=self.solver)
        support = (self.b.value > self.signs.dual_value)[:m]  # their product is 0: the larger one is not
        part, b = np.zeros(m), np.zeros(estimated.size)
        part[support] = np.maximum(np.linalg.lstsq(R[:, support], t, rcond=None)[0], 0.0)
        b[estimated] = part / length
        return b


class TooFewRowsError(Exception):
    """A partition of the rows leaves a line with fewer of them than it needs."""


def fit(rows: Floats, measured: Floats) -> MaxAffine:
    """Fit one line to rows (n, p), n >= 8, and measurements (n,).

    >>> x = np.arange(1.0, 21.0)
    >>> fit(np.column_stack([np.ones(20), x]), 3.0 + 2.0 * x).lines.round(6).tolist()
    [[3.0, 2.0]]
    """
    all_to_one = np.zeros(measured.size, dtype=np.int64)
    return _without_outliers(QuadraticProgram(rows.shape[1]), rows, measured, all_to_one, 1)


def fit_largest(rows: Floats, measured: Floats, lines: int) -> MaxAffine | None:
    """Fit the largest of several lines; None where no starting partition leaves each of them 8 rows."""
    program = QuadraticProgram(rows.shape[1])
    sample = np.argsort(measured, kind="stable")[:: -(-measured.size // SAMPLE)]
    some, theirs, found = rows[sample], measured[sample], list[MaxAffine]()
    for start in _starts(some, theirs, lines):
        with suppress(TooFewRowsError):
            found.append(_without_outliers(program, some, theirs, start, lines))
    if not found:
        return None
    best = min(found, key=lambda each: mean_error(each, some, theirs))
    return _without_outliers(program, rows, measured, best.owners(rows), lines)


def mean_error(found: MaxAffine, rows: Floats, measured: Floats) -> float:
    """Mean |e|, at least 1e-6; a row set aside counts with 5 s, the largest that is kept."""
    residual = np.abs(measured / found.fitted(rows) - 1.0)
    return max(float(np.minimum(residual, SIGMAS * found.scale).mean()), FINEST)


def _starts(rows: Floats, measured: Floats, lines: int) -> Iterator[Ints]:
    """Partitions to start from: cut at quantiles of each feature, the measurement, or the residual of a single line."""
    for values in (*rows[:, 1:].T, measured, measured / fit(rows, measured).fitted(rows)):
        for power in (0.5, 1.0, 2.0):
            cuts = np.quantile(values, (np.arange(1, lines) / lines) ** power)
            yield np.searchsorted(cuts, values)


def _without_outliers(program: QuadraticProgram, rows: Floats, measured: Floats, owner: Ints, lines: int) -> MaxAffine:
    kept = np.ones(measured.size, dtype=bool)
    for _ in range(ROUNDS):
        b, estimated, scale = _converged(program, rows[kept], measured[kept], owner[kept], lines)
        values = rows @ b.T
        owner, residual = values.argmax(axis=1), measured / values.max(axis=1) - 1.0
        result = MaxAffine(b, estimated, scale, owner, kept)
        near = np.abs(residual) <= SIGMAS * _scale(residual)
        if np.array_equal(near, kept) or near.sum() < FEWEST:
            break
        kept = near
    return result


def _converged(program: QuadraticProgram, rows: Floats, measured: Floats, owner: Ints,
               lines: int) -> tuple[Floats, Bools, float]:
    """Repeat step (*) from a partition until f no longer moves: b, which coefficients are estimated, and s."""
    least = LEAST * float(measured.min())
    root, scale, fitted = 1.0 / measured, np.inf, measured
    b = np.empty(0)
    for step in range(STEPS):
        goal, estimated = _weighted_least_squares(program, rows * root[:, None], (measured - least) * root, owner,
                                                  lines)
        goal[:, 0] += least
        b = _damped(goal, b, rows, measured, root) if step else goal
        values = rows @ b.T
        before, fitted, owner = fitted, values.max(axis=1), values.argmax(axis=1)
        residual = np.abs(measured / fitted - 1.0)
        scale = _scale(residual) if step < SCALED_STEPS else scale
        root = np.sqrt(HUBER * scale / np.maximum(residual, HUBER * scale)) / fitted
        if np.abs(fitted / before - 1.0).max() < SETTLED:
            break
    return b, estimated, scale


def _weighted_least_squares(program: QuadraticProgram, rows: Floats, target: Floats, owner: Ints,
                            lines: int) -> tuple[Floats, Bools]:
    """The solution of (*) for every line, and which of its coefficients are estimated."""
    if np.bincount(owner, minlength=lines).min() < FEWEST:
        raise TooFewRowsError
    estimated = np.array([independent_columns(rows[owner == i]) for i in range(lines)])
    b = [program.least_squares(rows[owner == i], target[owner == i], estimated[i]) for i in range(lines)]
    return np.array(b), estimated


def _damped(goal: Floats, now: Floats, rows: Floats, measured: Floats, root: Floats) -> Floats:
    """The goal, or half the way to it, a quarter ...: the first at which the weighted squares of y - f fall."""
    def squares(b: Floats) -> float:
        return float((((measured - (rows @ b.T).max(axis=1)) * root) ** 2).sum())

    start, way = squares(now), 1.0
    while way > 1e-3 and squares(now + way * (goal - now)) >= start:
        way /= 2.0
    return now + way * (goal - now) if way > 1e-3 else now


def independent_columns(rows: Floats) -> Bools:
    """Which columns are not a linear combination of the columns before them."""
    length = np.linalg.norm(rows, axis=0)
    unexplained = np.abs(np.diagonal(np.linalg.qr(rows / np.where(length > 0, length, 1.0)).R))
    independent: Bools = (length > 0) & (unexplained > COLLINEAR)
    return independent


def _scale(residual: Floats) -> float:
    return max(1.4826 * float(np.median(np.abs(residual))), FINEST)
