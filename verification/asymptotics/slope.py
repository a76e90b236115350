r"""The power with which something grows: a weighted line through the logarithms of means, and whether it is straight.

At sizes x_1 < ... < x_P independent replications give means m_i with standard errors e_i. With y_i = ln m_i and the
variance v_i = (e_i/m_i)^2 of y_i (delta method), weights 1/v_i and weighted means x', y' of ln x and y,

    b = sum (ln x_i - x') (y_i - y') / v_i / S         S = sum (ln x_i - x')^2 / v_i         Var b = 1/S

with a 95% interval from Student's t at the replications less one. How well a line fits is told twice:

    misfit = sum (y_i - y' - b (ln x_i - x'))^2 / v_i      over P - 2 about F(P - 2, R - 1) for points on a line
    bend                                                   c of the parabola  y = ... + b ln x + c (ln x - x')^2

Weights are made of estimated errors, so few replications say too much: on 13 exponential means with slope 1/2 (1,500
draws each) the interval held it in 82, 89, 91, 92 and 94% with 2, 5, 10, 30 and 100 replications. The fit allows for
it: F in the place of chi^2, which calls such points bent in 32% of the draws with 5 replications.

A power law is a claim about large sizes: where the misfit is improbable the interval is that of the best line through
points that lie on none, and the bend, with its interval, says to which side. Source: mathematics, section 9.12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import fdtrc, stdtrit

from fluid.arrays import Floats
from fluid.errors import InputError
from fluid.tables import Tabular
from verification.statistics.intervals import LEVEL, UNKNOWN, Interval

STRAIGHT = 0.01  # the least probability of a misfit at which points are said to lie on a line


@dataclass(frozen=True, eq=False)
class Slope(Tabular):
    """The exponent b of `measure` against `size`, a 95% interval, and how straight it is; made by `power_law`.

    `level` is ln of the line at size 1, `bend` the interval of c (unknown with fewer than four points), `misfit` the
    weighted sum of squares with `freedom` degrees and `fit` the probability of a larger one where the points do lie on
    a line. `sizes` and `means` are those it was fitted to, shape (P,).
    """

    measure: str
    value: Interval
    level: float
    bend: Interval
    misfit: float
    freedom: int
    fit: float
    sizes: Floats
    means: Floats

    @property
    def half_width(self) -> float:
        """Of the interval of the exponent."""
        return self.value.high - self.value.mean

    @property
    def straight(self) -> bool:
        """Whether the points lie on a line as far as they tell: the fit is not below 1%."""
        return self.fit >= STRAIGHT

    def at(self, sizes: ArrayLike) -> Floats:
        """The line at other sizes, in the measure's unit."""
        line: Floats = np.exp(self.level) * np.asarray(sizes, dtype=np.float64) ** self.value.mean
        return line

    def columns(self) -> dict[str, Sequence[object]]:
        return {"measure": [self.measure], "slope": [self.value.mean], "low": [self.value.low],
                "high": [self.value.high], "bend": [self.bend.mean], "bend low": [self.bend.low],
                "bend high": [self.bend.high], "fit (p)": [self.fit]}

    def __str__(self) -> str:
        straight = "straight" if self.straight else f"bends by {self.bend.mean:+.3f}"
        return (f"{self.measure}: {self.value.mean:+.3f} [{self.value.low:+.3f}, {self.value.high:+.3f}], "
                f"{straight} (p = {self.fit:.2g})")


def power_law(measure: str, sizes: ArrayLike, values: ArrayLike) -> Slope:
    """Return the slope of means against sizes, log on log; `sizes` (P,), `values` (P, R): R replications at each size.

    Raises InputError for fewer than three sizes, fewer than two replications, or a mean that is not positive.

    >>> rng = np.random.default_rng(0)
    >>> sizes = np.array([1.0, 10.0, 100.0, 1000.0])
    >>> power_law("root", sizes, np.sqrt(sizes)[:, None] * rng.exponential(size=(4, 50))).value.holds(0.5)
    True
    """
    given, found = np.asarray(sizes, dtype=np.float64), np.asarray(values, dtype=np.float64)
    _check(measure, given, found)
    x = np.log(given)
    replications = found.shape[1]
    means, errors = found.mean(axis=1), found.std(axis=1, ddof=1) / np.sqrt(replications)
    if not np.all(means > 0):
        raise InputError(measure, "positive on average at every size", float(means.min()), "a slope")
    if not np.all(errors > 0):
        raise InputError(measure, "of replications that differ at every size", float(errors.min()), "a slope")
    spread = errors / means
    line = _fit(x, np.log(means), spread, 1)
    t = float(stdtrit(replications - 1, 0.5 + LEVEL / 2))
    middle = line.middle
    misfit, freedom = line.misfit, len(x) - 2
    bend = UNKNOWN
    if len(x) > 3:
        parabola = _fit(x, np.log(means), spread, 2)
        bend = parabola.interval(2, t)
    return Slope(measure, line.interval(1, t), float(line.terms[0] - line.terms[1] * middle), bend, misfit, freedom,
                 float(fdtrc(freedom, replications - 1, misfit / freedom)), np.exp(x), means)


@dataclass(frozen=True, eq=False)
class _Fit:
    """Coefficients of powers of (x - middle), their standard errors, and the weighted sum of squared residuals."""

    middle: float
    terms: Floats
    errors: Floats
    misfit: float

    def interval(self, term: int, t: float) -> Interval:
        value, half = float(self.terms[term]), t * float(self.errors[term])
        return Interval(value, value - half, value + half)


def _fit(x: Floats, y: Floats, spread: Floats, degree: int) -> _Fit:
    """Weighted least squares: errors are those that the spread of the points implies, not their residuals."""
    middle = float(np.average(x, weights=1 / spread**2))
    powers = (x - middle)[:, None] ** np.arange(degree + 1) / spread[:, None]
    q, r = np.linalg.qr(powers)
    terms = np.linalg.solve(r, q.T @ (y / spread))
    errors = np.sqrt(np.square(np.linalg.inv(r)).sum(axis=1))
    return _Fit(middle, terms, errors, float(np.square(y / spread - powers @ terms).sum()))


def _check(measure: str, sizes: Floats, found: Floats) -> None:
    if sizes.ndim != 1 or len(np.unique(sizes)) < 3 or not np.all((sizes > 0) & np.isfinite(sizes)):
        raise InputError("sizes", "at least three different positive numbers", sizes.tolist(), "a slope")
    if found.ndim != 2 or found.shape[0] != len(sizes) or found.shape[1] < 2 or not np.isfinite(found).all():
        requirement = f"finite, {len(sizes)} rows of at least two replications each"
        raise InputError(measure, requirement, found.shape, "a slope")
