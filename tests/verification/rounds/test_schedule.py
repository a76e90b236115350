"""The certificate finds every kind of fault, and the lower bound is one."""

from __future__ import annotations

import numpy as np
import pytest
from small_rounds import POLICIES, exact, least_by_brute_force, of_starts, tiny

from verification.rounds import MCSF, Instance, Schedule, all_at_once, least_total_latency, over_time, play

THREE = Instance([0, 0, 1], [1, 1, 1], [1, 2, 1], memory=5)


def test_latency_and_memory_by_hand() -> None:
    """Starting as they come: 2 + 2 tokens at moment 1, 3 + 2 at moment 2; latencies 1, 2 and 2 - 1."""
    schedule = of_starts(THREE, (0, 0, 1))
    assert schedule.latency.tolist() == [1, 2, 1]
    assert (schedule.total_latency, schedule.peak_memory, schedule.violations) == (4, 5, ())


def test_a_cleared_run_counts_for_memory_and_lost_tokens() -> None:
    """Request 1 runs one round, is cleared, and starts again at 2: moments 1..4 see 4, 0, 2, 3 tokens."""
    schedule = Schedule(THREE, [0, 1, 1, 2], [0, 0, 2, 4], [1, 1, 4, 5], clearings=1)
    assert (schedule.violations, schedule.cleared, schedule.lost_tokens) == ((), 1, 1)
    assert schedule.finished.tolist() == [1, 4, 5]
    assert dict(zip(*(each.tolist() for each in schedule.memory_used), strict=True)) == {
        1: 4, 2: 0, 3: 2, 4: 3, 5: 2, 6: 0}


@pytest.mark.parametrize(("fault", "requests", "starts", "ends"), [
    ("no run starts before its request comes", [0, 1, 2], [0, 1, 0], [1, 3, 1]),
    ("the last run of every request has all of its rounds", [0, 1, 2], [0, 0, 1], [1, 1, 2]),
    ("the last run of every request has all of its rounds", [0, 1], [0, 0], [1, 2]),
    ("the runs of a request do not overlap", [0, 1, 1, 2], [0, 0, 0, 4], [1, 1, 2, 5]),
    ("a run that is cleared has fewer rounds than the output", [0, 1, 1, 2], [0, 0, 2, 5], [1, 2, 4, 6]),
    ("a run lasts a round at least", [0, 1, 1, 2], [0, 0, 0, 4], [1, 0, 2, 5]),
    ("runs are of requests of the instance", [0, 1, 3], [0, 0, 1], [1, 2, 2]),
])
def test_every_fault_is_found(fault: str, requests: list[int], starts: list[int], ends: list[int]) -> None:
    """A schedule with one fault breaks the sentence that forbids it."""
    assert fault in Schedule(THREE, requests, starts, ends).violations


def test_too_much_memory_is_found_by_the_token() -> None:
    """The three at once need 2 + 2 + 2 tokens at moment 2 if all start at 1, one more than there is."""
    found = of_starts(THREE, (1, 1, 1)).violations
    assert found == ("the KV is at most the memory of 5 tokens (it reaches 6)",)


def test_the_peak_is_that_of_the_moments_one_by_one() -> None:
    """Counted token by token at every moment, cleared runs included."""
    for seed, policy in enumerate(POLICIES * 4):
        schedule = play(policy, exact(seed), seed)
        runs = list(zip(schedule.requests, schedule.starts, schedule.ends, strict=True))
        used = [sum(schedule.instance.prompts[i] + t - p for i, p, e in runs if p < t <= e)
                for t in range(int(schedule.ends.max()) + 2)]
        assert schedule.peak_memory == max(used)


def test_the_lower_bound_by_hand() -> None:
    """Volumes 2, 2 + 3 = 5 and 2 in a memory of 5: sorted prefix sums 2, 4, 9 take 1, 1, 2 rounds at least.

    Sorted a + o is 1, 2, 2, so finishes are at least 1, 2, 2, less arrivals 0, 0, 1: the schedule above is optimal.
    """
    assert least_total_latency(THREE) == 4 == of_starts(THREE, (0, 0, 1)).total_latency
    assert least_total_latency(Instance([], [], [], memory=5)) == 0


def test_no_schedule_beats_the_lower_bound_and_no_policy_the_optimum() -> None:
    """bound <= brute force <= every policy, on instances of up to three requests."""
    for seed in range(40):
        instance = tiny(seed)
        optimum = least_by_brute_force(instance)
        assert least_total_latency(instance) <= optimum
        assert all(play(policy, instance, seed).total_latency >= optimum for policy in POLICIES)


@pytest.mark.parametrize("draw", [all_at_once, over_time])
def test_the_lower_bound_holds_on_the_published_laws(draw) -> None:
    """It is positive, and MC-SF stays above it."""
    for seed in range(50):
        instance = draw(seed)
        assert 0 < least_total_latency(instance) <= play(MCSF(), instance).total_latency


def test_a_schedule_cannot_be_changed() -> None:
    """Its runs are read-only."""
    with pytest.raises(ValueError, match="read-only"):
        of_starts(THREE, (0, 0, 1)).starts[0] = 1
    assert np.array_equal(of_starts(THREE, (0, 0, 1)).started, [0, 0, 1])
