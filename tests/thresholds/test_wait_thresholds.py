"""The least integer WAIT thresholds: exact oracles, a mixed-integer program, the textbook boundary, the bracket."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import product

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Instance, instances, lines, max_affine, replicas, sampled

from fluid import IterationTime, PromptType, Replica, Workload, solve, stage_profile
from thresholds import WaitDesign, WaitPolicy, batch_time, paced, wait
from thresholds.paced_wait.design import AnyPacedDesign

CHAT = Replica(137_000, IterationTime(0.0106, 4.013e-7))  # Llama-2-7B on an A100: 10.6 ms + 0.4013 us per KV token


def time_work(instance: Instance) -> list[list[float]]:
    """c_ij of each piece and type, from explicit stages."""
    profile = stage_profile(*instance)
    return [[d1 * int(profile.stage_read(j).sum()) + d2 * int(profile.stage_prefill(j).sum())
             + d3 * len(profile.stage_read(j)) for j in range(len(instance.workload))]
            for _, d1, d2, d3 in instance.replica.iteration_time.pieces]


def kv_work(instance: Instance) -> list[int]:
    """w_j from explicit stages."""
    profile = stage_profile(*instance)
    return [int(profile.stage_kv(j).sum()) for j in range(len(instance.workload))]


def demand(instance: Instance, counts: tuple[int, ...]) -> list[Fraction]:
    """lambda_j Delta(n) in exact rational arithmetic on the given floats."""
    exact = [[Fraction(c) for c in row] for row in time_work(instance)]
    longest = max(Fraction(a) + sum(c * n for c, n in zip(row, counts, strict=True))
                  for a, row in zip(instance.replica.iteration_time.overheads.tolist(), exact, strict=True))
    return [Fraction(rate) * longest for rate in instance.workload.rates.tolist()]


def tolerance(x: Fraction) -> Fraction:
    """The rounding of mathematics, section 3.5: 1e-9 max(1, x)."""
    return Fraction(1, 10**9) * max(Fraction(1), x)


def least_fixed_point(instance: Instance) -> tuple[int, ...]:
    """Climb n <- max(1, ceil(lambda Delta(n))) from (1, .., 1), exactly: Kleene's iteration ends in the least one."""
    counts = (1,) * len(instance.workload)
    while True:
        better = tuple(max(1, math.ceil(x - tolerance(x))) for x in demand(instance, counts))
        if better == counts:
            return counts
        counts = better


def resized(instance: Instance, largest: float) -> Instance:
    """The overheads scaled so that max_j n_j* is `largest`: n* is proportional to them, rho does not change."""
    inventory = solve(*instance).inventory
    factor = largest / float(inventory.max())
    pieces = [IterationTime(d0 * factor, *slopes) for d0, *slopes in instance.replica.iteration_time.pieces]
    return Instance(instance.workload, replace(instance.replica, iteration_time=IterationTime.largest(*pieces)))


small = st.builds(resized, instances(load=(0.01, 0.9), most_types=3), st.floats(0.05, 8.0))


@sampled
@given(st.one_of(instances(), instances(load=(0.99, 0.9999), most_types=3)))
def test_every_type_gathers_a_full_cohort_while_one_batch_runs(instance: Instance) -> None:
    """Load balance lambda_j Delta(n) <= n_j, checked in rational arithmetic."""
    design = wait(*instance)
    wanted = demand(instance, design.thresholds)
    assert all(x <= n + tolerance(x) for x, n in zip(wanted, design.thresholds, strict=True))


@sampled
@given(instances())
def test_one_prompt_less_in_any_stage_breaks_the_balance(instance: Instance) -> None:
    """For i not j, F_i(n - e_j) <= F_i(n) <= n_i: were n_j - 1 enough for j too, n would not be the least."""
    n = wait(*instance).thresholds
    for j in range(len(n)):
        fewer = (*n[:j], n[j] - 1, *n[j + 1:])
        assert n[j] == 1 or demand(instance, fewer)[j] > n[j] - 1


