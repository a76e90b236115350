r"""The bulk queue behind every threshold: batches of n leave, a = lambda Delta prompts arrive meanwhile.

With Q the prompts left behind, Q' = (Q + Poisson(a) - n)^+ and, for a < n, z_k the roots of z^n = exp(a (z - 1)) inside
the unit disc, u_k = 1 - z_k,

    E[Q] = n / (2 (n - a)) - (1 + a)/2 + sum_{k=1}^{n-1} Re[1/u_k - 1/2]          1 - u_k = e^{2 pi i k/n - (a/n) u_k}

The sum cancels the other terms where E[Q] is small; there Spitzer's identity has only positive terms and converges
fast:

    E[Q] = sum_{m >= 1} E[(Poisson(m a) - m n)^+] / m

The first K terms are E[Q_K], the mean after K services from an empty queue, for a below, at and above n. With c = m n,
mu = m a a term is (mu - c) P(X > c) + mu P(X = c), which loses a factor of about (c - mu)^2/mu to cancellation: it
serves unless that exceeds 25 at m = 1, as later terms weigh e^{-(c - mu)^2/(2 mu)}.

Two approximations stand beside it. Kingman's bound a / (2 (n - a)) exceeds E[Q] for every
n; in heavy traffic, a -> n, E[Q] = n/(2 (n - a)) - 0.5826 sqrt(n) + O(1) (0.5826 = -zeta(1/2)/sqrt(2 pi), the mean
overshoot of a Gaussian walk). Source: mathematics, section 11.2; the batch wait is that of E_n/D/1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaln, lambertw, roots_genlaguerre

from fluid.arrays import Floats, Ints
from fluid.errors import real, whole

MOST_BATCH = 1_000_000
MOST_SERVICES = 10_000_000
MEAN_OVERSHOOT = 0.5825971579390107  # of a Gaussian walk, in its standard deviations

Complexes = NDArray[np.complex128]


def kingman_bound(batch: int, arrivals: float) -> float:
    """Return a / (2 (n - a)), an upper bound of E[Q]; infinite for a >= n.

    >>> kingman_bound(2, 1.0)
    0.5
    """
    n, a = _checked(batch, arrivals)
    return a / (2 * (n - a)) if a < n else math.inf


def heavy_traffic_mean(batch: int, arrivals: float) -> float:
    """Return n/(2 (n - a)) - 0.5826 sqrt(n), the limit of E[Q] as a -> n (at least 0); infinite for a >= n.

    >>> round(heavy_traffic_mean(1, 0.99), 1)
    49.4
    """
    n, a = _checked(batch, arrivals)
    return max(0.0, n / (2 * (n - a)) - MEAN_OVERSHOOT * math.sqrt(n)) if a < n else math.inf


def bulk_queue_mean(batch: int, arrivals: float) -> float:
    """Return E[Q], Q' = (Q + Poisson(a) - n)^+, for batches of n = `batch` and a = `arrivals` per service.

    Infinite for a >= n. Raises InputError for a batch below 1 or above a million, or arrivals not positive and finite.

    >>> round(bulk_queue_mean(1, 0.5), 12)       # M/D/1: a^2 / (2 (1 - a))
    0.25
    """
    n, a = _checked(batch, arrivals, MOST_BATCH)
    if a >= n:
        return math.inf
    if a == 0:
        return 0.0
    by_roots = _by_roots(n, a)
    return by_roots if by_roots > 1.0 else _by_spitzer(n, a)


def entry_queue_mean(batch: int, arrivals: float, services: int) -> float:
    """Return E[Q_K] = sum_{m <= K} E[(Poisson(m a) - m n)^+] / m, K = `services` after an empty queue, for every a.

    Relative error below 1e-12. Raises InputError as `bulk_queue_mean` does, and for services below 1 or above 10
    million.

    >>> round(entry_queue_mean(1, 1.0, 1), 12)    # E(X - 1)^+ = E X - 1 + P(X = 0)
    0.367879441171
    """
    n, a = _checked(batch, arrivals, MOST_BATCH)
    services = whole("services", services, unit="services", most=MOST_SERVICES)
    if a < 1e-300 * n:  # E[Q_K] underflows
        return 0.0
    if a < n:
        services = min(services, math.ceil(min(45 / tail_exponent(n, a), 1e9)) + 1)
    excess = _excess if (n - a) ** 2 > 25 * a and a < n else _excess_by_tail
    blocks = np.array_split(np.arange(1, services + 1), math.ceil(services / 2**18))
    return math.fsum(float(np.sum(excess(m * n, (m * a).astype(np.float64)) / m)) for m in blocks)


def tail_exponent(n: int, a: float) -> float:
    """I = a - n - n ln(a/n) >= 0: P(Poisson(m a) passes m n, from the side of its mean) <= e^{-m I}."""
    x = (a - n) / n
    if abs(x) > 0.05:
        return a - n - n * math.log(a / n)
    return n * math.fsum((-x) ** k / k for k in range(2, 16))


def _checked(batch: int, arrivals: float, most: int = 2**53) -> tuple[int, float]:
    return (whole("batch", batch, unit="prompts", most=most),
            real("arrivals", arrivals, unit="prompts per service", zero=True))


def _by_roots(n: int, a: float) -> float:
    """The sum over the roots; conjugate pairs count twice."""
    total = n / (2 * (n - a)) - (1 + a) / 2
    if n == 1:
        return total
    k = np.arange(1, n // 2 + 1)
    pairs = np.where(2 * k == n, 1.0, 2.0)
    return float(total + pairs @ (np.real(1 / _roots(n, a)[: len(k)]) - 0.5))


def _roots(n: int, a: float) -> Complexes:
    """u_k of 1 - u = exp(i theta_k - rho u) for k = 1..n/2: Lambert's W, polished by Newton where u is small."""
    rho, angle = a / n, 2j * np.pi * np.arange(1, n // 2 + 1) / n
    u = 1 + lambertw(-rho * np.exp(angle - rho)) / rho
    for _ in range(4):
        step = np.expm1(angle - rho * u)
        u -= (u + step) / (1 - rho * (1 + step))
    roots: Complexes = u
    return roots


def _by_spitzer(n: int, a: float) -> float:
    """Spitzer's sum: the terms fall like e^{-m I}, I = a - n - n ln(a/n)."""
    m = np.arange(1, math.ceil(45 / tail_exponent(n, a)) + 2)
    return math.fsum(_excess(m * n, (m * a).astype(np.float64)) / m)


def _excess(c: Ints, mean: Floats) -> Floats:
    """E[(X - c)^+] of X Poisson: sum_{i >= 1} i P(X = c + i), ratio by ratio, for mean < c."""
    term = poisson_pmf(c + 1, mean)
    total, i = term.copy(), 1
    while np.any((i + 1) * term > 1e-18 * total):
        term = term * (mean / (c + 1 + i))
        i += 1
        total += i * term
    return total


def _excess_by_tail(c: Ints, mean: Floats) -> Floats:
    """E[(X - c)^+] = (mean - c) P(X > c) + mean P(X = c); far below large c, where gammainc fails, an integral."""
    far = (c > 10_000) & (c - mean > 4.4 * np.sqrt(mean))
    excess = np.empty(len(c))
    excess[far] = _excess_by_laguerre(c[far], mean[far])
    c, mean = c[~far], mean[~far]
    excess[~far] = (mean - c) * gammainc(c + 1.0, mean) + mean * poisson_pmf(c, mean)
    return excess


def _excess_by_laguerre(c: Ints, mean: Floats) -> Floats:
    """E[(X - c)^+] = mean^2 P(X = c - 1) int_0^1 w e^{mean w} (1 - w)^{c - 1} dw, by 48 Gauss points of x e^-x,
    x = (c - 1 - mean) w: relative error below 1e-9.
    """
    gap = c - 1 - mean
    x, weight = roots_genlaguerre(48, 1)
    total = np.zeros(len(c))
    for each, share in zip(x, weight, strict=True):
        total += share * np.exp((c - 1) * (each / gap + np.log1p(-each / gap)))
    return poisson_pmf(c - 1, mean) * (mean / gap) ** 2 * total


def poisson_pmf(count: Ints, mean: Floats) -> Floats:
    """P(X = count), count >= 1, in Loader's saddle-point form, which keeps its relative accuracy for large counts."""
    k = count.astype(np.float64)
    x = (mean - k) / k
    deviance = k * (x - np.where(x > -0.5, np.log1p(np.maximum(x, -0.5)), np.log(mean / k)))
    stirling = 1 / (12 * k) - 1 / (360 * k**3) + 1 / (1260 * k**5) - 1 / (1680 * k**7)
    small = gammaln(k + 1.0) - (k + 0.5) * np.log(k) + k - 0.5 * math.log(2 * math.pi)
    correction = np.where(k < 16, small, stirling)
    pmf: Floats = np.exp(-deviance - correction) / np.sqrt(2 * math.pi * k)
    return pmf
