"""Stage profiles against a prompt walked through its life stage by stage; the inputs of a replica."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import LONGEST, iteration_times, lines, prompt_types, replicas, sampled, workloads

from fluid import FluidwaitError, InputError, IterationTime, PromptType, Replica, Workload, stage_profile

LINE = IterationTime(0.0106, 4.013e-7)


def life(each: PromptType, replica: Replica) -> list[tuple[int, int, int]]:
    """(KV tokens read, KV tokens held, prompt tokens prefilled) at every stage, by living through them."""
    stages, done = [], 0
    chunk = each.prompt_tokens if replica.prefill == "whole" else replica.prefill
    while replica.prefill != "decode-only" and done < each.prompt_tokens:
        taken = min(int(chunk), each.prompt_tokens - done)
        done += taken
        stages.append((done, taken))
    made_in_prefill = 1 if replica.first_token == "prefill" else 0
    steps = range(1, each.output_tokens - made_in_prefill + 1)
    stages.extend((each.prompt_tokens + step, 0) for step in steps)
    return [(read, math.ceil(read / replica.block) * replica.block, taken) for read, taken in stages]


@sampled
@given(workloads(least=2), replicas())
def test_the_arrays_of_a_type_are_its_life_stage_by_stage(mix: Workload, replica: Replica) -> None:
    profile = stage_profile(mix, replica)
    for j, each in enumerate(mix.types):
        arrays = (profile.stage_read(j), profile.stage_kv(j), profile.stage_prefill(j))
        assert list(zip(*(array.tolist() for array in arrays), strict=True)) == life(each, replica)


@sampled
@given(workloads(least=2), replicas())
def test_the_closed_forms_are_the_sums_over_the_stages(mix: Workload, replica: Replica) -> None:
    profile = stage_profile(mix, replica)
    for j, each in enumerate(mix.types):
        read, held, taken = zip(*life(each, replica), strict=True)
        assert profile.stages[j] == len(read)
        assert (profile.kv_read[j], profile.kv_work[j], profile.prefilled[j]) == (sum(read), sum(held), sum(taken))
        assert profile.peak[j] == max(held)


@sampled
@given(prompt_types(least=2), replicas(iteration_times()))
def test_time_work_is_what_a_prompt_adds_to_the_iterations_of_its_life(each: PromptType, replica: Replica) -> None:
    """A piece is d0 + linear(batch); summed over the stages with the prompt alone it is S d0 + c."""
    profile = stage_profile(Workload([each]), replica)
    work = profile.time_work(replica.iteration_time)[:, 0]
    for line, c in zip(replica.iteration_time.pieces, work, strict=True):
        spent = [IterationTime(*line)(read, taken, 1) - line.overhead for read, _, taken in life(each, replica)]
        assert c == pytest.approx(math.fsum(spent), rel=1e-9, abs=1e-12 * len(spent))  # line.overhead <= 1 s cancels


@pytest.mark.parametrize("tokens", [(1, 1), (3518, 7), (512, 1000), (2**24, 2**24)])
def test_whole_prefill_sums_exactly_to_o_plus_1_times_l_plus_half_o(tokens: tuple[int, int]) -> None:
    """sum_{s=0}^{o} (l + s) = (o + 1) l + o (o + 1)/2: at the longest lengths 2^48.6, exact in 64 bits."""
    prompt, output = tokens
    profile = stage_profile(Workload([PromptType(prompt, output, 1.0)]), Replica(9, LINE))
    assert profile.kv_work.tolist() == [(output + 1) * (2 * prompt + output) // 2]


def test_the_longest_prompts_in_the_largest_blocks_are_summed_exactly() -> None:
    """Chunks of one token: 2^24 stages of 0 < kv <= 2^24 hold one block, 2^24 decode stages above it hold two."""
    longest = 2**24
    replica = Replica(9, LINE, prefill=1, block=longest)
    profile = stage_profile(Workload([PromptType(longest, longest, 1.0)]), replica)
    assert profile.kv_work.tolist() == [longest * longest + longest * 2 * longest]


@sampled
@given(workloads(least=2), replicas(lines()), st.integers(0, LONGEST))
def test_a_chunk_no_prompt_exceeds_is_whole_prefill(mix: Workload, replica: Replica, more: int) -> None:
    longest = int(mix.prompt_tokens.max())
    chunked, whole = (stage_profile(mix, replace(replica, prefill=kind)) for kind in (longest + more, "whole"))
    for name in ("stages", "kv_work", "kv_read", "prefilled", "peak", "first_token_stage"):
        assert np.array_equal(getattr(chunked, name), getattr(whole, name))


@sampled
@given(workloads(least=2), replicas(lines()))
def test_decode_only_is_whole_prefill_without_its_first_stage(mix: Workload, replica: Replica) -> None:
    alone, whole = (stage_profile(mix, replace(replica, prefill=kind)) for kind in ("decode-only", "whole"))
    for j in range(len(mix)):
        assert np.array_equal(alone.stage_kv(j), whole.stage_kv(j)[1:])
    assert not alone.prefilled.any()


@sampled
@given(workloads(least=2), replicas(lines()))
def test_a_first_token_from_the_prefill_saves_the_last_decode_stage(mix: Workload, replica: Replica) -> None:
    """R - 1 decode stages in place of R: the profile of one output token less, but for the first token's stage."""
    shorter = Workload.from_arrays(mix.prompt_tokens, mix.output_tokens - 1, mix.rates)
    early = stage_profile(mix, replace(replica, prefill="whole", first_token="prefill"))
    late = stage_profile(shorter, replace(replica, prefill="whole", first_token="decode"))
    assert np.array_equal(early.kv_work, late.kv_work)
    assert np.array_equal(early.stages, late.stages)
    assert np.array_equal(early.output, late.output + 1)


