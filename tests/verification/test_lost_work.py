"""Work that evictions waste: by hand, and as what was computed beyond what requests needed."""

import numpy as np
import pytest

from fluid import IterationTime, Power, PromptType, Replica, Workload
from thresholds import PacedPolicy
from verification import Arrivals, Greedy, Sarathi, VllmV0, VllmV1, paired, simulate, verify

POWER = Power(idle=80.0, busy=400.0, overhead=260.0)
MIX = Workload([PromptType(100, 300, 4.0), PromptType(300, 40, 4.0)])


def crowded(**options):
    """A small cache, in which greedy admission evicts."""
    given = {"kv_capacity": 3000, "first_token": "prefill", "power": POWER, **options}
    return Replica(iteration_time=IterationTime(0.01, 4e-6, 5e-5, 7e-5), **given)


def arrivals():
    draw = np.random.default_rng(1)
    return Arrivals(np.sort(draw.uniform(0, 60, 400)), draw.integers(0, 2, 400))


def beyond_need(run, replica):
    """sum of iterations - I d0 - what the requests, all of which finished, cost when nothing is done twice."""
    d0, per_kv, per_prefill, per_sequence = replica.iteration_time.coefficients[0]
    profile = run.profile
    each = per_kv * profile.kv_read + per_prefill * profile.prefilled + per_sequence * profile.stages
    return run.timeline.duration.sum() - run.iterations * d0 - each[run.arrivals.types].sum()


def test_one_eviction_by_hand():
    """C = 7, two prompts of 2 tokens and 4 of output, d2 = 1, d1 = d3 = 0, the prefill makes the first token.

    Both hold 2 + 2 in the first iteration, 3 + 3 in the second, and would hold 4 + 4 in the third: the newer one is
    evicted with its prompt and the 2 tokens it has made, and prefills 4 again where it had prefilled 2.
    """
    replica = Replica(7, IterationTime(1.0, 0.0, 1.0), first_token="prefill", power=POWER)
    two = Arrivals([0.0, 0.0], [0, 0])
    workload = Workload([PromptType(2, 4, 1.0)])
    run = simulate(Greedy(watermark=0.0, eviction="recompute"), workload, replica, arrivals=two, record=True)
    assert (run.evictions, run.lost_time) == (1, 4.0)
    anew = simulate(Greedy(watermark=0.0), workload, replica, arrivals=two, record=True)
    assert (anew.evictions, anew.lost_time) == (1, pytest.approx(2.0))  # of its first pass the prompt


@pytest.mark.parametrize("options", [
    {}, {"block": 16}, {"state": 7}, {"prefill": "decode-only"}, {"attention_window": 128, "windowed_layers": (1, 2)}],
    ids=lambda options: " ".join(options))
@pytest.mark.parametrize("policy", [Greedy(watermark=0.0), VllmV1()], ids=lambda policy: policy.name)
def test_what_is_lost_is_what_was_computed_beyond_need(policy, options):
    """All requests finish, and prompts are prefilled whole: the two ways to count agree to rounding."""
    replica = crowded(kv_capacity=2000, **options)
    run = simulate(policy, MIX, replica, arrivals=arrivals(), record=True)
    assert run.evictions > 100
    assert run.unfinished == 0
    assert run.lost_time == pytest.approx(beyond_need(run, replica), rel=1e-9)


@pytest.mark.parametrize("policy", [Greedy(watermark=0.0, eviction="recompute"), VllmV0(watermark=0.0)],
                         ids=lambda policy: policy.name)
def test_engines_of_other_orders_lose_what_they_prefill_again(policy):
    """The same of prefills beside decodes, and before them; prompts with a cached prefix are prefilled behind it."""
    cached = Workload.from_arrays([200, 400], [300, 40], [4.0, 4.0], cached_prefix=[100, 100])
    run = simulate(policy, cached, crowded(), arrivals=arrivals(), record=True)
    assert run.evictions > 100
    assert run.lost_time == pytest.approx(beyond_need(run, crowded()), rel=1e-9)


def test_where_the_first_decode_makes_the_first_token_it_is_at_most_that():
    """Requests evicted between their prefill and their first token are not seen: a lower bound, and a near one."""
    replica = crowded(first_token="decode")
    run = simulate(VllmV1(), MIX, replica, arrivals=arrivals(), record=True)
    most = beyond_need(run, replica)
    assert 0.9 * most <= run.lost_time <= most * (1 + 1e-9)


def test_chunks_are_no_waste():
    """In chunks more sequences are counted than stages there are, but only what is prefilled again is lost."""
    replica = crowded()
    run = simulate(Sarathi(chunk=128), MIX, replica, arrivals=arrivals(), record=True)
    assert 0 < run.lost_time < beyond_need(run, replica)


@pytest.mark.parametrize("policy", [VllmV1(), PacedPolicy((1, 1), (50, 50))], ids=["far from the edge", "windows"])
def test_without_evictions_nothing_is_lost(policy):
    replica = crowded(prefill="whole")
    workload = MIX.scaled(0.1)
    run = simulate(policy, workload, replica, horizon=200.0, record=True)
    assert (run.evictions, run.lost_time) == (0, 0.0)


def test_what_is_lost_is_not_known_of_several_lines_nor_without_a_record():
    lines = IterationTime.largest(IterationTime(0.01, 4e-6), IterationTime(0.009, 4e-6, 5e-5, 7e-5))
    run = simulate(VllmV1(), MIX, Replica(3000, lines, first_token="prefill"), arrivals=arrivals(), record=True)
    assert run.evictions > 0
    assert run.lost_time is None
    assert simulate(VllmV1(), MIX, crowded(), arrivals=arrivals()).lost_time is None


def test_energy_of_replications_and_their_difference():
    """Watts over tokens lie between those of an idle and a busy replica; on the same arrivals windows waste nothing."""
    replica, workload = crowded(), MIX.scaled(0.85)
    windows, engine = (verify(policy, workload, replica, horizon=300.0, replications=3)
                       for policy in (PacedPolicy((2, 2), (13, 13)), VllmV1()))
    for found in (windows, engine):
        assert 80 < found.joules.mean * found.throughput.mean < 400
        assert found.to_dict()["energy"]["joules"]["mean"] == found.joules.mean
    assert windows.lost_joules == (0.0, 0.0, 0.0)
    assert 0 < engine.lost_joules.mean < engine.joules.mean
    assert paired(windows, engine, "lost_joules").mean == pytest.approx(engine.lost_joules.mean)


def test_without_a_power_nothing_is_said():
    found = verify(VllmV1(), MIX.scaled(0.1), Replica(3000, IterationTime(0.01, 4e-6)), horizon=60.0, replications=2)
    assert found.energy is None
    assert found.to_dict()["energy"] is None
