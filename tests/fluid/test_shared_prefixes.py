"""Prefixes found in the cache: profiles against direct sums, the split into hits and misses, the cache that is left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import LONGEST, Instance, instances, replicas, sampled, workloads

from fluid import InputError, IterationTime, PromptType, Replica, SharedPrefix, Workload, share_prefixes, solve
from fluid.stages import stage_profile
from fluid.symbolic import derive

LINE = IterationTime(0.01, 1e-6, 1e-5, 1e-4)


@st.composite
def cached(draw: Any) -> Workload:
    """A mix in which some types find a part of their prompts in the cache."""
    mix = draw(workloads(least=2))
    found = [draw(st.integers(0, prompt - 1)) if draw(st.booleans()) else 0 for prompt in mix.prompt_tokens.tolist()]
    return Workload.from_arrays(mix.prompt_tokens, mix.output_tokens, mix.rates, cached_prefix=found)


@st.composite
def layered(draw: Any) -> Replica:
    """A replica, now and then with windowed layers and a state."""
    replica = draw(replicas())
    if draw(st.booleans()):
        replica = replace(replica, attention_window=draw(st.integers(1, 2 * LONGEST)),
                          windowed_layers=(draw(st.integers(0, 5)), 5), state=draw(st.integers(0, 9)))
    return replica


@sampled
@given(cached(), layered())
def test_the_rest_is_prefilled_and_held_and_the_whole_is_read(mix: Workload, replica: Replica) -> None:
    """Held and prefilled as a type of l - p tokens, read with p more; the closed forms are the sums over stages."""
    profile = stage_profile(mix, replica)
    rest = stage_profile(Workload.from_arrays(mix.prompt_tokens - mix.cached_prefix, mix.output_tokens, mix.rates),
                         replica)
    for j, prefix in enumerate(mix.cached_prefix.tolist()):
        assert np.array_equal(profile.units_held(j), rest.units_held(j))
        assert np.array_equal(profile.stage_prefill(j), rest.stage_prefill(j))
        done = np.cumsum(rest.stage_prefill(j))[: profile.prefill_stages[j]]
        contexts = prefix + np.append(done, rest.prompt[j] + np.arange(1, profile.decode[j] + 1))
        read = replica.layout.read(contexts)
        assert np.array_equal(profile.units_read(j), read)
        assert profile.kv_read[j] == read.sum() / replica.layout.unit
        assert profile.kv_units[j] == rest.kv_units[j] == profile.units_held(j).sum()
    assert np.array_equal(profile.peak, rest.peak)


def test_a_type_with_a_prefix_by_hand() -> None:
    """10 + 2 tokens, 8 of them cached: holds 2, 3, 4, reads 10, 11, 12, prefills 2."""
    profile = stage_profile(Workload([PromptType(10, 2, 1.0, cached_prefix=8)]), Replica(99, LINE))
    assert profile.stage_kv(0).tolist() == [2, 3, 4]
    assert profile.stage_read(0).tolist() == [10, 11, 12]
    assert profile.stage_prefill(0).tolist() == [2, 0, 0]


def test_a_type_splits_into_those_that_hit_and_those_that_miss() -> None:
    """800 of 1,000 tokens in blocks of 64: 768 cached, held once; 3 of 5 requests/s find them."""
    mix, left = share_prefixes([PromptType(1000, 20, 5.0, "chat"), PromptType(30, 4, 1.0)],
                               [SharedPrefix(800, 0.6), None], Replica(10_000, LINE, block=64))
    assert mix.names == ("chat (hit)", "chat (miss)", "30+4")
    assert mix.rates.tolist() == pytest.approx([3.0, 2.0, 1.0])
    assert mix.cached_prefix.tolist() == [768, 0, 0]
    assert left.kv_capacity == 10_000 - 768


def test_types_that_name_one_prefix_hold_it_once() -> None:
    """Three types share 100 tokens by name, one has 50 of its own: 150 are reserved, whoever makes the values."""
    types = [PromptType(200, 5, 1.0, name) for name in "abcd"]
    shared = SharedPrefix(100, 0.5, "system")
    _, left = share_prefixes(types, [shared, SharedPrefix(100, 1.0, "system"), shared, SharedPrefix(50, 0.5)],
                             Replica(1000, LINE))
    assert left.kv_capacity == 850


def test_a_prefix_is_held_in_every_layer_with_the_state_it_ends_in() -> None:
    """100 tokens, 1 of 2 layers with a window of 40, a state of 7: (40 + 100)/2 + 7 = 77 tokens."""
    replica = Replica(1000, LINE, attention_window=40, windowed_layers=(1, 2), state=7)
    _, left = share_prefixes([PromptType(200, 5, 1.0)], [SharedPrefix(100, 0.5)], replica)
    assert left.kv_capacity == 1000 - 77


@pytest.mark.parametrize(("tokens", "hit", "names", "reserved"), [
    (15, 0.5, ("a",), 0),  # less than a block of 16 is not shared
    (100, 0.0, ("a",), 0),  # nobody finds it, so it need not be there
    (100, 1.0, ("a",), 96)])
def test_where_all_or_none_hit_a_type_stays_one(tokens: int, hit: float, names: tuple[str, ...],
                                                reserved: int) -> None:
    mix, left = share_prefixes([PromptType(200, 5, 1.0, "a")], [SharedPrefix(tokens, hit)],
                               Replica(999, LINE, block=16))
    assert (mix.names, 999 - left.kv_capacity) == (names, reserved)
    assert mix.cached_prefix.tolist() == [reserved]


@sampled
@given(instances(least=3), st.integers(1, LONGEST), st.data())
def test_more_hits_carry_more_once_the_prefix_is_held(instance: Instance, tokens: int, data: st.DataObject) -> None:
    """On the cache that is left the edge grows with the hit rate, and at most to that of the prompts cut short."""
    mix, replica = instance
    tokens = min(tokens, int(mix.prompt_tokens.min()) - 1)
    if tokens < replica.block or replica.kv_capacity <= tokens:
        return
    low = data.draw(st.floats(0.01, 1.0))
    edges = []
    for hit in (low, 1.0):
        split, left = share_prefixes(mix.types, [SharedPrefix(tokens, hit, "all")] * len(mix), replica)
        edges.append(solve(split, left).max_rate_scale)
    assert edges[0] <= edges[1] * (1 + 1e-9)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: SharedPrefix(0, 0.5), "tokens must be a whole number of tokens from 1"),
    (lambda: SharedPrefix(9, 1.5), r"hit must be a share of the requests, at most 1 \(got 1.5\)"),
    (lambda: SharedPrefix(9, -0.5), "hit must be a nonnegative finite number"),
    (lambda: PromptType(10, 2, 1.0, cached_prefix=10), "cached_prefix must be a whole number of tokens from 0 to 9"),
    (lambda: Workload.from_arrays([10], [2], [1.0], cached_prefix=[10]), "cached_prefix must be fewer tokens than"),
    (lambda: Workload.from_arrays([10], [2], [1.0], cached_prefix=[-1]), "cached_prefix.* a nonnegative whole number"),
    (lambda: share_prefixes([PromptType(10, 2, 1.0)], [SharedPrefix(10, 0.5)], Replica(99, LINE)),
     r"shared_prefix.tokens must be fewer than the 10 tokens of the prompt \(got 10\)"),
    (lambda: share_prefixes([PromptType(50, 2, 1.0)] * 2, [SharedPrefix(9, 0.5, "s"), SharedPrefix(8, 0.5, "s")],
                            Replica(99, LINE)), "shared_prefix.tokens must be 9, as elsewhere under this name"),
    (lambda: share_prefixes([PromptType(200, 2, 1.0)], [SharedPrefix(99, 0.5)], Replica(99, LINE)),
     "shared_prefix must be prefixes that leave some of the 99 KV tokens of the replica")])
def test_what_cannot_be_shared_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_the_symbolic_model_has_no_prefix() -> None:
    symbolic = derive()
    with pytest.raises(InputError, match="cached_prefix must be 0 tokens"):
        symbolic.numeric(symbolic.load, PromptType(20, 3, 0.1, cached_prefix=8), Replica(99, LINE))


def test_a_workload_keeps_its_prefixes_at_other_rates() -> None:
    """Scaled, and through its types: the same mix."""
    mix = Workload([PromptType(20, 3, 2.0, cached_prefix=8), PromptType(20, 3, 2.0)])
    assert mix.scaled(0.5).cached_prefix.tolist() == [8, 0]
    assert Workload(mix.types) == mix
    assert mix != Workload([PromptType(20, 3, 2.0)] * 2)