@sampled
@given(workloads(least=2), replicas(lines()))
def test_the_first_token_is_made_where_the_replica_says(mix: Workload, replica: Replica) -> None:
    """By the first stage that prefills nothing ("decode"), or by the one before it ("prefill"; -1: elsewhere)."""
    profile = stage_profile(mix, replica)
    for j, each in enumerate(mix.types):
        prefills = sum(taken > 0 for _, _, taken in life(each, replica))
        assert profile.first_token_stage[j] == prefills - (replica.first_token == "prefill")


@sampled
@given(workloads(least=2), replicas(lines()))
def test_blocks_waste_less_than_one_block_per_stage_and_no_time(mix: Workload, replica: Replica) -> None:
    paged, exact = stage_profile(mix, replica), stage_profile(mix, replace(replica, block=1))
    waste = paged.kv_work - exact.kv_work
    assert np.all(waste >= 0)
    assert np.all(waste <= (replica.block - 1) * paged.stages)
    assert np.array_equal(paged.time_work(replica.iteration_time), exact.time_work(replica.iteration_time))


def test_a_prompt_without_any_stage_is_refused_by_name() -> None:
    """Decode only, first token from the prefill, one output token: nothing is left to do here."""
    replica = Replica(99, LINE, prefill="decode-only", first_token="prefill")
    mix = Workload([PromptType(5, 2, 1.0), PromptType(5, 1, 1.0, "yes or no")])
    with pytest.raises(InputError) as caught:
        stage_profile(mix, replica)
    assert str(caught.value) == ('output_tokens must be at least 2 tokens where prefill is "decode-only" and makes the '
                                 'first token (got 1) in prompt type "yes or no"')


@sampled
@given(st.lists(lines(), min_size=1, max_size=4), st.integers(0, 10**5), st.integers(0, 10**4), st.integers(0, 999))
def test_the_largest_of_several_lines_is_their_maximum_at_every_batch(
        pieces: list[IterationTime], kv: int, prefill: int, size: int) -> None:
    assert IterationTime.largest(*pieces)(kv, prefill, size) == max(piece(kv, prefill, size) for piece in pieces)


def test_the_largest_of_largest_keeps_every_line() -> None:
    one, two = IterationTime(1.0, 0.1), IterationTime(2.0, 0.0, 0.3, 0.4)
    assert IterationTime.largest(IterationTime.largest(one, two), one).pieces == (*one.pieces, *two.pieces, *one.pieces)


def test_a_replica_is_a_value() -> None:
    """Equal fields, equal and equally hashed; a whole number given as a float is kept as an int."""
    one, two = Replica(137_000, LINE, prefill=512), Replica(137_000.0, LINE, prefill=512.0)  # type: ignore[arg-type]
    assert one == two
    assert hash(one) == hash(two)
    assert isinstance(two.kv_capacity, int)
    assert isinstance(two.prefill, int)


@pytest.mark.parametrize("coefficients", [(-1.0, 0.0), (0.0, 1.0), (1.0, math.nan), (1.0, math.inf), ("1", 0.0),
                                          (1.0, True), (1.0, 0.0, -1e-9), (1.0, 0.0, 0.0, None)])
def test_a_bad_coefficient_of_the_iteration_time_is_refused(coefficients: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match=r"must be a (positive|nonnegative) finite number of seconds"):
        IterationTime(*coefficients)


@pytest.mark.parametrize("pieces", [(), (1.0,), (LINE, None)])
def test_the_largest_of_nothing_or_of_something_else_is_refused(pieces: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match="lines must be"):
        IterationTime.largest(*pieces)


@pytest.mark.parametrize(("fields", "complaint"), [
    ({"kv_capacity": 0}, f"kv_capacity must be a whole number of tokens from 1 to {2**50} (got 0) in replica"),
    ({"kv_capacity": 1.5}, f"kv_capacity must be a whole number of tokens from 1 to {2**50} (got 1.5) in replica"),
    ({"kv_capacity": math.nan}, f"kv_capacity must be a whole number of tokens from 1 to {2**50} (got nan) in replica"),
    ({"block": 0}, f"block must be a whole number of tokens from 1 to {2**24} (got 0) in replica"),
    ({"block": True}, f"block must be a whole number of tokens from 1 to {2**24} (got True) in replica"),
    ({"prefill": 0}, f"prefill chunk must be a whole number of tokens from 1 to {2**24} (got 0) in replica"),
    ({"prefill": None}, f"prefill chunk must be a whole number of tokens from 1 to {2**24} (got None) in replica"),
    ({"prefill": "chunked"},
     "prefill must be \"whole\", \"decode-only\" or a chunk size in tokens (got 'chunked') in replica"),
    ({"first_token": "last"}, "first_token must be \"decode\" or \"prefill\" (got 'last') in replica"),
    ({"first_token": 1}, 'first_token must be "decode" or "prefill" (got 1) in replica'),
    ({"iteration_time": 0.01}, "iteration_time must be an IterationTime (got 0.01) in replica"),
])
def test_a_bad_field_of_a_replica_is_named_with_what_it_must_be(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        Replica(**{"kv_capacity": 99, "iteration_time": LINE, **fields})
    assert str(caught.value) == complaint
    assert isinstance(caught.value, FluidwaitError)
    assert isinstance(caught.value, ValueError)
