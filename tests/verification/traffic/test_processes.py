"""Traffic: Poisson streams, streams on a schedule, traces replayed; counts by hand and by their distribution."""

import doctest
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import sampled

import verification.traffic.processes
from fluid import InputError, IterationTime, PromptType, Replica, Schedule, Workload
from fluid.traces.trace import Trace, read_trace
from thresholds import PacedPolicy
from verification import Arrivals, Greedy, Replay, Scheduled, poisson_arrivals, simulate, verify
from verification.traffic.arrivals import stream

TWO_TYPES = Workload([PromptType(10, 10, 30.0), PromptType(20, 5, 10.0)])
REPLICA = Replica(137_000, IterationTime(0.0106, 4.013e-7))
ROWS = [(100.0, 374, 44), (100.5, 396, 109), (102.0, 374, 44), (104.0, 91, 16)]


def trace_of(folder: Path, rows: list[tuple[float, int, int]]) -> Trace:
    """A trace of (seconds, prompt tokens, output tokens)."""
    path = folder / "trace.csv"
    lines = [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(["arrived_at,num_prefill_tokens,num_decode_tokens", *lines]) + "\n", encoding="utf-8")
    return read_trace(path)


def test_the_examples_in_the_docstrings_run():
    assert doctest.testmod(verification.traffic.processes).failed == 0


def test_a_window_sees_arrivals_at_the_rate_times_its_factor():
    """Windows of 50 s at factors 2 and 0.5 of 40 requests/s expect 4,000 and 1,000 requests: over 50 replications the
    means lie within four standard errors, sqrt(mean/50)."""
    traffic = Scheduled(Schedule([50.0, 50.0], [2.0, 0.5]))
    first, second = [], []
    for r in range(50):
        times = traffic.draw(TWO_TYPES, 100.0, 7, r).times
        first.append(np.count_nonzero(times < 50))
        second.append(np.count_nonzero(times >= 50))
    assert abs(np.mean(first) - 4000) < 4 * math.sqrt(4000 / 50)
    assert abs(np.mean(second) - 1000) < 4 * math.sqrt(1000 / 50)


def test_a_schedule_that_never_changes_is_poisson_traffic():
    """With every factor 1, F(t) = t: the same stream gives the same arrivals, up to rounding of the time change."""
    steady = Scheduled(Schedule([7.0, 13.0], [1.0, 1.0])).draw(TWO_TYPES, 60.0, 3, 2)
    poisson = poisson_arrivals(TWO_TYPES, 60.0, stream(3, 2))
    assert steady.times == pytest.approx(poisson.times, rel=1e-12)
    assert np.array_equal(steady.types, poisson.types)


@sampled
@given(st.floats(0.5, 500.0), st.integers(0, 5))
def test_scheduled_arrivals_are_sorted_and_inside_the_horizon(horizon, replication):
    times = Scheduled(Schedule([3.0, 5.0], [0.1, 4.0])).draw(TWO_TYPES, horizon, 0, replication).times
    assert np.all(np.diff(times) >= 0)
    assert np.all((times >= 0) & (times < horizon))


def test_a_replay_keeps_the_moments_and_lengths_of_the_trace(tmp_path):
    """At the trace's own rate, 4 requests in 4 s, replication 0 over 4 s is the trace; its last request, which falls on
    the horizon, comes the last moment before it."""
    trace = trace_of(tmp_path, ROWS)
    workload = trace.workload()
    arrivals = Replay(trace).draw(workload, 4.0, 0, 0)
    assert arrivals.times.tolist() == [0.0, 0.5, 2.0, math.nextafter(4.0, 0.0)]
    pairs = list(zip(workload.prompt_tokens[arrivals.types], workload.output_tokens[arrivals.types], strict=True))
    assert pairs == [(374, 44), (396, 109), (374, 44), (91, 16)]


def test_a_replay_at_another_rate_is_stretched_and_repeats(tmp_path):
    """At half its rate the trace lasts 8 s: requests at 0, 1, 4, 8 and, in the next lap, 8, 9, 12."""
    trace = trace_of(tmp_path, ROWS)
    arrivals = Replay(trace).draw(trace.workload(0.5), 13.0, 0, 0)
    assert arrivals.times.tolist() == [0.0, 1.0, 4.0, 8.0, 8.0, 9.0, 12.0]


@sampled
@given(st.integers(1, 20), st.floats(0.5, 50.0), st.floats(0.05, 20.0))
def test_other_replications_start_at_a_random_moment(tmp_path_factory, replication, horizon, rate):
    """Over any stretch of time, a repeated trace holds its rate's share of requests to within one lap."""
    trace = trace_of(tmp_path_factory.mktemp("trace"), ROWS)
    arrivals = Replay(trace).draw(trace.workload(rate), horizon, 5, replication)
    assert np.all(np.diff(arrivals.times) >= 0)
    assert abs(len(arrivals) - rate * horizon) <= len(ROWS)


def test_a_replay_over_its_duration_is_the_trace_given_explicitly(tmp_path):
    """Every request of the trace, simulated from explicit arrivals, has the latency it has in a long replay."""
    trace = trace_of(tmp_path, ROWS)
    workload = trace.workload()
    explicit = simulate(Greedy(), workload, REPLICA, arrivals=Arrivals(trace.times, trace.types))
    replayed = simulate(Greedy(), workload, REPLICA, horizon=100.0, traffic=Replay(trace))
    assert replayed.latency[:3].tolist() == explicit.latency[:3].tolist()


def test_a_trace_without_time_cannot_be_replayed(tmp_path):
    at_once = trace_of(tmp_path, [(5.0, 10, 10), (5.0, 20, 20)])
    with pytest.raises(InputError, match="trace must be one with arrival times that differ"):
        Replay(at_once)


def test_steady_state_predictions_are_not_held_against_other_traffic(tmp_path):
    """Only what holds on every path remains: the bound of the windows, rejections, the capacity."""
    found = verify(PacedPolicy((2,), (1,)), Workload([PromptType(100, 20, 20.0)]), REPLICA, horizon=60.0,
                   replications=2, traffic=Scheduled(Schedule([20.0, 40.0], [2.0, 0.5])))
    assert [check.name for check in found.checks] == ["kv_peak at most", "requests rejected at most",
                                                      "kv_capacity at least"]
    assert found.verified
