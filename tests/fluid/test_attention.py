"""An attention window of z tokens: profiles, equilibrium and delay against lives walked through stage by stage."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import LONGEST, Instance, instances, iteration_times, replicas, sampled, workloads

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve, stage_profile
from fluid.symbolic import derive
from thresholds import predict_continuous

LINE = IterationTime(0.01, 1e-6, 1e-5, 1e-4)
windows = st.integers(1, 2 * LONGEST)


@sampled
@given(workloads(least=2), replicas(), windows)
def test_every_stage_holds_and_reads_at_most_the_window(mix: Workload, replica: Replica, window: int) -> None:
    """min(tokens, z) read, the same in whole blocks held; prefill takes what it took; closed forms are the sums."""
    free, profile = stage_profile(mix, replica), stage_profile(mix, replace(replica, attention_window=window))
    for j in range(len(mix)):
        read = [min(tokens, window) for tokens in free.stage_read(j).tolist()]
        held = [math.ceil(tokens / replica.block) * replica.block for tokens in read]
        assert profile.stage_read(j).tolist() == read
        assert profile.stage_kv(j).tolist() == held
        assert np.array_equal(profile.stage_prefill(j), free.stage_prefill(j))
        assert (profile.kv_read[j], profile.kv_work[j], profile.peak[j]) == (sum(read), sum(held), max(held))
        assert (profile.stages[j], profile.prefilled[j]) == (free.stages[j], free.prefilled[j])


def test_a_prompt_that_fills_its_window_by_hand() -> None:
    """10 + 4 tokens with z = 12 hold 10, 11, 12, 12, 12: 57 in all; in blocks of 8 always 16: 80."""
    mix = Workload([PromptType(10, 4, 1.0)])
    profiles = [stage_profile(mix, Replica(99, LINE, block=block, attention_window=12)) for block in (1, 8)]
    assert [each.kv_work.tolist() for each in profiles] == [[57], [80]]
    assert [each.peak.tolist() for each in profiles] == [[12], [16]]
    assert [each.kv_read.tolist() for each in profiles] == [[57], [57]]


def test_the_longest_lives_behind_a_window_are_summed_exactly() -> None:
    """2^24 + 2^24 tokens, z = 4,096: 2^24 + 1 stages of 4,096."""
    mix = Workload([PromptType(2**24, 2**24, 1.0)])
    assert stage_profile(mix, Replica(9, LINE, attention_window=4096)).kv_work.tolist() == [(2**24 + 1) * 4096]


@sampled
@given(instances(), windows, st.integers(1, 50))
def test_a_wider_window_needs_at_least_as_much_and_one_never_filled_changes_nothing(
        instance: Instance, window: int, more: int) -> None:
    mix, replica = instance
    found = [solve(mix, replace(replica, attention_window=z)) for z in (window, window + more, 2 * LONGEST, None)]
    needs = [each.kv_required for each in found]
    assert needs[0] <= needs[1] * (1 + 1e-12) <= needs[3] * (1 + 2e-12)
    assert needs[2] == needs[3]
    assert np.array_equal(found[2].region.half_spaces, found[3].region.half_spaces)


@sampled
@given(iteration_times(), st.integers(1, 20))
def test_a_type_longer_than_the_cache_fits_behind_a_window_that_does(time: IterationTime, window: int) -> None:
    """10 + 30 tokens never fit 20; with z <= 20 they do, at a small rate."""
    mix, replica = Workload([PromptType(10, 30, 1e-9)]), Replica(20, time)
    assert solve(mix, replica).limit == "length"
    assert solve(mix, replace(replica, attention_window=window)).stable


@pytest.mark.parametrize("window", [5, 100, 5000])
def test_a_lone_prompt_reads_at_most_its_window(window: int) -> None:
    """As the rate falls to 0: half an iteration, then S d0 + c; TTFT two iterations, reading min(l, z) in each."""
    mix = Workload([PromptType(300, 40, 1e-9)])
    replica = Replica(10**6, LINE, attention_window=window)
    profile, found = stage_profile(mix, replica), predict_continuous(solve(mix, replica))
    assert found.latency == pytest.approx(0.005 + 41 * 0.01 + profile.time_work(LINE)[0, 0], rel=1e-6)
    assert found.ttft == pytest.approx(0.005 + 0.02 + 2e-6 * min(300, window) + 300e-5 + 2e-4, rel=1e-3)


@pytest.mark.parametrize("window", [0, -1, 1.5, "long", True, 2**24 + 1])
def test_a_window_that_is_no_count_is_refused(window: Any) -> None:
    with pytest.raises(InputError, match=r"attention_window must be a whole number of tokens from 1 to .* in replica"):
        Replica(100, LINE, attention_window=window)


def test_the_symbolic_model_has_no_window() -> None:
    symbolic, replica = derive(), Replica(99, LINE, attention_window=9)
    with pytest.raises(InputError, match="attention_window must be absent"):
        symbolic.numeric(symbolic.load, PromptType(2, 3, 0.1), replica)
