"""Robust max-affine regression with nonnegative coefficients: the largest of k lines through positive measurements.

Rows x_r (p features, the first a 1) and measurements y_r > 0, r = 1..n. The fit is f_r = max_i x_r b_i with b_i >= 0;
what counts is the relative residual e_r = (y_r - f_r) / f_r over its scale s = 1.4826 median |e_r|. A step assigns row
r to the line that is largest there, gives it the weight w_r = min(1, c s / |e_r|) / f_r^2, solves for every line

    min_{b_i >= 0}  sum over the rows r of line i of  w_r (y_r - x_r b_i)^2                                       (*)

(overheads at least a tenth of the least y: launches and weights take their time whatever an iteration is bound by) and
moves to the solution, or only 1/2, 1/4 ... of the way: as far as makes the weighted squares of y - f fall. With one
line a fixed point solves, at its own f and s, the convex problem min_{b >= 0} sum rho((y_r - x_r b) / (f_r s)) with
Huber's rho (c = 1.345: 95% efficient on normal noise). With several it is a local optimum, as of Magnani and Boyd's
alternating partitions: several starts are tried, and the least mean |e| wins. (*) is solved on the triangle of a QR
decomposition of the weighted rows, p unknowns whatever n is, by the active set method of Lawson and Hanson, and
polished by least squares on its support. Stopping: f moves by less than 1e-10 of itself, or 200 steps; s is held fixed
after 20 of them.

Huber's rho bounds the pull of a single outlier, but slow rows all pull in the same direction. So rows with |e_r| > 5 s
are set aside and the others fitted again, until the same rows are set aside as the time before (at most 20 times).

A coefficient is estimated where the rows tell it from those before it. With z_r = x_rj / f_r over the n rows of a line
and q what the columns before j leave of z, its standard error is s / |q|, and j is told where

    |q| > 0.01 |z|                                2 (s / |q|) |z| / sqrt(n) <= 1/4        max_r q_r^2 <= 0.9 |q|^2

in words: it moves by more than a hundredth beside the others (counts in logs are rounded to 0.1% of a cache, and no
iteration time is affine to a hundredth: what a smaller move tells is their error a hundredfold), 95% intervals leave
open at most +- a quarter of an iteration's time, and one row is not all there is to tell it by. Otherwise b_j is fixed
at 0, the columns before it carry its time, and the rows are fitted again. (One request at 100,000 to 100,059 tokens
with 1% noise: an overhead of 20 ms and 0.2 us per token of KV fit alike.)

Sources: Huber, Robust Statistics (1981), sections 7.6-7.8; Lawson, Hanson, Solving Least Squares Problems (1974),
chapter 23; Magnani, Boyd, Convex piecewise-linear fitting (Optim. Eng. 2009), section 3. Intervals:
`fluid.calibration.coefficient_intervals`. See mathematics, section 14.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from fluid.arrays import Bools, Floats, Ints

HUBER, SIGMAS = 1.345, 5.0
FEWEST = 8  # rows a line needs: twice the number of coefficients of an iteration time
STEPS, SCALED_STEPS, SETTLED = 200, 20, 1e-10
ROUNDS = 20
SAMPLE = 2000  # rows, at most, on which starts are compared: evenly spaced in the order of the measurements
COLLINEAR = 1e-6  # a column is, when the columns before it leave less than this share of its length unexplained
FINEST = 1e-6  # the least scale: relative residuals below it are rounding errors
MOVES = 0.01  # of its own length: what a column must have besides those before it
WIDEST = 0.25  # of an iteration's time: what a coefficient that is told may leave open
ALONE = 0.9  # of what tells a coefficient: more in a single row, and nothing speaks against an error there
LEAST = 0.1  # the least overhead, as a share of the least measurement


@dataclass(frozen=True, eq=False)
class MaxAffine:
    """A fit: `lines` (k, p), the `scale` s, and for each row its line, `owner`, and whether it is `kept`.

    `least` is the least overhead that a line of this fit may have.

    `estimated` (k, p) is False where the rows of a line do not tell a coefficient from those before it; it is then 0.
    """

    lines: Floats
    estimated: Bools
    scale: float
    owner: Ints
    kept: Bools
    least: float = 0.0

    def fitted(self, rows: Floats) -> Floats:
        """f = max_i x b_i for rows of shape (n, p)."""
        largest: Floats = (rows @ self.lines.T).max(axis=1)
        return largest

    def owners(self, rows: Floats) -> Ints:
        """The index of the line that is largest at each of the rows."""
        owner: Ints = (rows @ self.lines.T).argmax(axis=1)
        return owner


def least_squares(rows: Floats, target: Floats, allowed: Bools) -> tuple[Floats, Bools]:
    """The b >= 0 with the least |rows b - target|^2, 0 where not `allowed` or collinear, and which are estimated.

    >>> least_squares(np.array([[1.0, 9.0], [1.0, 10.0], [1.0, 11.0]]), np.array([5.0, 4.0, 3.0]), np.ones(2, bool))
    (array([4., 0.]), array([ True,  True]))
    """
    from scipy.optimize import nnls  # scipy.optimize takes as long to load as all of fluid

    length = np.linalg.norm(rows, axis=0)
    R = _triangle(np.column_stack([rows / np.where(length > 0, length, 1.0), target]))
    estimated = _independent(R[:, :-1], allowed & (length > 0))
    corner, goal, b = R[:, :-1][:, estimated], R[:, -1], np.zeros(length.size)
    if not estimated.any():
        return b, estimated
    part = nnls(corner, goal)[0]
    support = part > 0
    polished = np.linalg.lstsq(corner[:, support], goal, rcond=None)[0]
    if (polished > 0).all():  # else rounding moved one across 0, and what the active set found is as good
        part[support] = polished
    b[estimated] = part / length[estimated]
    return b, estimated


def _independent(triangle: Floats, allowed: Bools) -> Bools:
    """Which of the allowed columns, of length 1, are not a linear combination of those allowed before them."""
    chosen = np.flatnonzero(allowed)
    corner = triangle[:, chosen] if allowed.all() else _triangle(triangle[:, chosen])
    independent = np.zeros_like(allowed)
    independent[chosen] = np.abs(np.diagonal(corner)) > COLLINEAR
    return independent


def _triangle(columns: Floats) -> Floats:
    R: Floats = np.linalg.qr(columns).R
    return R


class TooFewRowsError(Exception):
    """A partition of the rows leaves a line with fewer of them than it needs."""


def fit(rows: Floats, measured: Floats) -> MaxAffine:
    """Fit one line to rows (n, p), n >= 8, and measurements (n,).

    >>> x = np.arange(1.0, 21.0)
    >>> fit(np.column_stack([np.ones(20), x]), 3.0 + 2.0 * x).lines.round(6).tolist()
    [[3.0, 2.0]]
    """
    all_to_one = np.zeros(measured.size, dtype=np.int64)
    return fitted_from(rows, measured, all_to_one, 1)


def fit_largest(rows: Floats, measured: Floats, lines: int) -> MaxAffine | None:
    """Fit the largest of several lines; None where no starting partition leaves each of them 8 rows."""
    sample = np.argsort(measured, kind="stable")[:: -(-measured.size // SAMPLE)]
    some, theirs, found = rows[sample], measured[sample], list[MaxAffine]()
    for start in _starts(some, theirs, lines):
        with suppress(TooFewRowsError):
            found.append(fitted_from(some, theirs, start, lines))
    for best in sorted(found, key=lambda each: mean_error(each, some, theirs)):
        with suppress(TooFewRowsError):
            return fitted_from(rows, measured, best.owners(rows), lines)
    return None


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


def fitted_from(rows: Floats, measured: Floats, owner: Ints, lines: int) -> MaxAffine:
    """The fit reached from a partition of the rows; raises TooFewRowsError where it leaves a line fewer than 8."""
    kept, least = np.ones(measured.size, dtype=bool), LEAST * float(measured.min())
    for _ in range(ROUNDS):
        b, estimated, scale = _told(rows[kept], measured[kept], owner[kept], lines, least)
        values = rows @ b.T
        owner, residual = values.argmax(axis=1), measured / values.max(axis=1) - 1.0
        result = MaxAffine(b, estimated, scale, owner, kept, least)
        near = np.abs(residual) <= SIGMAS * _scale(residual)
        if np.array_equal(near, kept) or near.sum() < FEWEST:
            break
        kept = near
    return result


def _told(rows: Floats, measured: Floats, owner: Ints, lines: int, least: float) -> tuple[Floats, Bools, float]:
    """The fit with the coefficients that the rows tell, the others left out one after another."""
    allowed = np.ones((lines, rows.shape[1]), dtype=bool)
    while True:
        b, estimated, scale = _converged(rows, measured, owner, allowed, least)
        values = rows @ b.T
        owner, Z = values.argmax(axis=1), rows / values.max(axis=1)[:, None]
        allowed = np.array([_tell(Z[owner == i], estimated[i], scale) for i in range(lines)])
        if np.array_equal(allowed, estimated):
            return b, estimated, scale


def _tell(Z: Floats, estimated: Bools, scale: float) -> Bools:
    """Which of the estimated coefficients the rows over their fitted times tell; the first always."""
    told = estimated.copy()
    for j in np.flatnonzero(estimated)[1:]:
        before, z = Z[:, :j][:, told[:j]], Z[:, j]
        q = (z - before @ np.linalg.lstsq(before, z, rcond=None)[0]) ** 2
        open_share = 2.0 * scale * np.sqrt(np.mean(z**2) / max(q.sum(), 1e-300))
        told[j] = q.sum() > MOVES**2 * (z @ z) and open_share <= WIDEST and q.max() <= ALONE * q.sum()
    return told


def _converged(rows: Floats, measured: Floats, owner: Ints, allowed: Bools,
               least: float) -> tuple[Floats, Bools, float]:
    """Repeat step (*) from a partition until f no longer moves: b, which coefficients are estimated, and s."""
    root, scale, fitted = 1.0 / measured, np.inf, measured
    b = np.empty(0)
    for step in range(STEPS):
        goal, estimated = _weighted_least_squares(rows * root[:, None], (measured - least) * root, owner, allowed)
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


def _weighted_least_squares(rows: Floats, target: Floats, owner: Ints, allowed: Bools) -> tuple[Floats, Bools]:
    """The solution of (*) for every line, and which of its coefficients are estimated."""
    lines = len(allowed)
    if np.bincount(owner, minlength=lines).min() < FEWEST:
        raise TooFewRowsError
    solved = [least_squares(rows[owner == i], target[owner == i], allowed[i]) for i in range(lines)]
    return np.array([b for b, _ in solved]), np.array([estimated for _, estimated in solved])


def _damped(goal: Floats, now: Floats, rows: Floats, measured: Floats, root: Floats) -> Floats:
    """The goal, or half the way to it, a quarter ...: the first at which the weighted squares of y - f fall."""
    def squares(b: Floats) -> float:
        return float((((measured - (rows @ b.T).max(axis=1)) * root) ** 2).sum())

    start, way = squares(now), 1.0
    while way > 1e-3 and squares(now + way * (goal - now)) >= start:
        way /= 2.0
    return now + way * (goal - now) if way > 1e-3 else now


def _scale(residual: Floats) -> float:
    return max(1.4826 * float(np.median(np.abs(residual))), FINEST)