@sampled
@given(small)
def test_no_balanced_vector_of_a_whole_box_lies_below_the_thresholds(instance: Instance) -> None:
    """Every vector of positive integers up to n0 + 2 (and 29) is tried; the tolerance of 1e-9 leaves room."""
    least = wait(*instance).thresholds
    box = np.array(list(product(*(range(1, min(n + 3, 30)) for n in least))), dtype=np.float64)
    times = (instance.replica.iteration_time.overheads + box @ np.array(time_work(instance)).T).max(axis=1)
    balanced = box[np.all(np.outer(times, instance.workload.rates) <= box * (1 + 0.9e-9), axis=1)]
    assert np.all(balanced >= np.array(least))


@sampled
@given(instances(load=(0.01, 0.9), most_types=4))
def test_the_thresholds_are_the_least_fixed_point_in_exact_arithmetic(instance: Instance) -> None:
    assert wait(*instance).thresholds == least_fixed_point(instance)


@sampled
@given(instances(most_types=1))
def test_one_type_needs_the_next_whole_number_above_the_equilibrium(instance: Instance) -> None:
    """n >= lambda (a_i + n c_i) for every i if and only if n >= max_i lambda a_i/(1 - lambda c_i) = n*."""
    rate = Fraction(float(instance.workload.rates[0]))
    lower = max(rate * Fraction(a) / (1 - rate * Fraction(row[0])) for a, row in zip(
        instance.replica.iteration_time.overheads.tolist(), time_work(instance), strict=True))
    assert wait(*instance).thresholds == (max(1, math.ceil(lower - tolerance(lower))),)


@pytest.mark.parametrize(("types", "pieces"), [(1, 1), (2, 1), (3, 2), (6, 1), (6, 3)])
def test_the_thresholds_are_the_optimum_of_the_integer_program(types: int, pieces: int) -> None:
    """min sum n s.t. n_j >= lambda_j (a_i + sum_k n_k c_ik), n >= 1: the least element is its only minimiser.

    n* is at most 30, so sum n < 1000 and HiGHS's relative gap of 1e-4 is below one prompt.
    """
    rng = np.random.default_rng([types, pieces])
    for _ in range(6):
        lines = [IterationTime(*rng.uniform(0.1, 1.0, 4) * (0.01, 1e-6, 1e-5, 1e-4)) for _ in range(pieces)]
        mix = Workload.from_arrays(rng.integers(1, 300, types), rng.integers(1, 300, types), rng.uniform(0.1, 1, types))
        replica = Replica(100_000, IterationTime.largest(*lines))
        mix = mix.scaled(rng.uniform(0.2, 0.9) / solve(mix, replica).load)
        instance = resized(Instance(mix, replica), rng.uniform(1, 30))
        n = cp.Variable(types, integer=True)
        balance = [n >= mix.rates * (a + np.array(row) @ n) for a, row in zip(
            instance.replica.iteration_time.overheads, time_work(instance), strict=True)]
        cp.Problem(cp.Minimize(cp.sum(n)), [*balance, n >= 1]).solve(solver=cp.HIGHS)
        assert wait(*instance).thresholds == tuple(np.rint(n.value).astype(int).tolist())


def test_the_textbook_boundary_is_met_exactly_however_it_rounds() -> None:
    """1 + 1 and 1 + 2 tokens at rate 1: w = 2 (1 + 1/2) = 3 and 3 (1 + 1) = 6, W = 9; d0 = 1 - 9 d1 gives Delta* = 1,
    n* = (1, 1), M* = 9 = C. n0 = n*, nothing above these rates fits, and stability asks for one prompt more.
    """
    mix = Workload([PromptType(1, 1, 1.0), PromptType(1, 2, 1.0)])
    for d1 in np.arange(1, 1001) / 9009:
        design = wait(mix, Replica(9, IterationTime(1 - 9 * d1, d1)))
        assert (design.thresholds, design.feasible, design.kv_required) == ((1, 1), True, 9)
        assert design.stable_thresholds == (2, 2)
        assert design.equilibrium.kv_required == pytest.approx(9.0, rel=1e-12)
        assert design.max_rate_scale == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("kind", [wait, paced])
