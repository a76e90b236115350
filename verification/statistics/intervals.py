"""Intervals and warm-up: how sure a simulated number is.

Over R independent replications with means x_r, the interval is m +- h, h = t_{R-1} s / sqrt(R) (Student). Of what
cannot be negative it is taken of ln m by the delta method, so that it never holds a negative value,

    m exp(-h/m) .. m exp(h/m)

which is m +- h where h is small. Where x_r are counts and all of them are equal, s = 0 says nothing: R draws of
standard deviation sigma (in counts) coincide with probability (sqrt(2 pi) sigma)^-(R-1) / sqrt(R), the integral of the
R-th power of the normal density, or less: s is taken for the sigma with which that is the error alpha of the interval.

The warm-up is removed by one of two stated rules: the first 10% of a path, or, where at least 5 replications allow a
mean path,

    MSER-5    on means of 5 consecutive points, the cut d <= half that minimises sum_{i >= d} (x_i - mean)^2 / (m - d)^2

(MSER-5 on one short path is biased by 2 to 5%.) Source: mathematics, sections 9.1 and 9.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv, stdtrit

LEVEL = 0.95
WARM_UP_SHARE = 0.1
MEAN_PATH_REPLICATIONS = 5
LARGEST_EXPONENT = 600.0


class Interval(NamedTuple):
    """A mean with its confidence interval; `low` and `high` are NaN where one value cannot tell."""

    mean: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether the interval contains a value."""
        return self.low <= value <= self.high

    def widened(self, by: float) -> Interval:
        """The interval with `by` added on both sides."""
        return Interval(self.mean, self.low - by, self.high + by)


UNKNOWN = Interval(math.nan, math.nan, math.nan)


def t_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Return the Student t interval of independent values, shape (R,).

    >>> t_interval([1.0, 2.0, 3.0]).mean
    2.0
    """
    sample = np.asarray(values, dtype=np.float64)
    mean, size = float(np.mean(sample)), len(sample)
    if size < 2 or not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan)
    half = float(stdtrit(size - 1, 0.5 + level / 2) * np.std(sample, ddof=1) / math.sqrt(size))
    return Interval(mean, mean - half, mean + half)


def positive_interval(values: ArrayLike, level: float = LEVEL, unit: float = 0.0) -> Interval:
    """Return the interval m exp(-h/m) .. m exp(h/m) of values that cannot be negative, shape (R,), from 0 where m is 0.

    `unit` is that of values that count something, a request or its tokens in a second; where all are equal chance alone
    may have made them so.

    >>> positive_interval([1.0, 3.0]).low > 0 > t_interval([1.0, 3.0]).low
    True
    >>> positive_interval([7.0] * 10), positive_interval([7.0] * 10, unit=1.0).high > 7
    (Interval(mean=7.0, low=7.0, high=7.0), True)
    """
    found, size = t_interval(values, level), np.size(values)
    if math.isnan(found.high):
        return found
    half = found.high - found.mean
    if unit > 0 and np.ptp(np.asarray(values)) == 0:
        half = unit * float(stdtrit(size - 1, 0.5 + level / 2)) * coinciding(size, 1 - level) / math.sqrt(size)
    if found.mean <= 0:
        return Interval(found.mean, found.mean, found.mean + half)
    factor = math.exp(min(half / found.mean, LARGEST_EXPONENT))
    return Interval(found.mean, found.mean / factor, found.mean * factor)


def coinciding(size: int, error: float) -> float:
    """Return (error sqrt(R))^(-1/(R-1)) / sqrt(2 pi), the standard deviation of whole numbers of which R are all equal
    with a probability of `error`.

    >>> round(coinciding(2, 0.05), 2), round(coinciding(10, 0.05), 2)
    (5.64, 0.49)
    """
    return float((error * math.sqrt(size)) ** (-1 / (size - 1)) / math.sqrt(2 * math.pi))


def least_probability(events: int, trials: int, level: float = LEVEL) -> float:
    """Return the Clopper-Pearson lower bound of a probability: below it, so many events have a chance under 1 - level.

    >>> least_probability(0, 10)
    0.0
    """
    return float(betaincinv(events, trials - events + 1, 1 - level)) if events else 0.0


def mser5(path: ArrayLike) -> int:
    """Return the number of points to delete from the start of a path, by MSER-5; at most half of it.

    >>> mser5([9.0] * 10 + [1.0, 2.0] * 45)
    10
    """
    points = np.asarray(path, dtype=np.float64)
    m = len(points) // 5
    if m < 4:
        return int(len(points) * WARM_UP_SHARE)
    means = points[: 5 * m].reshape(m, 5).mean(axis=1)
    means -= means.mean()
    tail = np.cumsum(means[::-1])[::-1]
    squares = np.cumsum((means**2)[::-1])[::-1]
    kept = m - np.arange(m)
    scores = (squares - tail**2 / kept) / kept**2
    return 5 * int(np.argmin(scores[: m // 2 + 1]))


def warm_up(paths: Sequence[ArrayLike]) -> float:
    """Return the share of the time to delete: MSER-5 on the mean of at least 5 paths, else 10%."""
    if len(paths) < MEAN_PATH_REPLICATIONS:
        return WARM_UP_SHARE
    mean = np.mean(np.asarray(paths, dtype=np.float64), axis=0)
    return mser5(mean) / len(mean)
