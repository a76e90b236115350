"""The statistics code on processes with known answers: intervals, warm-up, verdicts, Little's law, delays."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fluid import IterationTime, PromptType, Replica, Workload
from thresholds import WaitPolicy
from verification import Arrivals, Greedy, Interval, Run, Sarathi, VllmV0, judge, replicate, simulate, t_interval
from verification.experiments import measures
from verification.experiments.measures import Window
from verification.experiments.stability import Verdict, settle, verdict_of
from verification.experiments.targets.delays import delays
from verification.statistics.intervals import mser5, warm_up

SECONDS = Replica(10**6, IterationTime(1.0, 0.0))  # every iteration takes a second: WAIT with n = 1 is M/D/1


def test_the_interval_of_two_values_has_the_quantile_of_the_cauchy_law() -> None:
    """0 and 2: mean 1, s/sqrt 2 = 1; Student's t with one degree has P(t <= x) = 1/2 + atan(x)/pi."""
    found = t_interval([0.0, 2.0])
    assert found == pytest.approx((1.0, 1 - math.tan(0.475 * math.pi), 1 + math.tan(0.475 * math.pi)), rel=1e-12)


def test_the_interval_of_three_values_has_the_quantile_for_two_degrees() -> None:
    """0, 3, 6: s = 3; with two degrees t_p = (2 p - 1)/sqrt(2 p (1 - p)), p = 0.995 at level 99%."""
    half = 0.99 / math.sqrt(2 * 0.995 * 0.005) * 3 / math.sqrt(3)
    assert t_interval([0.0, 3.0, 6.0], level=0.99) == pytest.approx((3.0, 3 - half, 3 + half), rel=1e-12)


def normal_means(rng: np.random.Generator) -> np.ndarray:
    """400 experiments of 10 independent normal values with mean 1."""
    return 1 + rng.standard_normal((400, 10))


def autoregressive_means(rng: np.random.Generator) -> np.ndarray:
    """400 experiments of 10 path means of x' = 0.9 x + 0.1 + e, started in its stationary law with mean 1."""
    x = 1 + rng.standard_normal((400, 10)) / math.sqrt(1 - 0.9**2)
    total = np.zeros_like(x)
    for _ in range(200):
        total += x
        x = 0.9 * x + 0.1 + rng.standard_normal(x.shape)
    return total / 200


@pytest.mark.parametrize("experiments", [normal_means, autoregressive_means])
def test_intervals_hold_the_true_mean_as_often_as_they_say(
        experiments: Callable[[np.random.Generator], np.ndarray]) -> None:
    """95% +- 3%: the share of 400 has standard deviation sqrt(0.95 * 0.05/400) = 1.1%."""
    held = [t_interval(values).holds(1.0) for values in experiments(np.random.default_rng(11))]
    assert abs(np.mean(held) - 0.95) < 0.03


def test_one_replication_has_a_mean_and_no_interval() -> None:
    found = t_interval([3.0])
    assert found.mean == 3.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert not found.holds(3.0)


def test_an_interval_with_a_missing_value_says_that_it_cannot_tell() -> None:
    found = t_interval([1.0, math.nan, 2.0])
    assert all(math.isnan(value) for value in found)


def test_a_widened_interval_reaches_further_on_both_sides() -> None:
    assert Interval(2.0, 1.0, 3.0).widened(0.5) == Interval(2.0, 0.5, 3.5)


