"""Intervals and warm-up: how sure a simulated number is.

Over R independent replications with means x_r, the interval is mean +- t_{R-1} s / sqrt(R) (Student). The warm-up is
removed by one of two stated rules: the first 10% of a path, or, where at least 5 replications allow a mean path,

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