def test_not_one_token_above_the_cache_fits(kind: Callable[[Workload, Replica], WaitDesign | AnyPacedDesign]) -> None:
    """2e9 tokens and two more: WAIT's M^pi and the bound of windows are counts, and 1e-9 of 2e9 is two of them."""
    for prompt, output in ((99_999, 3), (49_999, 2), (511, 20)):
        mix = Workload([PromptType(prompt, output, 1.0)])
        work = int(stage_profile(mix, CHAT).kv_work[0])
        full = 2 * 10**9 // work * work
        base = Replica(full, IterationTime(0.0106, 1e-12))
        edge = mix.scaled(solve(mix, base).max_rate_scale * (1 - 1e-10))
        for short in (0, 1, 2):
            design = kind(edge, replace(base, kv_capacity=full - short))
            assert design.feasible == (design.kv_required <= full - short)


def near_saturation(types: int, gap: float) -> Instance:
    """A mix at rho = 1 - gap."""
    rng = np.random.default_rng(types)
    mix = Workload.from_arrays(rng.integers(1, 200, types), rng.integers(1, 200, types), rng.uniform(0.1, 10, types))
    return Instance(mix.scaled((1 - gap) / solve(mix, CHAT).load), CHAT)


@pytest.mark.parametrize("types", [1, 2, 3])
def test_a_millionth_below_saturation_the_thresholds_are_a_fixed_point(types: int) -> None:
    """ceil(lambda Delta(n0)) = n0 to the tolerance: balanced, and no coordinate has a prompt to spare."""
    instance = near_saturation(types, 1e-6)
    n = wait(*instance).thresholds
    for x, count in zip(demand(instance, n), n, strict=True):
        assert count - 1 < x <= count + tolerance(x)


def test_jumps_reach_what_the_plain_climb_reaches() -> None:
    """rho = 1 - 1e-4: the same n0 as n <- F(n) from n*."""
    instance = near_saturation(5, 1e-4)
    n = np.ceil(solve(*instance).inventory)
    rates, work = instance.workload.rates, np.array(time_work(instance)[0])
    while True:
        x = rates * (CHAT.iteration_time.overheads[0] + work @ n)
        better = np.maximum(n, np.ceil(x - 1e-9 * np.maximum(1, x)))
        if np.array_equal(better, n):
            break
        n = better
    assert wait(*instance).thresholds == tuple(n.astype(int).tolist())


def test_a_hundred_types_a_millionth_below_saturation_have_an_answer() -> None:
    """100 types at rho = 1 - 1e-6; and a memory so large that the search for its edge passes there."""
    instance = near_saturation(100, 1e-6)
    design = wait(*instance)
    assert np.all(design.slack >= -1e-9 * np.array(design.thresholds))
    wide = wait(near_saturation(5, 0.5).workload, replace(CHAT, kv_capacity=2**40))
    assert wide.max_rate_scale <= wide.equilibrium.max_rate_scale


@sampled
@given(instances())
def test_whole_thresholds_need_between_the_fluid_memory_and_a_known_surplus(instance: Instance) -> None:
    """M* <= sum n0 w < W t + W1 with t = max_i (a_i + C1_i)/(1 - rho_i): n = ceil(lambda t) is balanced, because
    Delta(n) <= max_i (a_i + rho_i t + C1_i) <= t. With one piece that is M* + W1 + W C1/(1 - rho).
    """
    design, w = wait(*instance), kv_work(instance)
    rates, W = instance.workload.rates, float(np.dot(instance.workload.rates, w))
    t = max((a + sum(row)) / (1 - np.dot(rates, row)) for a, row in zip(
        instance.replica.iteration_time.overheads, time_work(instance), strict=True))
    assert design.kv_required == sum(n * each for n, each in zip(design.thresholds, w, strict=True))
    assert design.equilibrium.kv_required * (1 - 2e-9) <= design.kv_required < (W * t + sum(w)) * (1 + 1e-9)


@sampled
@given(instances(replica=replicas(lines())))
def test_with_one_line_the_surplus_is_that_of_the_model(instance: Instance) -> None:
    """M* <= sum n0 w < M* + W1 + W C1/(1 - rho)."""
    design, w, c = wait(*instance), kv_work(instance), time_work(instance)[0]
    rates, found = instance.workload.rates, design.equilibrium
    surplus = sum(w) + np.dot(rates, w) * sum(c) / (1 - np.dot(rates, c))
    assert found.kv_required * (1 - 2e-9) <= design.kv_required < (found.kv_required + surplus) * (1 + 1e-9)


