"""Designs under a cap on the sequences of a batch: what they put there, when they are feasible, how far they go."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from strategies import Instance, capped, sampled

from fluid import IterationTime, PromptType, Replica, Workload, solve, stage_profile
from thresholds import (
    NestedWaitPolicy,
    PacedPolicy,
    UnknownPacedDesign,
    WaitPolicy,
    auto,
    nested,
    paced,
    predict,
    sequence_bound,
    wait,
)
from thresholds.paced_wait.entry_windows import residents
from thresholds.paced_wait.known import design_known

PUBLISHED = Replica(137_000, IterationTime(0.0106, 4.01e-7))
CHAT = Workload([PromptType(50, 20, 20.0), PromptType(100, 60, 5.0)])


def of_one(prompt: int, output: int, rate: float = 1.0) -> Workload:
    """A workload of one type."""
    return Workload([PromptType(prompt, output, rate)])


@pytest.mark.parametrize(("entries", "iterations", "life"), [(1, 1, 5), (1, 2, 5), (2, 3, 6), (2, 4, 6), (3, 9, 5)])
def test_the_bound_on_residents_is_the_worst_of_all_schedules(entries: int, iterations: int, life: int) -> None:
    """Brute force: entries by age 0..S-1 in 0..N, each g consecutive ages adding up to at most N."""
    schedules = product(range(entries + 1), repeat=life)
    allowed = (each for each in schedules
               if all(sum(each[a:a + iterations]) <= entries for a in range(life)))
    assert residents(entries, iterations, life) == max(map(sum, allowed))


def test_the_sequences_of_each_policy_by_hand() -> None:
    """Whole prefill of 20 and 60 outputs: S = 21, 61. WAIT 2, 1: 42 + 61. Windows 1/4, 2/10: 6 + 2 7; one for the mix
    1/4: 16. Nested 10, 60 with 3, 1: 3 in stages 0..10, 1 in stages 11..60. Greedy has no bound of its own.
    """
    found = solve(CHAT, PUBLISHED)
    assert sequence_bound(WaitPolicy((2, 1)), found) == 42 + 61
    assert sequence_bound(PacedPolicy((1, 2), (4, 10)), found) == 6 + 2 * 7
    assert sequence_bound(PacedPolicy((1,), (4,)), found) == 16
    assert sequence_bound(NestedWaitPolicy((10, 60), (3, 1)), found) == 3 * 11 + 50
    assert sequence_bound(NestedWaitPolicy((10, 60), (3, 1)), solve(CHAT, replace(PUBLISHED, prefill="decode-only"))
                          ) == 3 * 10 + 50
    assert sequence_bound("greedy", found) is None


@sampled
@given(capped())
def test_wait_is_feasible_if_and_only_if_its_least_thresholds_fit_the_cache_and_the_batch(instance: Instance) -> None:
    mix, replica = instance
    design, free = wait(mix, replica), wait(mix, replace(replica, max_num_seqs=None))
    stages = [len(design.equilibrium.profile.stage_kv(j)) for j in range(len(mix))]
    assert design.thresholds == free.thresholds
    assert design.sequences == sum(n * s for n, s in zip(design.thresholds, stages, strict=True))
    assert design.feasible == (free.feasible and design.sequences <= replica.max_num_seqs * (1 + 1e-9))
    assert design.feasible == (design.max_rate_scale >= 1 - 1e-9)
    if not design.feasible:
        assert design.reason.startswith(("infeasible", "overloaded", "impossible"))
    if free.feasible and design.equilibrium.stable and not design.feasible:
        assert "(max_num_seqs" in design.reason


@sampled
@given(capped(load=(0.01, 2.0)))
def test_the_largest_scale_of_wait_is_the_last_that_fits(instance: Instance) -> None:
    """Feasible at it, infeasible a millionth above; 0 where one prompt in each stage is too much for cache or batch."""
    mix, replica = instance
    scale, profile = wait(mix, replica).max_rate_scale, stage_profile(mix, replica)
    if profile.kv_work.sum() > replica.kv_capacity or profile.stages.sum() > replica.max_num_seqs:
        assert scale == 0.0
        assert not wait(mix.scaled(1e-9), replica).feasible
        return
    assert wait(mix.scaled(scale), replica).feasible
    assert not wait(mix.scaled(scale * (1 + 1e-6)), replica).feasible


def test_wait_names_the_type_that_takes_the_places() -> None:
    """20 + 60 outputs: at least 21 + 61 = 82 sequences; at these rates n0 = (1, 1), and 64 places are 18 too few."""
    design = wait(Workload([PromptType(50, 20, 2.0, "short"), PromptType(100, 60, 1.0, "long")]),
                  replace(PUBLISHED, max_num_seqs=64))
    assert (design.thresholds, design.sequences, design.feasible) == ((1, 1), 82, False)
    assert "need 82 sequences in a batch, 18 more than the replica takes (max_num_seqs 64)" in design.reason
    assert 'type "long" alone takes 61 (1 in each of 61 stages)' in design.reason


@sampled
@given(capped(load=(0.01, 0.9), most_types=4))
def test_windows_fit_the_batch_where_they_are_called_feasible(instance: Instance) -> None:
    """sum_j N_j ceil(S_j/g_j) <= B on top of balance and memory."""
    design = design_known(*instance)
    stages = design.equilibrium.profile.stages.tolist()
    bound = sum(n * math.ceil(s / g) for n, g, s in zip(design.entries, design.iterations, stages, strict=True))
    assert design.sequences == bound >= design.equilibrium.sequences * (1 - 1e-9)
    fits = bound <= instance.replica.max_num_seqs and design.kv_required <= instance.replica.kv_capacity
    assert design.feasible == (fits and design.balanced)
    if not design.feasible:
        assert "infeasible" in design.reason or "overloaded" in design.reason


@sampled
@given(capped(load=(0.01, 0.9), most_types=1))
def test_one_type_has_windows_wherever_some_rational_fits_cache_and_batch(instance: Instance) -> None:
    """Every N up to 24 with the largest g that admits n*: each g below asks for more of both."""
    design = design_known(*instance)
    replica, kv = instance.replica, design.equilibrium.profile.stage_kv(0)
    needed, found = float(design.equilibrium.inventory[0]), False
    for entries in range(1, 25):
        g = math.floor(entries / needed * (1 + 1e-9))
        if g >= 1:
            held = entries * int(kv[::-1][::g].sum())
            found |= held <= replica.kv_capacity and entries * math.ceil(len(kv) / g) <= replica.max_num_seqs
    assert design.feasible or not found


@pytest.mark.parametrize("cap", [40, 100, 134, 135, 1000])
def test_the_largest_rate_of_windows_is_the_last_at_which_they_are_feasible(cap: int) -> None:
    """512 + 1000 tokens, S = 1001: N/g = 2/15 lets 2 ceil(1001/15) = 134 in; fewer places make the windows narrower."""
    replica = replace(PUBLISHED, max_num_seqs=cap)
    design = design_known(of_one(512, 1000), replica)
    scale = design.max_rate_scale
    assert design_known(of_one(512, 1000, scale * (1 - 1e-6)), replica).feasible
    assert not design_known(of_one(512, 1000, scale * (1 + 1e-6)), replica).feasible
    if cap >= 134:
        assert (design.entries, design.iterations, design.sequences) == ((2,), (15,), 134)
        assert f", in batches of at most 134 of {cap:,} sequences, nothing is evicted" in design.reason
    else:
        assert scale < design_known(of_one(512, 1000), PUBLISHED).max_rate_scale
        assert design.fluid_share > 0.97


def test_windows_that_do_not_fit_the_batch_say_so() -> None:
    """Two types with n* S = 1.45 each, 3 places: stable, but each window needs N ceil(S/g) >= 1.45, that is 2."""
    mix = Workload.from_arrays([50, 100], [20, 60], [1.45 / 21, 1.45 / 61])
    design = design_known(mix, Replica(137_000, IterationTime(1.0, 0.0), max_num_seqs=3))
    assert design.equilibrium.stable
    assert (design.feasible, design.sequences) == (False, 4)
    assert "let 4 sequences into a batch, the replica takes 3 (max_num_seqs)" in design.reason


def test_a_mix_whose_one_window_does_not_fit_the_batch_is_left_to_unknown_lengths() -> None:
    """30 types, mean S about 26 but max S = 301: a window for the mix holds N ceil(301/g) places on paper."""
    rng = np.random.default_rng(1)
    outputs = np.append(rng.integers(5, 30, 29), 300)
    workload = Workload.from_arrays(np.full(30, 50), outputs, np.append(np.full(29, 1.0), 0.05))
    free, replica = design_known(workload, PUBLISHED), replace(PUBLISHED, max_num_seqs=24)
    assert free.feasible
    assert free.sequences > 24
    assert not design_known(workload, replica).feasible
    assert isinstance(paced(workload, PUBLISHED), type(free))
    design = paced(workload, replica)
    assert isinstance(design, UnknownPacedDesign)
    assert design.feasible
    chosen = auto(workload, replica).design
    assert (type(chosen), chosen.entries, chosen.iterations) == (type(design), design.entries, design.iterations)


@pytest.mark.parametrize("cap", [3, 20, 100, 400, 10_000])
def test_a_window_for_unknown_lengths_fills_the_batch_at_most_on_average(cap: int) -> None:
    """(N/g) E[S] <= B, its memory proved as before; where the cap binds the window comes within 0.1% of it."""
    replica = replace(PUBLISHED, max_num_seqs=cap)
    free, design = (paced(CHAT, each, lengths="unknown") for each in (PUBLISHED, replica))
    assert isinstance(free, UnknownPacedDesign)
    assert isinstance(design, UnknownPacedDesign)
    mean = float(CHAT.rates @ (CHAT.output_tokens + 1)) / CHAT.rate
    rate = design.entries[0] / design.iterations[0]
    assert design.sequences == pytest.approx(rate * mean)
    assert design.sequences <= cap * (1 + 1e-9)
    assert design.overflow_probability <= 1e-3
    assert design.max_rate_scale <= solve(CHAT, replica).max_rate_scale * (1 + 1e-9)
    if free.sequences > cap:
        assert design.sequences >= 0.99 * cap
        assert design.max_rate_scale >= 0.99 * solve(CHAT, replica).max_rate_scale
    else:
        assert (design.entries, design.iterations) == (free.entries, free.iterations)
    assert f"of {cap:,} places in a batch on average" in design.reason


def test_nested_wait_counts_the_stages_of_its_segments() -> None:
    """The base holds n_k prompts in each stage: as many sequences; with fewer places it is infeasible and says so."""
    design = nested(CHAT, PUBLISHED)
    assert design.feasible
    assert design.sequences == sequence_bound(design, design.equilibrium)
    same, less = (nested(CHAT, replace(PUBLISHED, max_num_seqs=design.sequences - few)) for few in (0, 1))
    assert (same.feasible, same.thresholds) == (True, design.thresholds)
    assert f", in batches of at most {design.sequences:,} of {design.sequences:,} sequences" in same.reason
    assert less.sequences <= design.sequences - 1 if less.feasible else "(max_num_seqs)" in less.reason
    tiny = nested(CHAT, replace(PUBLISHED, max_num_seqs=60))
    assert (tiny.feasible, tiny.max_rate_scale) == (False, 0.0)
    assert "the replica takes 60 (max_num_seqs)" in tiny.reason
    assert less.max_rate_scale <= design.max_rate_scale


def test_delays_are_those_without_a_cap_below_it_and_infinite_past_it() -> None:
    """n* S: below the cap nobody waits for a place, so nothing changes; past it on average the queue grows for ever."""
    needed = solve(CHAT, PUBLISHED).sequences
    policy = paced(CHAT, PUBLISHED)
    roomy, full = (replace(PUBLISHED, max_num_seqs=math.floor(needed) + more) for more in (1, 0))
    assert predict(policy, CHAT, roomy).by_type == predict(policy, CHAT, PUBLISHED).by_type
    assert predict(policy, CHAT, full).latency == math.inf
