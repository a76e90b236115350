"""The budget of tokens of an iteration: half-spaces, limit, what it makes of long prompts, and the simulator."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Instance, capped, sampled

import thresholds
from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve, stability_region, stage_profile
from verification import Sarathi, VllmV1, simulate

LINE = IterationTime(0.0106, 4.013e-7)
SHORT = Workload([PromptType(512, 20, 1.0)])


@st.composite
def budgeted(draw: Any) -> Instance:
    """A mix and a replica that computes between its cap and a few thousand tokens in an iteration."""
    mix, replica = draw(capped(load=(0.01, 2.0)))
    replica = replace(replica, max_num_seqs=min(replica.max_num_seqs or 1, 10**6))
    chunk = replica.prefill if isinstance(replica.prefill, int) else 1
    least = max(chunk, replica.max_num_seqs or 1)
    return Instance(mix, replace(replica, max_num_batched_tokens=draw(st.integers(least, least + 4000))))


@sampled
@given(budgeted())
def test_the_budget_adds_a_half_space_for_each_line(instance: Instance) -> None:
    """h_ij = c_ij + a_i t_j/q with t_j the tokens of a life, summed stage by stage, after the rows of sequences."""
    mix, replica = instance
    region, profile = stability_region(mix, replica), stage_profile(mix, replica)
    pieces = len(replica.iteration_time.pieces)
    tokens = np.array([np.maximum(profile.stage_prefill(j), 1).sum() for j in range(len(mix))])
    np.testing.assert_array_equal(profile.tokens, tokens)
    rows = [i for i, limit in enumerate(region.limits) if limit == "tokens"]
    assert len(rows) == pieces
    for i, row in enumerate(rows):
        c, a = profile.time_work(replica.iteration_time)[i], replica.iteration_time.overheads[i]
        assert region.half_spaces[row] == pytest.approx(c + a * tokens / replica.most_tokens, rel=1e-12)


@sampled
@given(budgeted())
def test_stable_means_that_the_budget_takes_the_tokens_of_the_equilibrium(instance: Instance) -> None:
    """sum_j n_j* t_j <= q beside the other limits; at the edge where tokens bind they fill q."""
    found = solve(*instance)
    assert found.region.contains(instance.workload.rates) == (found.limit is None)
    if found.tokens is not None and found.limit is None:
        assert found.tokens <= instance.replica.most_tokens * (1 + 1e-9)
    if found.region.binding(instance.workload.rates) == "tokens" and 0 < found.max_rate_scale < math.inf:
        edge = solve(instance.workload.scaled(found.max_rate_scale), instance.replica)
        assert edge.tokens == pytest.approx(instance.replica.most_tokens, rel=1e-6)


def test_a_prompt_longer_than_the_budget_is_prefilled_in_chunks_of_it() -> None:
    """1,000 + 2 tokens under 400: 400, 400, 200; a prompt of 300 is whole beside it."""
    mix = Workload([PromptType(1000, 2, 1.0), PromptType(300, 2, 1.0)])
    profile = stage_profile(mix, Replica(10_000, LINE, max_num_batched_tokens=400, block=16))
    assert profile.stage_prefill(0).tolist() == [400, 400, 200, 0, 0]
    assert profile.stage_prefill(1).tolist() == [300, 0, 0]
    assert profile.kv_work.tolist() == [profile.stage_kv(0).sum(), profile.stage_kv(1).sum()]


@pytest.mark.parametrize("budget", [512, 2048])
@pytest.mark.parametrize("per_prefill", [0.0, 2e-5])
def test_engines_with_a_budget_carry_what_the_half_space_says(budget: int, per_prefill: float) -> None:
    """512 + 20 tokens: Sarathi and vLLM V1 keep up at 95% of the edge; at 110% they fall back to the edge."""
    replica = Replica(137_000, IterationTime(0.0106, 4.013e-7, per_prefill), first_token="prefill",
                      max_num_batched_tokens=budget)
    edge = solve(SHORT, replica)
    assert edge.region.binding([1.0]) == "tokens"
    for policy in (Sarathi(budget, 0.0), VllmV1(budget)):
        for share, kept in ((0.95, 0.95), (1.1, 1.0)):
            run = simulate(policy, SHORT.scaled(share * edge.max_rate_scale), replica, horizon=1000.0, seed=1)
            assert run.throughput / 20 / edge.max_rate_scale == pytest.approx(kept, rel=0.02)


def test_the_answer_names_the_budget() -> None:
    """Above the edge and below it."""
    replica = Replica(137_000, LINE, max_num_batched_tokens=512)
    assert "166 of 512 tokens in an iteration; max_num_batched_tokens binds at 64.88" in solve(
        SHORT.scaled(26.0), replica).reason
    over = solve(SHORT.scaled(80.0), replica)
    assert (over.limit, over.stable) == ("tokens", False)
    assert "the replica takes 512 (max_num_batched_tokens)" in over.reason


def test_designs_keep_to_the_budget() -> None:
    """Whole thresholds of one prompt a stage need 532 tokens at once; windows need fewer than 512 on average.

    With prefills in halves: a whole one of 512 tokens would wait until nobody decodes.
    """
    replica = Replica(137_000, LINE, max_num_batched_tokens=512)
    found = thresholds.wait(SHORT.scaled(20.0), replica)
    assert (found.tokens, found.feasible, found.max_rate_scale) == (532, False, 0.0)
    assert "need 532 tokens in an iteration, 20 more than the replica takes" in found.reason
    halves = replace(replica, prefill=256)
    for lengths in ("known", "unknown"):
        assert not thresholds.paced(SHORT.scaled(20.0), replica, lengths=lengths).feasible
        windows = thresholds.paced(SHORT.scaled(20.0), halves, lengths=lengths)
        assert windows.feasible
        assert windows.tokens <= 512
        assert windows.max_rate_scale * 20 == pytest.approx(solve(SHORT, halves).max_rate_scale, rel=0.05)


@pytest.mark.parametrize(("options", "message"), [
    ({"max_num_batched_tokens": 0}, "max_num_batched_tokens must be"),
    ({"max_num_batched_tokens": 64, "max_num_seqs": 65}, "max_num_batched_tokens must be at least max_num_seqs, 65"),
    ({"max_num_batched_tokens": 64, "prefill": 65}, "max_num_batched_tokens must be at least the prefill chunk, 65"),
])
def test_a_budget_that_no_engine_takes_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Replica(1000, LINE, **options)
