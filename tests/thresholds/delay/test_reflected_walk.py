"""Reflected Brownian motion: its law against its mean and its limits, the correction against exact queues."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from strategies import sampled

from fluid.errors import InputError
from thresholds import (
    ReflectedWalk,
    corrected_brownian,
    entry_queue_law,
    entry_queue_mean,
    heavy_traffic_mean,
    kingman_bound,
    queue_approximations,
    reflected_brownian,
    transient_approximations,
)


@sampled
@given(st.integers(1, 50), st.floats(0.5, 1.5), st.integers(1, 1_000))
def test_the_mean_is_the_integral_of_the_tail(n: int, share: float, services: int) -> None:
    """E[M] = int_0^inf P(M > x) dx."""
    law = reflected_brownian(n, share * n, services)
    end = max(0.0, (law.arrivals - n) * services) + 9 * math.sqrt(law.arrivals * services)
    area = sum(quad(law.tail, *piece, limit=200)[0] for piece in np.lib.stride_tricks.sliding_window_view(
        np.linspace(0, end, 9), 2))
    assert law.mean == pytest.approx(area, rel=1e-6)


@sampled
@given(st.integers(1, 50), st.floats(0.5, 1.5), st.integers(1, 1_000), st.floats(0, 100))
def test_the_tail_falls_from_one_and_grows_with_services(n: int, share: float, services: int, x: float) -> None:
    """P(M > 0) = Phi(d) + Phi(-d) = 1, a maximum over more services is larger."""
    law, longer = (reflected_brownian(n, share * n, k) for k in (services, 2 * services))
    assert law.tail(0) == pytest.approx(1, abs=1e-14)
    assert law.tail(x + 1) <= law.tail(x) <= longer.tail(x) + 1e-14


@pytest.mark.parametrize("n", [1, 16, 300])
def test_at_the_batch_the_mean_grows_like_the_square_root(n: int) -> None:
    """sqrt(2 n K/pi) at a = n, and within 1e-9 of it at a = n (1 +- 1e-13): the slope in a is K/2."""
    for arrivals in (n, n * (1 - 1e-13), n * (1 + 1e-13)):
        mean = reflected_brownian(n, arrivals, 10_000).mean
        assert mean == pytest.approx(math.sqrt(2 * n * 10_000 / math.pi), rel=1e-9)


@pytest.mark.parametrize(("n", "a"), [(1, 0.5), (16, 15.0), (300, 299.0)])
def test_after_many_services_the_law_is_exponential(n: int, a: float) -> None:
    """Rate 2 (n - a)/a, mean a/(2 (n - a)), Kingman's bound."""
    late, stationary = reflected_brownian(n, a, 10_000_000), reflected_brownian(n, a)
    for x in (0.0, 1.0, 30.0):
        assert stationary.tail(x) == math.exp(-2 * (n - a) * x / a)
        assert late.tail(x) == pytest.approx(stationary.tail(x), rel=1e-12)
    assert stationary.mean == pytest.approx(kingman_bound(n, a), rel=1e-14)
    assert late.mean == pytest.approx(stationary.mean, rel=1e-9)


def test_far_above_the_batch_the_queue_is_what_arrives_too_much() -> None:
    """E[M] = (a - n) K + a/(2 (a - n)) once the walk has left 0: its least value is exponential by symmetry."""
    assert reflected_brownian(4, 6.0, 1_000).mean == pytest.approx(2 * 1_000 + 6 / 4, rel=1e-12)


def test_no_level_is_too_high_for_a_tail() -> None:
    """Where e^{2 mu x/a} overflows the tail is 0."""
    for arrivals in (0.5, 50.0):
        assert reflected_brownian(1, arrivals, 10).tail(1e308) == 0.0