def mser5_by_definition(path: np.ndarray) -> int:
    """The cut d <= m/2 that minimises sum_{i >= d} (x_i - mean)^2/(m - d)^2 over means of five."""
    means = path[: len(path) // 5 * 5].reshape(-1, 5).mean(axis=1)
    m = len(means)
    return 5 * int(np.argmin([np.sum((means[d:] - means[d:].mean()) ** 2) / (m - d) ** 2 for d in range(m // 2 + 1)]))


@pytest.mark.parametrize("seed", range(20))
def test_the_warm_up_rule_minimises_what_it_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = np.cumsum(rng.standard_normal(303)) * 0.1 + rng.standard_normal(303) + 50 * np.exp(-np.arange(303) / 20)
    assert mser5(path) == mser5_by_definition(path)


@pytest.mark.parametrize("length", [0, 5, 50, 100, 450, 500])
def test_a_clean_step_is_cut_where_it_ends(length: int) -> None:
    """Nine until `length`, then 1 and 2 in turn: the deleted points are those of the transient, at most half.

    After the step the means of five alternate between 1.4 and 1.6, of variance v: m - d of them score v/(m - d), which
    grows with d.
    """
    path = np.where(np.arange(1000) < length, 9.0, 1.0 + np.arange(1000) % 2)
    assert mser5(path) == length


def test_a_transient_longer_than_half_the_path_is_cut_at_half() -> None:
    """A ramp never ends: the last k means score (k^3/12)/k^2, which only grows with k."""
    assert mser5(np.arange(1000.0)) == 500


def test_a_decaying_transient_in_noise_is_cut_to_below_the_noise_of_the_mean() -> None:
    """x = 10 e^{-i/50} + white noise, 2,000 points, 100 paths: what is left of the transient on average,
    10 * 50 e^{-d/50}/(2000 - d), is below the standard error of one path, 1/sqrt(2000) = 0.022; uncut it is 0.25.
    """
    rng = np.random.default_rng(3)
    bias = []
    for _ in range(100):
        d = mser5(10 * np.exp(-np.arange(2000) / 50) + rng.standard_normal(2000))
        bias.append(500 * math.exp(-d / 50) / (2000 - d))
    assert np.mean(bias) < 1 / math.sqrt(2000)


def test_without_a_transient_the_mean_stays_unbiased() -> None:
    """White noise with mean 0: the mean after the cut over 400 paths is within 4 standard errors of 0."""
    rng = np.random.default_rng(5)
    kept = [path[mser5(path):].mean() for path in rng.standard_normal((400, 500))]
    assert abs(np.mean(kept)) < 4 * np.std(kept, ddof=1) / 20


def test_a_path_too_short_for_means_of_five_loses_a_tenth() -> None:
    """Fewer than four means of five: 19 points; a tenth is 1."""
    assert mser5(np.r_[np.full(9, 99.0), np.zeros(10)]) == 1


def test_the_warm_up_comes_from_the_mean_path_of_five_replications_and_is_a_tenth_before() -> None:
    step = np.where(np.arange(1000) < 300, 0.0, 1.0 + np.arange(1000) % 2)
    assert warm_up([step] * 4) == 0.1
    assert warm_up([step] * 5) == 0.3


@pytest.mark.parametrize(("backlog", "answer"), [
    (0.0, "stable"), (19.9, "stable"), (20.1, "undecided"), (139.9, "undecided"), (140.1, "unstable")])
def test_the_verdict_compares_the_backlog_with_the_fluctuation_of_arrivals(backlog: float, answer: str) -> None:
    """10,000 arrivals fluctuate by 100: s = backlog/100 against 0.2 and 1.4."""
    found = verdict_of(Interval(backlog, backlog, backlog), 10.0, 1_000.0)
    assert (found.answer, found.score) == (answer, backlog / 100)
    assert answer in found.reason
    assert "\n" not in found.reason


def single_server(rate: float, horizon: float, replications: int = 10) -> list[Run]:
    return replicate(WaitPolicy((1,)), Workload([PromptType(1, 1, rate)]), SECONDS, horizon=horizon,
                     replications=replications, seed=4)


@pytest.mark.parametrize(("rate", "answer"), [(0.8, "stable"), (1.2, "unstable")])
def test_a_deterministic_server_is_stable_below_one_and_unstable_above(rate: float, answer: str) -> None:
    """M/D/1 over 4,000 s. At 0.8, 0.8 + E[Q] = 0.8 + 0.64/0.4 = 2.4 at most wait, s = 2.4/57 = 0.04;
    at 1.2, 0.2 T = 800 do, s = 800/69 = 11.5.
    """
    assert judge(single_server(rate, 4_000.0), rate).answer == answer


def test_at_the_boundary_the_score_stays_near_its_limit_and_no_horizon_decides() -> None:
    """Reflected Brownian motion: s -> E|N| = sqrt(2/pi) with standard deviation sqrt(1 - 2/pi), 200 replications, 4
    standard errors; the discrete correction is 0.5826/sqrt T (mathematics, section 11.2).
    """
    for horizon in (1_000.0, 4_000.0):
        found = judge(single_server(1.0, horizon, replications=200), 1.0)
        error = 4 * math.sqrt((1 - 2 / math.pi) / 200) + 0.6 / math.sqrt(horizon)
        assert abs(found.score - math.sqrt(2 / math.pi)) < error
        assert found.answer == "undecided"


def test_requests_that_never_fit_are_no_backlog() -> None:
    """10 + 6 tokens end at 16 > 15 = C: all are rejected on arrival."""
    mix, replica = Workload([PromptType(10, 6, 1.0)]), Replica(15, IterationTime(1.0, 0.0))
    runs = replicate(WaitPolicy((1,)), mix, replica, horizon=50.0, replications=2)
    assert judge(runs, mix.rate).backlog.mean == 0
    assert all(math.isnan(delays(run, Window(0.0, 50.0, 50.0)).of("latency")) for run in runs)


@pytest.mark.parametrize("policy", [WaitPolicy((1, 2)), Greedy(), VllmV0(), Sarathi(16)])
def test_littles_law_holds_on_a_path(policy: WaitPolicy | Greedy | VllmV0 | Sarathi) -> None:
    """Whole seconds throughout, seen at 0, 1, .., 999: requests in the system, summed, are the latencies of those that
    finish and the ages at 1,000 s of the others.
    """
    rng = np.random.default_rng(8)
    arrivals = Arrivals(np.sort(rng.integers(0, 900, 800)), rng.integers(0, 2, 800))
    mix = Workload([PromptType(3, 2, 1.0), PromptType(5, 4, 1.0)])
    run = replace(simulate(policy, mix, replace(SECONDS, kv_capacity=40), arrivals=arrivals), end_time=1000.0)
    assert np.nanmax(run.finished) < 1000.0
    spent = np.where(np.isfinite(run.latency), run.latency, 1000.0 - arrivals.times)
    assert measures.in_system(run).sum() == spent.sum()


def test_littles_law_holds_for_the_residents_of_a_random_path() -> None:
    """Greedy without evictions: every resident is in every batch, so sum (batch * duration) is the time from
    admission to completion, summed.
    """
    arrivals = Arrivals(np.cumsum(np.random.default_rng(1).exponential(0.05, 500)), np.zeros(500, dtype=int))
    run = simulate(Greedy(), Workload([PromptType(20, 10, 20.0)]), Replica(10**5, IterationTime(0.01, 1e-6)),
                   arrivals=arrivals, record=True)
    assert (run.evictions, run.completed) == (0, 500)
    held = float(run.timeline.batch @ run.timeline.duration)
    assert held == pytest.approx((run.finished - run.admitted).sum(), rel=1e-10)


def standing_still() -> Run:
    """WAIT n = 1, 1 + 1 tokens, 1 s an iteration, arrivals at 0, 5, 9: batches start at 0, 5 and 9; each takes the
    prompt before to its end: finished at 6 and 10, the third never. End at 10.
    """
    return simulate(WaitPolicy((1,)), Workload([PromptType(1, 1, 1.0)]), SECONDS, record=True,
                    arrivals=Arrivals([0.0, 5.0, 9.0], [0, 0, 0]))


def test_unfinished_requests_enter_the_delays_with_their_age() -> None:
    """Latencies 6 and 5, age 1: mean 4, largest 6 or the one not over; the first token is the only one."""
    run = standing_still()
    assert run.end_time == 10.0
    found = delays(run, Window(0.0, 10.0, 10.0))
    assert [found.of(name) for name in ("latency", "latency_p99", "ttft")] == [4.0, 6.0, 4.0]
    assert found.unfinished == 1
    assert "latency_p99" in found.at_least


def test_delays_are_those_of_the_requests_that_arrive_in_the_window() -> None:
    """[1, 8) takes the request of second 5 only; nobody arrives in [1, 4)."""
    found = delays(standing_still(), Window(1.0, 10.0, 8.0))
    assert [found.of(name) for name in ("latency", "latency_p99", "ttft")] == [5.0, 5.0, 5.0]
    assert (found.unfinished, found.at_least) == (0, frozenset())
    assert math.isnan(delays(standing_still(), Window(1.0, 10.0, 4.0)).of("latency"))


def test_throughput_counts_the_tokens_completed_in_the_window() -> None:
    """One token at 6 and one at 10: (0, 10] has both, (6, 10] the second, (0, 6] the first."""
    run = standing_still()
    rates = [measures.throughput(run, Window(a, b, b)) for a, b in ((0.0, 10.0), (6.0, 10.0), (0.0, 6.0))]
    assert rates == [0.2, 0.25, 1 / 6]


def test_the_inventory_is_the_time_spent_beyond_the_first_stage() -> None:
    """Stage 0 ends at 1, 6 and 10: one resident from 1 to 6 and from 6 to 10, 9 of the 10 seconds; always in [2, 8]."""
    run = standing_still()
    assert measures.resident(run, run.timeline, 0, Window(0.0, 10.0, 10.0)) == 0.9
    assert measures.resident(run, run.timeline, 0, Window(2.0, 8.0, 8.0)) == 1.0


def test_the_prompts_that_enter_are_counted_per_iteration() -> None:
    """One enters in each of the iterations of seconds 0, 5 and 9; no iteration starts in [1, 4)."""
    run = standing_still()
    assert measures.entering(run, run.timeline, 0, Window(0.0, 10.0, 10.0)) == 1.0
    assert measures.entering(run, run.timeline, 0, Window(5.0, 9.0, 9.0)) == 1.0
    assert math.isnan(measures.entering(run, run.timeline, 0, Window(1.0, 4.0, 4.0)))


def test_the_busy_iteration_is_the_mean_of_those_that_start_in_the_window() -> None:
    """d0 = 1, d1 = 0.1, 1 + 1 tokens: the first batch reads 1 token, the others 1 + 2: 1.1, 1.3 and 1.3 s."""
    run = simulate(WaitPolicy((1,)), Workload([PromptType(1, 1, 1.0)]), Replica(9, IterationTime(1.0, 0.1)),
                   record=True, arrivals=Arrivals([0.0, 5.0, 9.0], [0, 0, 0]))
    assert measures.busy_iteration(run.timeline, Window(0.0, 20.0, 20.0)) == pytest.approx(3.7 / 3, rel=1e-14)
    assert measures.busy_iteration(run.timeline, Window(1.0, 20.0, 20.0)) == pytest.approx(1.3, rel=1e-14)
    assert math.isnan(measures.busy_iteration(run.timeline, Window(1.0, 2.0, 2.0)))


def test_the_window_starts_after_the_warm_up_and_lets_the_slowest_finish() -> None:
    """End 10, slowest 6: arrivals until 4 can all finish, but at least half of what is left after 1 s is used: 5.5."""
    assert measures.window_after(standing_still(), 0.1) == (1.0, 10.0, 5.5)


def test_a_window_is_cut_into_batches_that_cover_its_arrivals() -> None:
    """For batch means inside one run: [10, 90] in four parts of 20 s."""
    parts = Window(10.0, 100.0, 90.0).split(4)
    assert [(part.start, part.end) for part in parts] == [(10.0, 30.0), (30.0, 50.0), (50.0, 70.0), (70.0, 90.0)]
    assert all(part.last_arrival == part.end for part in parts)


def test_batch_means_of_one_long_run_agree_with_the_mean_wait_of_a_deterministic_server() -> None:
    """M/D/1 at 0.7: residents move on with the next batch, so latency is W + 1/lambda + 1 with W = 0.7/(2 * 0.3);
    32 batches of 1,250 s, far longer than the relaxation time 2 * 0.7/0.09 = 16 s; 4 standard errors.
    """
    run = simulate(WaitPolicy((1,)), Workload([PromptType(1, 1, 0.7)]), SECONDS, horizon=42_000.0, seed=3)
    batches = Window(1_000.0, 42_000.0, 41_000.0).split(32)
    found = [delays(run, batch).of("latency") for batch in batches]
    expected = 0.7 / 0.6 + 1 / 0.7 + 1
    assert abs(np.mean(found) - expected) < 4 * np.std(found, ddof=1) / math.sqrt(32)


@pytest.mark.parametrize(("longest", "asked", "answer"), [
    (1e9, [200.0, 400.0], "stable"), (399.0, [200.0], "undecided"), (199.0, [], "undecided"),
])
def test_an_undecided_horizon_is_doubled_until_it_decides_or_would_be_too_long(
        longest: float, asked: list[float], answer: str) -> None:
    """10 waiting at rate 1: s = 10/sqrt(T) is 1 at 100 s and 0.71 at 200 s; at 400 s nobody waits."""
    tried = []

    def again(seconds: float) -> Verdict:
        tried.append(seconds)
        left = 10.0 if seconds < 400 else 0.0
        return verdict_of(Interval(left, left, left), 1.0, seconds)

    assert settle(verdict_of(Interval(10.0, 10.0, 10.0), 1.0, 100.0), again, longest).answer == answer
    assert tried == asked
