"""Doubts about intervals: statistics by hand and on processes whose correlation and tail are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from queues import autoregressive

from verification import batch_means
from verification.statistics.trust import doubt, neighbours, percentile_doubt, tail_index, unevenness


def test_neighbours_by_hand() -> None:
    """Errors 1, 1, -1, -1: products 1, -1, 1, their mean 1/3 over a mean square of 1. Pairs stay inside a run."""
    assert neighbours([[1.0, 1.0, -1.0, -1.0]]) == pytest.approx(1 / 3)
    assert neighbours([[1.0, 1.0], [-1.0, -1.0]]) == pytest.approx(1.0)
    assert neighbours([[3.0, 3.0, 3.0]]) == 0.0


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.8])
def test_neighbours_measure_the_correlation_of_an_autoregression(weight: float) -> None:
    """Lag one of AR(1) is its weight; 200 runs of 32, standard error at most 1/sqrt(200 x 31)."""
    found = neighbours(autoregressive(np.random.default_rng(1), weight, (200, 32)))
    assert abs(found - weight) < 4 / math.sqrt(6_200) + 0.01


@pytest.mark.parametrize("index", [1.0, 2.0, 4.0])
def test_the_tail_index_of_a_pareto_law_is_found(index: float) -> None:
    """Hill on 3,200 values: 320 in the tail, relative error 1/sqrt(320), 4 of them."""
    tops = np.random.default_rng(2).pareto(index, 3_200) + 1
    assert tail_index(tops) == pytest.approx(index, rel=4 / math.sqrt(320))
    assert tail_index(7 * tops) == pytest.approx(tail_index(tops), rel=1e-9)


def test_of_few_or_equal_values_no_tail_is_known() -> None:
    assert math.isinf(tail_index(np.arange(59.0)))
    assert math.isinf(tail_index(np.ones(320)))
    assert math.isinf(tail_index(np.zeros(320)))
    assert unevenness(np.ones((2, 32))) == 0.0


def doubted(values: np.ndarray) -> str:
    """The doubt about values of shape (R, N), in 32 batches a run."""
    parts = values.reshape(len(values), 32, -1)
    return doubt(parts.mean(axis=2), parts.max(axis=2))


@pytest.mark.parametrize("law", ["normal", "exponential", "lognormal"])
def test_independent_values_of_light_tails_are_hardly_ever_doubted(law: str) -> None:
    """100 experiments of 10 runs of 3,200; lognormal of sigma 1, whose largest values look like a power."""
    rng = np.random.default_rng(3)
    draw = {"normal": lambda shape: 10 + rng.standard_normal(shape), "exponential": rng.standard_exponential,
            "lognormal": lambda shape: rng.lognormal(0.0, 1.0, shape)}[law]
    assert sum(doubted(draw((10, 3_200))) != "" for _ in range(100)) <= (10 if law == "lognormal" else 2)


def test_values_without_a_variance_are_doubted() -> None:
    """Pareto of index 1.5, ten runs of 6,400: 50 experiments."""
    rng = np.random.default_rng(4)
    assert sum("tail" in doubted(rng.pareto(1.5, (10, 6_400))) or "stretch" in doubted(rng.pareto(1.2, (10, 6_400)))
               for _ in range(50)) >= 45


def test_runs_as_short_as_their_correlation_are_doubted() -> None:
    """AR(1) with weight 0.999 over 3,200 values: batches of 100 resemble their neighbours by some 0.9."""
    rng = np.random.default_rng(5)
    assert all("too short" in doubted(autoregressive(rng, 0.999, (10, 3_200))) for _ in range(10))
    assert not any(doubted(autoregressive(rng, 0.9, (10, 3_200))) for _ in range(10))


def test_a_percentile_needs_its_hundredth_in_many_stretches() -> None:
    """Above 100 in 8 of 32 batches of each run, or in 7."""
    tops = np.where(np.arange(32) < 8, 101.0, 99.0)[None].repeat(3, axis=0)
    assert percentile_doubt(tops, [100.0] * 3) == ""
    tops[:, 7] = 99.0
    assert "7.0 of 32" in percentile_doubt(tops, [100.0] * 3)


def test_batch_means_of_one_run_doubt_a_heavy_tail() -> None:
    """20 + a Pareto law of index 1.5, long enough by what it has seen of its variance: of 40 runs few are trusted."""
    rng = np.random.default_rng(6)
    found = [batch_means(20 + rng.pareto(1.5, 32_000)) for _ in range(40)]
    assert sum(each.valid for each in found) <= 10
    assert all(each.valid == (not each.doubt) for each in found)
    assert batch_means(20 + rng.standard_exponential(32_000)).valid
