r"""Can an interval of a mean be trusted? Two tests on the pieces of runs, for it must not say 95% where it holds half.

Student's interval over R replications needs run means that are nearly normal, and nearly free of the empty start. Cut
every run into b = 32 batches in a row, with means x_ri and largest values m_ri (of finer batches where R < 10: some 320
in all). With X the mean of all x and e = x - X:

    r = sum e_ri e_r,i+1 / sum e_ri^2      correlation of neighbours (mean over pairs in runs, over mean of squares)
    h = max e_ri^2 / sum e_ri^2            the largest part of the spread that one batch makes
    a = k / sum_{i <= k} ln(m_(i)/m_(k+1))      Hill's index, m_(1) >= m_(2) >= .. all m, k a tenth of their number

    doubted where    r > 0.3,    or h > 2.4 g,    or h > min(0.96 g, 0.2) and a < 3.7,    g = (ln n)^2 / n, n batches

With 320 batches 2.4 g = 0.25 and 0.96 g = 0.1.

r: batches that still resemble their neighbours mean that a run holds only some ten independent stretches, its mean is
skewed and has not forgotten the start: M/D/1 at loads 0.9 to 0.98 holds 94% where r is 0.1, 90% at 0.4, 79% at 0.8.
h: the largest square of n values of an exponential law is near (ln n)^2, and h exceeds 1.8 g in one case of forty,
2.4 g hardly ever; where one stretch makes a quarter of the spread, the next, larger one has not been seen. a: values of
index below 2 have no variance. Of light tails a is the logarithm of the number of independent values in ten batches, 4
to 10; it is that of the largest in a batch so that one long queue counts once, and even so a queue behind a long
service, which falls in a straight line, raises a. Lengths with a moderate tail that stretch no queue have a below 3.7
and a small h, and are not doubted.

A 99th percentile wants more: the hundredth above it must fall into at least 8 of the 32 batches of a run, on average,
for it is decided by so many excursions.

None of this sees what was never drawn, and borderline tails are told from light ones with some error: with 20,000
requests a run, Pareto services of index 2.5 (waits of index 1.5) are doubted in some 19 of 20 experiments, of index 3.5
in one of five. `benchmarks/interval_coverage.py` prints how often intervals with and without doubt hold.
Sources: Hill, Annals of Statistics 3 (1975) 1163; Embrechts, Klueppelberg and Mikosch, Modelling Extremal Events,
section 6.2.6, for ratios of the largest to the sum; the bounds are from experiments on queues with exact answers. See
mathematics, section 9.4.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

CORRELATED = 0.3
UNEVEN, RATHER_UNEVEN, RATHER_UNEVEN_AT_MOST, HEAVY = 2.4, 0.96, 0.2, 3.7
NO_VARIANCE = 2.0  # below this index
LEAST_TOPS = 60  # largest values, to estimate an index from a tenth of them
SPREAD = 8  # of 32 batches in which the largest hundredth of a run must fall, on average


def neighbours(means: ArrayLike) -> float:
    """Return r, the correlation of neighbouring batches, of means of shape (R, b); 0 where all are equal.

    >>> neighbours([[1.0, 1.0, -1.0, -1.0]]) > 0 > neighbours([[1.0, -1.0, 1.0, -1.0]])
    True
    """
    errors = np.asarray(means, dtype=np.float64)
    errors = errors - errors.mean()
    square = float((errors**2).mean())
    return float((errors[:, 1:] * errors[:, :-1]).mean()) / square if square > 0 and errors.shape[1] > 1 else 0.0


def unevenness(means: ArrayLike) -> float:
    """Return h, the largest part that one batch has in the squared errors of all; 0 where all are equal.

    >>> unevenness([[0.0, 0.0, 0.0, 1.0]])
    0.75
    """
    squares = np.asarray(means, dtype=np.float64)
    squares = (squares - squares.mean()) ** 2
    total = float(squares.sum())
    return float(squares.max()) / total if total > 0 else 0.0


def tail_index(tops: ArrayLike) -> float:
    """Return Hill's index a of the largest values of batches, from a tenth of them; infinite for too few or all equal.

    >>> tops = (np.arange(1, 321) / 320) ** -0.5                       # quantiles of a Pareto law of index 2
    >>> 1.8 < tail_index(tops) < 2.2
    True
    """
    ordered = np.sort(np.ravel(np.asarray(tops, dtype=np.float64)))[::-1]
    k = len(ordered) // 10
    if len(ordered) < LEAST_TOPS or ordered[k] <= 0:
        return math.inf
    mean = float(np.log(ordered[:k] / ordered[k]).mean())
    return 1 / mean if mean > 0 else math.inf


def doubt(means: ArrayLike, tops: ArrayLike | None = None, heavy: float = HEAVY) -> str:
    """Return why an interval of the mean of batch means, shape (R, b), cannot be trusted; "" where it can.

    `tops` are the largest values of batches, of any shape, where it is a mean of values that may have a heavy tail: of
    delays in a queue, or, with `heavy` at 2, of values without one.
    """
    r, h = neighbours(means), unevenness(means)
    a = math.inf if tops is None else tail_index(tops)
    light = math.log(np.size(means)) ** 2 / np.size(means)
    if r > CORRELATED:
        return f"32nds of a run resemble their neighbours (correlation {r:.2f}): too short for what it measures"
    if a < heavy and h > min(RATHER_UNEVEN * light, RATHER_UNEVEN_AT_MOST):
        return f"the tail is too heavy for runs of this length (index about {a:.1f}): few values decide the mean"
    if h > UNEVEN * light:
        return f"one stretch of one run makes {h:.0%} of the spread: too short to have seen its like often enough"
    return ""


def percentile_doubt(tops: ArrayLike, percentiles: ArrayLike) -> str:
    """Return why an interval of run percentiles, shape (R,), cannot be trusted; "" where it can.

    `tops` are the largest values of the 32 batches of each run, shape (R, 32).

    >>> tops = np.tile(np.arange(32.0), (2, 1))
    >>> percentile_doubt(tops, [16.0, 16.0]) == "", percentile_doubt(tops, [30.0, 30.0]) == ""
    (True, False)
    """
    above = np.asarray(tops, dtype=np.float64) >= np.asarray(percentiles, dtype=np.float64)[:, None]
    spread = float(above.sum(axis=1).mean())
    return "" if spread >= SPREAD else (f"the hundredth above it falls into {spread:.1f} of 32 stretches of a run: "
                                        "too few excursions")
