"""What waits: by hand, against a path in small steps, and behind an autoscaler without a forecast."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import sampled

from fluid import InputError, IterationTime, PromptType, Replica, Workload
from fluid.planning import Kind, most_demand, plan_fleet
from fluid.scheduling import backlog, react
from fluid.scheduling.backlog import reflected
from fluid.varying_rates import Schedule

MIX = Workload([PromptType(512, 20, 500.0)])
KIND = Kind("a100", Replica(137_000, IterationTime(0.0106, 4.013e-7)), 2.0, start_up=360.0)
ONE = most_demand(MIX, [KIND], [1]).factor  # of the demand, that one replica carries


def test_two_replicas_for_a_demand_of_more_than_two() -> None:
    """600 s at 1 against 2 ONE leave 600 (1 - 2 ONE) of demand; at 0.3 it is gone (2 ONE - 0.3) a second sooner."""
    found = backlog(MIX, [KIND], Schedule([600, 600], [1.0, 0.3]), [0, 1200], [[2]])
    left = 600 * (1 - 2 * ONE)
    assert found.waiting.max() == pytest.approx(left)
    assert (found.largest, found.worst) == (pytest.approx(left / (2 * ONE)), 600)
    assert found.drained == pytest.approx(600 + left / (2 * ONE - 0.3))
    assert found.growth == 0


def test_what_is_never_served_grows_with_every_period() -> None:
    """The mean factor 0.65 against ONE: the difference, 1,200 s long."""
    found = backlog(MIX, [KIND], Schedule([600, 600], [1.0, 0.3]), [0, 1200], [[1]])
    assert found.growth == pytest.approx(1200 * (0.65 - ONE))
    assert (found.largest, found.drained) == (math.inf, math.inf)


@sampled
@given(st.lists(st.tuples(st.floats(1.0, 100.0), st.floats(0.05, 2.0), st.floats(0.1, 2.0)), min_size=1, max_size=5))
def test_the_path_is_that_of_small_steps(pieces: list[tuple[float, float, float]]) -> None:
    """B over two periods in 20,000 steps of dt is off by dt max|f - theta| at most, and so are waits in seconds."""
    lengths, factors, capacity = map(np.array, zip(*pieces, strict=True))
    if lengths @ factors > 0.98 * (lengths @ capacity):
        factors = factors * 0.98 * (lengths @ capacity) / (lengths @ factors)
    edges = np.concatenate([[0.0], np.cumsum(lengths)])
    found = reflected(edges, factors, capacity)
    dt = edges[-1] / 20_000
    middles = (np.arange(20_000) + 0.5) * dt
    piece = np.searchsorted(edges, middles) - 1
    net, served = (factors - capacity)[piece] * dt, np.cumsum(capacity[piece] * dt)
    walk = np.cumsum(np.concatenate([net, net]))
    waiting = (walk - np.minimum(np.minimum.accumulate(walk), 0.0))[20_000:]
    off = 2 * dt * np.abs(factors - capacity).max() + 1e-9
    ends = middles + dt / 2
    assert np.abs(np.interp(ends, found.times, found.waiting) - waiting).max() <= off
    again = np.concatenate([served + turn * served[-1] for turn in range(int(waiting.max() / served[-1]) + 3)])
    until = (np.searchsorted(again, served + waiting) + 1) * dt - ends
    allowed = (off + 2 * dt * capacity.max()) / capacity.min() + 2 * dt
    assert abs(until[waiting > off].max(initial=0.0) - found.largest) <= allowed
    assert found.waiting.min() >= 0


def test_an_autoscaler_without_a_forecast_is_late_by_the_start_up_time() -> None:
    """From 1 replica to 3 after 360 s: what comes at ONE 360 s is the first that waits for them, and longest."""
    day = Schedule([43_200, 43_200], [1.0, 0.3])
    peak = plan_fleet(MIX, [KIND])
    found = react(MIX, day, peak)
    assert peak.counts is not None
    assert peak.counts.tolist() == [3]
    assert found.cost == pytest.approx(2.0 * 12 * (3 + 1))
    assert found.edges.tolist() == [0, 360, 43_200, 86_400]
    assert found.serving[:, 0].tolist() == [1, 3, 1]
    assert found.backlog.largest == pytest.approx(360 * (1 - ONE))
    assert found.backlog.worst == pytest.approx(360 * ONE)
    assert found.backlog.drained == pytest.approx(360 + 360 * (1 - ONE) / (3 * ONE - 1))


def test_a_least_time_keeps_replicas_that_are_not_needed() -> None:
    """A peak of an hour with a least time of three: two replicas more for three hours; none waits without start-up."""
    day = Schedule([3600, 82_800], [1.0, 0.3])
    kind = Kind("a100", KIND.replica, 2.0, least_time=3 * 3600.0)
    found = react(MIX, day, plan_fleet(MIX, [kind]))
    assert found.cost == pytest.approx(2.0 * (24 + 2 * 3))
    assert found.backlog.largest == 0
    assert found.serving[:, 0].tolist() == [3, 1]


def test_an_autoscaler_keeps_what_is_there_already() -> None:
    """Two of three are there and stay: one is ordered for half a day, and two at ONE >= 0.3 leave nothing at night."""
    kind = replace(KIND, count=2)
    found = react(MIX, Schedule([43_200, 43_200], [1.0, 0.3]), plan_fleet(MIX, [kind]))
    assert found.serving[:, 0].tolist() == [2, 3, 2]
    assert found.cost == pytest.approx(2.0 * 12 * (3 + 2))
    assert found.backlog.largest == pytest.approx(360 * (1 - 2 * ONE))


@pytest.mark.parametrize(("edges", "counts"), [
    ([0, 600], [[1]]), ([0, 1200], [[1], [1]]), ([0, 700, 600, 1200], [[1]] * 3), ([0, 1200], [[-1]]),
    ([1, 1200], [[1]])])
def test_bad_pieces_are_refused(edges: list[float], counts: list[list[float]]) -> None:
    """Edges rise from 0 to the period, counts are not below 0."""
    with pytest.raises(InputError):
        backlog(MIX, [KIND], Schedule([600, 600], [1.0, 0.3]), edges, counts)
