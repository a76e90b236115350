"""The rules of [J] in continuous time: hand-made rounds, shortest first, memory that is never exceeded, mistakes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, sampled

from fluid import IterationTime, Replica, Workload
from fluid.errors import InputError
from verification import (
    MCSF,
    AMin,
    Arrivals,
    Clearing,
    LogNormalError,
    MCBenchmark,
    Overestimate,
    Predicted,
    Protected,
    Run,
    SortedF,
    simulate,
)
from verification import rounds as discrete
from verification.policies import Policy
from verification.reference.simulator import simulate_literally

ROUNDS = Replica(6, IterationTime(1.0, 0.0), "decode-only")  # a round of [J] a second: l + s tokens at the s-th
BOTH = (MCSF(), MCBenchmark())
briefly = examples(25)


def rounds(policy: Policy, memory: int, prompts: list[int], outputs: list[int], arrivals: list[float] | None = None,
           predicted: list[int] | None = None) -> Run:
    """Requests of [J], one type each; `predicted` are the output lengths they are taken for."""
    lengths = outputs + (predicted or [])
    workload = Workload.from_arrays(prompts * (len(lengths) // len(prompts)), lengths, np.ones(len(lengths)))
    kinds = np.arange(len(prompts))
    times = np.zeros(len(prompts)) if arrivals is None else arrivals
    seen = kinds + len(prompts) if predicted else kinds
    return simulate(policy, workload, replace(ROUNDS, kv_capacity=memory), arrivals=Arrivals(times, kinds, seen))


def test_three_requests_that_fit_to_the_last_token_start_together() -> None:
    """Outputs 1, 2, 2 behind one prompt token each, M = 6: 2 + 2 + 2 in the first round, then 3 + 3."""
    run = rounds(MCSF(), 6, [1, 1, 1], [1, 2, 2])
    assert run.admitted.tolist() == [0, 0, 0]
    assert run.finished.tolist() == [1, 2, 2]
    assert run.kv_peak == 6


def test_a_request_waits_where_the_second_round_would_not_fit() -> None:
    """M = 4, prompts of one token: outputs 3 and 2 need 2 + 2 in the first round and 3 + 3 in the second. The shorter
    starts, though it came second; by arrival the longer does.
    """
    assert rounds(MCSF(), 4, [1, 1], [3, 2]).admitted.tolist() == [2, 0]
    assert rounds(MCBenchmark(), 4, [1, 1], [3, 2]).admitted.tolist() == [0, 3]


def test_a_successor_starts_so_that_its_growth_passes_the_last_tokens_of_others() -> None:
    """M = 8: a prompt of 3 with 4 tokens holds 4, 5, 6, 7 in rounds 1 to 4. One of 1 with 2 tokens holds 2, 3: started
    with it 6, 8; of two such the second starts in round 5. A third that holds 2 for a round fits beside them in the
    first; come a second later, 5 + 3 + 2 do not fit and 6 + 2 do.
    """
    assert rounds(MCBenchmark(), 8, [3, 1, 1], [4, 2, 2]).admitted.tolist() == [0, 0, 4]
    assert rounds(MCBenchmark(), 8, [3, 1, 1], [4, 2, 1]).admitted.tolist() == [0, 0, 0]
    assert rounds(MCBenchmark(), 8, [3, 1, 1], [4, 2, 1], [0.0, 0.0, 1.0]).admitted.tolist() == [0, 0, 2]


def test_the_first_that_fails_holds_up_the_rest() -> None:
    """M = 10: beside 5, 6, 7 (prompt 4, 3 tokens) no 7 (prompt 6, 1 token) fits, but a 2 would: it comes later by
    arrival, and so it does where lengths are equal.
    """
    assert rounds(MCBenchmark(), 10, [4, 6, 1], [3, 1, 1]).admitted.tolist() == [0, 3, 3]
    assert rounds(MCSF(), 10, [4, 6, 1], [3, 1, 1], [0.0, 0.5, 0.5]).admitted.tolist() == [0, 3, 3]


def test_a_request_that_ends_early_frees_what_was_kept_for_it() -> None:
    """M = 6, taken for 5 tokens (2 to 6 KV) and ending after 2: the other, which holds 3, 4, starts at 2, not at 5."""
    assert rounds(MCBenchmark(), 6, [1, 2], [2, 2], predicted=[5, 2]).admitted.tolist() == [0, 2]
    assert rounds(MCBenchmark(), 6, [1, 2], [5, 2], predicted=[5, 2]).admitted.tolist() == [0, 5]


def test_a_request_that_outlives_its_prediction_clears_the_newest() -> None:
    """M = 6, 4 tokens taken for 1 each: 2 + 2, 3 + 3, then 4 + 4 does not fit. The second goes; it holds 2 anew beside
    4 in round 3, where the test lets it, and goes again before round 4, where 5 are held; the first ends at 4.
    """
    run = rounds(MCBenchmark(), 6, [1, 1], [4, 4], predicted=[1, 1])
    assert run.finished.tolist() == [4, 8]
    assert run.evictions == 2
    assert run.kv_peak == 6


def test_a_share_may_be_kept_free() -> None:
    """Two that hold 2, 3 need 6 together; with a tenth of 6 kept free, floor(5.4) = 5 = 3 + 2, a round later."""
    assert rounds(MCSF(0.0), 6, [1, 1], [2, 2]).admitted.tolist() == [0, 0]
    assert rounds(MCSF(0.1), 6, [1, 1], [2, 2]).admitted.tolist() == [0, 1]


@sampled
@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 20)), min_size=1, max_size=40), st.integers(40, 60))
def test_one_at_a_time_is_shortest_first_exactly(requests: list[tuple[float, int]], memory: int) -> None:
    """Prompts above half the memory: never two at once, so whenever the server is free the shortest of those that wait
    is served, of equal ones the first, for as many seconds as it has tokens.
    """
    requests.sort(key=lambda request: request[0])
    times, outputs = [time for time, _ in requests], [min(output, memory - 31) for _, output in requests]
    run = rounds(MCSF(), memory, [31] * len(outputs), outputs, times)
    now, left, expected = 0.0, set(range(len(outputs))), np.zeros(len(outputs))
    while left:
        now = max(now, min(times[i] for i in left))
        one = min((i for i in left if times[i] <= now), key=lambda i: (outputs[i], i))
        left.remove(one)
        now += outputs[one]
        expected[one] = now
    np.testing.assert_allclose(run.finished, expected, rtol=1e-12)


@sampled
@given(st.integers(0, 999), st.integers(1, 30), st.integers(2, 25), st.integers(40, 120))
def test_of_equal_lengths_the_shortest_is_the_first(seed: int, prompt: int, output: int, capacity: int) -> None:
    """MC-SF and MC-Benchmark are one rule then, path by path."""
    workload = Workload.from_arrays([prompt], [output], [1.0])
    replica = Replica(max(capacity, prompt + output), IterationTime(0.1, 0.01))
    times = np.random.default_rng(seed).uniform(0, 30, 50)
    a, b = (simulate(policy, workload, replica, arrivals=Arrivals(np.sort(times), np.zeros(50, dtype=int)))
            for policy in BOTH)
    for name in ("admitted", "first_token", "finished"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


MIX = Workload.from_arrays([40, 40, 40, 40], [5, 20, 80, 200], np.full(4, 25.0))
REPLICA = Replica(3_000, IterationTime(0.01, 1e-6))


@pytest.mark.parametrize("policy", BOTH, ids=lambda policy: policy.name)
@briefly
@given(st.integers(0, 999), st.floats(1.0, 6.0), st.floats(0.2, 3.0), st.sampled_from([1, 16]))
def test_predictions_that_are_never_short_never_overflow(policy: Policy, seed: int, ratio: float, load: float,
                                                         block: int) -> None:
    """Overestimated or exact (ratio 1), below the edge and far above it: at most C in every iteration, none cleared."""
    run = simulate(policy, MIX.scaled(load), replace(REPLICA, block=block), horizon=20.0, seed=seed,
                   traffic=Predicted(Overestimate(ratio)))
    assert run.kv_peak <= REPLICA.kv_capacity
    assert (run.evictions, run.overflows) == (0, 0)


def test_predictions_that_are_short_clear_and_everybody_is_served_all_the_same() -> None:
    """2,000 requests all at once, taken for half as long as they are: some are cleared, all complete, none above C."""
    kinds = np.random.default_rng(1).integers(0, 4, 2_000)
    seen = np.maximum(kinds - 1, 0)
    for policy in BOTH:
        run = simulate(policy, MIX, REPLICA, arrivals=Arrivals(np.zeros(2_000), kinds, seen))
        assert run.completed == 2_000
        assert run.evictions > 0
        assert run.kv_peak <= REPLICA.kv_capacity


def test_a_request_predicted_to_need_more_than_there_is_enters_an_empty_server() -> None:
    """Taken for 20 tokens where 10 fit, it has 3: it is served, alone."""
    run = rounds(MCSF(), 10, [1, 1], [3, 3], predicted=[20, 20])
    assert run.finished.tolist() == [3, 6]


def test_the_shortest_first_wait_less_on_average_than_the_first() -> None:
    """At 1.3 times these rates, which memory does not carry, same arrivals: mean latency, beyond 4 standard errors."""
    mix = MIX.scaled(1.3)
    gaps = []
    for seed in range(8):
        kinds = np.random.default_rng(seed).integers(0, 4, 1_500)
        times = np.random.default_rng(seed + 100).exponential(1 / mix.rate, 1_500).cumsum()
        a, b = (simulate(policy, mix, REPLICA, arrivals=Arrivals(times, kinds)) for policy in BOTH)
        gaps.append(np.mean(b.latency - a.latency))
    assert np.mean(gaps) > 4 * np.std(gaps, ddof=1) / np.sqrt(len(gaps))


def test_errors_of_any_kind_leave_the_twins_together() -> None:
    """Log-normal errors on a stream, with a horizon."""
    traffic = Predicted(LogNormalError(0.8))
    for policy in (MCSF(0.1), MCBenchmark(0.1)):
        fast = simulate(policy, MIX, replace(REPLICA, kv_capacity=800), horizon=3.0, seed=2, traffic=traffic)
        slow = simulate_literally(policy, MIX, replace(REPLICA, kv_capacity=800), fast.arrivals, 3.0)
        np.testing.assert_array_equal(fast.finished, slow.finished)
        assert fast.evictions == slow.evictions


@pytest.mark.parametrize("protection", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("policy", [MCSF, MCBenchmark, Protected, Clearing])
def test_what_is_kept_free_is_a_share(policy: type, protection: float) -> None:
    with pytest.raises(InputError, match="protection"):
        policy(protection)


@pytest.mark.parametrize("chance", [0.0, 1.1, float("nan")])
def test_a_chance_that_clears_nobody_or_is_none_is_refused(chance: float) -> None:
    with pytest.raises(InputError, match="chance"):
        Clearing(0.1, chance)


@st.composite
def instances(draw: st.DrawFn) -> discrete.Instance:
    """Requests of [J] on memory for a few, predicted too long, right or too short."""
    count = draw(st.integers(1, 25))
    prompts, outputs, predicted, arrivals = (
        draw(st.lists(st.integers(*span), min_size=count, max_size=count))
        for span in ((1, 8), (1, 12), (1, 12), (0, 20)))
    return discrete.Instance(sorted(arrivals), prompts, outputs, draw(st.integers(20, 45)), predicted)


@pytest.mark.parametrize(("policy", "rule"), [
    (discrete.MCSF(), MCSF()), (discrete.MCSF(0.2), MCSF(0.2)), (discrete.MCBenchmark(), MCBenchmark()),
    (discrete.Protected(0.1), Protected(0.1)), (discrete.Protected(0.0), Protected(0.0)), (discrete.AMin(), AMin()),
    (discrete.SortedF("sweep"), SortedF()),
], ids=str)
@sampled
@given(instances())
def test_an_iteration_a_second_on_a_decode_only_replica_is_a_round(
        policy: discrete.RoundPolicy, rule: Policy, instance: discrete.Instance) -> None:
    """What `verification.rounds`, written apart from this, plays round by round: the same starts and ends."""
    schedule = discrete.play(policy, instance)
    run = rounds(rule, instance.memory, instance.prompts.tolist(), instance.outputs.tolist(),
                 instance.arrivals.tolist(), instance.predicted.tolist())
    np.testing.assert_array_equal(run.finished, schedule.finished)
    np.testing.assert_array_equal(run.admitted, schedule.started)


# Rules that do not look ahead


def test_admissions_leave_a_share_free() -> None:
    """M = 4, half of it kept free: 2 enter, 2 + 2 do not, nor beside 3; the second waits for the first to end."""
    assert rounds(Protected(0.5), 4, [1, 1], [3, 1]).admitted.tolist() == [0, 3]


def test_all_are_cleared_and_then_all_but_the_oldest() -> None:
    """M = 6, twice 4 tokens: 2 + 2, 3 + 3, then 8 do not fit and both go; the same again would follow for ever. So
    before round 5 the first is kept: it ends at 6. The second enters beside 4, goes again before 5 + 3, and has rounds
    7 to 10: cleared are 2, 1 and 1.
    """
    run = rounds(Protected(0.0), 6, [1, 1], [4, 4])
    assert run.finished.tolist() == [6, 10]
    assert run.evictions == 4


def test_chances_are_independent_with_the_probability_asked_for() -> None:
    """1,000 that hold 2, then 3, on 2,000: one pass with chance 1/2 leaves some 500, which fit and complete in round 2.
    Over 300 seeds the mean is 500, the variance 250, within 4 standard errors: of the variance 250 sqrt(2 / 299).
    """
    mix, server = Workload.from_arrays([1], [2], [1.0]), replace(ROUNDS, kv_capacity=2_000)
    alike = Arrivals(np.zeros(1_000), np.zeros(1_000, dtype=int))
    left = [int(np.count_nonzero(simulate(Clearing(0.0, 0.5, seed), mix, server, arrivals=alike).finished == 2))
            for seed in range(300)]
    assert abs(np.mean(left) - 500) < 4 * np.sqrt(250 / 300)
    assert abs(np.var(left, ddof=1) - 250) < 4 * 250 * np.sqrt(2 / 299)


@sampled
@given(st.integers(0, 999), st.floats(0.0, 0.5), st.integers(0, 2**63 - 1))
def test_a_chance_of_one_is_alpha_protection(seed: int, protection: float, draws: int) -> None:
    """Whatever the seed of the chances; everybody is served, in iterations that hold at most C."""
    generator = np.random.default_rng(seed)
    arrivals = Arrivals(np.sort(generator.uniform(0, 2, 40)), generator.integers(0, 4, 40))
    small = replace(REPLICA, kv_capacity=600)
    a, b = (simulate(policy, MIX, small, arrivals=arrivals)
            for policy in (Protected(protection), Clearing(protection, 1.0, draws)))
    np.testing.assert_array_equal(a.finished, b.finished)
    assert (a.completed, a.kv_peak <= 600) == (40, True)


@sampled
@given(st.integers(0, 999), st.sampled_from([0.05, 0.2, 0.9]))
def test_the_rest_is_not_repeated(seed: int, chance: float) -> None:
    """By chance too everybody is served at last, though nothing is kept free."""
    generator = np.random.default_rng(seed)
    arrivals = Arrivals(np.sort(generator.uniform(0, 2, 40)), generator.integers(0, 4, 40))
    run = simulate(Clearing(0.0, chance, seed), MIX, replace(REPLICA, kv_capacity=600), arrivals=arrivals)
    assert (run.completed, run.overflows) == (40, 0)


# Lower bounds


@sampled
@given(st.integers(0, 999), st.integers(300, 1_000))
def test_on_bounds_that_are_the_lengths_a_min_is_mcsf(seed: int, capacity: int) -> None:
    """Path by path."""
    generator = np.random.default_rng(seed)
    arrivals = Arrivals(np.sort(generator.uniform(0, 2, 60)), generator.integers(0, 4, 60))
    a, b = (simulate(policy, MIX, replace(REPLICA, kv_capacity=capacity), arrivals=arrivals)
            for policy in (AMin(), MCSF()))
    for name in ("admitted", "first_token", "finished"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_of_equal_bounds_the_last_goes() -> None:
    """M = 4, bounds of 1 token: 2 + 2, then 3 + 3 do not fit and the second goes, until the first has its 3 tokens."""
    run = rounds(AMin(bound=1), 4, [1, 1], [3, 2])
    assert run.finished.tolist() == [3, 5]
    assert run.evictions == 1


def test_what_was_made_is_the_new_bound() -> None:
    """M = 7, 2, 4 and 3 tokens; the last comes at 1. Bounds of 1: 2 + 2, then 3 + 3 (+ 2 do not fit), the first ends at
    2; 4 + 2; 5 + 3 do not fit, the third with bound 1 goes before the second with 3. It waits: 5 + 2 fit in round 4 and
    it enters at 3, with a bound of 1; the second ends at 4; the third at 6.
    """
    run = rounds(AMin(bound=1), 7, [1, 1, 1], [2, 4, 3], [0.0, 0.0, 1.0])
    assert run.finished.tolist() == [2, 4, 6]
    assert run.evictions == 1


def test_bounds_below_the_lengths_serve_everybody_in_memory() -> None:
    """2,000 requests all at once, bounds of one token or half of what they are."""
    kinds = np.random.default_rng(1).integers(0, 4, 2_000)
    for policy in (AMin(bound=1), AMin()):
        run = simulate(policy, MIX, REPLICA, arrivals=Arrivals(np.zeros(2_000), kinds, np.maximum(kinds - 1, 0)))
        assert (run.completed, run.kv_peak <= REPLICA.kv_capacity) == (2_000, True)
        assert run.evictions > 0


# Batches


def test_the_many_short_go_before_the_few_shorter() -> None:
    """M = 20, five that hold 19 for a second and ten that hold 2: F is 1 for each of the five, 10 / 10^2 for the ten,
    which fill M. Sorted-F serves the ten at 0, the five one by one from 1; MC-SF the five first, as they came.
    """
    prompts, outputs = [18] * 5 + [1] * 10, [1] * 5 + [1] * 10
    batches = rounds(SortedF(), 20, prompts, outputs)
    assert batches.admitted.tolist() == [1, 2, 3, 4, 5] + [0] * 10
    assert rounds(MCSF(), 20, prompts, outputs).admitted.tolist() == [0, 1, 2, 3, 4] + [5] * 10


def test_whoever_comes_is_lined_up_with_all_that_wait() -> None:
    """M = 6. The first holds 2, ..., 6 until 5. Of the next two, who need all of M, that of 2 tokens (F = 2) is X_1,
    that of 4 X_2. At 2 come two that hold 2 for a second: F = 2/4. The one starts beside 4, the other not; it has
    its turn still, at 5, and 5 + 2 do not fit; then they follow by F.
    """
    run = rounds(SortedF(), 6, [1, 2, 4, 1, 1], [5, 4, 2, 1, 1], [0.0, 0.5, 0.5, 2.0, 2.0])
    assert run.admitted.tolist() == [0, 8, 6, 2, 5]


@sampled
@given(st.integers(0, 999), st.integers(300, 1_000), st.sampled_from([1, 16]))
def test_where_more_stages_never_hold_less_sorted_f_is_mcsf(seed: int, capacity: int, block: int) -> None:
    """Path by path, with prompts that are equal, whether predictions are right or not."""
    generator = np.random.default_rng(seed)
    kinds = generator.integers(0, 4, (2, 60))
    arrivals = Arrivals(np.sort(generator.uniform(0, 2, 60)), kinds[0], kinds[seed % 2])
    small = replace(REPLICA, kv_capacity=capacity, block=block)
    a, b = (simulate(policy, MIX, small, arrivals=arrivals) for policy in (SortedF(), MCSF()))
    for name in ("admitted", "first_token", "finished"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_batches_of_many_kinds_are_those_of_the_rounds() -> None:
    """200 requests in bunches, and 1,000 at once, most of a kind of their own: the same starts, request by request."""
    for count, last in [(200, 40), (200, 80), (1_000, 0)]:
        generator = np.random.default_rng(count + last)
        prompts, outputs = generator.integers(1, 40, count), generator.integers(1, 30, count)
        instance = discrete.Instance(np.sort(generator.integers(0, last + 1, count)), prompts, outputs, 400)
        run = rounds(SortedF(), 400, prompts.tolist(), outputs.tolist(), instance.arrivals.tolist())
        np.testing.assert_array_equal(run.admitted, discrete.play(discrete.SortedF("sweep"), instance).started)
