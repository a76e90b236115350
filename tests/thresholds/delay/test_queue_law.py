"""The law of the entry queue against its literal recursion, its roots, Spitzer's means and the M/D/1 transform."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import lambertw
from strategies import sampled

from fluid.errors import InputError
from thresholds import bulk_queue_mean, entry_queue_law, entry_queue_mean

WALKS = [(1, 0.7), (1, 1.0), (1, 1.2), (2, 1.9), (2, 2.0), (2, 2.1), (5, 4.9), (5, 5.0), (5, 5.3), (5, 6.0), (40, 39.0),
         (40, 40.0), (40, 41.0), (40, 48.0)]


def poisson(a: float) -> np.ndarray:
    """P(X = j), ratio by ratio from e^-a, as far as 1e-40."""
    count = np.arange(1, int(a + 20 * math.sqrt(a) + 60))
    pmf = math.exp(-a) * np.append(1.0, np.cumprod(a / count))
    return pmf / math.fsum(pmf)


def by_recursion(n: int, a: float, services: list[int]) -> dict[int, np.ndarray]:
    """The laws of Q_K by convolving and reflecting, states of probability below 1e-30 at the end left out."""
    arriving, law, found = poisson(a), np.ones(1), {0: np.ones(1)}
    for k in range(1, max(services) + 1):
        law = np.convolve(law, arriving)
        law = np.append(law[: n + 1].sum(), law[n + 1 :])
        law = law[: np.flatnonzero(law > 1e-30)[-1] + 1]
        found |= {k: law} if k in services else {}
    return found


def generating(law: np.ndarray, z: complex) -> complex:
    """E z^Q."""
    return complex(np.polyval(law[::-1], z))


def inner_roots(n: int, a: float, s: complex) -> np.ndarray:
    """z^n = s e^{a (z - 1)}: with w = -rho z, w e^w = -rho e^{-rho} s^{1/n} e^{2 pi i k/n}, the principal w."""
    rho, k = a / n, np.arange(n)
    return -lambertw(-rho * s ** (1 / n) * np.exp(2j * np.pi * k / n - rho)) / rho


@pytest.mark.parametrize(("n", "a"), WALKS)
def test_the_law_is_that_of_the_recursion(n: int, a: float) -> None:
    """Each probability to 1e-12 and the distance in variation to 5e-11, K by convolution, by the path and beyond the
    last empty queue.
    """
    services = [1, 20, 65, 300, 600 if n > 5 else 2_000]
    for k, law in by_recursion(n, a, services).items():
        if k:
            found = entry_queue_law(n, a, k).probabilities
            size = max(len(found), len(law))
            difference = np.abs(np.pad(found, (0, size - len(found))) - np.pad(law, (0, size - len(law))))
            assert difference.max() < 1e-12
            assert difference.sum() < 5e-11
            assert law[len(found) :].sum() < 1e-15


@pytest.mark.parametrize(("n", "a"), [(1, 0.6), (2, 2.0), (3, 3.6), (5, 4.0)])
def test_the_sum_over_services_is_the_product_over_the_roots(n: int, a: float) -> None:
    """sum_K s^K E z^{Q_K} = prod (z - z_k)/(1 - z_k)/(z^n - s e^{a (z - 1)}); terms beyond K = 60 are
    below s^60 = 1e-18.
    """
    s, laws = 0.5, by_recursion(n, a, list(range(61)))
    for z in (0.3, 0.9j, -0.8 + 0.5j):
        summed = sum(s**k * generating(law, z) for k, law in laws.items())
        roots = inner_roots(n, a, s)
        product = np.prod((z - roots) / (1 - roots)) / (z**n - s * np.exp(a * (z - 1)))
        assert abs(summed - product) < 1e-12


@pytest.mark.parametrize(("n", "a"), [(1, 0.5), (2, 1.5), (5, 4.9), (40, 36.0), (200, 199.0)])
def test_the_stationary_transform_is_the_product_over_the_roots(n: int, a: float) -> None:
    """E z^Q = (n - a)(z - 1)/(z^n - e^{a (z - 1)}) prod_{k=1}^{n-1} (z - z_k)/(1 - z_k)."""
    law, roots = entry_queue_law(n, a).probabilities, inner_roots(n, a, 1.0)[1:]
    for z in (0.3, 0.9j, -0.8 + 0.5j):
        product = (n - a) * (z - 1) / (z**n - np.exp(a * (z - 1))) * np.prod((z - roots) / (1 - roots))
        assert abs(generating(law, z) - product) < 1e-11


@sampled
@given(st.floats(0.01, 0.99))
def test_batches_of_one_have_the_law_of_pollaczek_and_khinchine(a: float) -> None:
    """(1 - a)(z - 1)/(z - e^{a (z - 1)}): with b = e^a, P(0) = (1 - a) b, P(1) = (1 - a)(b^2 - b (1 + a)), its first
    Taylor coefficients; variance a^2/(2 (1 - a)) + a^3/(3 (1 - a)) + a^4/(4 (1 - a)^2), by its second derivative at 1.
    """
    law, b = entry_queue_law(1, a), math.exp(a)
    assert law.probabilities[0] == pytest.approx((1 - a) * b, rel=1e-12 / (1 - a))
    assert law.probabilities[1] == pytest.approx((1 - a) * b * (b - 1 - a), rel=1e-10 / a, abs=1e-15)
    variance = a**2 / (2 * (1 - a)) + a**3 / (3 * (1 - a)) + a**4 / (4 * (1 - a) ** 2)
    assert law.variance == pytest.approx(variance, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize(("n", "load"), [(1, 0.2), (3, 0.9), (40, 0.8), (100, 0.999), (10_000, 0.999)])
def test_the_stationary_law_has_the_mean_of_the_bulk_queue(n: int, load: float) -> None:
    """Mean by roots or Spitzer's sum, and mass 1."""
    law = entry_queue_law(n, load * n)
    assert law.mean == pytest.approx(bulk_queue_mean(n, load * n), rel=1e-10)
    assert law.probabilities.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("n", "a"), [(1, 0.9), (5, 4.5), (40, 38.0)])
