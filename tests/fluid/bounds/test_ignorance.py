"""What nobody carries who does not know lengths: limits with known answers, the best policy of small replicas."""

from __future__ import annotations

from functools import cache
from itertools import product
from math import comb

import numpy as np
import pytest

from fluid import IterationTime, PromptType, Replica, Workload, solve, stage_profile
from fluid.bounds.ignorance import lead_work, under_ignorance, while_reserving

CONSTANT = IterationTime(1.0, 0.0)


def decode_only(capacity: int, outputs: dict[int, float], prompt: int = 1) -> tuple[Workload, Replica]:
    """Types of one prompt and several outputs (rates given), on a replica that only decodes, an iteration a second."""
    mix = Workload([PromptType(prompt, output, rate) for output, rate in outputs.items()])
    return mix, Replica(capacity, CONSTANT, prefill="decode-only")


def bound(mix: Workload, replica: Replica) -> float:
    """The bound on the factor."""
    return under_ignorance(stage_profile(mix, replica), mix.rates, replica).scale


def test_one_length_for_each_prompt_is_the_fluid_limit() -> None:
    """Nothing is unknown then: the lead is 0 and the bound the half-space of memory."""
    mix = Workload([PromptType(512, 20, 4.0), PromptType(2000, 300, 1.0)])
    replica = Replica(137_000, IterationTime(0.0106, 4.013e-7, 2e-5))
    found = under_ignorance(stage_profile(mix, replica), mix.rates, replica)
    assert found.lead == 0
    assert found.scale == pytest.approx(solve(mix, replica).max_rate_scale, rel=1e-12)


def test_constant_holdings_cost_nothing() -> None:
    """Where a request holds the same at every age the longest life holds no more, and the bound is the fluid limit."""
    mix = Workload([PromptType(16, output, 1.0) for output in (1, 5, 40)])
    replica = Replica(1000, CONSTANT, attention_window=16)
    assert bound(mix, replica) == pytest.approx(solve(mix, replica).max_rate_scale, rel=1e-12)


def test_uniform_outputs_have_a_closed_form() -> None:
    """Outputs uniform on 1..L, s + 1 + l held at stage s: the sum of (L - s)/L (s + tau + 1 + l) over s < L - tau."""
    longest, prompt = 60, 3
    mix, replica = decode_only(5000, dict.fromkeys(range(1, longest + 1), 1 / longest), prompt)

    def work(tau: int) -> float:
        n = longest - tau  # s = 0..n - 1: sums of (L - s) and (L - s)(s + 1)
        stays = n * longest - n * (n - 1) / 2
        rising = sum((longest - s) * (s + 1) for s in range(n))
        assert rising == comb(n + 1, 2) * longest - (n - 1) * n * (n + 1) / 3
        return (rising + (tau + prompt) * stays) / longest

    assert bound(mix, replica) == pytest.approx(5000 / max(map(work, range(longest))), rel=1e-12)


def test_rare_long_outputs_cost_most() -> None:
    """One request in a thousand of 1,000 tokens: nearly all that reside are short, and each may grow to the longest."""
    mix, replica = decode_only(100_000, {10: 0.999, 1000: 0.001})
    ratio = bound(mix, replica) / solve(mix, replica).max_rate_scale
    known = 0.999 * sum(range(2, 12)) + 0.001 * sum(range(2, 1002))
    ahead = max(0.999 * sum(range(2 + tau, 12 + tau)) + 0.001 * sum(range(2 + tau, 1002)) for tau in range(991))
    assert ratio == pytest.approx(known / ahead, rel=1e-12)
    assert ratio < 0.07


@pytest.mark.parametrize("prefill", ["whole", 7, "decode-only"])
@pytest.mark.parametrize("block", [1, 4])
def test_the_work_at_a_lead_is_its_sum_over_the_stages(prefill: str | int, block: int) -> None:
    """w_j(tau) by its definition, stage by stage, for every kind of prefill and for cache blocks."""
    mix = Workload([PromptType(10, 3, 1.0), PromptType(10, 9, 1.0), PromptType(5, 20, 1.0), PromptType(10, 6, 1.0)])
    replica = Replica(400, CONSTANT, prefill=prefill, block=block)
    profile = stage_profile(mix, replica)
    longest = {10: profile.stage_kv(1), 5: profile.stage_kv(2)}
    for tau in (0, 1, 4, 8, 30):
        for j, own in enumerate(lead_work(profile, tau)):
            held = longest[int(mix.prompt_tokens[j])]
            assert own == sum(held[s + tau] for s in range(profile.stages[j]) if s + tau < held.size)


