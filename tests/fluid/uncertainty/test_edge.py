"""The edge over a set of rates or coefficients, its price, and how often it is on the safe side."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from fluid import IterationTime, PromptType, Replica, Workload, stability_region
from fluid.region import max_rate_scale_interval
from fluid.uncertainty import Bootstrap, Box, ChiSquareBall, Ellipsoid, coefficient_edge, robust_edge

MIX = Workload([PromptType(512, 20, 4.0), PromptType(2000, 300, 1.0), PromptType(100, 900, 0.5)])
REPLICA = Replica(137_000, IterationTime(0.0106, 4.013e-7, 2e-5), max_num_seqs=128)
REGION = stability_region(MIX, REPLICA)


def test_over_a_box_the_edge_is_that_of_its_upper_corner() -> None:
    """Half-spaces are nonnegative, so 10% more of everything is the worst, and costs 1 - 1/1.1 of the factor."""
    found = robust_edge(REGION, MIX.rates, Box.around(MIX.rates, 0.1))
    assert found.scale == pytest.approx(REGION.max_rate_scale(1.1 * MIX.rates), rel=1e-12)
    assert found.price == pytest.approx(1 - 1 / 1.1)


@pytest.mark.parametrize("possible", [
    Box.around(MIX.rates, 0.2), Ellipsoid(MIX.rates, (0.2 * MIX.rates) ** 2, 1.0),
    ChiSquareBall(MIX.rates, 0.1, rate=MIX.rate),
])
def test_the_robust_factor_is_proved_from_both_sides(possible: object) -> None:
    """At its point the rates reach the edge exactly; the dual bound says that no other rates of the set need more."""
    found = robust_edge(REGION, MIX.rates, possible)  # type: ignore[arg-type]
    assert REGION.edge_load(found.scale * found.point) == pytest.approx(1.0, rel=1e-9)
    assert found.scale * found.bound == pytest.approx(1.0, rel=1e-9)
    assert found.scale < found.nominal


def test_coefficients_in_a_box_scale_the_edge_by_their_share() -> None:
    """The load is homogeneous in the coefficients: 20% more of all of them cost a sixth, of several lines too."""
    times = IterationTime.largest(IterationTime(0.01, 4e-7), IterationTime(0.012, 1e-7, 6e-5))
    for replica in (REPLICA, Replica(137_000, times)):
        centre = replica.iteration_time.coefficients.ravel()
        found = coefficient_edge(MIX, replica, Box.around(centre, 0.2))
        assert found.nominal == pytest.approx(stability_region(MIX, replica).max_rate_scale(MIX.rates))
        assert found.scale == pytest.approx(found.nominal / 1.2)


def test_a_covariance_gives_the_lower_end_of_the_interval_of_the_region() -> None:
    """The ellipsoid of radius 1.96 is formula (2.7), where one limit holds everything."""
    covariance = np.diag([1e-7, 1e-16, 1e-12, 0.0])
    found = coefficient_edge(MIX, REPLICA, Ellipsoid(REPLICA.iteration_time.coefficients[0], covariance, 1.96))
    assert found.scale == pytest.approx(max_rate_scale_interval(MIX, REPLICA, covariance)[0], rel=1e-9)


def covered(edges: list[float], truth: float) -> float:
    """The upper end, at 4 standard deviations, of the chance that a robust edge is not above the true one."""
    safe = sum(edge <= truth * (1 + 1e-12) for edge in edges)
    return binomtest(safe, len(edges)).proportion_ci(0.99993, method="wilson").high


def test_ellipsoids_of_counts_cover_the_true_edge_as_often_as_they_say() -> None:
    """Of Poisson counts of 400 s each the set at 95% has the true edge on its safe side in 95% of 600 tries."""
    generator, truth = np.random.default_rng(0), REGION.max_rate_scale(MIX.rates)
    counts = generator.poisson(400 * MIX.rates, size=(600, 3))
    edges = [robust_edge(REGION, MIX.rates, Ellipsoid.of_counts(each, 400.0)).scale for each in counts]
    assert covered(edges, truth) >= 0.95
    assert np.mean(np.array(edges) <= truth) <= 0.985  # and is not far wider than it says


def test_balls_of_counts_cover_the_true_edge_as_often_as_they_say() -> None:
    """Of 1,000 requests drawn from the mix the ball at 95% has the true edge on its safe side in 95% of 600 tries."""
    generator, truth = np.random.default_rng(1), REGION.max_rate_scale(MIX.rates)
    counts = generator.multinomial(1000, MIX.rates / MIX.rate, size=600)
    edges = [robust_edge(REGION, MIX.rates, ChiSquareBall.of_counts(each, MIX.rate)).scale for each in counts]
    assert covered(edges, truth) >= 0.95
    assert np.mean(np.array(edges) <= truth) <= 0.985


def test_the_bootstrap_covers_the_true_edge_about_as_often_as_it_says() -> None:
    """The same for the bootstrap, over 200 traces of 600 requests, with 500 draws each."""
    generator, truth = np.random.default_rng(2), REGION.max_rate_scale(MIX.rates)
    types = generator.choice(3, p=MIX.rates / MIX.rate, size=(200, 600))
    edges = [robust_edge(REGION, MIX.rates, Bootstrap(each, MIX.rate, draws=500, block=1)).scale for each in types]
    assert covered(edges, truth) >= 0.95


def test_a_bootstrap_with_times_draws_the_rate_too() -> None:
    """Of a trace with bursts the rate is less certain than of one that comes evenly."""
    types, even = np.zeros(2000, dtype=np.int64), np.arange(2000) * 0.5
    gaps = np.random.default_rng(3).exponential(0.5, 200).repeat(10) * np.tile([10.0, *[0.0] * 9], 200)
    bursts = np.cumsum(gaps) - gaps[0]
    steady, bursty = (Bootstrap(types, times=each, block=20).worst([1.0]).value for each in (even, bursts))
    assert steady == pytest.approx(2.0, rel=1e-3)
    assert bursty > 1.05 * 2000 / bursts[-1]
