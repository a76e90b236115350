"""The longest mean iteration: against a linear program, with one line, on random batches, and in simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from strategies import Instance, instances, iteration_times, lines, sampled

from fluid import IterationTime, PromptType, Replica, Workload, solve
from thresholds import paced, reachable
from thresholds.mean_time import Batch, longest_mean
from verification import simulate

shares = st.tuples(*(st.floats(0.0, 1.0) for _ in range(3)))
sizes = st.tuples(*(st.floats(0.0, 1e5) for _ in range(3)))


@sampled
@given(iteration_times(), shares, sizes)
def test_it_is_the_optimum_over_distributions_on_the_corners(time: IterationTime, share: tuple[float, ...],
                                                             most: tuple[float, ...]) -> None:
    mean = np.array(share) * np.array(most)
    corners = np.array(list(product((0.0, 1.0), repeat=3)))
    values = np.array([time(*(corner * np.array(most))) for corner in corners])
    found = linprog(-values, A_eq=np.vstack([np.ones(8), corners.T]), b_eq=np.append(1.0, share), method="highs")
    assert longest_mean(time, Batch(*mean), Batch(*most)) == pytest.approx(-found.fun, rel=1e-6)


@sampled
@given(lines(), shares, sizes)
def test_with_one_line_it_is_the_line(line: IterationTime, share: tuple[float, ...], most: tuple[float, ...]) -> None:
    mean = Batch(*(np.array(share) * np.array(most)).tolist())
    assert longest_mean(line, mean, Batch(*most)) == pytest.approx(line(*mean), rel=1e-12)


@sampled
@given(iteration_times(), sizes, st.integers(0, 99))
def test_random_batches_take_no_longer_on_average(time: IterationTime, most: tuple[float, ...], seed: int) -> None:
    """Nor less than the largest of the means."""
    drawn = np.random.default_rng(seed).uniform(0, 1, (20, 3)) ** 3 * np.array(most)
    mean = Batch(*drawn.mean(axis=0).tolist())
    taken = np.mean([time(*batch) for batch in drawn])
    assert time(*mean) * (1 - 1e-9) <= taken <= longest_mean(time, mean, Batch(*most)) * (1 + 1e-9)


@sampled
@given(instances(most_types=3))
def test_feasible_windows_carry_the_load_even_if_batches_differ_as_much_as_they_can(instance: Instance) -> None:
    mix, replica = instance
    design = paced(mix, replica)
    if design.exists and len(design.entries) == len(mix):
        assert design.longest_iteration_time >= design.iteration_time * (1 - 1e-12)
        if design.feasible:
            assert np.all(mix.rates * design.longest_iteration_time <= design.rates * (1 + 1e-9))


@pytest.mark.parametrize("share", [0.98])
def test_windows_keep_up_on_two_lines_just_below_what_is_proved(share: float) -> None:
    """8,000 + 5 and 1 + 200 tokens at 98% of what is proved: in twice the time the backlog does not double."""
    time = IterationTime.largest(IterationTime(0.01, 4e-7), IterationTime(0.01, 0.0, 1e-4))
    mix, replica = Workload([PromptType(8000, 5, 0.9), PromptType(1, 200, 100.0)]), Replica(500_000, time)
    mix = mix.scaled(share * reachable(solve(mix, replica)).scale)
    design = paced(mix, replica)
    assert design.feasible
    unfinished = []
    for horizon in (1000.0, 2000.0):
        run = simulate(design, mix, replica, horizon=horizon, seed=3)
        assert run.kv_peak <= design.kv_required
        unfinished.append(len(run.latency) - run.completed)
    assert unfinished[1] < 1.5 * unfinished[0]
