"""Whether lengths depend on each other in the order of arrival: the level of the test, and what it sees."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from fluid.traces.dependence import LEVEL, dependence
from fluid.traces.trace import Trace


def blocks(count: int = 24_000, every: int = 3_000) -> Trace:
    """The trace of the issue: every fourth block of 3,000 requests has outputs ten times as long."""
    rng = np.random.default_rng(0)
    long = np.arange(count) // every % 4 == 3
    output = np.where(long, rng.integers(400, 600, count), rng.integers(20, 60, count))
    return Trace(rng.integers(20, 100, count), output)


@pytest.mark.parametrize("law", ["lognormal", "two lengths"])
def test_independent_lengths_are_refused_no_more_often_than_the_level(law: str) -> None:
    """100 traces of 100 draws: more refusals than 1% allows but for one chance in a thousand would fail."""
    rng = np.random.default_rng(1)
    lognormal, two = rng.lognormal(0, 2, (100, 100)), rng.choice([1.0, 1000.0], (100, 100), p=[0.96, 0.04])
    draws = lognormal if law == "lognormal" else two
    refused = sum(dependence(each, seed).found for seed, each in enumerate(draws))
    assert refused <= binom.isf(1e-3, 100, LEVEL)


def test_p_values_of_independent_lengths_are_uniform() -> None:
    """Permutation tests are exact: of 100 p-values about half are at most 1/2, within 4 standard errors."""
    rng = np.random.default_rng(2)
    p = np.array([dependence(rng.exponential(size=60), seed).p_value for seed in range(100)])
    assert abs(np.mean(p <= 0.5) - 0.5) < 4 * 0.5 / np.sqrt(100)


def test_long_blocks_are_seen_and_named() -> None:
    """Blocks of 3,000 long requests: refused with the least p there is, at a third of a block or two."""
    found = dependence(blocks().kv_work())
    assert found.found
    assert found.p_value == 1 / 200
    assert found.block in (1024, 2048)
    assert found.excess > 100
    assert f"{found.block:,} requests in a row" in found.reason


def test_neighbours_that_are_alike_are_seen() -> None:
    """An autoregression of coefficient 0.3, forgotten after some ten requests; its own shuffle is not refused."""
    rng = np.random.default_rng(3)
    steps, noise = np.zeros(4000), rng.normal(size=4000)
    for i in range(1, 4000):
        steps[i] = 0.3 * steps[i - 1] + noise[i]
    assert dependence(np.exp(steps)).found
    assert not dependence(rng.permutation(np.exp(steps))).found


def test_an_order_too_regular_for_chance_is_seen() -> None:
    """Short and long in turn: sums over two requests do not vary at all."""
    found = dependence(np.tile([1.0, 9.0], 200))
    assert found.found
    assert found.excess < 1e-9


def test_equal_or_few_lengths_tell_nothing() -> None:
    """One length throughout, or fifteen requests: p = 1."""
    assert dependence(np.full(1000, 7.0)).p_value == 1.0
    assert dependence(np.arange(15)).p_value == 1.0


def test_a_long_trace_is_tested_by_sums_over_a_few_requests() -> None:
    """Of 250,000 requests three in a row count as one: the block named is a multiple of three."""
    found = dependence(blocks(250_000).kv_work())
    assert found.found
    assert found.block % 3 == 0
