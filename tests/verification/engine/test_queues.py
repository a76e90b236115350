"""Queues with exact answers, simulated by the engine and by Lindley's recursion: means within 4 standard errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from queues import DETERMINISTIC, EXPONENTIAL, mean_wait, single_server

from fluid import IterationTime, PromptType, Replica, Workload
from thresholds import WaitPolicy, bulk_queue_mean
from verification import Greedy, Verification, paired, replicate, verify
from verification.experiments import measures
from verification.experiments.targets.delays import delays

SECONDS = Replica(10**6, IterationTime(1.0, 0.0))  # every iteration takes a second


def within(values: np.ndarray, truth: float) -> bool:
    """Whether the mean of independent values is within 4 standard errors of the truth."""
    return bool(abs(values.mean() - truth) < 4 * values.std(ddof=1) / math.sqrt(len(values)))


@pytest.mark.parametrize("service", [EXPONENTIAL, DETERMINISTIC])
@pytest.mark.parametrize("load", [0.5, 0.8])
def test_the_recursion_has_the_wait_of_pollaczek_and_khinchine(service: str, load: float) -> None:
    """60 replications of 20,000 customers, the first tenth deleted."""
    _, waits, _ = single_server(np.random.default_rng(51), load, (60, 20_000), service)
    assert within(waits[:, 2_000:].mean(axis=1), mean_wait(load, service))


def served(load: float, batch: int) -> Verification:
    """WAIT of one type with two stages of a second: `batch` enter together; M/D/1 for 1, E_n/D/1 beyond."""
    return verify(WaitPolicy((batch,)), Workload([PromptType(1, 1, batch * load)]), SECONDS, horizon=6_000.0,
                  replications=20, seed=52, workers=2)


@pytest.mark.parametrize(("load", "batch"), [(0.5, 1), (0.8, 1), (0.8, 4)])
def test_the_engine_has_the_latency_of_the_bulk_queue(load: float, batch: int) -> None:
    """(n - 1)/(2 lambda) + E[Q]/lambda until the cohort starts, n/lambda until the next one starts, a second
    (mathematics, section 11.1); for n = 1 E[Q]/lambda is the wait of M/D/1.
    """
    found, rate = served(load, batch), batch * load
    queue = bulk_queue_mean(batch, rate)
    if batch == 1:
        assert queue / rate == pytest.approx(mean_wait(load, DETERMINISTIC), rel=1e-9)
    expected = (batch - 1) / (2 * rate) + queue / rate + batch / rate + 1
    assert within(found.values("latency"), expected)
    assert within(found.values("throughput"), rate)
    assert found.verified


@pytest.mark.parametrize("policy", [WaitPolicy((2, 1)), Greedy()])
def test_littles_law_holds_over_replications(policy: WaitPolicy | Greedy) -> None:
    """The mean number in the system less lambda times the mean latency: 0 within 4 standard errors of the difference.

    100 replications of 4,000 s, both measured after the first tenth; lambda is that of each run, so that what is left
    is the edges of the window.
    """
    workload = Workload([PromptType(50, 10, 1.0), PromptType(20, 4, 2.0)])
    runs = replicate(policy, workload, Replica(10**5, IterationTime(0.05, 1e-5)), horizon=4_000.0, replications=100,
                     seed=53, record=False)
    gaps = []
    for run in runs:
        window = measures.window_after(run, 0.1)
        came = np.count_nonzero((run.arrivals.times >= window.start) & (run.arrivals.times < window.last_arrival))
        rate = came / (window.last_arrival - window.start)
        gaps.append(measures.in_system(run)[100:].mean() - rate * delays(run, window).of("latency"))
    assert within(np.array(gaps), 0.0)


def test_the_difference_of_two_queues_is_known_more_closely_than_either() -> None:
    """M/D/1 at 0.8 against batches of two of the same arrivals, twice as fast: the exact difference of the means lies
    within 4 standard errors (a half-width over 20 replications is 2.093 of them) of the paired one.

    For one, W = 0.8/0.4 = 2 and 1/0.8 + 1 to the end; for two, 1/1.6 to gather, E[Q] of E_2/D/1, and 2/0.8 + 1.
    """
    workload = Workload([PromptType(1, 1, 0.8)])
    options = {"horizon": 6_000.0, "replications": 20, "seed": 54, "workers": 2}
    one, two = (verify(WaitPolicy((n,)), workload, SECONDS, **options) for n in (1, 2))
    expected = ((1 / 1.6 + bulk_queue_mean(2, 0.8) / 0.8 + 2 / 0.8) - (2.0 + 1 / 0.8))
    found = paired(one, two, "latency")
    assert abs(found.mean - expected) < 4 / 2.093 * (found.high - found.mean)
    assert found.significant == (abs(found.mean) > found.high - found.mean)
