"""What holds of every run, held against random runs of every rule, and against runs that were tampered with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Instance, capped, examples, instances

from fluid import IterationTime, PromptType, Replica, Workload
from thresholds import LookAheadPolicy, NestedWaitPolicy, PacedPolicy, WaitPolicy
from verification import (
    MCSF,
    Arrivals,
    Greedy,
    MCBenchmark,
    Run,
    Sarathi,
    Timeline,
    VllmV0,
    VllmV1,
    invariants,
    replicate,
    simulate,
)
from verification.policies import Policy
from verification.rules import RULES
from verification.rules.rule import Rule

Make = Callable[[Instance], Policy]


def _made(rule: Rule, instance: Instance) -> Policy:
    assert rule.made is not None
    return rule.made(instance.replica)


POLICIES: dict[str, Make] = {  # of every rule, some; those that put every resident in every batch are named in ALWAYS
    "wait": lambda instance: WaitPolicy(tuple(1 + j % 3 for j in range(len(instance.workload)))),
    "paced": lambda instance: PacedPolicy((2,), (3,)),
    "paced by type": lambda instance: PacedPolicy((1,) * len(instance.workload), (2,) * len(instance.workload)),
    "gated": lambda instance: PacedPolicy((3,), (1,), gate=True),
    "look-ahead": lambda instance: LookAheadPolicy(
        ((1, 40), (41, 2000)), 8, ((1.0, 0.9, 0.6, 0.2), (1.0, 0.5, 0.2, 0.0)), (0, 8, 32), (0.005, 0.02), (-2.0,) * 3),
    "nested": lambda instance: _nested(instance),
    "greedy": lambda instance: Greedy(0.0),
    "greedy, back": lambda instance: Greedy(0.1, "back"),
    "greedy, tokens kept": lambda instance: Greedy(0.0, eviction="recompute"),
    "vllm v0": lambda instance: VllmV0(0.0, max_num_batched_tokens=300),
    "vllm v0, restart": lambda instance: VllmV0(0.0, eviction="restart"),
    "vllm v1": lambda instance: VllmV1(max(64, instance.replica.max_num_seqs or 0), 0.05, False, 16),
    "sarathi": lambda instance: Sarathi(64, 0.0),
    "mc-sf": lambda instance: MCSF(0.1),
    "mc-benchmark": lambda instance: MCBenchmark(0.3),
    **{f"{rule.name}, as it is made": partial(_made, rule) for rule in RULES if rule.made},
}
ALWAYS = ("paced", "paced by type", "gated", "look-ahead", "greedy", "greedy, back", "mc-sf",
          "mc-benchmark", "sorted-f, as it is made")


def _nested(instance: Instance) -> NestedWaitPolicy:
    longest = int(instance.workload.output_tokens.max())
    cuts = sorted({1 + longest // 3, 1 + 2 * longest // 3, longest})
    return NestedWaitPolicy(tuple(cuts), tuple(range(len(cuts) + 1, 1, -1)))


def test_every_rule_is_among_those_tried() -> None:
    """A rule without a policy here is a rule whose runs nobody checks."""
    example = Instance(Workload([PromptType(5, 5, 1.0)]), Replica(100, IterationTime(1.0, 0.0)))
    tried = {type(make(example)) for make in POLICIES.values()}
    assert tried == {rule.policy for rule in RULES}


@pytest.mark.parametrize("name", POLICIES)
@examples(40)
@given(st.one_of(instances(load=(0.1, 1.5), most_types=3), capped(load=(0.1, 1.5), most_types=3)), st.data())
def test_no_run_breaks_an_invariant(name: str, instance: Instance, data: st.DataObject) -> None:
    """Any workload, any replica, memory for one prompt or many, below the edge and above it, by horizon or by list."""
    mix, replica = instance
    if name == "nested":
        replica = replace(replica, prefill="whole")
    if data.draw(st.booleans()):  # memory for hardly more than the largest prompt: greedy evicts, the rest overflow
        replica = replace(replica, kv_capacity=data.draw(st.integers(int(mix.prompt_tokens.min()) + 200, 1000)))
    seed, policy = data.draw(st.integers(0, 999)), POLICIES[name](Instance(mix, replica))
    options: dict[str, Any] = {"horizon": 60 / mix.rate, "seed": seed}
    if data.draw(st.booleans()):
        times = np.random.default_rng(seed).exponential(1 / mix.rate, 60).cumsum()
        options = {"arrivals": Arrivals(times, np.random.default_rng(seed).integers(0, len(mix), 60))}
    run = simulate(policy, mix, replica, record=True, **options)
    makes_chunks = hasattr(policy, "on_replica")  # of its own, whatever those of the replica
    keeps = getattr(policy, "eviction", "restart") == "recompute"
    assert invariants(run, replica, always=name in ALWAYS, in_parts=makes_chunks, keeps=keeps) == ()


@pytest.mark.parametrize("name", POLICIES)
def test_the_same_seed_gives_the_same_bits_for_one_worker_and_for_two(name: str) -> None:
    """Under every rule, to the last bit of every array and count."""
    instance = Instance(Workload([PromptType(60, 20, 30.0), PromptType(20, 40, 20.0)]),
                        Replica(20_000, IterationTime(0.01, 1e-6)))
    one, two = (replicate(POLICIES[name](instance), *instance, horizon=10.0, replications=4, seed=5, workers=workers)
                for workers in (1, 2))
    for a, b in zip(one, two, strict=True):
        for field in ("admitted", "first_token", "finished"):
            assert np.array_equal(getattr(a, field), getattr(b, field), equal_nan=True)
        assert np.array_equal(a.timeline.kv, b.timeline.kv)
        assert np.array_equal(a.timeline.start, b.timeline.start)
        assert (a.evictions, a.kv_peak, a.busy_time) == (b.evictions, b.kv_peak, b.busy_time)


MIX = Workload([PromptType(60, 20, 30.0), PromptType(20, 40, 20.0), PromptType(9_000, 2_000, 0.5)])
REPLICA = Replica(10_000, IterationTime(0.01, 1e-6))


def honest() -> Run:
    """Greedy admission without evictions; the third type never fits."""
    run = simulate(Greedy(), MIX, REPLICA, horizon=10.0, seed=1, record=True)
    assert run.evictions == 0
    assert run.rejected > 0
    return run


def changed(values: np.ndarray, place: int, by: float) -> np.ndarray:
    """A copy with one value changed."""
    copy = values.copy()
    copy[place] += by
    return copy


def of_timeline(run: Run, **changes: Callable[[np.ndarray], np.ndarray]) -> Run:
    """The run with columns of its timeline changed."""
    columns = {name: change(getattr(run.timeline, name)) for name, change in changes.items()}
    return replace(run, timeline=Timeline(**{**vars(run.timeline), **columns}))


def done(run: Run) -> int:
    """A request of the middle that finished."""
    return int(np.flatnonzero(np.isfinite(run.finished))[50])


TAMPERED: dict[str, Callable[[Run], Run]] = {
    "arrivals are completed, waiting, resident or never fit": lambda run: replace(
        run, admitted=changed(run.admitted, done(run), np.nan)),
    "only what fits is served": lambda run: replace(
        run, admitted=np.where(run.fits, run.admitted, run.arrivals.times + 0.1)),
    "nobody is admitted before arrival": lambda run: replace(run, admitted=changed(run.admitted, done(run), -1.0)),
    "no first token before admission": lambda run: replace(run, first_token=run.admitted),
    "no completion before the first token": lambda run: replace(run, finished=run.first_token - 0.001),
    "no first token without admission": lambda run: replace(run, admitted=changed(run.admitted, done(run), np.nan)),
    "no completion without a first token": lambda run: replace(
        run, first_token=changed(run.first_token, done(run), np.nan)),
    "nothing counts after the end": lambda run: replace(run, end_time=5.0),
    "every iteration is on record": lambda run: replace(run, iterations=run.iterations + 1),
    "time goes forward": lambda run: of_timeline(run, start=lambda start: changed(start, 9, -0.005)),
    "no iteration is shorter than the overhead": lambda run: of_timeline(
        run, end=lambda end: changed(end, 9, -0.005)),
    "the busy time is that of the iterations": lambda run: replace(run, busy_time=run.busy_time + 0.02),
    "the peak is the largest KV": lambda run: replace(run, kv_peak=run.kv_peak + 1),
    "overflows are the iterations above a limit": lambda run: replace(run, overflows=1),
    "every iteration serves somebody": lambda run: of_timeline(run, batch=lambda batch: changed(batch, 9, -batch[9])),
    "prompts enter at the start of an iteration": lambda run: replace(
        run, admitted=changed(run.admitted, done(run), 1e-6)),
    "tokens and completions come at the end of an iteration": lambda run: replace(
        run, finished=changed(run.finished, done(run), 1e-6)),
    "nobody completes before its stages": lambda run: replace(
        run, finished=np.where(np.arange(len(run.arrivals)) == done(run), run.first_token, run.finished)),
    "no first token before its stage": lambda run: replace(
        run, first_token=np.where(np.arange(len(run.arrivals)) == done(run), _first_end(run), run.first_token)),
    "nobody is faster than alone": lambda run: replace(
        run, finished=np.where(np.arange(len(run.arrivals)) == done(run), run.first_token, run.finished)),
    "a batch holds at most the residents": lambda run: of_timeline(run, batch=lambda batch: changed(batch, 9, 1)),
    "every resident is in every batch": lambda run: of_timeline(run, batch=lambda batch: changed(batch, 500, -1)),
    "residents hold the KV of their stages": lambda run: of_timeline(run, kv=lambda kv: changed(kv, 9, -kv[9] + 1)),
    "KV is the sum over residents, stage by stage": lambda run: of_timeline(run, kv=lambda kv: changed(kv, 9, 1)),
}


def _first_end(run: Run) -> float:
    """When the first iteration of that request ends."""
    return float(run.timeline.end[np.searchsorted(run.timeline.start, run.admitted[done(run)])])


@pytest.mark.parametrize("sentence", TAMPERED)
def test_every_invariant_is_missed_where_it_is_broken(sentence: str) -> None:
    """A run changed in one place breaks that sentence, possibly others; the run as it was breaks none."""
    run = honest()
    assert invariants(run, REPLICA, always=True) == ()
    assert sentence in invariants(TAMPERED[sentence](run), REPLICA, always=True)


def test_a_run_without_its_timeline_cannot_be_checked() -> None:
    run = simulate(Greedy(), MIX, REPLICA, horizon=1.0)
    with pytest.raises(ValueError, match="record=True"):
        invariants(run, REPLICA)
