"""Verification itself: right predictions agree, wrong ones are caught, and the answer is the same however it is run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fluid import Equilibrium, IterationTime, PromptType, Replica, Workload, solve
from fluid.errors import InputError
from thresholds import WaitPolicy, wait
from verification import Greedy, Verification, replicate, verify
from verification.experiments.checks import Study, inventory_of
from verification.experiments.summary import summarise

CHAT = Replica(137_000, IterationTime(0.0106, 4.013e-7))  # Llama-2-7B on an A100
ONE = Workload([PromptType(100, 10, 20.0)])
THREE = Workload([PromptType(100, 10, 16.0), PromptType(200, 20, 8.0), PromptType(50, 5, 12.0)])


def verified(policy: WaitPolicy | Greedy, mix: Workload, **options: Any) -> Verification:
    return verify(policy, mix, CHAT, **({"horizon": 200.0, "replications": 8, "seed": 1, "workers": 2} | options))


@pytest.mark.parametrize("mix", [ONE, THREE], ids=["one type", "three types"])
def test_wait_does_what_the_model_says(mix: Workload) -> None:
    """No eviction ever, KV below M^pi, stable, and every prediction inside its interval."""
    design = wait(mix, CHAT)
    found = verified(design, mix)
    assert found.verified
    assert found.agrees
    assert found.verdict.answer == "stable"
    assert (found.evictions.mean, found.overflow_runs, found.rejected) == (0.0, 0, 0)
    assert found.kv_peak <= design.kv_required


def test_greedy_at_moderate_load_does_what_the_model_says() -> None:
    """At 60% of the region's edge."""
    mix = THREE.scaled(0.6 * solve(THREE, CHAT).max_rate_scale)
    found = verified(Greedy(), mix)
    assert found.verified
    assert found.throughput.holds(solve(mix, CHAT).throughput)


def test_greedy_beyond_the_edge_is_unstable_and_misses_the_offered_throughput() -> None:
    """At 1.5 times the edge a third of the requests can never be served."""
    mix = ONE.scaled(1.5 * solve(ONE, CHAT).max_rate_scale)
    found = verified(Greedy(), mix, horizon=40.0)
    assert found.verdict.answer == "unstable"
    assert not found.agrees
    assert not found.verified
    assert found.throughput.high < solve(mix, CHAT).throughput


def numbers(found: Verification) -> list[Any]:
    """All that a verification measured."""
    return [found.checks, found.verdict, found.throughput, found.latency, found.latency_p99, found.ttft,
            found.iteration_time, found.busy_share, found.kv_peak, found.unfinished, found.warm_up]


@pytest.mark.parametrize("policy", [WaitPolicy((1, 2, 1)), Greedy(watermark=0.0)])
def test_the_number_of_workers_changes_no_bit(policy: WaitPolicy | Greedy) -> None:
    one, two = (verified(policy, THREE, horizon=60.0, workers=workers) for workers in (1, 2))
    assert numbers(one) == numbers(two)
    assert [vars(each) for each in one.summaries] == [vars(each) for each in two.summaries]
    for a, b in zip(one.runs, two.runs, strict=True):
        assert np.array_equal(a.finished, b.finished, equal_nan=True)
        assert np.array_equal(a.timeline.duration, b.timeline.duration)


def test_the_seed_decides_the_requests() -> None:
    """The same seed repeats every number, another one changes them."""
    one, again, other = (verified(WaitPolicy((1,)), ONE, horizon=60.0, seed=seed) for seed in (1, 1, 2))
    assert numbers(one) == numbers(again)
    assert one.latency.mean != other.latency.mean


def test_replications_differ_and_policies_at_one_seed_see_the_same_requests() -> None:
    """Common random numbers: replication r of a seed has the arrivals of that stream, whatever the policy."""
    one, two = (replicate(policy, ONE, CHAT, horizon=60.0, replications=8, seed=1)
                for policy in (WaitPolicy((1,)), Greedy()))
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a.arrivals.times, b.arrivals.times)
    assert len({run.arrivals.times[0] for run in one}) == 8


