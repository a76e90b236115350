"""The bound on a mean by a bet: its confidence exactly, its limits, its order."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from thresholds.paced_wait.mean_bound import STAKES, best_stake, upper_mean


@pytest.mark.parametrize("stake", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("draws", [5, 40, 300])
def test_the_bound_holds_with_its_confidence_for_every_coin(draws: int, stake: float) -> None:
    """F in {0, 1}: P(bound >= p) summed over the binomial law of the draws is at least 95%, for p from 1e-4 to 0.99."""
    ones = np.arange(draws + 1)
    bounds = np.array([upper_mean(np.array([0.0, 1.0]), np.array([draws - k, k]), 1.0, stake, 0.95) for k in ones])
    for p in np.concatenate([np.geomspace(1e-4, 0.1, 40), np.linspace(0.1, 0.99, 90)]):
        assert binom.pmf(ones, draws, p) @ (bounds >= p * (1 - 1e-9)) >= 0.95


@pytest.mark.parametrize("draws", [10, 1000, 10**6])
def test_of_draws_that_are_all_zero_the_bound_is_known(draws: int) -> None:
    """(1 + c g/(1 - g))^m = 1/alpha: g = 1 - c/(alpha^(-1/m) - 1 + c), about ln(1/alpha)/(c m)."""
    stake = 0.9
    exact = 1 - stake / (0.05 ** (-1 / draws) - 1 + stake)
    assert upper_mean(np.zeros(1), np.array([float(draws)]), 1.0, stake, 0.95) == pytest.approx(exact, rel=1e-6)


def test_many_draws_of_a_narrow_law_cost_the_normal_margin() -> None:
    """Uniform on [0, 0.02] below M = 1: at the best stake about mean + sqrt(2 V ln(1/alpha)/m), to a tenth of that."""
    values = np.linspace(0, 0.02, 10_000)
    stake, bound = best_stake(values, np.ones(10_000), 1.0, 10**8, 0.95)
    margin = np.sqrt(2 * values.var() * np.log(20) / 10**8)
    assert stake in STAKES
    assert bound - values.mean() == pytest.approx(margin, rel=0.1)


def test_more_confidence_a_larger_range_and_larger_draws_raise_the_bound() -> None:
    """Each alone, on 200 draws of an exponential law cut at 3."""
    values = np.minimum(np.random.default_rng(0).exponential(size=200), 3.0)
    ones = np.ones(200)
    bound = upper_mean(values, ones, 3.0, 0.5, 0.95)
    assert values.mean() < bound < upper_mean(values, ones, 3.0, 0.5, 0.99)
    assert bound < upper_mean(values, ones, 6.0, 0.5, 0.95)
    assert bound < upper_mean(np.maximum(values, 0.5), ones, 3.0, 0.5, 0.95)
