"""Rates that change over time: the time change and its inverse, equilibria per window, the backlog by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import sampled

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve
from fluid.varying_rates import Schedule, carries, solve_windows

schedules = st.lists(st.tuples(st.floats(0.1, 1e4), st.floats(0.01, 100.0)), min_size=1, max_size=6).map(
    lambda windows: Schedule(*zip(*windows, strict=True)))


@sampled
@given(schedules, st.lists(st.floats(0.0, 1e6), min_size=1, max_size=20))
def test_moment_reads_elapsed_backwards(schedule, times):
    """F is increasing and piecewise linear, so F^-1(F(t)) = t up to rounding."""
    moments = schedule.moment(schedule.elapsed(times))
    assert moments == pytest.approx(np.array(times), rel=1e-9, abs=1e-6 * schedule.period)


@sampled
@given(schedules, st.integers(1, 5))
def test_whole_periods_pass_at_the_mean_factor(schedule, periods):
    elapsed = schedule.elapsed(periods * schedule.period * (1 + 1e-12))
    assert float(elapsed) == pytest.approx(periods * schedule.period * schedule.mean_factor, rel=1e-9)


def test_inside_a_window_time_passes_at_its_factor():
    """Windows of 10 s at 2 and 30 s at 0.5 pass 20 and 15: F is 10 at 5 s, 20 at 10, 25 at 20, 35 at 40, 45 at 45."""
    schedule = Schedule([10, 30], [2.0, 0.5])
    assert schedule.elapsed([5, 10, 20, 40, 45]).tolist() == [10, 20, 25, 35, 45]


def test_each_window_has_the_equilibrium_of_its_own_rates_and_an_overloaded_one_leaves_a_backlog():
    """d0 = 0.5, d1 = 0, C = 9 and types (1,1), (1,2) at rate 1: w = 3 + 6 = 9 tokens a second, so M* = 4.5 at factor 1
    and the edge is at factor 2. At factor 3 a second of traffic takes 1.5 s: 100 s leave 50 s to serve; at factor 1
    half the time is free: 60 s later 20 s are left, after 100 s nothing."""
    workload, replica = Workload([PromptType(1, 1, 1.0), PromptType(1, 2, 1.0)]), Replica(9, IterationTime(0.5, 0.0))
    windows = solve_windows(workload, replica, Schedule([100, 60, 100], [3.0, 1.0, 1.0]))
    assert [window.backlog for window in windows] == pytest.approx([50.0, 20.0, 0.0])
    assert [window.equilibrium.stable for window in windows] == [False, True, True]
    assert [(window.start, window.end) for window in windows] == [(0, 100), (100, 160), (160, 260)]
    assert windows[1].equilibrium.kv_required == solve(workload, replica).kv_required


@pytest.mark.parametrize(("factor", "fits"), [(2.9, True), (3.1, False)])
def test_what_piles_up_is_served_if_the_mean_rates_are_inside_the_region(factor, fits):
    """The edge of the instance above is at factor 2: equal windows at `factor` and 1 have the mean (f + 1)/2."""
    workload, replica = Workload([PromptType(1, 1, 1.0), PromptType(1, 2, 1.0)]), Replica(9, IterationTime(0.5, 0.0))
    assert carries(workload, replica, Schedule([50, 50], [factor, 1.0])) is fits


@pytest.mark.parametrize(("durations", "factors", "message"), [
    ([], [], r"factors must be 1 numbers, one for each window \(got 0\) in schedule"),
    ([1.0], [1.0, 2.0], r"factors must be 1 numbers, one for each window \(got 2\) in schedule"),
    ([1.0, 0.0], [1.0, 1.0], r"durations\[1\] must be a positive finite number of seconds \(got 0.0\) in schedule"),
    ([1.0], [-1.0], r"factors\[0\] must be a positive finite number \(got -1.0\) in schedule"),
])
def test_a_schedule_that_cannot_be_is_refused(durations, factors, message):
    with pytest.raises(InputError, match=message):
        Schedule(durations, factors)
