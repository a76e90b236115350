"""The engine: path by path against its literal twin, on large instances by its certificate, and when it must end."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from small_rounds import LOOKING_AHEAD, POLICIES, erring, exact

from fluid import InputError
from verification.rounds import (
    MCSF,
    AMin,
    Clearing,
    Instance,
    MCBenchmark,
    Protected,
    Schedule,
    SortedF,
    all_at_once,
    over_time,
    overestimated,
    play,
    two_sided,
)
from verification.rounds.literal import play_literally
from verification.rounds.state import FIRST, Answers


def same(one: Schedule, other: Schedule) -> bool:
    """Whether two schedules agree run by run, and in what they count."""
    runs = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("requests", "starts", "ends"))
    return runs and (one.clearings, one.rescues) == (other.clearings, other.rescues)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_engine_and_literal_twin_agree_run_by_run(policy) -> None:
    """On 120 random instances, with predictions exact, too long, on both sides and too short; no certificate fails."""
    for seed in range(120):
        instance = erring(seed)
        schedule = play(policy, instance, seed)
        assert same(schedule, play_literally(policy, instance, seed))
        assert schedule.violations == ()


@pytest.mark.parametrize("policy", [MCSF(), MCBenchmark(), SortedF(), Protected(0.3), Clearing(0.2, 0.2), AMin()],
                         ids=str)
def test_engine_and_twin_agree_on_the_published_laws(policy) -> None:
    """Instances of [J]'s size, at once and over time, with predictions up to 60% off."""
    for seed in range(3):
        for instance in (all_at_once(seed), two_sided(over_time(seed), 0.6, seed)):
            assert same(play(policy, instance, seed), play_literally(policy, instance, seed))


def test_thousands_of_requests_pass_the_certificate() -> None:
    """3,000 requests of 1 to 200 tokens in a memory of 16,492, [J]'s, all policies that stand such a size."""
    generator = np.random.default_rng(0)
    n = 3000
    arrivals = np.sort(generator.integers(0, 1500, n))
    instance = Instance(arrivals, generator.integers(1, 80, n), generator.integers(1, 200, n), memory=16_492)
    for policy in (MCSF(), MCBenchmark(), SortedF("sweep"), Protected(0.25), Clearing(0.2, 0.2), AMin()):
        schedule = play(policy, two_sided(instance, 0.5, 0), seed=0)
        assert schedule.violations == ()
        assert len(np.unique(schedule.requests)) == n


@pytest.mark.parametrize("policy", LOOKING_AHEAD, ids=str)
def test_memory_is_never_short_when_predictions_never_are(policy) -> None:
    """Who looks ahead clears nothing with exact or longer predictions: every start is final."""
    for seed in range(100):
        for instance in (exact(seed), overestimated(exact(seed), 3.0, seed)):
            schedule = play(policy, instance)
            assert schedule.violations == ()
            assert (schedule.clearings, schedule.cleared) == (0, 0)


@pytest.mark.parametrize("policy", LOOKING_AHEAD, ids=str)
def test_who_looks_ahead_is_done_by_the_horizon(policy) -> None:
    """max a + sum o, also where predictions are short and the newest are cleared: the oldest always goes on."""
    cleared = 0
    for seed in range(200):
        schedule = play(policy, two_sided(exact(seed), 0.9, seed))
        assert schedule.finished.max() <= schedule.instance.horizon
        cleared += schedule.cleared
    assert cleared > 100


def test_a_min_ends_as_proved() -> None:
    """max a + (N + sum o)(N + 1) max o, with bounds far below the truth."""
    cleared = 0
    for seed in range(200):
        instance = exact(seed).seen_as(np.ones(len(exact(seed))))
        schedule, n, o = play(AMin(), instance), len(instance), instance.outputs
        assert schedule.finished.max() <= instance.arrivals.max() + (n + o.sum()) * (n + 1) * o.max()
        cleared += schedule.cleared
    assert cleared > 1000


@pytest.mark.parametrize(("policy", "patience"), [(Protected(0.0), 1), (Clearing(0.0, 0.3), 100), (Clearing(0, 1), 1)])
def test_clearing_ends_as_proved(policy, patience: int) -> None:
    """max a + N (patience + 2) max o, without any protection."""
    for seed in range(100):
        instance = exact(seed)
        bound = instance.arrivals.max() + len(instance) * (patience + 2) * instance.outputs.max()
        assert play(policy, instance, seed).finished.max() <= bound


def test_a_seed_says_what_is_cleared() -> None:
    """Equal seeds give equal schedules, others do not; policies without chance read none."""
    instance = all_at_once(0)
    assert same(play(Clearing(), instance, 1), play(Clearing(), instance, 1))
    assert not same(play(Clearing(), instance, 1), play(Clearing(), instance, 2))
    assert same(play(MCSF(), instance, 1), play(MCSF(), instance, 2))


def test_rounds_without_requests_are_passed_over() -> None:
    """Requests 10^12 rounds apart, and an instance without any."""
    instance = Instance([0, 10**12], [1, 1], [2, 2], memory=3)
    assert play(MCSF(), instance).finished.tolist() == [2, 10**12 + 2]
    assert play(MCSF(), Instance([], [], [], memory=3)).total_latency == 0


def test_a_policy_without_a_twin_is_refused() -> None:
    """The literal rounds know the published policies only."""
    class Other:
        name: ClassVar[str] = "other"
        label: ClassVar[str] = "other"

        def answers(self, memory: int) -> Answers:
            return Answers(FIRST, True, memory)

    instance = Instance([0], [1], [1], memory=2)
    assert play(Other(), instance).total_latency == 1
    with pytest.raises(InputError, match="twin"):
        play_literally(Other(), instance)
