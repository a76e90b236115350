"""The fluid equilibrium by its certificates: balance, fixed point, monotonicity, scaling; then the known cases."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Instance, instances, lines, max_affine, replicas, sampled

from fluid import Equilibrium, IterationTime, PromptType, Replica, Workload, solve

CHAT = Replica(137_000, IterationTime(0.0106, 4.013e-7))  # Llama-2-7B on an A100: 10.6 ms + 0.4013 us per KV token


def batch(found: Equilibrium) -> tuple[float, float, float, float]:
    """(KV read, KV held, prompt tokens prefilled, sequences) of the batch with n_j* prompts in every stage."""
    profile, counts = found.profile, found.inventory
    arrays = (profile.stage_read, profile.stage_kv, profile.stage_prefill, lambda j: np.ones(profile.stages[j]))
    read, held, prefilled, size = (math.fsum(n * float(array(j).sum()) for j, n in enumerate(counts))
                                   for array in arrays)
    return read, held, prefilled, size


def required(workload: Workload, replica: Replica) -> float:
    """M*, infinite where no equilibrium exists."""
    kv = solve(workload, replica).kv_required
    return math.inf if kv is None else kv


@sampled
@given(instances())
def test_as_many_prompts_arrive_in_an_iteration_as_leave_each_stage(instance: Instance) -> None:
    """n_j = lambda_j Delta*."""
    found = solve(*instance)
    assert found.inventory == pytest.approx(instance.workload.rates * found.iteration_time, rel=1e-14)
    assert found.inventory.shape == (len(instance.workload),)


@sampled
@given(st.one_of(instances(), instances(load=(0.99, 0.9999))))
def test_the_iteration_time_is_the_time_of_the_batch_it_creates(instance: Instance) -> None:
    """Delta* = tau(batch of n*), one line or the largest of several; the load of each line is at most rho."""
    found = solve(*instance)
    read, _, prefilled, size = batch(found)
    assert instance.replica.iteration_time(read, prefilled, size) == pytest.approx(found.iteration_time, rel=1e-11)


@sampled
@given(instances(load=(0.5, 0.98), replica=replicas(max_affine())))
def test_no_shorter_iteration_sustains_itself(instance: Instance) -> None:
    """tau(lambda Delta) > Delta for every Delta < Delta*: it starts at max a_i > 0 and crosses the diagonal once."""
    found = solve(*instance)
    read, _, prefilled, size = batch(found)
    for share in (0.0, 0.5, 0.9, 0.999):
        shorter = share * found.iteration_time
        assert instance.replica.iteration_time(share * read, share * prefilled, share * size) > shorter


@sampled
@given(instances())
def test_required_memory_is_what_the_batch_holds_in_whole_blocks(instance: Instance) -> None:
    found = solve(*instance)
    _, held, _, _ = batch(found)
    assert found.kv_required == pytest.approx(held, rel=1e-12)
    assert found.kv_required == pytest.approx(math.fsum(found.kv_tokens), rel=1e-12)


@sampled
@given(instances())
def test_throughput_is_the_response_tokens_that_arrive(instance: Instance) -> None:
    """sum_j lambda_j R_j, with R_j response tokens wherever the first one is made."""
    expected = math.fsum(each.rate * each.output_tokens for each in instance.workload.types)
    assert solve(*instance).throughput == pytest.approx(expected, rel=1e-14)


@sampled
@given(instances(), st.integers(0, 4), st.floats(1.001, 3.0))
def test_more_of_any_type_needs_more_memory(instance: Instance, pick: int, factor: float) -> None:
    mix, replica = instance
    rates = mix.rates.copy()
    rates[pick % len(mix)] *= factor
    assert required(Workload.from_arrays(mix.prompt_tokens, mix.output_tokens, rates), replica) > required(mix, replica)


@sampled
@given(instances(), st.integers(0, 4), st.integers(0, 50), st.integers(0, 50))
def test_longer_prompts_or_outputs_never_need_less_memory(instance: Instance, pick: int, more: int, later: int) -> None:
    """Every stage of the longer life holds, reads and prefills at least as much, over at least as many stages."""
    mix, replica = instance
    prompt, output, j = mix.prompt_tokens.copy(), mix.output_tokens.copy(), pick % len(mix)
    prompt[j], output[j] = prompt[j] + more, output[j] + later
    longer = required(Workload.from_arrays(prompt, output, mix.rates), replica)
    assert longer >= required(mix, replica) * (1 - 1e-12)


@sampled
@given(instances(), st.floats(1e-2, 1e2))
def test_faster_arrivals_on_a_server_as_much_faster_need_the_same_memory(instance: Instance, zeta: float) -> None:
    """Rates zeta lambda with d0/zeta .. d3/zeta: time in other units, so Delta*/zeta and zeta throughput*."""
    mix, replica = instance
    pieces = [IterationTime(*(value / zeta for value in line)) for line in replica.iteration_time.pieces]
    found = solve(mix, replica)
    faster = solve(mix.scaled(zeta), replace(replica, iteration_time=IterationTime.largest(*pieces)))
    assert faster.kv_required == pytest.approx(found.kv_required, rel=1e-11)
    assert faster.inventory == pytest.approx(found.inventory, rel=1e-11)
    assert (faster.load, faster.max_rate_scale) == pytest.approx((found.load, found.max_rate_scale), rel=1e-11)
    assert faster.iteration_time * zeta == pytest.approx(found.iteration_time, rel=1e-11)
    assert faster.throughput == pytest.approx(zeta * found.throughput, rel=1e-11)


@sampled
@given(instances())
def test_the_answer_does_not_depend_on_the_order_of_the_types_or_on_splitting_one(instance: Instance) -> None:
    mix, replica = instance
    split = Workload([PromptType(t.prompt_tokens, t.output_tokens, t.rate / 2) for t in (*mix.types, *mix.types[::-1])])
    assert required(split, replica) == pytest.approx(required(mix, replica), rel=1e-12)


@sampled
@given(instances(replica=replicas(lines(extras=False))))
def test_without_prefill_time_memory_follows_the_closed_form(instance: Instance) -> None:
    """M* = d0 W/(1 - d1 V), with W the KV held and V the KV read by the work of a second (blocks round W only)."""
    mix, replica = instance
    found = solve(mix, replica)
    d0, d1, _, _ = replica.iteration_time.pieces[0]
    held, read = (math.fsum(mix.rates * work) for work in (found.profile.kv_work, found.profile.kv_read))
    assert found.kv_required == pytest.approx(d0 * held / (1 - d1 * read), rel=1e-12)


@sampled
@given(instances(load=(1.0, 1.0), replica=replicas(st.builds(IterationTime, st.just(0.1), st.floats(1e-6, 1e-4)))))
def test_a_load_of_exactly_one_is_overloaded_however_it_was_rounded(instance: Instance) -> None:
    found = solve(*instance)
    assert found.load == pytest.approx(1.0, rel=1e-14)
    assert (found.limit, found.stable, found.iteration_time, found.kv_required) == ("time", False, None, None)
    assert found.inventory is None
    assert found.kv_tokens is None


@pytest.mark.parametrize("rate", [50.0, 60.0, 70.0, 80.0])
def test_chat_like_requests_follow_the_closed_form_and_overflow_memory_at_80_per_second(rate: float) -> None:
    """3518 + 7 tokens: w = 8 (3518 + 3.5) = 28,172. W = 28,172 rate, M* = d0 W/(1 - d1 W).

    At 70: d1 W < 0.792, so M* < 0.0106 * 1,972,040/0.208 < 100,600 < C. At 80: d1 W > 0.904, so M* > 0.0106 *
    2,253,760/0.096 > 248,000 > C, while d1 W < 1: memory is the limit and not time.
    """
    found = solve(Workload([PromptType(3518, 7, rate)]), CHAT)
    W = 28_172 * rate
    assert found.profile.kv_work.tolist() == [28_172]
    assert found.kv_required == pytest.approx(0.0106 * W / (1 - 4.013e-7 * W), rel=1e-9)
    assert found.stable == (rate < 80)
    assert found.limit == ("memory" if rate == 80 else None)
    assert found.reason.startswith("overloaded: needs" if rate == 80 else "stable: needs")
    assert "memory" in found.reason


def test_two_types_fill_nine_tokens_exactly_whatever_the_share_of_reading() -> None:
    """1 + 1 and 1 + 2 at one request per unit time: w = 1 + 2 = 3 and 1 + 2 + 3 = 6, so W = 9.

    With d0 = 1 - 9 d1: Delta* = (1 - 9 d1)/(1 - 9 d1) = 1, n* = (1, 1), M* = 9 = C; 1 - rho >= 1/1001, so rounding
    stays below 1e-12 and "M* <= C" holds to the shared tolerance.
    """
    mix = Workload([PromptType(1, 1, 1.0), PromptType(1, 2, 1.0)])
    for k in range(1, 1001):
        d1 = k / 9009
        found = solve(mix, Replica(9, IterationTime(1 - 9 * d1, d1)))
        assert found.inventory == pytest.approx([1.0, 1.0], rel=1e-11)
        assert (found.iteration_time, found.kv_required) == pytest.approx((1.0, 9.0), rel=1e-11)
        assert found.stable


@pytest.mark.parametrize(("iteration_time", "limit"), [(IterationTime(0.0106, 4.013e-7), "time"),
                                                       (IterationTime(0.0106, 0.0), "memory")])
def test_a_rate_of_1e300_is_overloaded_in_finite_numbers(iteration_time: IterationTime, limit: str) -> None:
    """With d1 = 0 the load is 0 and M* = d0 w lambda = 0.0106 * 28,172 * 1e300 tokens."""
    found = solve(Workload([PromptType(3518, 7, 1e300)]), replace(CHAT, iteration_time=iteration_time))
    numbers = (found.load, found.throughput, found.max_rate_scale, found.iteration_time, found.kv_required)
    assert all(number is None or math.isfinite(number) for number in numbers)
    assert (found.stable, found.limit) == (False, limit)
    assert found.reason.startswith("overloaded: ")


@pytest.mark.parametrize("rates", [[1.7e308], [1.7e308, 1.7e308]])
def test_rates_at_the_end_of_the_floats_are_overloaded_in_finite_numbers(rates: list[float]) -> None:
    found = solve(Workload.from_arrays([3518] * len(rates), [7] * len(rates), rates), CHAT)
    assert all(math.isfinite(number) for number in (found.load, found.throughput, found.max_rate_scale))
    assert found.limit == "time"


@pytest.mark.parametrize(("tokens", "rate", "iteration_time"), [
    (2**23, 1e300, IterationTime(0.01, 0.0)),      # n* w: 0.01 * 1e300 * 1.06e14 tokens
    (100, 1.0, IterationTime(1e306, 0.0)),         # a w in the half-space: 1e306 * 1.5e4
    (100, 1.0, IterationTime(1.0, 1e305)),         # d1 w in the time work: 1e305 * 1.5e4
])
def test_products_beyond_the_floats_are_overloaded_all_the_same(
        tokens: int, rate: float, iteration_time: IterationTime) -> None:
    found = solve(Workload([PromptType(tokens, tokens, rate)]), Replica(2**40, iteration_time))
    assert not found.stable
    assert found.kv_required is None or math.isfinite(found.kv_required)
    assert math.isfinite(found.max_rate_scale)


@pytest.mark.parametrize("rate", [1e-305, 5e-324])
def test_next_to_no_traffic_is_stable(rate: float) -> None:
    """It needs d0 w lambda < 1e-300 tokens, and says so."""
    assert solve(Workload([PromptType(10, 10, rate)]), CHAT).reason.startswith("stable: needs 0 of 137,000 KV tokens")


def test_the_growth_left_to_next_to_no_traffic_is_a_finite_number() -> None:
    assert math.isfinite(solve(Workload([PromptType(10, 10, 1e-306)]), CHAT).max_rate_scale)


@sampled
@given(instances())
def test_a_type_one_token_too_long_never_fits_and_is_named(instance: Instance) -> None:
    """The capacity falls one token short of the largest stage: no rate is small enough, whatever the load."""
    mix, replica = instance
    peak = solve(mix, replica).profile.peak
    found = solve(mix.scaled(1e-9), replace(replica, kv_capacity=int(peak.max()) - 1))
    assert (found.stable, found.limit, found.max_rate_scale) == (False, "length", 0.0)
    name = mix.names[int(np.argmax(peak == peak.max()))]
    assert found.reason.startswith(f'never fits: a request of type "{name}" grows to {peak.max():,} KV tokens')


@sampled
@given(instances())
def test_a_type_exactly_as_long_as_the_capacity_is_stable_at_small_rates(instance: Instance) -> None:
    mix, replica = instance
    found = solve(mix.scaled(1e-12), replace(replica, kv_capacity=int(solve(mix, replica).profile.peak.max())))
    assert found.stable


@sampled
@given(instances(load=(0.01, 2.0)))
def test_the_reason_names_the_limit_and_stable_means_that_there_is_none(instance: Instance) -> None:
    found = solve(*instance)
    words = {None: "stable: ", "time": "(time)", "memory": "(memory)", "length": "never fits"}
    proved = found.limit is None and found.impossible.beyond_keeping
    assert ("impossible" if proved else words[found.limit]) in found.reason
    enough = found.kv_required is not None and found.kv_required <= found.kv_capacity * (1 + 1e-9)
    assert (found.limit is None) == enough
    assert found.stable == (enough and not found.impossible.beyond_anyone)
    assert "\n" not in found.reason


@pytest.fixture(scope="module")
def trace() -> Workload:
    """100,000 length pairs at 60 requests/s in all: o + 1 <= 150 and l + o/2 < 194, so rho < d1 60 * 29,100 < 0.71."""
    rng = np.random.default_rng(20250411)
    prompt, output = rng.integers(1, 120, 100_000), rng.integers(1, 150, 100_000)
    return Workload.from_arrays(prompt, output, rng.dirichlet(np.ones(100_000)) * 60.0 + 1e-12)


def test_a_hundred_thousand_types_follow_the_closed_form(trace: Workload) -> None:
    """W = sum_j lambda_j (o + 1)(l + o/2), summed exactly; M* = d0 W/(1 - d1 W)."""
    found = solve(trace, CHAT)
    W = math.fsum(trace.rates * (trace.output_tokens + 1) * (trace.prompt_tokens + trace.output_tokens / 2))
    assert found.load == pytest.approx(4.013e-7 * W, rel=1e-12)
    assert found.kv_required == pytest.approx(0.0106 * W / (1 - 4.013e-7 * W), rel=1e-12)


def test_each_of_many_types_adds_what_it_would_alone(trace: Workload) -> None:
    """M*/Delta* = sum_j lambda_j w_j and rho = sum_j lambda_j c_j: sums of per-type answers, on 200 of the types."""
    picked = np.random.default_rng(7).choice(len(trace), 200, replace=False)
    full, part = solve(trace, CHAT), solve(Workload.from_arrays(
        trace.prompt_tokens[picked], trace.output_tokens[picked], trace.rates[picked]), CHAT)
    alone = [solve(Workload([PromptType(int(trace.prompt_tokens[j]), int(trace.output_tokens[j]),
                                        float(trace.rates[j]))]), CHAT) for j in picked]
    work = [each.kv_required / each.iteration_time for each in alone]
    assert full.kv_tokens[picked] / full.iteration_time == pytest.approx(work, rel=1e-12)
    assert part.kv_required / part.iteration_time == pytest.approx(math.fsum(work), rel=1e-12)
    assert part.load == pytest.approx(math.fsum(each.load for each in alone), rel=1e-12)
