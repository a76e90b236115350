"""How queues grow: the constants of reflected Brownian motion, tests that hold their level, exact counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, t

from verification.statistics.growth import (
    CRITICAL,
    TEN,
    beyond_critical,
    chance_of_so_many,
    dispersion,
    growth_ratio,
    lower_bounds,
)

PATHS, STEPS = 3_000, 1_000


@pytest.fixture(scope="module")
def critical() -> np.ndarray:
    """Reflected Brownian motion on [0, 1]: 3,000 paths of 1,000 steps."""
    walk = np.cumsum(np.random.default_rng(1).standard_normal((PATHS, STEPS)), axis=1) / math.sqrt(STEPS)
    return walk - np.minimum(np.minimum.accumulate(walk, axis=1), 0.0)


def halves(paths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each path over the first and the second half."""
    return paths[:, :STEPS // 2].mean(axis=1), paths[:, STEPS // 2:].mean(axis=1)


def test_a_critical_queue_has_the_mean_and_the_growth_that_are_stated(critical: np.ndarray) -> None:
    """E Q(1) = sqrt(2/pi), E B = c E A; 4 standard errors and 0.58/sqrt(steps) for the discrete walk."""
    first, second = halves(critical)
    excess = second - growth_ratio() * first
    slack = 0.6 / math.sqrt(STEPS)
    assert abs(critical[:, -1].mean() - CRITICAL) < 4 * critical[:, -1].std() / math.sqrt(PATHS) + slack
    assert abs(excess.mean()) < 4 * excess.std() / math.sqrt(PATHS) + slack


@pytest.mark.parametrize("replications", [2, 3, 5, 10])
def test_the_test_of_growth_holds_its_level_at_the_boundary(critical: np.ndarray, replications: int) -> None:
    """At 5%, groups of so many paths exceed it in 5% of cases, within 4 standard errors; below it the less."""
    first, second = halves(critical)
    excess = (second - growth_ratio() * first).reshape(-1, replications)
    wrong = lower_bounds(excess.T, 0.05) > 0
    assert wrong.mean() < 0.05 + 4 * math.sqrt(0.05 * 0.95 / len(wrong))


@pytest.mark.parametrize("replications", [1, 2, 5, 10])
def test_the_mean_of_a_critical_queue_is_beyond_its_bound_in_one_of_a_hundred(
        critical: np.ndarray, replications: int) -> None:
    """P(|N| > 2.7) = 0.7% for one; the more replications, the less."""
    means = critical[:, -1].reshape(-1, replications).mean(axis=1)
    assert (means > beyond_critical(replications)).mean() < 0.01 + 4 * math.sqrt(0.01 / len(means))


def test_a_queue_that_grows_like_t_is_seen_where_noise_is_a_quarter_of_it() -> None:
    """E B = 3 E A = 3/4: B - c A = 0.293 for a queue that grows by 1, with noise of variance 0.31/16."""
    walk = np.cumsum(np.random.default_rng(2).standard_normal((100, STEPS)), axis=1) / math.sqrt(STEPS)
    first, second = halves(np.linspace(0, 1, STEPS) + walk / 4)
    assert np.mean(second - growth_ratio() * first) == pytest.approx(0.293, abs=4 * math.sqrt(0.31 / 1600))
    assert (lower_bounds((second - growth_ratio() * first).reshape(10, 10), 0.005) > 0).mean() >= 0.9


@pytest.mark.parametrize("fill", [0.0, 0.02, 0.1])
def test_filling_delays_a_critical_queue_by_no_more_than_the_ratio_allows(fill: float) -> None:
    """sqrt(t - f) integrated over both halves."""
    moments = (np.arange(100_000) + 0.5) / 100_000
    queue = np.sqrt(np.maximum(moments - fill, 0.0))
    assert queue[50_000:].mean() / queue[:50_000].mean() == pytest.approx(growth_ratio(fill), rel=1e-3)
    assert growth_ratio(0.3) == growth_ratio(0.1) < 3


def test_lower_bounds_are_those_of_student() -> None:
    values = np.random.default_rng(3).standard_normal((7, 3))
    expected = values.mean(0) - t.ppf(0.99, 6) * values.std(0, ddof=1) / math.sqrt(7)
    assert lower_bounds(values, 0.01) == pytest.approx(expected, rel=1e-12)
    assert np.all(np.isneginf(lower_bounds(values[:1], 0.01)))


@pytest.mark.parametrize(("waiting", "drawn"), [(0, 0), (0, 5), (1, 1), (1, 5), (5, 5), (30, 1000)])
def test_counts_are_judged_exactly(waiting: int, drawn: int) -> None:
    """Another library's binomial tail; nobody waiting is certain."""
    expected = binom.sf(waiting - 1, drawn, 0.02)
    assert chance_of_so_many([waiting], [drawn], [0.02])[0] == pytest.approx(expected, rel=1e-9)


def test_one_request_that_waits_says_nothing() -> None:
    """At a fifth of the horizon each waits with chance 0.2; of five it takes five to be below 0.1%."""
    assert chance_of_so_many([1, 4, 5], [1, 5, 5], [0.2] * 3) == pytest.approx([0.2, 0.00672, 0.00032], rel=1e-9)


def test_the_dispersion_of_poisson_counts_is_one_and_of_bursts_their_variance() -> None:
    """Pairs at once: variance 4 lambda/2 over mean lambda, 2. Rates that change alike in every replication are none."""
    rng = np.random.default_rng(4)
    assert dispersion(rng.poisson(0.3, (10, 32))) == 1.0
    assert dispersion(2 * rng.poisson(20.0, (10, 32))) == pytest.approx(2.0, rel=4 * math.sqrt(2 / 288))
    assert dispersion(rng.poisson(np.linspace(1, 100, 32), (10, 32))) == 1.0
    assert dispersion(np.zeros((10, 32))) == dispersion(np.ones((1, 1))) == 1.0


def test_ten_replications_have_the_bound_of_the_model() -> None:
    """mathematics, section 9.8: s > 1.4."""
    assert beyond_critical(10) == pytest.approx(TEN, rel=1e-15)
