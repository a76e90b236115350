r"""The log-normal law X = e^(mu + sigma Z), Z standard normal, from two of its numbers.

    mean     e^(mu + sigma^2/2)           median  e^mu
    p95      e^(mu + 1.645 sigma)         p99     e^(mu + 2.326 sigma)
    cv       (e^(sigma^2) - 1)^(1/2), the standard deviation over the mean

A mean m and a quantile q above it leave sigma^2/2 - z sigma + ln(q/m) = 0. Of its two roots the smaller one is meant,
sigma = z - (z^2 - 2 ln(q/m))^(1/2) <= z: the law that is spread less. It exists for m <= q <= m e^(z^2/2): a p95 is at
most 3.87 times the mean of a log-normal law, a p99 14.9 times. Source: mathematics, section 15.1.
"""

from __future__ import annotations

import math

from fluid.errors import InputError, real

QUANTILES = {"median": 0.5, "p95": 0.95, "p99": 0.99}
NUMBERS = ("mean", *QUANTILES, "cv")
TWO = "two of mean, median, p95, p99, cv"


def mu_and_sigma(given: dict[str, float | None], where: str) -> tuple[float, float]:
    """Return mu and sigma of the law with two of the numbers; raises InputError where no law has them.

    >>> mu, sigma = mu_and_sigma({"mean": 1500.0, "p95": 4000.0}, "lengths")
    >>> round(math.exp(mu + sigma**2 / 2), 6), round(math.exp(mu + 1.6448536269514722 * sigma), 6)
    (1500.0, 4000.0)
    """
    known = {name: real(name, value, where, zero=name == "cv") for name, value in given.items() if value is not None}
    if len(known) != 2:
        raise InputError("lognormal", TWO, ", ".join(known) or None, where)
    if "cv" in known:
        return _by_cv(known, where)
    (low, least), (high, most) = sorted(known.items(), key=lambda each: NUMBERS.index(each[0]))
    if low == "mean" and high != "median":
        return _by_mean(least, high, most, where)
    if low == "mean":
        (low, least), (high, most) = (high, most), (low, least)
    if most < least:
        raise InputError(high, f"at least {least:g}, the {low}", most, where)
    if high == "mean":
        return math.log(least), math.sqrt(2 * math.log(most / least))
    sigma = math.log(most / least) / (_z(high) - _z(low))
    return math.log(least) - _z(low) * sigma, sigma


def _by_cv(known: dict[str, float], where: str) -> tuple[float, float]:
    """From the coefficient of variation and one other number."""
    sigma = math.sqrt(math.log1p(known.pop("cv") ** 2))
    ((name, value),) = known.items()
    return math.log(value) - (sigma**2 / 2 if name == "mean" else _z(name) * sigma), sigma


def _by_mean(mean: float, name: str, quantile: float, where: str) -> tuple[float, float]:
    """From the mean and a quantile above it."""
    z = _z(name)
    most = mean * math.exp(z**2 / 2)
    if not mean <= quantile <= most:
        raise InputError(name, f"from {mean:g}, the mean, to {most:.6g}: no log-normal law has one further off",
                         quantile, where)
    sigma = z - math.sqrt(max(z**2 - 2 * math.log(quantile / mean), 0.0))
    return math.log(mean) - sigma**2 / 2, sigma


def _z(name: str) -> float:
    """The quantile of the standard normal law."""
    from scipy.special import ndtri  # loads for as long as the rest of fluid, and few workloads have a law

    return float(ndtri(QUANTILES[name]))
