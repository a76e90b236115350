r"""Does a queue that starts empty grow without end? Tests on how many wait, over time, in several replications.

**How a critical queue grows.** With Q(t) the requests that wait at time t, from empty, and increments of variance rate
V: a stable queue stays bounded, one that falls behind by delta requests/s has E Q(t) ~ delta t, and one served at
exactly its rate is reflected Brownian motion,

    E Q(T) = sqrt(2/pi) sqrt(V T),    variance (1 - 2/pi) V T                     (1)

so the mean of R replications over sqrt(V T) exceeds sqrt(2/pi) + (1.4 - sqrt(2/pi)) sqrt(10/R) in fewer than one
experiment of a hundred for R = 1 to 5, of a thousand from R = 10 on, and the less the further below it one is.

**A test of growth that needs no V.** For a queue served at its rate or faster E Q(t)/sqrt(t) does not increase (for
waits of single servers by Spitzer's identity, E Q_n = sum_{k <= n} E S_k^+ / k, up to terms of one request). With A the
average of Q over the first half of the horizon, B over the second,

    E B <= c E A,   c = ((1 - f)/(1/2 - f))^(3/2) - 1,     f = 0: c = 2^(3/2) - 1 = 1.83      (2)

where f is the part of the horizon in which residents gather before anybody waits; a queue that grows like t has
E B = 3 E A. So the lower confidence bound of B - c A, Student over replications, lies above 0 only by error unless the
queue grows faster than a critical one. Noise common to A and B cancels, that of arrivals and of services alike; none of
it need be known. At (1) the bound at 99%, 99.5% and 99.75% errs no more often than it says (20,000 paths, R = 2 to 10).

**Counts of 0, 1, 5.** Of n requests drawn x wait at the end. Where each had a chance of at most p to wait there (the
mean wait over the horizon), x >= k has probability at most P(Binomial(n, p) >= k), exactly: for n = 1 no x says
anything at p = 0.2, and for n = 5 it takes 5 of them to be below 0.1%.

**Bursts.** The index of dispersion I of the counts in equal parts of the horizon, over replications: 1 for Poisson
streams, also those whose rates change at the same moments everywhere. Taken where it exceeds 1 by 3.3 standard errors.
Sources: mathematics, section 9.7; Asmussen, Applied Probability and Queues, 2nd edition, chapters VIII and X, for
Spitzer's identity and reflected Brownian motion; (2) derived here by integrating sqrt(t - f T).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtrc, stdtrit

from fluid.arrays import Floats

CRITICAL = math.sqrt(2 / math.pi)
TEN = 1.4  # above it the mean of ten replications is not that of a critical queue
LONGEST_FILL = 0.1  # of the horizon: beyond it (2) cannot tell filling from growth
SURELY_DISPERSED = 3.3  # standard errors


def beyond_critical(replications: int) -> float:
    """Return what the mean of Q(T)/sqrt(V T) over replications exceeds in fewer than 1% of cases at the boundary.

    >>> round(beyond_critical(10), 10), round(beyond_critical(1), 2)
    (1.4, 2.7)
    """
    return CRITICAL + (TEN - CRITICAL) * math.sqrt(10 / replications)


def growth_ratio(fill: float = 0.0) -> float:
    """Return c of (2) where residents gather in a share `fill` of the horizon, at most `LONGEST_FILL` of it.

    >>> round(growth_ratio(), 3)
    1.828
    """
    f = min(fill, LONGEST_FILL)
    return float(((1 - f) / (0.5 - f)) ** 1.5 - 1)


def lower_bounds(values: ArrayLike, chance: float) -> Floats:
    """Return one-sided lower Student bounds of means over replications: `values` (R, C) gives (C,).

    Each is exceeded by its mean except with probability `chance`; -inf for a single replication.
    """
    sample = np.asarray(values, dtype=np.float64)
    size = len(sample)
    if size < 2:
        return np.full(sample.shape[1:], -math.inf)
    found: Floats = sample.mean(axis=0) - stdtrit(size - 1, 1 - chance) * sample.std(axis=0, ddof=1) / math.sqrt(size)
    return found


def chance_of_so_many(waiting: ArrayLike, drawn: ArrayLike, share: ArrayLike) -> Floats:
    """Return P(Binomial(drawn, share) >= waiting), elementwise; 1 where nobody waits.

    >>> chance_of_so_many([1, 5], [1, 5], [0.2, 0.2]).round(5).tolist()
    [0.2, 0.00032]
    """
    x, n = (np.rint(np.asarray(each, dtype=np.float64)).astype(np.int64) for each in (waiting, drawn))
    beyond = bdtrc(np.maximum(x - 1, 0).astype(np.float64), np.maximum(n, 1), np.asarray(share))
    found: Floats = np.where(x > 0, beyond, 1.0)
    return found


def dispersion(counts: ArrayLike) -> float:
    """Return the index of dispersion of counts of shape (R, B) in B parts of R replications; 1 where it may be 1.

    >>> dispersion(np.random.default_rng(0).poisson(5.0, (10, 32)))
    1.0
    """
    parts = np.asarray(counts, dtype=np.float64)
    mean = float(parts.mean())
    axis, free = (0, (len(parts) - 1) * parts.shape[1]) if len(parts) > 1 else (1, parts.shape[1] - 1)
    if mean == 0 or free < 1:
        return 1.0
    index = float(((parts - parts.mean(axis=axis, keepdims=True)) ** 2).sum()) / free / mean
    return index if index > 1 + SURELY_DISPERSED * math.sqrt((2 + 1 / mean) / free) else 1.0
