"""The verdict on queues whose stability is known: how often it is wrong, and what the drift adds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from queues import DETERMINISTIC, EXPONENTIAL, single_server

from fluid import IterationTime, PromptType, Replica, Workload, stage_profile
from thresholds import WaitPolicy
from verification import Arrivals, judge, replicate, simulate, t_interval
from verification.experiments import measures
from verification.experiments.stability import backlog_of, variance_rate, verdict_of

SECONDS = Replica(10**6, IterationTime(1.0, 0.0))  # every iteration takes a second: WAIT with n = 1 is M/D/1
TRIALS, REPLICATIONS = 300, 10
SURE = {0.8: "stable", 0.9: "stable", 1.1: "unstable", 1.2: "unstable"}
NEAR = {0.95: "unstable", 0.99: "unstable", 1.01: "stable", 1.05: "stable"}  # the wrong answer


def answers_on_a_queue(load: float, service: str, seed: int) -> Counter[str]:
    """The verdicts of 300 trials of 10 replications from empty over T = 10,000 mean services."""
    generator, horizon = np.random.default_rng(seed), 10_000.0
    variance = load * (2 if service == EXPONENTIAL else 1)  # V = lambda E[S^2]
    found: Counter[str] = Counter()
    for _ in range(TRIALS // 10):
        size = int(load * horizon + 6 * (load * horizon) ** 0.5)
        times, waits, _ = single_server(generator, load, (10 * REPLICATIONS, size), service)
        waiting = np.count_nonzero((times < horizon) & (times + waits > horizon), axis=1)
        for backlog in waiting.reshape(10, REPLICATIONS):
            found[verdict_of(t_interval(backlog), variance, horizon).answer] += 1
    return found


@pytest.mark.slow
@pytest.mark.parametrize("load", SURE)
@pytest.mark.parametrize("service", [EXPONENTIAL, DETERMINISTIC])
def test_the_verdict_on_a_single_server_a_tenth_from_the_boundary_is_right_in_300_trials(
        service: str, load: float) -> None:
    """M/M/1 and M/D/1. None wrong in 300: the chance of a wrong verdict is below 1% (0.99^300 = 4.9%).

    At 0.9 M/M/1 has rho^2/(1 - rho) = 8.1 waiting, s = 8.1/134 = 0.06 < 0.2; at 1.1, 0.1 T = 1,000, s = 6.7.
    """
    assert answers_on_a_queue(load, service, seed=41) == {SURE[load]: TRIALS}


@pytest.mark.slow
@pytest.mark.parametrize("load", NEAR)
@pytest.mark.parametrize("service", [EXPONENTIAL, DETERMINISTIC])
def test_nearer_to_the_boundary_the_verdict_may_be_undecided_and_is_never_wrong(service: str, load: float) -> None:
    """At 1% and 5% from it, where 10,000 services are too few to tell: none wrong in 300, below 1% again."""
    assert answers_on_a_queue(load, service, seed=42)[NEAR[load]] == 0


@pytest.mark.slow
@pytest.mark.parametrize("load", SURE)
def test_the_verdict_on_a_bulk_queue_is_right_in_300_trials(load: float) -> None:
    """WAIT of one type with n = 4 and d1 = 0: four are served each second, E_4/D/1, stable below 4 a second."""
    workload = Workload([PromptType(1, 1, 4 * load)])
    runs = replicate(WaitPolicy((4,)), workload, SECONDS, horizon=2_500.0, replications=TRIALS * REPLICATIONS, seed=43,
                     record=False)
    found = Counter(judge(runs[i: i + REPLICATIONS], 4 * load).answer for i in range(0, len(runs), REPLICATIONS))
    assert found == {SURE[load]: TRIALS}


def test_the_variance_of_the_work_counts_long_requests_more() -> None:
    """Works 3 and 6 (1 + 1 tokens hold 1 + 2, 1 + 2 hold 1 + 2 + 3) at 3 and 1 requests/s: w = 3.75, and
    V = 3 (3/3.75)^2 + (6/3.75)^2.
    """
    workload = Workload([PromptType(1, 1, 3.0), PromptType(1, 2, 1.0)])
    found = variance_rate(stage_profile(workload, SECONDS), workload.rates)
    assert found == pytest.approx(3 * 0.8**2 + 1.6**2, rel=1e-12)


def test_at_the_boundary_a_mix_of_works_scores_like_requests_that_are_all_alike() -> None:
    """M/M/1 at load 1, V = 2 lambda: s -> sqrt(2/pi), 200 replications of 10,000 services, within 4 standard errors
    sqrt((1 - 2/pi)/200) and a discrete correction of 0.6/sqrt T for each of the two sources of noise.
    """
    times, waits, _ = single_server(np.random.default_rng(45), 1.0, (200, 10_600), EXPONENTIAL)
    waiting = np.count_nonzero((times < 10_000.0) & (times + waits > 10_000.0), axis=1)
    score = verdict_of(t_interval(waiting), 2.0, 10_000.0).score
    assert abs(score - np.sqrt(2 / np.pi)) < 4 * np.sqrt((1 - 2 / np.pi) / 200) + 1.2 / 100


def test_the_drift_is_the_slope_of_the_requests_in_the_system() -> None:
    """One request a second that nobody serves: t + 1 of them at second t, seen at 0, 1, .., 999."""
    run = simulate(WaitPolicy((2_000,)), Workload([PromptType(1, 1, 1.0)]), SECONDS,
                   arrivals=Arrivals(np.arange(1000.0), np.zeros(1000, dtype=int)))
    assert measures.drift(replace(run, end_time=1000.0)) == pytest.approx(1.0, rel=1e-12)
    assert backlog_of(replace(run, end_time=1000.0)).unserved == 1000


def test_the_drift_counts_the_second_half_only() -> None:
    """A thousand requests in the first half and none in the second: nothing changes there."""
    run = simulate(WaitPolicy((2_000,)), Workload([PromptType(1, 1, 1.0)]), SECONDS,
                   arrivals=Arrivals(np.linspace(0.0, 499.0, 1000), np.zeros(1000, dtype=int)))
    assert measures.drift(replace(run, end_time=1000.0)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("load", "growth"), [(0.8, 0.0), (1.2, 0.2)])
def test_the_drift_of_a_single_server_is_what_it_cannot_serve(load: float, growth: float) -> None:
    """M/D/1 over 4,000 s, 40 replications: lambda - 1 beyond the boundary, 0 below; within 4 standard errors."""
    runs = replicate(WaitPolicy((1,)), Workload([PromptType(1, 1, load)]), SECONDS, horizon=4_000.0, replications=40,
                     seed=44, record=False)
    found = judge(runs, load)
    error = np.std([measures.drift(run) for run in runs], ddof=1) / np.sqrt(40)
    assert abs(found.drift.mean - growth) < 4 * error
    assert found.drift.low < found.drift.mean < found.drift.high
    assert (found.drift.low > 0) == (load > 1)


def test_without_replications_there_is_no_interval_of_the_drift() -> None:
    """One run has a slope and no spread."""
    (run,) = replicate(WaitPolicy((1,)), Workload([PromptType(1, 1, 0.5)]), SECONDS, horizon=100.0, replications=1)
    found = judge([run], 0.5).drift
    assert np.isfinite(found.mean)
    assert np.isnan(found.low)
