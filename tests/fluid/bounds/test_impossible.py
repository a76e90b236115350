"""What no policy can carry: against every policy on tiny replicas, certificates, and limits with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from every_policy import most_of_every_policy
from hypothesis import given
from hypothesis import strategies as st
from strategies import Instance, capped, examples, instances, lines, replicas

from fluid import IterationTime, PromptType, Replica, Workload, solve
from fluid.bounds.certificate import Certificate
from thresholds import reachable

briefly = examples(20)
PREFILL_AND_KV = IterationTime.largest(IterationTime(0.01, 4e-7), IterationTime(0.01, 0.0, 1e-4))
LARGE_AND_SMALL = Workload([PromptType(8000, 5, 0.9), PromptType(1, 200, 100.0)])


def tiny(seed: int) -> Instance:
    """One or two types of a few tokens, one or two lines, a cache of at most nine tokens."""
    rng = np.random.default_rng(seed)
    while True:
        types = [PromptType(*rng.integers(1, 4, 2).tolist(), float(rng.uniform(0.3, 2.0)))
                 for _ in range(rng.integers(1, 3))]
        pieces = [IterationTime(float(rng.uniform(0.1, 1.0)), *(rng.uniform(0.0, 0.4, 3) * rng.integers(0, 2, 3)))
                  for _ in range(rng.integers(1, 3))]
        peak = max(each.prompt_tokens + each.output_tokens for each in types)
        prefill = ["whole", "decode-only", 2][int(rng.integers(0, 3))]
        replica = Replica(int(peak + rng.integers(0, 4)), IterationTime.largest(*pieces), prefill,
                          block=int(rng.integers(1, 3)))
        found = solve(Workload(types), replica)
        if found.limit != "length" and found.profile.stages.sum() <= 6 and replica.kv_capacity <= 7:
            return Instance(Workload(types), replica)


@pytest.mark.parametrize("seed", range(20))
def test_no_policy_carries_more_than_is_said_to_be_impossible(seed: int) -> None:
    """The best of every policy, by a linear program over all states and batches, is at most the bound."""
    instance = tiny(seed)
    found, best = solve(*instance), most_of_every_policy(*instance)
    assert best <= found.impossible.keeping.scale * (1 + 1e-7)
    assert found.impossible.keeping.scale <= found.impossible.anyone.scale <= found.max_rate_scale * (1 + 1e-8)


@pytest.mark.slow
def test_on_most_tiny_replicas_it_is_what_the_best_policy_carries() -> None:
    """Of 100: all with one type and one line, three quarters of all; the fluid limit is reached on a tenth."""
    tight, reached, plain = [], [], []
    for seed in range(100):
        instance = tiny(seed)
        found, best = solve(*instance), most_of_every_policy(*instance)
        assert best <= found.impossible.keeping.scale * (1 + 1e-7)
        tight.append(best >= found.impossible.keeping.scale * (1 - 1e-6))
        reached.append(best >= found.max_rate_scale * (1 - 1e-6))
        plain.append(len(instance.workload) == len(instance.replica.iteration_time.pieces) == 1)
    assert np.all(np.array(tight)[plain])
    assert np.mean(tight) >= 0.7
    assert np.mean(reached) <= 0.2


@pytest.mark.parametrize(("prompt", "output", "capacity"), [(1, 3, 4), (1, 3, 6), (2, 2, 5), (3, 1, 8), (1, 2, 7)])
def test_with_one_type_and_one_line_it_is_what_the_best_policy_carries(prompt: int, output: int, capacity: int) -> None:
    mix, replica = Workload([PromptType(prompt, output, 1.0)]), Replica(capacity, IterationTime(0.5, 0.1, 0.2, 0.05))
    best = most_of_every_policy(mix, replica)
    assert solve(mix, replica).impossible.keeping.scale == pytest.approx(best, rel=1e-7)


@pytest.mark.parametrize(("prompt", "output"), [(1, 1000), (1000, 1), (512, 1000)])
def test_a_cache_of_one_request_completes_one_in_all_its_stages(prompt: int, output: int) -> None:
    """C = l + o: the next prefill waits for the last token, so S = o + 1 iterations of 10 ms each; windows reach it."""
    balance = solve(Workload([PromptType(prompt, output, 1.0)]), Replica(prompt + output, IterationTime(0.01, 0.0)))
    assert balance.impossible.keeping.scale == pytest.approx(100 / (output + 1), rel=1e-9)
    assert reachable(balance).scale == pytest.approx(100 / (output + 1), rel=1e-4)


def test_the_small_cache_of_the_issue_is_not_called_stable_beyond_what_it_carries() -> None:
    """1 + 1000 tokens, C = 1,001: 0.0999/s; only who recomputes could come near the fluid limit of 0.1996/s."""
    at = {rate: solve(Workload([PromptType(1, 1000, rate)]), Replica(1001, IterationTime(0.01, 0.0))).reason
          for rate in (0.0998, 0.11, 0.19, 0.21)}
    assert [reason.split(":")[0] for reason in at.values()] == [
        "stable", *["impossible without recomputing what was evicted"] * 2, "overloaded"]


def test_prefills_and_kv_that_bind_different_batches_are_not_called_stable_at_the_fluid_edge() -> None:
    """A prefill of 8,000 tokens takes 0.81 s and hides at most C = 500,000 tokens read, 0.2 s.

    Of the KV work a second brings, 0.9 48,015 + 100 20,301 = 2.073e6 tokens, 0.9 500,000 go beside prefills, the rest
    takes 0.649 s and at least rest/C iterations of 10 ms: 0.9 0.81 + 0.649 + 0.0325 = 1.411 s for each second.
    """
    found = solve(LARGE_AND_SMALL, Replica(500_000, PREFILL_AND_KV))
    work = 0.9 * 48_015 + 100 * 20_301
    rest = work - 0.9 * 500_000
    least = 0.9 * 0.81 + 4e-7 * rest + 0.01 * rest / 500_000
    assert found.impossible.anyone.scale == pytest.approx(1 / least, rel=1e-9)
    assert found.limit is None
    assert not found.stable
    assert found.reason.startswith("impossible: no policy that prefills in the stages of this replica carries more")
    assert solve(LARGE_AND_SMALL.scaled(0.7), Replica(500_000, PREFILL_AND_KV)).stable


@briefly
@given(instances(replica=replicas(lines())), st.integers(8, 12))
def test_with_one_line_and_a_cache_of_many_requests_it_is_the_fluid_edge(instance: Instance, power: int) -> None:
    """Completions cannot overlap in a share of about peak/C of the cache; nothing else is lost."""
    mix, replica = instance.workload, replace(instance.replica, kv_capacity=10**power)
    found = solve(mix, replica)
    share = found.profile.peak.max() / replica.kv_capacity
    assert found.impossible.anyone.scale == pytest.approx(found.max_rate_scale, rel=1e-8)
    assert 1 - 2 * share <= found.impossible.keeping.scale / found.max_rate_scale <= 1 + 1e-8


@briefly
@given(st.one_of(instances(most_types=3), capped(most_types=3)))
def test_what_is_proved_to_be_carried_is_never_proved_to_be_impossible(instance: Instance) -> None:
    found = solve(*instance)
    carried = reachable(found).scale
    assert carried <= found.impossible.keeping.scale * (1 + 2e-9)
    assert found.impossible.keeping.scale <= found.impossible.anyone.scale * (1 + 1e-12)
    assert found.impossible.anyone.scale <= found.max_rate_scale * (1 + 1e-8)


@briefly
@given(instances(), st.floats(1e-6, 1e6))
def test_it_is_inverse_to_the_rates(instance: Instance, factor: float) -> None:
    one, two = solve(*instance).impossible, solve(*instance).scaled(factor).impossible
    assert two.keeping.scale * factor == pytest.approx(one.keeping.scale, rel=1e-6)


def batches(found: Certificate, seed: int) -> list[tuple[float, float]]:
    """Random batches that the limits allow: how long each takes, and what it is worth at the prices."""
    rng, demand, prices = np.random.default_rng(seed), found.demand, found.prices
    pairs = []
    for _ in range(500):
        sizes = rng.choice(demand.sizes, rng.integers(0, 4)) if demand.tokens.any() else np.zeros(0)
        tokens = np.bincount(np.searchsorted(demand.sizes, sizes), sizes, len(demand.sizes))
        sequences, held = float(tokens @ demand.sequences_each), float(tokens @ demand.held_each)
        most = found.limits.held - held
        if most < 0 or sequences > found.limits.sequences or tokens.sum() > found.limits.tokens:
            continue
        decodes = rng.uniform(0, min(2000, found.limits.sequences - sequences, found.limits.tokens - tokens.sum()))
        more = rng.uniform(0, most) if rng.random() < 0.8 else most
        read = more * rng.choice([0.0, 0.5, 1.0])
        total = np.array([1.0, read + tokens @ demand.read_each, tokens.sum(), sequences + decodes])
        worth = tokens @ prices.prefill + np.array([read, more, decodes, decodes]) @ np.array(prices[1:5])
        pairs.append((float((found.lines @ total).max()), float(worth)))
    return pairs


@briefly
@given(st.one_of(instances(), capped()), st.integers(0, 99))
def test_no_batch_takes_less_time_than_it_is_worth(instance: Instance, seed: int) -> None:
    """The certificate read without the program: prices, a batch, its time. Weights are 1 in all, none negative."""
    found = solve(*instance).impossible.anyone
    assert found.slack.min() >= -1e-15
    assert found.mixture.sum(axis=1) == pytest.approx(1.0)
    assert min(map(np.min, (found.mixture, found.scarce, found.presence, found.reading))) >= 0
    for time, worth in batches(found, seed):
        assert worth <= time * (1 + 1e-9)