def test_the_lead_found_is_the_worst_of_all() -> None:
    """No other lead has a larger load, for prompts of several lengths and iterations of two lines."""
    generator = np.random.default_rng(4)
    mix = Workload([PromptType(int(prompt), int(output), float(rate)) for prompt, output, rate in zip(
        generator.choice([5, 50, 400], 30), generator.integers(1, 90, 30), generator.uniform(0.1, 1, 30), strict=True)])
    lines = IterationTime.largest(IterationTime(0.01, 1e-6), IterationTime(0.008, 1e-6, 1e-4))
    replica = Replica(9000, lines)
    profile = stage_profile(mix, replica)
    loads = [np.max((profile.time_work(lines) + lines.overheads[:, None] * lead_work(profile, tau) / 9000) @ mix.rates)
             for tau in range(int(profile.stages.max()))]
    assert under_ignorance(profile, mix.rates, replica).scale == pytest.approx(1 / max(loads), rel=1e-12)


def best_sure_rate(capacity: int, prompt: int, outputs: dict[int, float]) -> float:
    """Requests per iteration of the best policy that is sure, never pauses and sees no length: value iteration.

    A state is how many residents are at each stage after the iteration; prompts are always waiting.
    """
    longest, total = max(outputs), sum(outputs.values())
    beyond = [sum(p for o, p in outputs.items() if o > s) / total for s in range(longest + 1)]
    stays = [beyond[s + 1] / beyond[s] for s in range(longest)]
    held = [prompt + s + 1 for s in range(longest)]

    def sure(state: tuple[int, ...]) -> bool:
        return all(sum(n * held[s + tau] for s, n in enumerate(state) if s + tau < longest) <= capacity
                   for tau in range(longest))

    @cache
    def after(state: tuple[int, ...]) -> list[tuple[float, tuple[int, ...]]]:
        """Who is at which stage next, entries aside."""
        survivors = product(*(range(n + 1) for n in state[:-1]))
        chances = []
        for left in survivors:
            chance = np.prod([comb(n, k) * stays[s] ** k * (1 - stays[s]) ** (n - k)
                              for s, (n, k) in enumerate(zip(state[:-1], left, strict=True))])
            if chance > 0:
                chances.append((float(chance), (0, *left)))
        return chances

    begin = (0,) * longest
    known, new = {begin}, [begin]
    moves: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
    while new:
        state = new.pop()
        options = [(n, (n, *state[1:])) for n in range(capacity + 1) if sure((n, *state[1:]))]
        moves[state] = options
        for _, full in options:
            for _, later in after(full):
                if later not in known:
                    known.add(later)
                    new.append(later)
    value = dict.fromkeys(known, 0.0)
    gain = (0.0, np.inf)
    while gain[1] - gain[0] > 1e-7:
        better = {state: max(n + sum(p * value[later] for p, later in after(full)) for n, full in options)
                  for state, options in moves.items()}
        change = [better[state] - value[state] for state in known]
        gain = min(change), max(change)
        value = {state: 0.5 * (better[state] + value[state]) - better[begin] * 0.5 for state in known}
    return gain[1]


@pytest.mark.parametrize(("capacity", "prompt", "outputs"), [
    (12, 1, {1: 0.5, 3: 0.5}), (14, 1, {1: 0.8, 2: 0.1, 3: 0.1}), (10, 2, {1: 0.7, 2: 0.3}), (16, 1, {1: 0.6, 4: 0.4}),
])
def test_the_best_sure_policy_of_a_small_replica_does_not_pass_the_bound(capacity: int, prompt: int,
                                                                          outputs: dict[int, float]) -> None:
    """Value iteration over all policies that are sure: at most the bound, and not far below it."""
    mix, replica = decode_only(capacity, outputs, prompt)
    best, most = best_sure_rate(capacity, prompt, outputs), bound(mix, replica) * mix.rate
    assert best <= most * (1 + 1e-6)
    assert best >= 0.75 * most


def test_reserving_carries_no_more_than_being_sure() -> None:
    """Whoever reserves is sure, and its bound is the smaller one."""
    mix, replica = decode_only(1000, {10: 0.9, 100: 0.1})
    assert while_reserving(stage_profile(mix, replica), mix.rates, replica).scale < bound(mix, replica)