@sampled
@given(instances(load=(0.01, 0.8)), st.integers(0, 4), st.floats(1.001, 1.2))
def test_more_of_any_type_never_lowers_a_threshold(instance: Instance, pick: int, factor: float) -> None:
    rates = instance.workload.rates.copy()
    rates[pick % len(rates)] *= factor
    mix = Workload.from_arrays(instance.workload.prompt_tokens, instance.workload.output_tokens, rates)
    one, two = wait(*instance), wait(mix, instance.replica)
    assert np.all(np.array(two.thresholds) >= np.array(one.thresholds))
    assert np.all(np.array(two.stable_thresholds) >= np.array(one.stable_thresholds))


@sampled
@given(instances(load=(0.01, 2.0)))
def test_the_largest_scale_is_the_last_that_fits(instance: Instance) -> None:
    """Feasible at it, infeasible a millionth above it; 0 where one prompt of each stage is too much, sum w > C."""
    mix, replica = instance
    scale = wait(mix, replica).max_rate_scale
    if sum(kv_work(instance)) > replica.kv_capacity:
        assert scale == 0.0
        assert not wait(mix.scaled(1e-9), replica).feasible
        return
    assert wait(mix.scaled(scale), replica).feasible
    assert not wait(mix.scaled(scale * (1 + 1e-6)), replica).feasible
    assert scale <= solve(mix, replica).max_rate_scale * (1 + 1e-9)


@sampled
@given(instances(load=(0.05, 0.9)), st.floats(0.1, 0.9))
def test_feasible_means_that_the_largest_scale_is_at_least_one(instance: Instance, factor: float) -> None:
    design, less = wait(*instance), wait(instance.workload.scaled(factor), instance.replica)
    assert design.feasible == (design.max_rate_scale >= 1 - 1e-9)
    assert less.max_rate_scale * factor == pytest.approx(design.max_rate_scale, rel=1e-9)


@sampled
@given(instances())
def test_the_least_stable_thresholds_exceed_the_equilibrium_by_at_most_one(instance: Instance) -> None:
    """floor(n*) + 1 with one type: above n*, and not if one less; never above what load balance and one prompt ask for.

    With several lines and types n > n* is not enough: the least stable thresholds keep load balance strictly.
    """
    design, w = wait(*instance), kv_work(instance)
    inventory = design.equilibrium.inventory
    stable = np.array(design.stable_thresholds)
    assert np.all(stable > inventory)
    if len(instance.workload) == 1 or len(instance.replica.iteration_time.pieces) == 1:
        assert np.all(stable - 1 <= inventory * (1 + 1e-9) + 1e-9)
        assert np.all(stable <= np.array(design.thresholds) + 1)
    elif stable.max() > 1 + inventory.max():
        assert np.all(instance.workload.rates * batch_time(design.equilibrium, stable.astype(float)) < stable)
    assert design.stable_kv_required == sum(n * each for n, each in zip(stable.tolist(), w, strict=True))


@sampled
@given(instances())
def test_slack_is_the_room_left_and_never_negative(instance: Instance) -> None:
    """slack_j = n_j - lambda_j Delta(n), at least 0 to the tolerance of ceil."""
    design = wait(*instance)
    wanted = [float(x) for x in demand(instance, design.thresholds)]
    counts = np.array(design.thresholds)
    assert design.slack == pytest.approx(counts - wanted, abs=1e-12 * counts.max() + 1e-12)
    assert np.all(design.slack >= -1.1e-9 * np.maximum(1, wanted))
    assert design.iteration_time == pytest.approx(wanted[0] / instance.workload.rates[0], rel=1e-12)


@sampled
@given(instances(load=(1.0, 3.0), replica=replicas(st.builds(IterationTime, st.just(0.1), st.floats(1e-6, 1e-4)))))
def test_at_saturation_there_are_no_thresholds_and_the_reason_says_why(instance: Instance) -> None:
    """rho >= 1: Delta(n) >= a + rho Delta(n) has no solution."""
    design = wait(*instance)
    assert (design.thresholds, design.stable_thresholds, design.feasible) == ((), (), False)
    assert (design.kv_required, design.iteration_time, design.slack, design.stable_kv_required) == (None,) * 4
    assert design.reason.startswith(("overloaded: the work alone takes", "never fits"))
    assert design.max_rate_scale < 1


