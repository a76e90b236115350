"""The rules of [J] in continuous time: hand-made rounds, shortest first, memory that is never exceeded, mistakes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import sampled

from fluid import IterationTime, Replica, Workload
from fluid.errors import InputError
from verification import MCSF, Arrivals, LogNormalError, MCBenchmark, Overestimate, Predicted, Run, simulate
from verification.policies import Policy
from verification.reference.simulator import simulate_literally

ROUNDS = Replica(6, IterationTime(1.0, 0.0), "decode-only")  # a round of [J] a second: l + s tokens at the s-th
BOTH = (MCSF(), MCBenchmark())
briefly = settings(sampled, max_examples=30)


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
def test_what_is_kept_free_is_a_share(protection: float) -> None:
    with pytest.raises(InputError, match="protection"):
        MCSF(protection)