def test_progress_is_told_after_every_replication() -> None:
    told: list[tuple[int, int]] = []
    verified(Greedy(), ONE, horizon=10.0, replications=5, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_a_single_replication_is_checked_on_batches_and_gives_no_interval() -> None:
    """Checks have finite limits from windows inside the run; between replications there is nothing to compare."""
    found = verified(wait(ONE, CHAT), ONE, replications=1)
    assert math.isfinite(found.throughput.mean)
    assert math.isnan(found.throughput.low)
    assert math.isnan(found.latency.high)
    limits = [limit for check in found.checks for limit in (check.low, check.high) if limit is not None]
    assert np.isfinite(limits).all()
    assert found.agrees


def test_intervals_are_those_of_the_replications() -> None:
    """Each measured quantity lies inside its own interval, and the 99th percentile above the mean."""
    found = verified(wait(THREE, CHAT), THREE, horizon=60.0)
    for interval in (found.throughput, found.latency, found.latency_p99, found.ttft, found.iteration_time):
        assert interval.low < interval.mean < interval.high
    assert found.latency_p99.mean > found.latency.mean > found.ttft.mean > 0
    assert 0 < found.busy_share.mean < 1
    assert (found.replications, found.horizon, found.seed) == (8, 60.0, 1)


def study(equilibrium: Equilibrium, policy: WaitPolicy, made_with: WaitPolicy) -> Study:
    """What `verify` holds a prediction against, the prediction exchanged."""
    runs = replicate(made_with, ONE, CHAT, horizon=200.0, replications=8, seed=1)
    return Study(equilibrium, policy, [summarise(run, 0.2, inventory_of(policy)) for run in runs])


def test_the_study_of_right_predictions_agrees() -> None:
    policy = WaitPolicy((2,))
    assert all(check.agrees for check in study(solve(ONE, CHAT), policy, policy).checks())


@pytest.mark.parametrize("falsify", [
    lambda right: replace(right, throughput=2 * right.throughput),
    lambda right: replace(right, throughput=0.9 * right.throughput),
    lambda right: solve(ONE.scaled(1.2), CHAT),
    lambda right: solve(ONE, replace(CHAT, iteration_time=IterationTime(0.0116, 4.013e-7))),
], ids=["twice the throughput", "a tenth less", "other rates", "a millisecond more"])
def test_a_wrong_equilibrium_is_caught(falsify: Callable[[Equilibrium], Equilibrium]) -> None:
    policy = WaitPolicy((2,))
    checks = study(falsify(solve(ONE, CHAT)), policy, policy).checks()
    assert not all(check.agrees for check in checks)


def test_a_policy_that_was_not_the_one_simulated_is_caught() -> None:
    """Simulated with two prompts a stage, predicted for one: half the memory, half the wait."""
    checks = study(solve(ONE, CHAT), WaitPolicy((1,)), made_with=WaitPolicy((2,))).checks()
    assert sum(not check.agrees for check in checks) >= 2


@pytest.mark.parametrize(("options", "field"), [
    ({"horizon": 0.0}, "horizon"), ({"horizon": math.inf}, "horizon"), ({"replications": 0}, "replications"),
    ({"seed": -1}, "seed")])
def test_what_cannot_be_simulated_is_refused_by_name(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=f"^{field} must be "):
        verified(Greedy(), ONE, **options)


def test_thresholds_for_another_workload_are_refused() -> None:
    with pytest.raises(InputError, match=r"^thresholds must be 3 numbers, one per prompt type"):
        verified(WaitPolicy((1,)), THREE)


def test_a_horizon_too_short_for_steady_state_is_not_called_a_wrong_prediction() -> None:
    """185 iterations wait for 185 arrivals at 7.27/s: 25 s of a latency that 60 s cannot show to be steady."""
    mix = Workload([PromptType(412, 185, 7.274628916720675)])
    replica = replace(CHAT, prefill="decode-only")
    assert verify(wait(mix, replica), mix, replica, horizon=60.0, seed=201, workers=2).agrees