def test_long_outputs_do_not_fit_and_the_reason_counts_the_tokens() -> None:
    """512 + 1000: w = 1001 (512 + 500) = 1,013,012. At 1 request/s n* = 0.0106/(1 - 4.013e-7 w) = 0.018, so n0 = 1:
    1,013,012 - 137,000 = 876,012 tokens short, although M* = 0.018 w fits. No rate helps, so the scale is 0.
    """
    design = wait(Workload([PromptType(512, 1000, 1.0, "essay")]), CHAT)
    assert design.equilibrium.stable
    assert (design.thresholds, design.kv_required, design.feasible) == ((1,), 1_013_012, False)
    assert design.max_rate_scale == 0.0
    for part in ("infeasible", "1,013,012", "876,012", '"essay"', "1 in each of 1,001 stages"):
        assert part in design.reason
    assert "\n" not in design.reason


def test_a_type_that_never_fits_is_infeasible_and_named() -> None:
    """10 + 6 tokens end at 16 > 15 = C."""
    design = wait(Workload([PromptType(10, 5, 0.1, "short"), PromptType(10, 6, 0.1, "long")]),
                  Replica(15, IterationTime(0.1, 0.0)))
    assert (design.feasible, design.max_rate_scale) == (False, 0.0)
    assert '"long"' in design.reason


@pytest.mark.parametrize(("options", "kv", "stages"), [
    ({}, 75, 6),                                   # 10, 11 .. 15: 6 stages, 6 (10 + 5/2) = 75
    ({"prefill": "decode-only"}, 65, 5),           # 11 .. 15
    ({"prefill": 4}, 87, 8),                       # 4, 8, 10, then 11 .. 15
    ({"block": 4}, 84, 6),                         # 10, 11, 12 take 12, then 13, 14, 15 take 16
    ({"first_token": "prefill"}, 60, 5),           # 10 .. 14
])
def test_other_servers_are_other_profiles(options: dict, kv: int, stages: int) -> None:
    """10 + 5 tokens, d1 = 0, d3 = 0.01: n* = rate/(1 - 0.01 rate stages), memory n0 kv. At rate 2.5 n* < 3."""
    design = wait(Workload([PromptType(10, 5, 2.5)]), Replica(1000, IterationTime(1.0, 0.0, 0.0, 0.01), **options))
    n = math.ceil(2.5 / (1 - 0.025 * stages))
    assert (design.thresholds, design.kv_required) == ((n,), n * kv)
    assert design.iteration_time == pytest.approx(1 + 0.01 * n * stages, rel=1e-12)


@sampled
@given(instances(load=(0.3, 0.9), replica=replicas(max_affine()), most_types=3))
def test_several_lines_ask_for_at_least_what_each_alone_does(instance: Instance) -> None:
    """Delta is the largest of them, so F is, and the least fixed points keep the order."""
    found = np.array(wait(*instance).thresholds)
    for line in instance.replica.iteration_time.pieces:
        if line.overhead > 0:
            alone = wait(instance.workload, replace(instance.replica, iteration_time=IterationTime(*line)))
            assert np.all(found >= np.array(alone.thresholds))


def test_twenty_thousand_types_are_designed() -> None:
    """A trace's length pairs at rho = 0.3, with room for one prompt of each stage: sum w < 20,000 * 21 * 30."""
    rng = np.random.default_rng(4)
    mix = Workload.from_arrays(rng.integers(1, 21, 20_000), rng.integers(1, 21, 20_000), rng.uniform(0.1, 1, 20_000))
    replica = Replica(20_000 * 21 * 30, CHAT.iteration_time)
    mix = mix.scaled(0.3 / solve(mix, replica).load)
    design = wait(mix, replica)
    assert design.feasible
    assert len(design.thresholds) == 20_000
    assert np.all(design.slack >= 0)


def test_a_design_is_a_policy_and_a_fixed_answer() -> None:
    """The type of `thresholds.wait` is installable as it is, and asking again gives the same."""
    mix = Workload([PromptType(512, 20, 20.0), PromptType(100, 50, 5.0)])
    one, two = wait(mix, CHAT), wait(mix, CHAT)
    assert isinstance(one, WaitDesign)
    assert isinstance(one, WaitPolicy)
    assert (one.thresholds, one.reason, one.max_rate_scale) == (two.thresholds, two.reason, two.max_rate_scale)
    assert "feasible: residents never hold more than" in one.reason
