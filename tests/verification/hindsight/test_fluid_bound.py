"""The bound in continuous time: below every rule, right for known schedules, near where requests are small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Instance, examples, instances

from fluid import IterationTime, PromptType, Replica, Workload
from fluid.errors import InputError
from verification import Arrivals, Greedy, Sarathi, VllmV1, simulate
from verification.hindsight.fluid_bound import least_mean_latency, mean_flow_time
from verification.statistics.intervals import t_interval
from verification.traffic.arrivals import poisson_arrivals

RULES = (Greedy(watermark=0.0), VllmV1(max_num_batched_tokens=64), Sarathi(chunk=64))


@examples(20)
@given(instances(load=(0.1, 0.9)), st.integers(0, 2**32), st.integers(1, 40))
def test_no_rule_is_below_the_bound(instance: Instance, seed: int, count: int) -> None:
    """Random systems and arrivals, in a crowd or spread out: the bound, to rounding, is at most every mean latency."""
    workload, replica = instance
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0.0, rng.choice([0.001, 1.0]) * count / workload.rate, count))
    arrivals = Arrivals(times, rng.integers(0, len(workload), count))
    for rule in RULES:
        run = simulate(rule, workload, replica, arrivals=arrivals)
        if run.completed == count:
            served = replica if rule.name == "greedy" else rule_replica(rule, replica)
            assert least_mean_latency(arrivals, workload, served) <= run.latency.mean() * (1 + 1e-9)


def rule_replica(rule: object, replica: Replica) -> Replica:
    """The replica whose stages a rule goes by."""
    stages_of = getattr(rule, "on_replica", None)
    return replica if stages_of is None else stages_of(replica)


def test_shortest_remaining_work_is_a_known_queue() -> None:
    """Equal works: first come, first served, the M/D/1 mean d + rho d/(2 (1 - rho)); four standard errors."""
    found = []
    for seed in range(30):
        times = poisson_arrivals(Workload([PromptType(1, 1, 0.7)]), 4000.0, np.random.default_rng(seed)).times
        found.append(mean_flow_time(times, np.ones(len(times))))
    interval = t_interval(found)
    assert abs(interval.mean - (1 + 0.7 / 0.6)) < 2 * (interval.high - interval.low) + 0.01


def test_orders_by_hand() -> None:
    """All at once: shortest first, (1 + 3 + 6)/3; a long one at work is left for a short one that comes."""
    assert mean_flow_time(np.zeros(3), np.array([3.0, 1.0, 2.0])) == pytest.approx(10 / 3)
    assert mean_flow_time(np.array([0.0, 2.0, 9.0]), np.array([5.0, 1.0, 1.0])) == pytest.approx((6 + 1 + 1) / 3)


def test_a_crowd_of_small_requests_is_served_nearly_so_fast() -> None:
    """500 requests that the cache holds 50 of: greedy admission of equal requests is within a tenth of the bound."""
    mix = Workload([PromptType(1000, 10, 1.0)])
    replica = Replica(50_500, IterationTime(0.01, 1e-7))
    arrivals = Arrivals(np.zeros(500), [0] * 500)
    mean = simulate(Greedy(watermark=0.0), mix, replica, arrivals=arrivals).latency.mean()
    bound = least_mean_latency(arrivals, mix, replica)
    assert bound <= mean <= 1.15 * bound


@pytest.mark.parametrize(("arrivals", "what"), [
    (Arrivals([], []), "at least one"), (Arrivals([0.0], [1]), "fit the KV cache"), (Arrivals([0.0], [2]), "indices"),
])
def test_requests_that_cannot_be_served_are_refused(arrivals: Arrivals, what: str) -> None:
    """None at all, one that is too large, one of no type."""
    mix = Workload([PromptType(10, 5, 1.0), PromptType(100, 50, 1.0)])
    with pytest.raises(InputError, match=what):
        least_mean_latency(arrivals, mix, Replica(100, IterationTime(0.1, 0.0)))
