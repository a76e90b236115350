"""Simulated paths: worked by hand, invariants on random ones, and what the policies guarantee."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve, stage_profile
from thresholds import NestedWaitPolicy, PacedPolicy, WaitPolicy, wait
from verification import Arrivals, Greedy, Run, VllmV0, poisson_arrivals, replicate, simulate
from verification.policies import Policy

UNIT = IterationTime(1.0, 0.0)
PUBLISHED = IterationTime(0.0106, 4.01e-7)


def of_one(prompt: int, output: int, rate: float = 1.0) -> Workload:
    """A workload of one type."""
    return Workload([PromptType(prompt, output, rate)])


def test_wait_by_hand() -> None:
    """Threshold 2, prompts of 10 + 2 tokens, iterations of 1 s: cohorts move only when two more prompts wait.

    Arrivals at 0, 0.5 | 0.5, 3 | 9, 9. Batch 1 at 0.5 (cohort 1 prefills), batch 2 at 3 (cohort 1 decodes, first token
    at 4), batch 3 at 9 (cohort 1 finishes at 10, cohort 2 makes its first token at 10). Cohorts 2 and 3 are stuck.
    """
    arrivals = Arrivals([0, 0.5, 0.5, 3, 9, 9], [0] * 6)
    run = simulate(WaitPolicy((2,)), of_one(10, 2), Replica(100, UNIT), arrivals=arrivals)
    nan = np.nan
    np.testing.assert_array_equal(run.admitted, [0.5, 0.5, 3, 3, 9, 9])
    np.testing.assert_array_equal(run.first_token, [4, 4, 10, 10, nan, nan])
    np.testing.assert_array_equal(run.finished, [10, 10, nan, nan, nan, nan])
    assert (run.iterations, run.completed, run.unfinished, run.end_time, run.busy_time) == (3, 2, 4, 10.0, 3.0)
    assert run.kv_peak == 2 * (10 + 11 + 12)


def test_greedy_evicts_the_newest_by_hand() -> None:
    """C = 7, prompts of 2 + 2 tokens at 0, 0, 0: three enter (6 tokens); at 1 they need 9, so the third leaves.

    The two left need 6 at stage 1 (time 1) and 8 at stage 2 (time 2): the second leaves. The first finishes at 3; then
    both come back in order (front), need 6 at time 4, 8 at time 5: the third leaves again; and so on.
    """
    run = simulate(Greedy(0.0), of_one(2, 2), Replica(7, UNIT), arrivals=Arrivals([0, 0, 0], [0, 0, 0]))
    np.testing.assert_array_equal(run.finished, [3, 6, 9])
    np.testing.assert_array_equal(run.first_token, [2, 5, 8])
    assert (run.evictions, run.kv_peak, run.iterations) == (3, 6, 9)


def test_the_watermark_keeps_a_share_free() -> None:
    """With watermark 0.5 of C = 8 a second prompt of 3 tokens (3 + 3 > 4) waits until the first has left."""
    run = simulate(Greedy(0.5), of_one(3, 1), Replica(8, UNIT), arrivals=Arrivals([0, 0], [0, 0]))
    np.testing.assert_array_equal(run.finished, [2, 4])


def test_the_two_ways_of_requeueing_differ() -> None:
    """C = 7, three prompts of 2 + 2: evicted to the end of the queue, the second comes back after the third.

    Time 1 evicts the third, time 2 the second: the queue is then (third, second).
    """
    arrivals = Arrivals([0, 0, 0], [0, 0, 0])
    run = simulate(Greedy(0.0, "back"), of_one(2, 2), Replica(7, UNIT), arrivals=arrivals)
    np.testing.assert_array_equal(run.finished, [3, 9, 6])


@pytest.mark.slow
@pytest.mark.parametrize("policy", [Greedy(0.0), PacedPolicy((80_000,), (1,))])
def test_leaps_do_not_pass_what_integers_hold(policy: Policy) -> None:
    """80,000 requests of 2^24 tokens at once: they read n (o + 1)(o + 2)/2 > 2^63 tokens, in (o + 1) iterations."""
    n, o = 80_000, 2**24
    run = simulate(policy, Workload([PromptType(1, o, 1.0)]), Replica(2**50, IterationTime(1.0, 1e-9)),
                   arrivals=Arrivals(np.zeros(n), np.zeros(n, dtype=np.int64)))
    assert run.end_time == pytest.approx((o + 1) + 1e-9 * n * ((o + 1) * (o + 2) // 2), rel=1e-12)


@pytest.mark.parametrize("capacity", [10, 137_000, 10**13 - 5, 2**50])
def test_admission_never_reaches_beyond_the_cache(capacity: int) -> None:
    """Rounding up (1 - watermark) C must not pass C, however large."""
    assert Greedy(0.0).admission_limit(capacity) == capacity
    assert Greedy(0.01).admission_limit(capacity) <= 0.99 * capacity * (1 + 1e-9)


def test_what_is_never_served_costs_nothing() -> None:
    """Types too large for the cache, or without a request, and thresholds and boundaries beyond all there is: the
    answer is that without them, and no memory is taken for them (the numbers would fill any machine).
    """
    server, usual = Replica(10_000, IterationTime(0.01, 1e-6)), PromptType(100, 50, 5.0)
    arrivals = poisson_arrivals(Workload([usual]), 60.0, np.random.default_rng(0))
    crowd = Workload([usual, PromptType(1, 2**24, 1.0), PromptType(1, 9_000, 1.0)])
    for policy, plain in ((Greedy(), Greedy()), (PacedPolicy((2**40,), (1,)), PacedPolicy((1000,), (1,))),
                          (NestedWaitPolicy((50, 2**40), (1, 1)), NestedWaitPolicy((50,), (1,)))):
        alone, crowded = (simulate(each, mix, server, arrivals=arrivals)
                          for each, mix in ((plain, Workload([usual])), (policy, crowd)))
        np.testing.assert_array_equal(alone.finished, crowded.finished)


def test_a_request_that_can_never_fit_is_rejected() -> None:
    """Its last stage needs 12 tokens of 11: it is counted as rejected and blocks nobody."""
    workload = Workload([PromptType(10, 2, 1.0), PromptType(1, 1, 1.0)])
    for policy in (Greedy(0.0), WaitPolicy((1, 1))):
        run = simulate(policy, workload, Replica(11, UNIT), arrivals=Arrivals([0, 0, 0], [0, 1, 1]))
        assert run.rejected == 1
        assert np.isnan(run.latency[0])
        assert run.unfinished + run.completed == 2


def test_wait_above_capacity_goes_on_and_counts() -> None:
    """Two prompts of 4 + 1 tokens at once hold 8 then 10 tokens of C = 9: one iteration overflows, none is evicted."""
    run = simulate(WaitPolicy((2,)), of_one(4, 1), Replica(9, UNIT), arrivals=Arrivals([0, 0, 1, 1], [0] * 4))
    assert (run.overflows, run.kv_peak, run.evictions) == (1, 2 * (4 + 5), 0)


def test_first_token_conventions() -> None:
    """R = 3, whole prefill, 1 s iterations: made by the first decode (2 s of 4) or by the prefill (1 s of 3)."""
    for first_token, ttft, latency in (("decode", 2.0, 4.0), ("prefill", 1.0, 3.0)):
        replica = Replica(100, UNIT, first_token=first_token)
        run = simulate(Greedy(), of_one(5, 3), replica, arrivals=Arrivals([0.0], [0]))
        assert (run.ttft[0], run.latency[0], run.throughput) == (ttft, latency, 3 / latency)


def test_decode_only_with_the_first_token_made_elsewhere() -> None:
    """The first token comes with the prompt: TTFT 0, R - 1 = 2 decode iterations."""
    replica = Replica(100, UNIT, prefill="decode-only", first_token="prefill")
    run = simulate(Greedy(), of_one(5, 3), replica, arrivals=Arrivals([1.0], [0]))
    assert (run.ttft[0], run.latency[0]) == (0.0, 2.0)


def test_no_arrivals() -> None:
    """An empty list of arrivals is an empty run."""
    run = simulate(Greedy(), of_one(5, 3), Replica(100, UNIT), arrivals=Arrivals([], []))
    assert (run.iterations, run.completed, run.end_time, run.throughput, run.busy_share) == (0, 0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(("arguments", "field"), [
    ({}, "horizon"),
    ({"horizon": 1.0, "arrivals": Arrivals([], [])}, "horizon"),
    ({"horizon": -1.0}, "horizon"),
    ({"horizon": float("nan")}, "horizon"),
    ({"horizon": 1.0, "seed": -1}, "seed"),
    ({"arrivals": Arrivals([0.0], [1])}, "types"),
    ({"horizon": 1e12}, "horizon"),
])
def test_bad_arguments_are_refused(arguments: dict[str, object], field: str) -> None:
    """Each refusal names the argument."""
    with pytest.raises(InputError, match=field):
        simulate(Greedy(), of_one(5, 3), Replica(100, UNIT), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(("times", "types"), [([1.0, 0.5], [0, 0]), ([-1.0], [0]), ([np.nan], [0]), ([0.0], [-1]),
                                              ([0.0], [0.5]), ([0.0, 1.0], [0])])
def test_bad_arrivals_are_refused(times: list[float], types: list[int]) -> None:
    """Times must be sorted, finite and nonnegative, types indices, one for each."""
    with pytest.raises(InputError, match=r"times|types"):
        Arrivals(times, types)


@pytest.mark.parametrize("bad", [[-1], [0.5], [[0]], ["a"], np.array([2**63], dtype=np.uint64),
                                 np.array([2**64 - 1], dtype=np.uint64), [2**64]])
def test_what_is_no_index_of_a_type_is_refused_as_type_and_as_what_is_seen(bad: Any) -> None:
    """In one wording; 2^64 - 1 is -1 to whoever casts before checking."""
    for field, types, seen in (("types", bad, None), ("seen", [0], bad)):
        with pytest.raises(InputError, match=rf"^{field} must be indices of prompt types, from 0 on \(got "):
            Arrivals([0.0], types, seen)


def test_every_request_has_a_time_a_type_and_a_type_it_is_seen_as() -> None:
    """One for each, or none of any."""
    assert len(Arrivals([], [], [])) == 0
    for times, types, seen in (([0.0], [0, 0], None), ([0.0], [0], [0, 0]), ([[0.0]], [0], None)):
        with pytest.raises(InputError, match=r"^times, types and seen must be .* of one length \(got "):
            Arrivals(times, types, seen)


def test_a_policy_must_fit_the_workload() -> None:
    """Two thresholds for one type, or something that is no policy, are refused."""
    for policy in (WaitPolicy((1, 1)), "greedy"):
        with pytest.raises(InputError, match=r"threshold|policy"):
            simulate(policy, of_one(5, 3), Replica(100, UNIT), horizon=1.0)  # type: ignore[arg-type]


def test_wait_never_holds_more_than_its_bound() -> None:
    """In 4,000 random instances with random thresholds resident KV stays within M^pi = sum n_j w_j, whatever C is."""
    generator = np.random.default_rng(2)
    for seed in range(4_000):
        workload, replica, policy = _random_wait(generator)
        run = simulate(policy, workload, replica, horizon=float(generator.uniform(1, 200)), seed=seed)
        work = stage_profile(workload, replica).kv_work
        assert run.kv_peak <= np.array(policy.thresholds) @ work
        assert run.evictions == 0


def _random_wait(generator: np.random.Generator) -> tuple[Workload, Replica, WaitPolicy]:
    count = int(generator.integers(1, 5))
    workload = Workload.from_arrays(generator.integers(1, 40, count), generator.integers(2, 30, count),
                                    generator.uniform(0.01, 3.0, count))
    prefill = ("whole", "decode-only", int(generator.integers(1, 20)))[generator.integers(3)]
    time = IterationTime(generator.uniform(1e-3, 0.1), 1e-5, 1e-4, 1e-3)
    replica = Replica(int(generator.integers(70, 5000)), time, prefill,
                      int(generator.integers(1, 17)), ("decode", "prefill")[generator.integers(2)])
    return workload, replica, WaitPolicy(tuple(generator.integers(1, 5, count).tolist()))


def test_wait_carries_the_offered_load_where_balance_is_strict() -> None:
    """On random feasible instances with slack, throughput over replications holds sum lambda R in its 99.9% interval.

    Counted from the second half of the run; 12 instances, so that a true model fails here once in eighty seeds.
    """
    generator, tried = np.random.default_rng(5), 0
    while tried < 12:
        workload, replica, _ = _random_wait(generator)
        workload = workload.scaled(0.8 * solve(workload, replica).max_rate_scale)
        design = wait(workload, replica)
        if not design.feasible or design.slack is None or np.min(design.slack / np.array(design.thresholds)) < 0.02:
            continue
        tried += 1
        horizon = 4000 / workload.rate
        runs = replicate(design, workload, replica, horizon=horizon, replications=12, seed=tried)
        rates = np.array([_second_half(run) for run in runs])
        error = rates.std(ddof=1) / np.sqrt(len(rates))
        assert abs(rates.mean() - solve(workload, replica).throughput) < 4.437 * error  # t, 11 degrees, 99.9%
        assert all(run.overflows == 0 for run in runs)


def _second_half(run: Run) -> float:
    late = run.finished > run.end_time / 2
    return float(run.output_tokens[late].sum() / (run.end_time / 2))


@pytest.mark.parametrize("policy", [WaitPolicy((2, 1)), Greedy(0.0), Greedy(0.1, "back"), VllmV0(0.0)])
@pytest.mark.parametrize("prefill", ["whole", 64])
def test_invariants_of_every_run(policy: WaitPolicy | Greedy | VllmV0, prefill: str | int) -> None:
    """Arrivals are completed or in the system, time goes forward, nobody is faster than S empty iterations."""
    workload = Workload([PromptType(200, 30, 6.0), PromptType(50, 60, 3.0)])
    replica = Replica(9_000, IterationTime(0.01, 1e-6, 1e-5), prefill)
    run = simulate(policy, workload, replica, horizon=120.0, seed=3, record=True)
    assert run.completed + run.unfinished + run.rejected == len(run.arrivals)
    done = np.isfinite(run.finished)
    assert np.all(run.arrivals.times <= np.where(np.isnan(run.admitted), np.inf, run.admitted))
    assert np.all(run.admitted[done] < run.first_token[done])
    assert np.all(run.first_token[done] <= run.finished[done])
    least = run.profile.stages[run.arrivals.types] * 0.01
    assert np.all(run.latency[done] >= least[done] * (1 - 1e-12))
    timeline = run.timeline
    assert timeline is not None
    assert len(timeline.start) == run.iterations
    assert np.all(timeline.start[1:] >= timeline.end[:-1])
    assert timeline.kv.max() == run.kv_peak
    assert run.busy_time == pytest.approx(np.minimum(timeline.end, 120.0).sum() - timeline.start.sum(), rel=1e-9)


def test_the_timeline_holds_the_sum_over_residents() -> None:
    """KV of each greedy iteration equals the sum over residents, recomputed from admission and completion times."""
    workload, replica = of_one(20, 10, 3.0), Replica(2_000, IterationTime(0.02, 1e-5), block=8)
    run = simulate(Greedy(), workload, replica, horizon=60.0, seed=4, record=True)
    timeline = run.timeline
    assert timeline is not None
    kv = stage_profile(workload, replica).stage_kv(0)
    entered = np.searchsorted(timeline.start, run.admitted[np.isfinite(run.admitted)])
    held = np.zeros(run.iterations + len(kv), dtype=np.int64)
    for first in entered:
        held[first: first + len(kv)] += kv
    np.testing.assert_array_equal(timeline.kv, held[: run.iterations])


def test_the_same_seed_gives_the_same_bits_for_any_number_of_workers() -> None:
    """Replications in one thread, in two, or alone are identical; another seed differs."""
    workload, replica = of_one(512, 20, 40.0), Replica(137_000, PUBLISHED)
    alone = simulate(Greedy(), workload, replica, horizon=30.0, seed=9, replication=1)
    for workers in (1, 2):
        runs = replicate(Greedy(), workload, replica, horizon=30.0, replications=3, seed=9, workers=workers)
        np.testing.assert_array_equal(runs[1].finished, alone.finished)
    assert simulate(Greedy(), workload, replica, horizon=30.0, seed=10).completed != runs[0].completed


def test_policies_see_the_same_arrivals_at_one_seed() -> None:
    """Common random numbers: arrivals depend on workload, horizon, seed and replication only."""
    workload, replica = of_one(512, 20, 40.0), Replica(137_000, PUBLISHED)
    runs = [simulate(policy, workload, replica, horizon=30.0, seed=2) for policy in (Greedy(), WaitPolicy((2,)))]
    np.testing.assert_array_equal(runs[0].arrivals.times, runs[1].arrivals.times)


def test_poisson_arrivals_have_the_rates_of_the_types() -> None:
    """Over T = 10,000 s counts of rates 0.5, 2, 7.5 are Poisson: within 4 standard deviations of rate x T."""
    rates = np.array([0.5, 2.0, 7.5])
    workload = Workload.from_arrays([1, 1, 1], [1, 1, 1], rates)
    run = simulate(Greedy(), workload, Replica(1000, UNIT), horizon=1e4)
    counts = np.bincount(run.arrivals.types, minlength=3)
    assert np.all(np.abs(counts - rates * 1e4) < 4 * np.sqrt(rates * 1e4))
    gaps = np.diff(run.arrivals.times)
    assert gaps.mean() == pytest.approx(0.1, rel=4 / np.sqrt(1e5))
    assert gaps.std() == pytest.approx(0.1, rel=4 * np.sqrt(2 / 1e5))


def test_greedy_loses_throughput_to_evictions_near_the_boundary() -> None:
    """512 + 1000 tokens (mathematics, section 8.3): at 85% of the edge next to no evictions, at 98% thousands.

    Measured were a mean share of 0.76 to 0.80 and about 8,900 evictions over 20 replications of 3,000 s at 98%,
    single runs between 0.70 and 0.97; 8 replications of that spread have a mean within 0.1 of it.
    """
    replica = Replica(137_000, PUBLISHED)
    edge = solve(of_one(512, 1000), replica).max_rate_scale
    shares, evictions = {}, {}
    for load in (0.85, 0.98):
        workload = of_one(512, 1000, load * edge)
        runs = replicate(Greedy(0.0), workload, replica, horizon=3000.0, replications=8)
        shares[load] = np.mean([run.completed / len(run.arrivals) for run in runs])
        evictions[load] = np.mean([run.evictions for run in runs])
    assert evictions[0.85] < 0.01 * 0.85 * edge * 3000
    assert shares[0.85] > 0.96
    assert 4_000 < evictions[0.98] < 12_000
    assert 0.68 < shares[0.98] < 0.88
