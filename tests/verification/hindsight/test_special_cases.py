"""Where the optimum is proved it is brute force and the program; the adversary's loss is what the proof promises."""

import numpy as np
import pytest
from brute_force import least_total_latency_of_all, small_instances, some_of

from fluid.errors import InputError
from verification.hindsight import against, exact, hindsight
from verification.hindsight.special_cases import slots
from verification.rounds import MCSF, Instance, MCBenchmark, Schedule, SortedF, play


@pytest.mark.parametrize(("size", "memory", "arrivals"), [(3, 5, 2), (3, 4, 1), (4, 6, 0), (5, 5, 0), (4, 20, 2),
                                                          (4, 7, 1), (6, 4, 0)])
def test_where_the_optimum_is_proved_it_is_brute_force(size, memory, arrivals):
    """Up to 150 instances of each family."""
    for instance in some_of(small_instances(size, memory, arrivals=arrivals), 150, seed=1):
        found = exact(instance)
        if found is not None:
            assert found.objective == least_total_latency_of_all(instance)


@pytest.mark.parametrize(("instance", "reason", "k"), [
    (Instance([0, 3, 4], [1, 2, 3], [3, 4, 5], memory=18), "nothing waits", 3),
    (Instance([0] * 5, [3] * 5, [3, 1, 2, 3, 2], memory=6), "shortest first", 1),
    (Instance([0] * 7, [6] * 7, [1, 2, 3, 1, 2, 3, 1], memory=20), "shortest first", 2),
    (Instance([0, 0, 1, 1, 1, 5], [1] * 6, [1] * 6, memory=4), "first come", 2),
    (Instance([0, 1, 2, 9, 9], [4] * 5, [3] * 5, memory=15), "first come", 2),
])
def test_each_case_is_recognised_and_is_the_optimum_of_the_program(instance, reason, k):
    """Two that fit where three never meet are two machines."""
    found = exact(instance)
    assert (found.reason, slots(instance)) == (reason, k)
    order = np.argsort(found.starts, kind="stable")
    starts = found.starts[order]
    assert Schedule(instance, order, starts, starts + instance.outputs[order]).violations == ()
    best = hindsight(instance)
    assert (best.status, best.objective) == ("optimal", found.objective)


def test_equal_requests_of_one_token_fill_the_rounds():
    """Nine of (2, 1), M = 7: two a round, so 2 (1 + 2 + 3 + 4) + 5."""
    assert exact(Instance([0] * 9, [2] * 9, [1] * 9, memory=7)).objective == 25


@pytest.mark.parametrize("instance", [
    Instance([0, 0, 0], [1, 1, 1], [3, 3, 3], memory=7),  # two or three at once, as they are staggered
    Instance([0, 1, 1], [3, 3, 3], [2, 3, 1], memory=6),  # one machine, arrivals and lengths that differ
])
def test_elsewhere_nothing_is_claimed(instance):
    """None, not a guess."""
    assert exact(instance) is None


def player(policy):
    return lambda instance: play(policy, instance)


def lazy(instance):
    """Everything one after the other, from moment 50 on."""
    starts = np.maximum.accumulate(np.concatenate([[50], 50 + np.cumsum(instance.outputs)[:-1]]))
    for i in range(1, len(starts)):
        starts[i] = max(starts[i - 1] + instance.outputs[i - 1], instance.arrivals[i])
    return Schedule(instance, np.arange(len(instance)), starts, starts + instance.outputs)


PLAYERS = [player(MCSF()), player(MCBenchmark()), player(SortedF("sweep")), lazy]


@pytest.mark.parametrize("play_it", PLAYERS)
@pytest.mark.parametrize("memory", [9, 50, 400, 3000])
def test_the_adversary_takes_at_least_what_its_proof_promises(play_it, memory):
    """The witness is a feasible schedule of the same instance, of at most 5 M/2 rounds."""
    loss = against(play_it, memory)
    assert loss.witness.violations == ()
    assert loss.witness.total_latency <= 2.5 * memory
    assert loss.ratio >= loss.proved
    assert len(loss.instance) == memory // 2 + 1


def test_the_loss_grows_like_the_square_root():
    """From M = 4^6 to 4^8 the proof's factor is near 4 for 16 times the requests, and MC-SF loses as much."""
    small, large = against(player(MCSF()), 4**6), against(player(MCSF()), 4**8)
    for name in ("ratio", "proved"):
        power = np.log(getattr(large, name) / getattr(small, name)) / np.log(len(large.instance) / len(small.instance))
        assert 0.45 < power < 0.5


def test_a_policy_that_knows_the_future_is_refused():
    """It starts the long request elsewhere once others come."""
    def prophet(instance):
        starts = instance.arrivals + (len(instance) > 1)
        return Schedule(instance, np.arange(len(instance)), starts, starts + instance.outputs)
    with pytest.raises(InputError, match="player"):
        against(prophet, 100)
