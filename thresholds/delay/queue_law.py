r"""The law of the queue behind a threshold, stationary and after K services from empty.

Q' = (Q + Poisson(a) - n)^+, Q_0 = 0, a = lambda Delta. `walk_transform` inverts the transform of Q_K; this module
says when it is asked:

- K <= 64: the recursion itself, convolve and reflect.
- K > 64: the transform. For a > n it is asked for K_0 services only, with e^{-K_0 I}/(1 - e^{-I}) <= e^-37,
  I = a - n - n ln(a/n): by Chernoff's bound P(Poisson(m a) <= m n) <= e^{-m I} the queue is never empty again, so that
  Q_K = Q_{K_0} + Poisson((K - K_0) a) - (K - K_0) n.
- stationary, a < n: the transform at s = 1.

States beyond which e^-37 = 9e-17 of probability is left are cut off. Measured against convolution (n up to 40, K up
to 2,000) each probability is right to 2e-13 and their sum to 1e-11; after 10^6 services (n up to 1,000) the sum is
right to 1e-10, and so is the mean relative to Spitzer's. The probabilities are not normalised: their sum shows the
error. Source: `walk_transform`. See mathematics, section 11.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from fluid.arrays import Floats, Ints
from fluid.errors import InputError, probability, real, whole
from fluid.tables import Tabular
from thresholds.delay.bulk_queue import MOST_BATCH, MOST_SERVICES, poisson_pmf, tail_exponent
from thresholds.delay.walk_transform import LOST, stationary_probabilities, support, transient_probabilities

MOST_CONVOLVED = 64


@dataclass(frozen=True, eq=False)
class QueueLaw(Tabular):
    """The law of the entry queue after K = `services` (None: stationary): `probabilities`[j] = P(Q_K = j), shape (N,).

    P(Q_K >= N) < 1e-16. `prompts` of a table are j, its `tail` is P(Q_K > j).
    """

    batch: int
    arrivals: float
    services: int | None
    probabilities: Floats

    def __post_init__(self) -> None:
        self.probabilities.setflags(write=False)

    def __repr__(self) -> str:
        return f"QueueLaw({self.caption()}; mean {self.mean:.4g})"

    @property
    def mean(self) -> float:
        """E[Q_K], in prompts."""
        return float(self.probabilities @ np.arange(len(self.probabilities)))

    @property
    def variance(self) -> float:
        """Var[Q_K], in prompts squared."""
        return float(self.probabilities @ (np.arange(len(self.probabilities)) - self.mean) ** 2)

    def tail(self, x: float) -> float:
        """P(Q_K > x) for finite x; 1 for x < 0."""
        after = math.floor(_finite(x)) + 1
        return float(self._tails()[after - 1]) if 0 < after <= len(self.probabilities) else float(after <= 0)

    def quantile(self, share: float) -> int:
        """The least x with P(Q_K <= x) >= share, in prompts; raises InputError unless 0 < share < 1."""
        beyond = self._tails() <= 1 - probability("share", share)
        return int(np.argmax(beyond)) if beyond.any() else len(self.probabilities)

    def columns(self) -> Mapping[str, Sequence[Any] | np.ndarray]:
        """The states, their probabilities and the tail beyond each."""
        p = self.probabilities
        return {"prompts": np.arange(len(p)), "probability": p, "tail": self._tails()}

    def caption(self) -> str:
        """Which queue, and when."""
        when = "in steady state" if self.services is None else f"after {self.services:,} services from empty"
        return f"entry queue {when}: batches of {self.batch:,}, {self.arrivals:.6g} arrivals per service"

    def _tails(self) -> Floats:
        """P(Q_K > j), summed from the small end."""
        beyond: Floats = np.cumsum(np.append(self.probabilities[1:], 0.0)[::-1])[::-1]
        return beyond


def entry_queue_law(batch: int, arrivals: float, services: int | None = None) -> QueueLaw:
    """Return the law of Q_K, Q' = (Q + Poisson(a) - n)^+ from empty, n = `batch`, a = `arrivals`, K = `services`.

    Without `services` the stationary law. Raises InputError for a batch below 1 or above a million, arrivals not
    positive and finite or (stationary) not below the batch, services below 1 or above 10 million, and a law that needs
    more than 2^23 points.

    >>> round(float(entry_queue_law(1, 0.5).probabilities[0]), 12)       # M/D/1: (1 - a) e^a
    0.82436063535
    """
    n = whole("batch", batch, unit="prompts", most=MOST_BATCH)
    a = real("arrivals", arrivals, unit="prompts per service")
    if services is not None:
        services = whole("services", services, unit="services", most=MOST_SERVICES)
        return QueueLaw(n, a, services, _after(n, a, services))
    if a >= n:
        raise InputError("arrivals", f"below the batch of {n:,} for a stationary law", arrivals)
    return QueueLaw(n, a, None, stationary_probabilities(n, a) if a > 1e-300 * n else np.ones(1))


def _after(n: int, a: float, services: int) -> Floats:
    if a < 1e-300 * n:
        return np.ones(1)
    states = support(n, a, services)
    if services <= MOST_CONVOLVED:
        return _by_convolution(n, a, services)
    last = _last_empty(n, a)
    if services <= last:
        return transient_probabilities(n, a, services)
    return _never_empty(_after(n, a, last), n, a, services - last)[:states]


def _last_empty(n: int, a: float) -> int:
    """The number of services after which the queue is empty with probability below e^-37 (10^9 if a <= n)."""
    exponent = tail_exponent(n, a) if a > n else 0.0
    return math.ceil((LOST - math.log(-math.expm1(-exponent))) / exponent) if exponent > 1e-7 else 10**9


def _by_convolution(n: int, a: float, services: int) -> Floats:
    arriving = _poisson(a)
    p = np.ones(1)
    for k in range(1, services + 1):
        p = _convolved(p, arriving)
        p = np.append(p[: n + 1].sum(), p[n + 1 :])[: support(n, a, k)]
    return p


def _never_empty(p: Floats, n: int, a: float, services: int) -> Floats:
    """The law of Q + Poisson(services a) - services n where that is never negative."""
    counts = _counts(services * a)
    p = _convolved(p, _poisson_at(counts, services * a))
    first = int(counts[0]) - services * n
    return np.append(np.zeros(first), p) if first >= 0 else p[-first:]


def _convolved(p: Floats, q: Floats) -> Floats:
    length = len(p) + len(q) - 1
    size = next_fast_len(length, real=True)
    convolved: Floats = np.maximum(irfft(rfft(p, size) * rfft(q, size), size)[:length], 0.0)
    return convolved


def _counts(mean: float) -> Ints:
    """The counts outside which a Poisson variable lies with probability below 2 e^-37 (Bernstein's bounds)."""
    spread = math.sqrt(2 * LOST * mean)
    return np.arange(max(0, math.floor(mean - spread)), math.ceil(mean + spread + LOST))


def _poisson(mean: float) -> Floats:
    return _poisson_at(np.arange(_counts(mean)[-1] + 1), mean)


def _poisson_at(counts: Ints, mean: float) -> Floats:
    positive = poisson_pmf(np.maximum(counts, 1), np.full(len(counts), mean))
    return np.where(counts == 0, math.exp(-mean), positive)


def _finite(x: float) -> float:
    if not math.isfinite(x):
        raise InputError("x", "finite", x)
    return x