def test_the_stationary_tail_falls_at_the_rate_of_the_root_beyond_one(n: int, a: float) -> None:
    """P(Q > x + 1)/P(Q > x) -> 1/z_+, z_+^n = e^{a (z_+ - 1)} > 1, where the tail has fallen to 1e-9."""
    root = brentq(lambda z: n * math.log(z) - a * (z - 1), n / a, 40.0, xtol=1e-14)
    law = entry_queue_law(n, a)
    x = law.quantile(1 - 1e-9)
    assert law.tail(x + 1) / law.tail(x) == pytest.approx(1 / root, rel=1e-6)


@pytest.mark.parametrize(("n", "a"), [(2, 1.9), (5, 5.0), (5, 5.2)])
def test_the_queue_grows_in_law_from_empty(n: int, a: float) -> None:
    """Q_K is max(0, S_1, ..., S_K) in law; below the batch it grows to the stationary law."""
    laws = [entry_queue_law(n, a, k) for k in (1, 30, 64, 65, 200, 1_000)]
    laws += [entry_queue_law(n, a)] if a < n else []
    for x in range(0, 120, 7):
        tails = np.array([law.tail(x) for law in laws])
        assert np.all(np.diff(tails) > -1e-11)


@pytest.mark.parametrize(("n", "a"), [(1, 1.0), (1, 0.5), (40, 40.02), (100, 99.9), (30, 30.4)])
def test_after_many_services_mass_and_mean_are_right(n: int, a: float) -> None:
    """K = 30,000: mass 1 and Spitzer's mean to 1e-9."""
    law = entry_queue_law(n, a, 30_000)
    assert law.probabilities.sum() == pytest.approx(1, abs=1e-9)
    assert law.mean == pytest.approx(entry_queue_mean(n, a, 30_000), rel=1e-9)


@sampled
@given(st.integers(1, 6), st.floats(0.05, 1.4), st.integers(1, 400))
def test_mass_mean_tails_and_quantiles_agree(n: int, share: float, services: int) -> None:
    """Mass 1, Spitzer's mean, and the quantile is the least x whose tail is at most 1 - share."""
    law = entry_queue_law(n, share * n, services)
    assert np.all(law.probabilities >= 0)
    assert law.probabilities.sum() == pytest.approx(1, abs=1e-11)
    assert law.mean == pytest.approx(entry_queue_mean(n, share * n, services), rel=1e-10, abs=1e-12)
    x = law.quantile(0.75)
    assert law.tail(x) <= 0.25 < law.tail(x - 1)


