"""Buffers against brute force: moment generating functions, exact tails, the best bunching, windows, the union."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest

from fluid import IterationTime, Replica, StageProfile, Workload, stage_profile
from fluid.arrays import Floats
from thresholds.paced_wait.overflow import OverflowProblem
from thresholds.paced_wait.random_prompt import LengthMix, interval_sums
from thresholds.paced_wait.tail_bounds import BlockChernoff, Convolution, block_sums

Attention = int | dict[str, Any] | None  # a window of every layer, or of some
MIXED = {"attention_window": 7, "windowed_layers": (2, 5), "state": 3}
SERVERS = list(product(["whole", "decode-only", 1, 3, 7], [1, 4], ["decode", "prefill"], [None, 7, MIXED]))
SEEDS = range(6)


class Mix(NamedTuple):
    """A random mix, and for each type the units of KV it would hold by age were it never to end: shape (J, ages)."""

    lengths: LengthMix
    profile: StageProfile
    share: Floats
    endless: Floats


def random_mix(seed: int, prefill: str | int = "whole", block: int = 1, first_token: str = "decode",
               attention: Attention = None, *, types: int = 5, prompts: int = 12, outputs: int = 8) -> Mix:
    """Up to `types` different length pairs (some equal) at random rates."""
    rng = np.random.default_rng(seed)
    layers = attention if isinstance(attention, dict) else {"attention_window": attention}
    replica = Replica(10**6, IterationTime(1.0, 1e-6), prefill, block, first_token, **layers)
    prompt, output = rng.integers(1, prompts, types), rng.integers(2, outputs, types)
    rates = rng.uniform(0.1, 1.0, types)
    profile = stage_profile(Workload.from_arrays(prompt, output, rates), replica)
    longer = stage_profile(Workload.from_arrays(prompt, output + 40, rates), replica)
    endless = np.array([longer.units_held(j)[:40] for j in range(types)], dtype=np.float64)
    return Mix(LengthMix.of(profile, rates), profile, rates / rates.sum(), endless)


def held(mix: Mix, age: int, window: int = 1) -> Floats:
    """y(age) of every type, from the definition: kv(age + k - 1) if S > max(age, 0), else 0."""
    return np.where(mix.profile.stages > max(age, 0), mix.endless[:, age + window - 1], 0.0)


def ages(mix: Mix, window: int = 1) -> range:
    """The ages that windows of k iterations see."""
    return range(1 - window, int(mix.profile.stages.max()))


def law(values: Floats, share: Floats, size: int = 4096) -> Floats:
    """The probabilities of 0, 1, 2, .. tokens."""
    return np.bincount(values.astype(np.int64), share, size)


def best_bunching(mix: Mix, entries: int, g: int, level: float) -> float:
    """The largest P(KV > level) at one iteration over every rule of entry that is told each length on entry.

    Backwards from the iteration itself (age 0) to the oldest age: a state is the tokens that prompts already in will
    hold, and how many entered in each of the last g - 1 iterations.
    """
    @cache
    def value(age: int, tokens: int, recent: tuple[int, ...]) -> float:
        if age < 0:
            return float(tokens > level)
        room = entries - sum(recent)
        drawn = held(mix, age).astype(int)

        def enter(count: int, tokens: int) -> float:
            wait = value(age - 1, tokens, (*recent, count)[1:] if g > 1 else ())
            if count == room:
                return wait
            more = sum(p * enter(count + 1, tokens + x) for p, x in zip(mix.share, drawn.tolist(), strict=True))
            return max(wait, more)

        return enter(0, tokens)

    return value(len(ages(mix)) - 1, 0, (0,) * (g - 1))


def bounds_at(mix: Mix, entries: int, g: int, level: int) -> tuple[float, float]:
    """Chernoff's bound and the convolution's at one iteration."""
    chernoff = BlockChernoff.of(mix.lengths, level)
    theta, start = chernoff.best(g, level, -1.0)
    convolution = Convolution.of(chernoff, g, theta, start, level)
    return math.exp(chernoff.log_tail(entries, g, level)), math.exp(convolution.tail(entries)(level))


@pytest.mark.parametrize(("prefill", "block", "first_token", "attention"), SERVERS)
@pytest.mark.parametrize("window", [1, 4])
def test_moment_generating_functions_equal_a_sum_over_types(prefill: str | int, block: int, first_token: str,
                                                            attention: Attention, window: int) -> None:
    """ln E exp(theta y(a)), every age and server: the definition, summed over the types one by one."""
    for seed in SEEDS:
        mix = random_mix(seed, prefill, block, first_token, attention)
        for theta in (1e-4, 0.03, 1.0):
            brute = [np.log(mix.share @ np.exp(theta * held(mix, a, window))) for a in ages(mix, window)]
            np.testing.assert_allclose(mix.lengths.log_mgf(theta, window), brute, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(("prefill", "block", "first_token", "attention"), SERVERS)
@pytest.mark.parametrize("window", [1, 4])
def test_worst_case_by_age_is_the_most_a_living_type_holds(prefill: str | int, block: int, first_token: str,
                                                           attention: Attention, window: int) -> None:
    """ess sup y(a) is a maximum over types; ln E exp(theta y(a)) is below theta times it."""
    mix = random_mix(3, prefill, block, first_token, attention)
    brute = [held(mix, a, window).max() for a in ages(mix, window)]
    np.testing.assert_array_equal(mix.lengths.worst(window), brute)
    assert (mix.lengths.log_mgf(0.5, window) <= 0.5 * np.array(brute) + 1e-9).all()


@pytest.mark.parametrize(("prefill", "block", "first_token", "attention"), SERVERS)
@pytest.mark.parametrize(("g", "window", "cell"), [(1, 1, 1), (3, 1, 2), (2, 4, 3)])
def test_block_survival_is_the_largest_survival_function_of_the_block(prefill: str | int, block: int, first_token: str,
                                                                      attention: Attention, g: int, window: int,
                                                                      cell: int) -> None:
    """P(X_b > v) at cell edges = max over the ages of the block of P(y(a) > v), values rounded up to cells."""
    mix = random_mix(4, prefill, block, first_token, attention)
    for start in range(g):
        found = list(mix.lengths.block_survival(g, start, cell, window))
        blocks: dict[int, list[int]] = {}
        for index, age in enumerate(ages(mix, window)):
            blocks.setdefault((index - start) // g, []).append(age)
        assert len(found) == len(blocks)
        for survival, number in zip(found, sorted(blocks, reverse=True), strict=True):
            brute = [max(mix.share @ (held(mix, a, window) > cell * (c - 1)) for a in blocks[number])
                     for c in range(1, survival.size)]
            np.testing.assert_allclose(survival[1:], brute, atol=1e-12)


@pytest.mark.parametrize(("prefill", "block", "first_token", "attention"), SERVERS)
def test_ages_in_steps_are_bounded_by_the_oldest_of_each_step(prefill: str | int, block: int, first_token: str,
                                                              attention: Attention) -> None:
    """A step of r ages is at least the largest of them, and a window k + r - 1 wide at its first: moments, worst case.
    """
    mix = random_mix(5, prefill, block, first_token, attention).lengths
    for step, window in product((2, 3, 30), (1, 4)):
        coarse = replace(mix, step=step)
        for found, fine, wide in ((coarse.log_mgf(0.03, window), mix.log_mgf(0.03, window),
                                   mix.log_mgf(0.03, window + step - 1)),
                                  (coarse.worst(window), mix.worst(window), mix.worst(window + step - 1))):
            np.testing.assert_allclose(found, wide[::step], rtol=1e-12, atol=1e-15)
            covered = np.append(np.zeros(step - 1), fine)  # ages from a_0 on; nobody is there before
            padded = np.append(covered, np.zeros(found.size * step - covered.size))
            assert (found >= padded.reshape(-1, step).max(axis=1) - 1e-12).all()


@pytest.mark.parametrize("attention", [None, 7, MIXED])
@pytest.mark.parametrize(("step", "g", "window"), [(2, 1, 1), (3, 2, 4)])
def test_block_survival_in_steps_is_that_of_wider_windows(attention: Attention, step: int, g: int,
                                                          window: int) -> None:
    """P(X_b > v) over the looks of a block, each from the definition of y with k + r - 1 for k."""
    mix = random_mix(4, attention=attention)
    coarse, wide = replace(mix.lengths, step=step), window + step - 1
    looks = list(ages(mix, wide))[::step]
    found = list(coarse.block_survival(g, 1 % g, 1, window))
    numbers = sorted({(i - 1 % g) // g for i in range(len(looks))}, reverse=True)
    assert len(found) == len(numbers)
    for survival, number in zip(found, numbers, strict=True):
        block = [a for i, a in enumerate(looks) if (i - 1 % g) // g == number]
        brute = [max(mix.share @ (held(mix, a, wide) > c - 1) for a in block) for c in range(1, survival.size)]
        np.testing.assert_allclose(survival[1:], brute, atol=1e-12)


def test_a_window_in_steps_comes_back_from_the_one_that_is_installed() -> None:
    """(N, h steps) is implied by the installed (N/d, h r/d), which leads back to it; d = r where N and h allow."""
    mix = random_mix(0).lengths
    for step in range(1, 13):
        problem = OverflowProblem(replace(mix, step=step), 100, 40, 0.5)
        for entries, steps in product(range(1, 30), repeat=2):
            pair = problem._in_iterations(entries, steps)
            assert problem._in_steps(*pair) == (entries, steps)
            assert pair[0] * steps * step == pair[1] * entries
        assert problem._in_iterations(5 * step, 1) == (5, 1)


def test_block_sums_take_the_largest_of_every_block() -> None:
    """Every g and offset, also g beyond the number of ages: a loop over the blocks."""
    rng = np.random.default_rng(0)
    for size, g in product((1, 2, 5, 11), (1, 2, 3, 4, 7, 20)):
        values = rng.uniform(size=(2, size))
        for start in range(g):
            edges = [(max(low, 0), max(low + g, 0)) for low in range(start - g, size, g)]
            brute = sum(values[:, low:high].max(axis=1, initial=0.0) for low, high in edges)
            np.testing.assert_allclose(block_sums(values, g)[:, start], brute)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_iteration_windows_give_the_classical_chernoff_bound(seed: int) -> None:
    """g = 1: min over theta of exp(-theta C) prod_a (E exp(theta x(a)))^N, the sum of independent prompts."""
    mix = random_mix(seed)
    chernoff = BlockChernoff.of(mix.lengths, 150)
    exponents = [-150 * t + 3 * sum(np.log(mix.share @ np.exp(t * held(mix, a))) for a in ages(mix))
                 for t in chernoff.thetas]
    worst = 3 * sum(held(mix, a).max() for a in ages(mix))
    assert chernoff.log_tail(3, 1, 150) == (pytest.approx(min(0.0, *exponents)) if worst > 150 else -np.inf)


@pytest.mark.parametrize("seed", SEEDS)
def test_convolution_is_exact_where_n_enter_every_iteration(seed: int) -> None:
    """g = 1, cells of one token: the tail of a sum of independent prompts, by direct convolution of their laws."""
    mix = random_mix(seed)
    exact = np.ones(1)
    for age in ages(mix):
        for _ in range(2):
            exact = np.convolve(exact, law(held(mix, age), mix.share, 64))
    mean = float(exact @ np.arange(exact.size))
    for level in (int(mean), int(1.2 * mean), int(1.4 * mean)):
        chernoff, convolution = bounds_at(mix, 2, 1, level)
        truth = float(exact[level + 1:].sum())
        assert truth * (1 - 1e-9) <= convolution <= truth * (1 + 1e-6) + 1e-6 * chernoff


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("entries", "g", "attention"), [(1, 1, None), (1, 2, 6), (2, 2, None), (1, 3, None),
                                                         (2, 3, 7)])
def test_no_bunching_beats_the_bounds(seed: int, entries: int, g: int, attention: int | None) -> None:
    """The exact game against an adversary who is told every length on entry stays below both bounds."""
    mix = random_mix(seed, attention=attention, types=3, outputs=5)
    peak = entries * int(block_sums(mix.lengths.worst(), g).min())
    for level in {max(1, int(share * peak)) for share in (0.4, 0.6, 0.8, 0.95)}:
        truth = best_bunching(mix, entries, g, level)
        assert truth <= min(bounds_at(mix, entries, g, level)) * (1 + 1e-9)


def test_bunching_at_the_worst_age_breaks_the_average_over_ages() -> None:
    """(N/g) sum of single ages is no bound for g > 1: all N entries may have the age with the most KV."""
    mix = random_mix(1, types=1)
    level = int(4 * mix.endless[0, mix.lengths.ages - 1]) - 1
    g = mix.lengths.ages
    average = -level + 4 / g * mix.lengths.log_mgf(1.0).sum()  # theta = 1
    assert best_bunching(mix, 4, g, level) == 1.0
    assert average < 0.0 <= math.log(bounds_at(mix, 4, g, level)[0]) + 1e-12


def entering(rng: np.random.Generator, mix: Mix, entries: int, g: int, iterations: int, bold: bool) -> Floats:
    """KV tokens at each iteration of one run; counts restart when the server empties.

    A saturated queue; the `bold` rule holds entries back while short prompts are in, an adaptive way to bunch.
    """
    residents: list[tuple[int, int]] = []
    recent: list[int] = []
    tokens = np.zeros(iterations)
    for t in range(iterations):
        residents = [(j, age + 1) for j, age in residents if age + 1 < mix.profile.stages[j]]
        recent = recent[-(g - 1):] if residents and g > 1 else []
        room = entries - sum(recent)
        count = 0
        while count < room and not (bold and residents and min(mix.profile.stages[j] for j, _ in residents) < 4
                                    and t % g):
            residents.append((int(rng.choice(len(mix.share), p=mix.share)), 0))
            count += 1
        recent.append(count)
        tokens[t] = sum(mix.endless[j, age] for j, age in residents)
    return tokens


@pytest.mark.parametrize("bold", [False, True])
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize(("seed", "entries", "g", "step"), [(0, 1, 2, 1), (1, 2, 3, 1), (2, 3, 1, 1), (1, 2, 3, 2)])
def test_simulated_overflows_stay_below_the_bounds_of_the_horizon(seed: int, entries: int, g: int, step: int,
                                                                  short: bool, bold: bool) -> None:
    """P(KV > C within 40 iterations): the share of 150 runs minus 4 standard errors; `short` prompts make resets."""
    mix = random_mix(seed, "decode-only", 1, "prefill", outputs=4) if short else random_mix(seed)
    rng = np.random.default_rng(seed)
    most = np.array([entering(rng, mix, entries, g, 40, bold).max() for _ in range(150)])
    for level in np.quantile(most, [0.5, 0.9, 0.98]).astype(int):
        problem = OverflowProblem(replace(mix.lengths, step=step), int(level), 40, 0.5)
        share = np.mean(most > level)
        error = math.sqrt(share * (1 - share) / most.size)
        bounds = problem.theorem(entries, g), problem.tight(entries, g)
        assert bounds[1].overflow_probability <= bounds[0].overflow_probability
        assert share - 4 * error <= bounds[1].overflow_probability


@pytest.mark.parametrize("window", [2, 5])
@pytest.mark.parametrize(("seed", "entries", "g"), [(0, 1, 2), (1, 2, 3), (2, 2, 1)])
def test_simulated_overflows_of_a_window_stay_below_its_bounds(seed: int, entries: int, g: int, window: int) -> None:
    """P(KV > C at some of k iterations), Chernoff and convolution: 400 runs, 4 standard errors."""
    mix = random_mix(seed)
    rng = np.random.default_rng(seed + 10)
    warm = mix.lengths.ages
    most = np.array([entering(rng, mix, entries, g, warm + window, False)[warm:].max() for _ in range(400)])
    for level in np.quantile(most, [0.5, 0.9, 0.98]).astype(int):
        every = BlockChernoff.of(mix.lengths, float(level))
        chernoff = BlockChernoff(mix.lengths, every.thetas, window)
        convolution = Convolution.of(chernoff, g, *chernoff.best(g, float(level), -1.0), float(level))
        share = np.mean(most > level)
        error = math.sqrt(share * (1 - share) / most.size)
        assert share - 4 * error <= math.exp(chernoff.log_tail(entries, g, level))
        assert share - 4 * error <= math.exp(convolution.tail(entries)(level))


def test_an_empty_server_lets_entries_follow_faster_than_the_window() -> None:
    """N = 1, g = 2, half of the prompts last one stage: without empty iterations the blocks would not bound a reset.

    A prompt holds 2 tokens, then 3 if it lasts. If the first lasts, KV = 3 at the second iteration; else the server is
    empty, the count restarts, and a new prompt may enter: KV = 2. E exp(KV) = (e^3 + e^2)/2 exceeds the block's
    largest, max(e^2, (1 + e^3)/2); the union counts g n iterations and not n for this reason.
    """
    profile = stage_profile(Workload.from_arrays([2, 2], [1, 2], [1.0, 1.0]),
                            Replica(100, IterationTime(1.0, 0.0), first_token="prefill"))
    mix = LengthMix.of(profile, np.ones(2))
    block = math.exp(block_sums(mix.log_mgf(1.0), 2).min())
    assert block == pytest.approx(max(math.exp(2), (1 + math.exp(3)) / 2))
    assert 0.5 * (math.exp(3) + math.exp(2)) > block


def test_bounds_are_monotone() -> None:
    """More room, fewer entries, blocks merged in pairs, a shorter horizon: never a larger bound."""
    mix = random_mix(5)
    tail = {(n, g, c): BlockChernoff.of(mix.lengths, c).log_tail(n, g, c)
            for n, g, c in product((2, 3, 4), (1, 2, 4), (60, 90, 120))}
    for n, g, c in tail:
        for other in ((n + 1, g, c), (n, g / 2, c), (n, g, c - 30)):
            assert tail[n, g, c] <= tail.get(other, 0.0)
    bounds = [OverflowProblem(mix.lengths, 90, n, 0.1).theorem(2, 2).overflow_probability for n in (10, 100, 1000)]
    assert bounds == sorted(bounds)


def test_a_single_length_needs_the_deterministic_bound_as_delta_vanishes() -> None:
    """One type: KV <= N sum_b kv_{S-1-bg} with certainty, and the required level tends to it from below."""
    mix = random_mix(2, types=1)
    kv = mix.endless[0, :mix.lengths.ages]
    for n, g in product((1, 3), (1, 2, 5)):
        certain = n * kv[::-1][::g].sum()
        levels = [OverflowProblem(mix.lengths, 1000, 1e6, delta).theorem(n, g).kv_required
                  for delta in (0.5, 1e-6, 1e-300)]
        assert levels[-1] == certain
        assert levels == sorted(levels)
        assert OverflowProblem(mix.lengths, int(certain), 1e6, 0.1).tight(n, g).overflow_probability == 0.0
        assert OverflowProblem(mix.lengths, int(certain) - 1, 1e6, 0.1).tight(n, g).overflow_probability == 1.0


def test_a_million_length_pairs_are_handled_like_any_other() -> None:
    """10^6 pairs drawn from all (l, S), 2,000 ages: the sums of one age by hand, in one pass."""
    rng = np.random.default_rng(0)
    prompt, output = rng.integers(1, 4000, 10**6), rng.integers(1, 2000, 10**6)
    workload = Workload.from_arrays(prompt, output, np.ones(10**6))
    mix = LengthMix.of(stage_profile(workload, Replica(10**6, IterationTime(1.0, 0.0))), workload.rates)
    log_mgf = mix.log_mgf(1e-3)
    for age in (0, 700, 1999):
        brute = np.mean(np.where(output >= age, np.exp(1e-3 * (prompt + age)), 1.0))
        assert log_mgf[age] == pytest.approx(np.log(brute), rel=1e-9)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100])
def test_sums_over_intervals_equal_the_plain_sums(size: int) -> None:
    """Every age gets the weights of the intervals it lies in; the least weight counts beside one 10^30 times it."""
    rng = np.random.default_rng(size)
    start = rng.integers(0, size, 30)
    end = rng.integers(start, size + 1)
    weight = 10.0 ** rng.uniform(-30, 0, 30)
    plain = [math.fsum(weight[(start <= age) & (age < end)]) for age in range(size)]
    np.testing.assert_allclose(interval_sums(start, end, weight, size), plain, rtol=1e-14)