def test_arrivals_as_rare_as_floats_allow_leave_the_stationary_mean() -> None:
    """a = 1e-310: mu sqrt(K/a) overflows, and the mean is a/(2 (n - a)) at once."""
    assert reflected_brownian(1, 1e-310, 5).mean == 1e-310 / 2
    assert transient_approximations(1, 1e-310, [1, 5]).approximate["corrected Brownian"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("n", [1, 4, 16, 100])
@pytest.mark.parametrize("services", [10, 100, 10_000])
def test_the_corrected_mean_is_right_to_the_next_term(n: int, services: int) -> None:
    """At a = n Stirling's formula gives E(S_m)^+ = sqrt(m n/(2 pi)) (1 - e_m), 0 <= e_m <= 1/(12 m n), and Euler and
    Maclaurin sum_{m <= K} m^{-1/2} = 2 sqrt(K) + zeta(1/2) + r, 0 < r < 1/(2 sqrt(K)).
    """
    error = corrected_brownian(n, n, services).mean - entry_queue_mean(n, n, services)
    scale = math.sqrt(n / (2 * math.pi))
    assert -scale / (2 * math.sqrt(services)) - 1e-9 < error < scale * 2.6124 / (12 * n) + 1e-9


@pytest.mark.parametrize(("n", "a", "services"), [
    (16, 16.0, 1_000), (16, 15.9, None), (16, 16.5, 300), (64, 63.0, 500)])
def test_the_correction_brings_the_law_nearer(n: int, a: float, services: int | None) -> None:
    """The largest distance of the tails falls by more than 5."""
    exact = entry_queue_law(n, a, services)
    plain, corrected = reflected_brownian(n, a, services), corrected_brownian(n, a, services)
    away = [max(abs(law.tail(x) - exact.tail(x)) for x in range(0, 400, 3)) for law in (plain, corrected)]
    assert away[1] < away[0] / 5


def test_the_stationary_table_holds_the_means_and_their_errors() -> None:
    """Kingman's bound lies above, the heavy-traffic mean comes near as the load grows."""
    table = queue_approximations(16, [0.5, 0.9, 0.99, 0.999])
    assert table.approximate["Kingman's bound"][1] == kingman_bound(16, 0.9 * 16)
    assert table.approximate["heavy traffic"][1] == heavy_traffic_mean(16, 0.9 * 16)
    assert np.all(table.relative_error("Kingman's bound") > 0)
    assert queue_approximations(10_000, [0.5]).relative_error("Kingman's bound")[0] == math.inf
    assert np.all(np.diff(np.abs(table.relative_error("heavy traffic"))) < 0)
    assert list(table.to_frame().columns) == [
        "load", "arrivals", "exact mean", "Kingman's bound", "Kingman's bound, relative error", "heavy traffic",
        "heavy traffic, relative error"]
    assert "batches of 16" in table.caption()


def test_the_transient_table_holds_the_means_and_their_errors() -> None:
    """A row for each K; the correction is nearer in all of them."""
    table = transient_approximations(16, 16.0, [10, 100, 10_000])
    assert table.exact[1] == entry_queue_mean(16, 16.0, 100)
    assert table.columns()["services"].tolist() == [10, 100, 10_000]
    plain, corrected = (np.abs(table.relative_error(name)) for name in ("Brownian", "corrected Brownian"))
    assert np.all(corrected < plain / 5)


def test_bad_input_is_refused() -> None:
    """Batches, arrivals, services, loads and levels."""
    for arguments in ((0, 1.0, 5), (1, 0.0, 5), (1, math.inf, 5), (1, 1.0, 0), (1, 1.0), (2, 3.0)):
        for make in (reflected_brownian, corrected_brownian):
            with pytest.raises(InputError):
                make(*arguments)
    with pytest.raises(InputError):
        ReflectedWalk(1, 1.0, 5, -1.0)
    with pytest.raises(InputError):
        reflected_brownian(1, 1.0, 5).tail(math.nan)
    for loads in ([], [0.0], [1.0], [math.nan]):
        with pytest.raises(InputError):
            queue_approximations(4, loads)
    for services in ([], [0], [1.5]):
        with pytest.raises(InputError):
            transient_approximations(4, 4.0, services)
