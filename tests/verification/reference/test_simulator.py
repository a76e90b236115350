"""The compiled simulator and its literal twin agree bit by bit on random paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, iteration_times

from fluid import IterationTime, Replica, Workload, stage_profile
from thresholds import LookAheadPolicy, NestedWaitPolicy, PacedPolicy, WaitPolicy
from verification import (
    MCSF,
    AMin,
    Arrivals,
    Clearing,
    Greedy,
    MCBenchmark,
    Protected,
    Run,
    Sarathi,
    SortedF,
    VllmV0,
    VllmV1,
    simulate,
)
from verification.policies import Policy
from verification.reference.rules import TWINS
from verification.reference.simulator import simulate_literally
from verification.rules import RULES
from verification.rules.rule import Rule
from verification.traffic.closed import Returning

TIMES = ("admitted", "first_token", "finished")
COUNTS = ("iterations", "evictions", "overflows", "rejected", "kv_peak", "busy_time", "end_time", "completed")
agreed = examples(150)
briefly = examples(60)  # where the same rules are tried with more examples elsewhere


class Path(NamedTuple):
    """A small system under pressure: a few dozen requests on a few hundred tokens."""

    workload: Workload
    replica: Replica
    arrivals: Arrivals


@st.composite
def paths(draw: Any) -> Path:
    """Requests in bunches (equal times too), on a cache of a few prompts; some types may never fit.

    With attention windows, in all layers or some, states that are constant, and types that find a prefix in the cache.
    """
    types = draw(st.integers(1, 3))
    lengths = [draw(st.lists(st.integers(*span), min_size=types, max_size=types)) for span in ((1, 30), (2, 20))]
    replica = Replica(draw(st.integers(10, 200)), draw(iteration_times()),
                      draw(st.one_of(st.sampled_from(["whole", "decode-only"]), st.integers(1, 12))),
                      draw(st.integers(1, 8)), draw(st.sampled_from(["decode", "prefill"])),
                      draw(st.one_of(st.none(), st.integers(1, 12))), draw(st.one_of(st.none(), st.integers(1, 45))))
    if draw(st.booleans()):
        replica = replace(replica, state=draw(st.integers(0, 6)))
    if replica.attention_window is not None and draw(st.booleans()):
        layers = draw(st.integers(1, 7))
        replica = replace(replica, windowed_layers=(draw(st.integers(0, layers)), layers))
    if draw(st.booleans()):
        least = max(replica.max_num_seqs or 1, replica.prefill if isinstance(replica.prefill, int) else 1)
        replica = replace(replica, max_num_batched_tokens=draw(st.integers(least, least + 40)))
    count = draw(st.integers(0, 40))
    scale = replica.iteration_time.overheads.max() * draw(st.sampled_from([0.1, 1.0, 10.0]))
    steps = draw(st.lists(st.sampled_from([0.0, 0.0, 0.3, 1.0, 2.5]), min_size=count, max_size=count))
    kinds = draw(st.lists(st.integers(0, types - 1), min_size=count, max_size=count))
    arrivals = Arrivals(np.cumsum(np.array(steps, dtype=float)) * scale, np.array(kinds, dtype=np.int64))
    cached = [draw(st.integers(0, prompt - 1)) if draw(st.booleans()) else 0 for prompt in lengths[0]]
    return Path(Workload.from_arrays(*lengths, np.ones(types), cached_prefix=cached), replica, arrivals)


@st.composite
def mistaken(draw: Any) -> Path:
    """Requests that may be taken for any type, and of some of them for their own."""
    path = draw(paths())
    count = len(path.arrivals)
    seen = draw(st.lists(st.integers(0, len(path.workload) - 1), min_size=count, max_size=count))
    arrivals = Arrivals(path.arrivals.times, path.arrivals.types, np.array(seen, dtype=np.int64))
    return path._replace(arrivals=arrivals)


def in_one_piece(path: Path) -> Path:
    """The path where prompts are not prefilled in chunks."""
    prefill = "whole" if isinstance(path.replica.prefill, int) else path.replica.prefill
    budget = path.replica.max_num_batched_tokens
    if budget is not None:
        budget = max(budget, int(path.workload.prompt_tokens.max()))
    return path._replace(replica=replace(path.replica, prefill=prefill, max_num_batched_tokens=budget))


def wait_policies(path: Path) -> st.SearchStrategy[WaitPolicy]:
    """Any thresholds, feasible or not."""
    return st.lists(st.integers(1, 4), min_size=len(path.workload), max_size=len(path.workload)).map(
        lambda n: WaitPolicy(tuple(n)))


def paced_policies(path: Path) -> st.SearchStrategy[PacedPolicy]:
    """Windows of each type or one for the mix, with and without a gate."""
    def windows(lanes: int) -> st.SearchStrategy[PacedPolicy]:
        numbers = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 8)), min_size=lanes, max_size=lanes)
        return st.builds(lambda pairs, gate: PacedPolicy(*zip(*pairs, strict=True), gate), numbers, st.booleans())

    return st.sampled_from([1, len(path.workload)]).flatmap(windows)


nested_policies = st.lists(st.integers(1, 19), max_size=4, unique=True).flatmap(
    lambda cuts: st.lists(st.integers(1, 4), min_size=len(cuts) + 1, max_size=len(cuts) + 1).map(
        lambda n: NestedWaitPolicy((*sorted(cuts), 20), tuple(n))))  # 20: the longest output of `paths`


watermarks, ends = st.sampled_from([0.0, 0.01, 0.3]), st.sampled_from(["front", "back"])
evictions = st.sampled_from(["recompute", "restart"])
greedy_policies = st.builds(Greedy, watermarks, ends, evictions)
vllm_v0_policies = st.builds(VllmV0, watermarks, ends, st.one_of(st.none(), st.integers(1, 60)), evictions)
sarathi_policies = st.builds(Sarathi, st.integers(1, 40), watermarks, ends, evictions)
vllm_v1_policies = st.builds(VllmV1, st.integers(12, 60), watermarks, st.booleans(),  # 12: the largest cap of `paths`
                             st.one_of(st.none(), st.integers(1, 20)), evictions, st.booleans())
protections = st.sampled_from([0.0, 0.1, 0.5])
looking_ahead_policies = st.one_of(st.builds(MCSF, protections), st.builds(MCBenchmark, protections))
clearing_policies = st.one_of(st.builds(Protected, protections), st.builds(
    Clearing, protections, st.sampled_from([0.05, 0.3, 1.0]), st.integers(0, 2**63 - 1)))
a_min_policies = st.builds(AMin, st.one_of(st.none(), st.integers(1, 25)))


@st.composite
def look_ahead_policies(draw: Any, path: Path) -> LookAheadPolicy:
    """Any laws of the lives, also of lives shorter than those that come, any blocks and chances."""
    rows, step = draw(st.integers(1, 12)), draw(st.sampled_from([1, 1, 2, 3]))
    bounds = sorted(draw(st.lists(st.integers(1, 30), min_size=2, max_size=6)))
    prompts = tuple(zip(bounds[::2], bounds[1::2], strict=False))
    falling = st.lists(st.sampled_from([0.0, 0.1, 0.4, 0.7, 0.9]), min_size=rows - 1, max_size=rows - 1).map(
        lambda values: (1.0, *sorted(values, reverse=True)))
    points = (0, *(step * point for point in sorted(draw(st.sets(st.integers(1, 10), max_size=3)))))
    return LookAheadPolicy(prompts, step, tuple(draw(falling) for _ in prompts), points,
                           tuple(draw(st.lists(st.floats(0.01, 2.0), min_size=1, max_size=3))),
                           tuple(draw(st.floats(-20.0, -0.1)) for _ in points))


WITH_THRESHOLDS: dict[type, Callable[[Path], st.SearchStrategy[Any]]] = {
    WaitPolicy: wait_policies, PacedPolicy: paced_policies, LookAheadPolicy: look_ahead_policies,
    NestedWaitPolicy: lambda _: nested_policies}


@st.composite
def loops(draw: Any) -> Path:
    """A path on which most requests are sent once others are answered, after a time to think, or when they are due."""
    path = draw(paths().filter(_serves_all))
    count, scale = len(path.arrivals), path.replica.iteration_time.overheads.max()
    thinks = draw(st.lists(st.sampled_from([0.0, 0.0, 0.7, 2.0, 5.3]), min_size=count, max_size=count))
    planned = path.arrivals.times if draw(st.booleans()) else np.zeros(count)
    arrivals = Returning.planning(path.arrivals.types, planned, np.array(thinks, dtype=float) * scale,
                                  min(draw(st.integers(1, 8)), count))
    return path._replace(arrivals=arrivals)


def _serves_all(path: Path) -> bool:
    profile = stage_profile(path.workload, path.replica)
    return bool(len(path.arrivals) > 0 and (profile.peak <= path.replica.kv_capacity).all()
                and (profile.first_token_stage >= 0).all())


def assert_twins(policy: Policy, path: Path) -> None:
    """Every time of every request, every count and every gap between tokens is the same, to the last bit."""
    fast = simulate(policy, path.workload, path.replica, arrivals=path.arrivals, record=True)
    literal = simulate_literally(policy, path.workload, path.replica, path.arrivals)
    assert_same(fast, literal)
    assert_same(simulate(policy, path.workload, path.replica, arrivals=path.arrivals), literal)
    np.testing.assert_array_equal(every_gap(fast), every_gap(literal))


def every_gap(run: Run) -> np.ndarray:
    """The end and length of each gap between two tokens of a request, sorted: shape (gaps, 2)."""
    assert run.gaps is not None
    each = np.repeat(np.column_stack([run.gaps.end, run.gaps.seconds]), run.gaps.count, axis=0)
    return each[np.lexsort(each.T)]


def assert_same(fast: Run, literal: Run) -> None:
    """Two runs with the same times and counts."""
    for name in TIMES:
        np.testing.assert_array_equal(getattr(fast, name), getattr(literal, name), err_msg=name)
    assert {name: getattr(fast, name) for name in COUNTS} == {name: getattr(literal, name) for name in COUNTS}


def test_every_rule_has_a_literal_twin() -> None:
    """A rule without one is a rule that nothing is held against."""
    assert set(TWINS) == {rule.policy for rule in RULES}


def test_every_rule_is_among_those_tried() -> None:
    """Those that are `made` without thresholds are tried as they are made, for the others thresholds are drawn here."""
    assert set(WITH_THRESHOLDS) == {rule.policy for rule in RULES if rule.made is None}


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.made], ids=lambda rule: rule.name)
@briefly
@given(path=paths())
def test_a_rule_without_thresholds_agrees_with_its_literal_twin_as_it_is_made(rule: Rule, path: Path) -> None:
    """Whatever is entered in `RULES`, with the policy that it makes for the replica."""
    assert rule.made is not None
    assert_twins(rule.made(path.replica), path)


@pytest.mark.parametrize("policy", WITH_THRESHOLDS, ids=lambda policy: policy.name)
@agreed
@given(data=st.data())
def test_a_rule_with_thresholds_agrees_with_its_literal_twin(policy: type, data: st.DataObject) -> None:
    """WAIT, windows per type or for the mix, gated or not, boundary queues and survivors, with any thresholds, feasible
    or not: completion times, KV peak and overflows are identical. (Nested WAIT takes no prefill in chunks.)
    """
    path = data.draw(paths())
    if policy is NestedWaitPolicy:
        path = in_one_piece(path)
    assert_twins(data.draw(WITH_THRESHOLDS[policy](path)), path)


@agreed
@given(paths(), greedy_policies)
def test_greedy_agrees_with_its_literal_twin(path: Path, policy: Greedy) -> None:
    """Greedy with eviction, both ways of requeueing: completion times, evictions and KV peak are identical."""
    assert_twins(policy, path)


@agreed
@given(paths(), vllm_v0_policies)
def test_vllm_v0_agrees_with_its_literal_twin(path: Path, policy: VllmV0) -> None:
    """Prefills before decodes, under a token budget: completion times, evictions and KV peak are identical."""
    assert_twins(policy, path)


@briefly
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 3)), min_size=2, max_size=8), st.integers(1, 6),
       st.integers(33, 90), st.sampled_from(["front", "back"]))
def test_greedy_evicts_prompts_that_overtook_longer_ones(
        bunches: list[tuple[int, int]], chunk: int, capacity: int, requeue: str) -> None:
    """Chunks at once, outputs alike: a short prompt starts to decode before a long one admitted before it, both are due
    out together, and the short one goes first.
    """
    workload = Workload.from_arrays([prompt for prompt, _ in bunches], [3] * len(bunches), np.ones(len(bunches)))
    kinds = np.repeat(np.arange(len(bunches)), [count for _, count in bunches])
    replica = Replica(capacity, IterationTime(1.0, 0.0), chunk)
    for eviction in ("recompute", "restart"):
        policy = Greedy(0.0, requeue, eviction)
        assert_twins(policy, Path(workload, replica, Arrivals(np.zeros(len(kinds)), kinds)))


def _pressed(seed: int) -> tuple[Path, list[Policy]]:
    """Forty requests on memory for a few, and each rule that evicts with numbers of its own."""
    rng = np.random.default_rng(seed)
    types = int(rng.integers(1, 4))
    prompts = rng.integers(1, 30, types)
    workload = Workload.from_arrays(prompts, rng.integers(2, 25, types), np.ones(types),
                                    cached_prefix=rng.integers(0, prompts) * (seed % 8 < 4))
    replica = Replica(int(rng.integers(40, 140)), IterationTime(1.0, 0.01, 0.03, 0.002),
                      ["whole", "decode-only", int(rng.integers(1, 12))][rng.integers(3)], int(rng.integers(1, 8)),
                      ["decode", "prefill"][rng.integers(2)], [None, int(rng.integers(3, 25))][rng.integers(2)])
    if seed % 4 < 2:
        replica = replace(replica, attention_window=int(rng.integers(1, 45)),
                          windowed_layers=(int(rng.integers(1, 5)), 5), state=int(rng.integers(0, 4)))
    arrivals = Arrivals(np.sort(rng.uniform(0, rng.choice([1, 50, 200]), 40)), rng.integers(0, types, 40))
    watermark, tokens, threshold = float(rng.choice([0.0, 0.05, 0.3])), int(rng.integers(25, 60)), rng.integers(1, 20)
    policies: list[Policy] = [
        VllmV1(tokens, watermark, bool(rng.integers(2)), [None, int(threshold)][rng.integers(2)],
               asynchronous=bool(seed % 2)),
        VllmV0(watermark, "front", tokens), Sarathi(tokens, watermark), Greedy(watermark, eviction="recompute")]
    return Path(workload, replica, arrivals), policies


def test_rules_that_keep_tokens_agree_with_their_literal_twins_under_pressure() -> None:
    """100 systems that evict again and again, so that requests are evicted while they prefill what they had kept."""
    evicted = np.zeros(4, dtype=int)
    for seed in range(100):
        path, policies = _pressed(seed)
        for i, policy in enumerate(policies):
            assert_twins(policy, path)
            evicted[i] += simulate(policy, path.workload, path.replica, arrivals=path.arrivals).evictions
    assert evicted.min() > 100 * 10


@pytest.mark.parametrize("policy", [VllmV0(0.0), Sarathi(1, 0.0)])
def test_a_type_of_many_chunks_that_never_comes_changes_nothing(policy: Policy) -> None:
    """144 chunks of the one type, lives of 116 iterations of the other: only those who come decide what is due when."""
    workload = Workload.from_arrays([144, 2], [19, 114], np.ones(2))
    replica = Replica(1000, IterationTime(1.0, 0.0), 1)
    assert_twins(policy, Path(workload, replica, Arrivals([0.0, 1.0, 300.0], [1, 1, 1])))


@agreed
@given(paths(), vllm_v1_policies)
def test_vllm_v1_agrees_with_its_literal_twin(path: Path, policy: VllmV1) -> None:
    """Blocks, caps, budgets, watermark, threshold: all at once here, block by block and request by request there."""
    assert_twins(policy, path)


@agreed
@given(paths(), sarathi_policies)
def test_sarathi_agrees_with_its_literal_twin(path: Path, policy: Sarathi) -> None:
    """Chunks beside decodes under a budget: completion times, evictions and KV peak are identical."""
    assert_twins(policy, path)


@agreed
@given(paths(), looking_ahead_policies)
def test_rules_that_look_ahead_agree_with_their_literal_twins(path: Path, policy: MCSF | MCBenchmark) -> None:
    """There every test is made in every iteration, here none before it can pass; lengths known, nobody is cleared."""
    assert_twins(policy, path)
    run = simulate(policy, path.workload, path.replica, arrivals=path.arrivals)
    assert (run.evictions, run.kv_peak <= path.replica.kv_capacity) == (0, True)


@agreed
@given(mistaken(), looking_ahead_policies)
def test_rules_that_look_ahead_agree_with_their_literal_twins_where_types_are_mistaken(
        path: Path, policy: MCSF | MCBenchmark) -> None:
    """Requests that leave early, outlive their prediction or hold more than it says, and are cleared."""
    assert_twins(policy, path)


@briefly
@given(paths(), clearing_policies)
def test_rules_that_clear_by_chance_agree_with_their_literal_twins(path: Path, policy: Protected | Clearing) -> None:
    """The same chances, so the same requests go, in the same passes."""
    assert_twins(policy, path)


@agreed
@given(st.one_of(paths(), mistaken()), a_min_policies)
def test_a_min_agrees_with_its_literal_twin(path: Path, policy: AMin) -> None:
    """Bounds that are told, or the same for all, below the lengths and above them."""
    assert_twins(policy, path)


@agreed
@given(st.one_of(paths(), mistaken()))
def test_sorted_f_agrees_with_its_literal_twin(path: Path) -> None:
    """There all nine orders of all that wait are cut wherever they fit, here groups that are alike, and X_1 alone."""
    assert_twins(SortedF(), path)


@agreed
@given(st.data())
def test_rules_by_type_agree_with_their_literal_twins_where_types_are_mistaken(data: st.DataObject) -> None:
    """Requests wait and move with those they are taken for, and leave at their own last token."""
    path = in_one_piece(data.draw(mistaken()))
    assert_twins(data.draw(st.one_of(wait_policies(path), paced_policies(path))), path)


@briefly
@given(st.data())
def test_wait_by_what_is_seen_is_wait_where_everything_is_seen_right(data: st.DataObject) -> None:
    """The rule that lets members of a cohort differ gives the bits of the one whose members are alike."""
    path = in_one_piece(data.draw(paths()))
    policy = data.draw(wait_policies(path))
    right = Arrivals(path.arrivals.times, path.arrivals.types, path.arrivals.types)
    assert right.seen is not right.types
    assert_same(simulate(policy, path.workload, path.replica, arrivals=right),
                simulate(policy, path.workload, path.replica, arrivals=path.arrivals))


@briefly
@given(mistaken(), st.one_of(greedy_policies, vllm_v0_policies, sarathi_policies, vllm_v1_policies, clearing_policies,
                             st.builds(AMin, st.integers(1, 25))))
def test_what_is_predicted_is_nothing_to_rules_that_look_at_no_length(path: Path, policy: Policy) -> None:
    """Greedy admission, vLLM, Sarathi, clearing and A_min on a bound run as if nothing were predicted."""
    told = simulate(policy, path.workload, path.replica, arrivals=path.arrivals)
    untold = Arrivals(path.arrivals.times, path.arrivals.types)
    assert_same(told, simulate(policy, path.workload, path.replica, arrivals=untold))


@briefly
@given(st.data(), st.integers(0, 50), st.floats(0.1, 3.0))
def test_the_twins_agree_up_to_a_horizon(data: st.DataObject, seed: int, crowding: float) -> None:
    """On Poisson arrivals with a horizon (some 20 requests) the literal twin replays the compiled run."""
    path = data.draw(paths())
    policy = data.draw(st.one_of(wait_policies(path), paced_policies(path), greedy_policies, vllm_v0_policies,
                                 sarathi_policies, vllm_v1_policies, looking_ahead_policies, clearing_policies,
                                 a_min_policies, st.just(SortedF())))
    workload = path.workload.scaled(crowding / path.replica.iteration_time.overheads.max())
    horizon = 20 / workload.rate
    fast = simulate(policy, workload, path.replica, horizon=horizon, seed=seed)
    assert_same(fast, simulate_literally(policy, workload, path.replica, fast.arrivals, horizon))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@briefly
@given(data=st.data())
def test_a_closed_loop_agrees_with_its_literal_twin(rule: Rule, data: st.DataObject) -> None:
    """Under every rule, whether users think or a generator holds requests back: arrivals too are the same bits."""
    path = data.draw(loops())
    if rule.policy is NestedWaitPolicy or (rule.made is None and rule.policy is not PacedPolicy):
        path = in_one_piece(path)
    policy = data.draw(WITH_THRESHOLDS[rule.policy](path)) if rule.made is None else rule.made(path.replica)
    fast = simulate(policy, path.workload, path.replica, arrivals=path.arrivals)
    literal = simulate_literally(policy, path.workload, path.replica, path.arrivals)
    np.testing.assert_array_equal(fast.arrivals.times, literal.arrivals.times)
    assert_twins(policy, path)
