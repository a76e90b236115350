"""Checks that can fail: each kind differs for a model that is wrong on purpose, or says that it cannot tell."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from fluid import Equilibrium, IterationTime, PromptType, Replica, Workload, solve
from thresholds import PacedPolicy, Prediction, WaitPolicy, paced, predict, wait
from verification import Greedy, Verification, positive_interval, simulate, verify
from verification.experiments.checks import AGREES, DIFFERS, TOO_FEW, Check, Study
from verification.experiments.summary import Summary
from verification.policies import Policy
from verification.statistics.intervals import coinciding

REPLICA = Replica(20_000, IterationTime(0.01, 1e-7), max_num_seqs=64)
MIX = Workload([PromptType(100, 10, 60.0), PromptType(50, 20, 40.0)])


@cache
def runs_of(kind: str) -> tuple[Policy, Verification]:
    """A policy and its replications, busy all the time, at 80% to 90% of what it carries."""
    policy: Policy = {"paced": lambda: paced(MIX, REPLICA), "wait": lambda: wait(MIX, REPLICA),
                      "greedy": Greedy}[kind]()
    return policy, verify(policy, MIX, REPLICA, horizon=300.0, replications=6, workers=2)


def answers(equilibrium: Equilibrium, policy: Policy, runs: tuple[Summary, ...]) -> dict[str, str]:
    """What each check says of a model."""
    return {check.name: check.answer for check in Study(equilibrium, policy, runs).checks()}


WRONG: dict[str, Callable[[Equilibrium], Equilibrium]] = {
    "more arrivals": lambda true: solve(MIX.scaled(1.1), true.replica),
    "longer iterations": lambda true: solve(MIX, replace(true.replica, iteration_time=IterationTime(0.015, 1e-7))),
    "shorter iterations": lambda true: solve(MIX, replace(true.replica, iteration_time=IterationTime(0.004, 1e-7))),
    "a smaller cache": lambda true: solve(MIX, replace(true.replica, kv_capacity=500)),
    "a smaller cap": lambda true: solve(MIX, replace(true.replica, max_num_seqs=4))}


@pytest.mark.parametrize("kind", ["paced", "greedy", "wait"])
def test_every_check_agrees_with_the_model_and_differs_from_some_wrong_one(kind: str) -> None:
    """Six runs of 30,000 requests: no check is too wide, none differs, and each of them can fail."""
    policy, found = runs_of(kind)
    true = solve(MIX, REPLICA)
    assert set(answers(true, policy, found.summaries).values()) == {AGREES}
    failed: set[str] = set()
    models: list[tuple[Equilibrium, Policy]] = [(falsify(true), policy) for falsify in WRONG.values()]
    if isinstance(policy, WaitPolicy):
        models.append((true, WaitPolicy(tuple(n + 1 for n in policy.thresholds))))  # the second type fills too late
    for model in models:
        failed |= {name for name, answer in answers(*model, found.summaries).items() if answer == DIFFERS}
    never = {check.name for check in found.checks} - failed
    assert never <= {"requests rejected at most", "latency", "ttft", "kv_peak at most", "inventory 50+20"}, never
    assert kind == "wait" or "inventory 50+20" not in never


@pytest.mark.parametrize("name", ["latency", "ttft"])
@pytest.mark.parametrize("kind", ["paced", "wait"])
def test_delays_that_are_wrong_by_more_than_they_claim_differ(kind: str, name: str,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Predicted 1.8 times as long or half as long: differs; wrong by 10%: within the claim."""
    policy, found = runs_of(kind)

    def answer(factor: float) -> str:
        def wrong(*arguments: object) -> Prediction:
            true = predict(*arguments)  # type: ignore[arg-type]
            return replace(true, **{name: factor * getattr(found, name).mean})

        monkeypatch.setattr("verification.experiments.checks.predict", wrong)
        return answers(solve(MIX, REPLICA), policy, found.summaries)[name]

    assert [answer(factor) for factor in (0.5, 0.9, 1.1, 1.8)] == [DIFFERS, AGREES, AGREES, DIFFERS]


