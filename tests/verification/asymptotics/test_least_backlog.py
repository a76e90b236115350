"""What no rule can do better than: on every path, in the mean exactly, and the orders that follow."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson
from strategies import Instance, instances, sampled

from fluid import IterationTime, PromptType, Replica, Workload, solve, stability_region
from fluid.errors import InputError
from thresholds import PacedPolicy, WaitPolicy, balanced_rates
from verification import MCSF, AMin, Greedy, VllmV0, replicate, simulate, t_interval
from verification.asymptotics import backlog, least_backlog
from verification.policies import Policy

SECOND = Replica(3, IterationTime(1.0, 0.0))  # C = w = 3: at most a request a second, in iterations of a second
ONE = Workload([PromptType(1, 1, 1.0)])


def excess(mean: float, level: float) -> float:
    """E(N - level)^+ of a Poisson count."""
    k = math.floor(level)
    return float(mean * poisson.sf(k - 1, mean) - level * poisson.sf(k, mean))


@pytest.mark.parametrize("load", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("horizon", [1.0, 30.0, 1000.0, 100_000.0])
def test_the_mean_excess_of_one_type_is_that_of_a_poisson_count(load: float, horizon: float) -> None:
    """h = 1 s: A - T with A Poisson(load T), to 2e-4 standard deviations."""
    found = least_backlog(ONE.scaled(load), SECOND, horizon)
    assert found == pytest.approx(excess(load * horizon, horizon), abs=2e-4 * math.sqrt(load * horizon))


def test_the_mean_excess_of_a_mix_is_that_of_drawn_counts() -> None:
    """Three types of 3, 17 and 300 tokens: 200,000 draws, within four standard errors."""
    mix = Workload([PromptType(1, 1, 40.0), PromptType(3, 4, 4.0), PromptType(3, 20, 0.3)])
    replica = Replica(400, IterationTime(0.01, 1e-4))
    region = stability_region(mix, replica)
    mix = mix.scaled(region.max_rate_scale(mix.rates))
    counts = np.random.default_rng(1).poisson(mix.rates * 7.0, (200_000, 3))
    drawn = np.maximum(counts @ region.half_spaces[0] - 7.0, 0.0)
    assert abs(least_backlog(mix, replica, 7.0) - drawn.mean()) < 4 * drawn.std() / math.sqrt(len(drawn))


def test_on_the_edge_the_backlog_of_any_rule_grows_with_the_root_and_beyond_it_with_time() -> None:
    """sqrt(T sum lambda h^2/(2 pi)) at e = 1; (e - 1) T at e = 1.1; nothing far below the edge."""
    for horizon in (1e4, 1e6):
        assert least_backlog(ONE, SECOND, horizon) == pytest.approx(math.sqrt(horizon / (2 * math.pi)), rel=2e-3)
        assert least_backlog(ONE.scaled(1.1), SECOND, horizon) == pytest.approx(0.1 * horizon, rel=1e-3)
        assert least_backlog(ONE.scaled(0.9), SECOND, horizon) < 2e-4 * math.sqrt(horizon)


@sampled
@given(instances(load=(0.5, 2.0), most_types=3), st.integers(0, 2**32),
       st.sampled_from([Greedy(), Greedy(eviction="restart"), VllmV0(), MCSF(), AMin(bound=1), "wait", "paced"]))
def test_no_rule_is_better_on_any_path(instance: Instance, seed: int, rule: Policy | str) -> None:
    """B_T >= max_i sum_j h_ij A_j - T, for rules that evict, look ahead, pause and wait."""
    workload, replica = instance
    replica = replace(replica, kv_capacity=3 * int(solve(*instance).profile.peak.max()))
    one = (1,) * len(workload)
    policy = (WaitPolicy(one) if rule == "wait" else PacedPolicy(one, one)) if isinstance(rule, str) else rule
    horizon = 60.0 / workload.rate
    run = simulate(policy, workload, replica, horizon=horizon, seed=seed)
    counts = np.bincount(run.arrivals.types, minlength=len(workload))
    offered = float(np.max(stability_region(workload, replica).half_spaces @ counts))
    assert backlog(run, replica) >= (offered - horizon) - 1e-6 * max(offered, horizon)


def test_wait_on_the_boundary_leaves_twice_the_least() -> None:
    """512 + 20 tokens, n = 2, C = M*, from empty: a queue reflected at 0 is twice the positive part of a walk. What is
    in service at the end, at most 42 prompts, comes on top. 300 runs of 20,000 iterations, four standard errors.
    """
    chat = Replica(137_000, IterationTime(0.0106, 4.013e-7))
    policy = WaitPolicy((2,))
    there = balanced_rates(policy, Workload([PromptType(512, 20, 1.0)]), chat)
    full = replace(chat, kv_capacity=int(solve(there, chat).profile.whole_held(np.array([2.0]))))
    horizon = 20_000 * 2 / there.rate
    runs = replicate(policy, there, full, horizon=horizon, replications=300, seed=3, record=False)
    found = t_interval([backlog(run, full) for run in runs])
    least, served = least_backlog(there, full, horizon), 1 / there.rate
    error = 2 * (found.high - found.mean)
    assert 2 * least - error < found.mean < 2 * least + 42 * served + error


def test_a_replica_of_another_size_is_refused() -> None:
    """The backlog is told at the pace of the replica that ran."""
    run = simulate(Greedy(), ONE, SECOND, horizon=3.0, seed=1)
    with pytest.raises(InputError, match="kv_capacity"):
        backlog(run, replace(SECOND, kv_capacity=4))
    with pytest.raises(InputError, match="horizon"):
        least_backlog(ONE, SECOND, 0.0)