def exact_mean(n: int, a: float, services: int) -> mpmath.mpf:
    """Spitzer's sum at 40 digits: E(X - c)^+ = mu - c + sum_{i < c} (c - i) P(X = i)."""
    with mpmath.workdps(40):
        total = mpmath.mpf(0)
        for m in range(1, services + 1):
            mu, c = m * mpmath.mpf(a), m * n
            term = mpmath.exp(-mu)
            below = c * term
            for i in range(1, c):
                term *= mu / i
                below += (c - i) * term
            total += (mu - c + below) / m
        return total


@pytest.mark.parametrize(("n", "a"), [(1, 0.2), (2, 2.0), (5, 8.0), (30, 27.0), (50, 12.0), (40, 43.0)])
def test_the_mean_from_empty_agrees_with_its_sum_at_high_precision(n: int, a: float) -> None:
    """Relative error below 1e-12 for K = 1 and 25."""
    for services in (1, 25):
        assert abs(entry_queue_mean(n, a, services) / exact_mean(n, a, services) - 1) < 1e-12


@pytest.mark.parametrize(("n", "a", "services"), [(1, 0.5, 300), (40, 38.0, 5_000), (100, 99.8, 300_000)])
def test_the_mean_from_empty_grows_to_the_mean_of_the_bulk_queue(n: int, a: float, services: int) -> None:
    """The terms left out are below e^{-K I}, K I > 50; in the last case they reach far below counts of 10^7."""
    assert entry_queue_mean(n, a, services) == pytest.approx(bulk_queue_mean(n, a), rel=1e-11)


def test_one_service_leaves_what_a_batch_does_not_take() -> None:
    """Q_1 = (X - n)^+."""
    law, pmf = entry_queue_law(3, 2.5, 1), poisson(2.5)
    assert law.probabilities[0] == pytest.approx(pmf[:4].sum(), rel=1e-14)
    assert law.tail(1) == pytest.approx(pmf[5:].sum(), rel=1e-12)


def test_rare_arrivals_leave_nobody_behind() -> None:
    """P(Q > 0) is below P(X > n) K = 1e-38."""
    for services in (1, 100, None):
        for arrivals in (1e-9, 1e-250, 5e-324):
            law = entry_queue_law(4, arrivals, services)
            assert law.probabilities[0] == pytest.approx(1, abs=1e-12)
            assert law.mean < 1e-15
            assert law.quantile(0.5) == 0
    assert entry_queue_mean(4, 5e-324, 100) == entry_queue_mean(4, 0.0, 100) == 0.0


def test_a_law_is_a_table_and_cannot_be_written() -> None:
    """Columns of states, probabilities and tails; the caption says which queue."""
    law = entry_queue_law(2, 1.5, 100)
    frame = law.to_frame()
    assert list(frame.columns) == ["prompts", "probability", "tail"]
    assert frame["tail"][3] == law.tail(3) == law.tail(3.5)
    assert (law.tail(-1), law.tail(10**6)) == (1.0, 0.0)
    assert "after 100 services" in law.caption()
    assert "steady state" in entry_queue_law(2, 1.5).caption()
    with pytest.raises(ValueError):
        law.probabilities[0] = 0.0


@pytest.mark.parametrize(("arguments", "field"), [
    ((0, 1.0), "batch"), ((2.5, 1.0), "batch"), ((1, 0.0), "arrivals"), ((1, math.nan), "arrivals"),
    ((4, 4.0), "arrivals"), ((4, 1.0, 0), "services"), ((4, 1.0, 1.5), "services"), ((4, 1.0, 10**8), "services"),
    ((100, 200.0, 10**6), "queue"), ((1, 1 - 1e-9), "queue"), ((10**6, 1e6, 10**7), "queue"),
    ((1, 1e300, 1), "queue"), ((1, 1e308, 10**7), "queue"),
])
def test_a_law_that_cannot_be_had_is_refused(arguments: tuple[float, ...], field: str) -> None:
    """Each message names the argument, or the length of the queue."""
    with pytest.raises(InputError, match=f"^{field} must be"):
        entry_queue_law(*arguments)


def test_tails_quantiles_and_means_refuse_what_is_no_number() -> None:
    """Shares in (0, 1), finite levels, whole services."""
    law = entry_queue_law(1, 0.5)
    for share in (0.0, 1.0, math.nan):
        with pytest.raises(InputError):
            law.quantile(share)
    with pytest.raises(InputError):
        law.tail(math.nan)
    for services in (0, 1.5, 10**8):
        with pytest.raises(InputError):
            entry_queue_mean(1, 0.5, services)