def test_a_bound_of_memory_that_is_too_small_differs() -> None:
    """Windows of half the width, held against runs of the true ones."""
    policy, found = runs_of("paced")
    assert isinstance(policy, PacedPolicy)
    narrow = PacedPolicy(tuple(1 for _ in policy.entries), tuple(4 * g for g in policy.iterations))
    assert answers(solve(MIX, REPLICA), narrow, found.summaries)["kv_peak at most"] == DIFFERS


def test_a_rejected_request_differs() -> None:
    """A request that never fits is turned away, and the check says so."""
    mix = Workload([PromptType(100, 10, 60.0), PromptType(30_000, 10, 1.0)])
    found = verify(Greedy(), mix, REPLICA, horizon=60.0, replications=2)
    assert {check.answer for check in found.checks if check.name == "requests rejected at most"} == {DIFFERS}


def test_two_short_runs_tell_nothing_and_say_so() -> None:
    """Checks over intervals that are wider than a quarter of their mean: too few runs, and none of them is negative."""
    found = verify(paced(MIX, REPLICA), MIX, REPLICA, horizon=3.0, replications=2)
    wide = [check for check in found.checks if check.answer == TOO_FEW]
    assert wide
    for check in found.checks:
        assert check.low is None or check.low >= 0.0
        if check.answer == AGREES and None not in (check.low, check.high):
            assert check.high - check.low <= 0.5 * check.measured * 1.05  # type: ignore[operator]


def test_ttft_is_claimed_where_it_was_measured_and_not_near_the_edge() -> None:
    """Of windows up to 90% of what they carry, never above."""
    design = paced(MIX, REPLICA)
    claimed = [predict(design, MIX.scaled(load * design.max_rate_scale), REPLICA).ttft_accuracy
               for load in (0.5, 0.89, 0.92, 0.99)]
    assert claimed == [0.4, 0.4, None, None]


def test_a_prediction_is_held_against_the_interval_and_what_it_claims() -> None:
    """Within 25% of an end: agrees; the interval itself stays what was measured."""
    check = Check("latency", 1.24, 0.9, 0.8, 1.0, accuracy=0.25)
    assert (check.agrees, check.low, check.high) == (True, 0.8, 1.0)
    assert not replace(check, predicted=1.4).agrees
    assert not replace(check, accuracy=0.0).agrees
    assert replace(check, telling=False).answer == TOO_FEW
    assert replace(check, predicted=9.0, telling=False).answer == DIFFERS


def test_intervals_of_what_cannot_be_negative_hold_the_mean_as_often_as_they_say() -> None:
    """10 means of 30 exponential values: 95% hold within 4 standard errors of 4,000 experiments, none is negative."""
    draws = np.random.default_rng(1).exponential(size=(4000, 10, 30)).mean(axis=2)
    found = [positive_interval(row) for row in draws]
    held = np.mean([each.holds(1.0) for each in found])
    assert abs(held - 0.95) <= 4 * math.sqrt(0.95 * 0.05 / 4000) + 0.005
    assert min(each.low for each in found) > 0.0


@pytest.mark.parametrize("size", [2, 5, 10])
def test_equal_counts_are_given_the_spread_with_which_they_may_be_equal(size: int) -> None:
    """Counts of that standard deviation coincide in 5% of experiments or less; the interval has a width."""
    sigma = coinciding(size, 0.05)
    rng = np.random.default_rng(0)
    counts = np.rint(1000 + rng.uniform(size=(20_000, 1)) + sigma * rng.standard_normal((20_000, size)))
    assert 0.01 <= np.mean(np.ptp(counts, axis=1) == 0) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 20_000)
    found = positive_interval([7.0] * size, unit=1.0)
    assert found.low < 7.0 < found.high
    assert positive_interval([0.0] * size, unit=1.0).low == 0.0


def test_equal_runs_of_a_fixed_stream_still_have_a_width() -> None:
    """One run simulated twice is no evidence of a throughput without error."""
    run = simulate(Greedy(), MIX, REPLICA, horizon=30.0)
    assert run.evictions == 0
    found = verify(Greedy(), MIX, REPLICA, horizon=30.0, replications=2)
    assert found.evictions.mean == found.evictions.low == 0.0 < found.evictions.high
