"""Batch means, order statistics and percentiles of unfinished delays: by hand, then as often right as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from queues import DETERMINISTIC, EXPONENTIAL, autoregressive, mean_wait, single_server
from scipy.special import ndtri
from scipy.stats import binom
from strategies import sampled

from fluid import InputError, IterationTime, PromptType, Replica, Workload
from thresholds import WaitPolicy
from verification import Greedy, batch_means, quantile_interval, simulate, t_interval
from verification.experiments import measures
from verification.experiments.measures import Window, inside
from verification.experiments.targets.delays import delays
from verification.statistics.batch_means import of_batches
from verification.statistics.percentiles import percentile
from verification.statistics.precision import more, relative

T31 = 2.0395134463964077  # 97.5% quantile of Student's t with 31 degrees
EXPERIMENTS = 400
TOLERANCE = 0.03  # the share of 400 experiments at 95% has standard deviation 1.1%


def held(intervals: list[tuple[float, float, float]], truth: float) -> float:
    """The share of the intervals that hold the truth."""
    return float(np.mean([low <= truth <= high for _, low, high in intervals]))


def test_batch_means_by_hand() -> None:
    """64 values, batches of two: means 0 and 2 in turn, mean 1, s^2 = 32/31; three values before them are left out."""
    path = np.concatenate([np.full(3, 99.0), np.repeat(np.arange(32) % 2 * 2.0, 2)])
    half = T31 * math.sqrt(32 / 31) / math.sqrt(32)
    assert batch_means(path[3:]).interval == pytest.approx((1.0, 1 - half, 1 + half), rel=1e-12)
    assert batch_means(path[2:]).interval == pytest.approx((1.0, 1 - half, 1 + half), rel=1e-12)


@pytest.mark.parametrize(("shift", "valid"), [(1.001, True), (0.999, False), (-1.001, True)])
def test_batch_means_are_trusted_from_400_asymptotic_variances_on(shift: float, valid: bool) -> None:
    """Batches X - 1 and X + 1 in turn, s^2 = 32/31: 32 X^2 >= 400 s^2 from X = sqrt(400/31) on."""
    assert of_batches(np.arange(32) % 2 * 2.0 - 1 + shift * math.sqrt(400 / 31)).valid is valid


def test_too_few_values_for_two_a_batch_are_refused() -> None:
    with pytest.raises(InputError, match=r"^values must be at least 64, two a batch \(got 63\)"):
        batch_means(np.ones(63))


def test_batch_means_of_a_run_are_those_of_its_delays_and_rates() -> None:
    """Greedy admission over 200 s: latency and TTFT of the requests of the window, tokens of 32 equal parts of it."""
    run = simulate(Greedy(), Workload([PromptType(100, 10, 20.0)]), Replica(137_000, IterationTime(0.0106, 4e-7)),
                   horizon=200.0, seed=2)
    window = measures.window_after(run, 0.1)
    found = inside(run, window)
    assert found is not None
    chosen = (run.arrivals.times >= window.start) & (run.arrivals.times < window.last_arrival)
    assert found.latency == batch_means(run.latency[chosen])
    assert found.ttft == batch_means(run.ttft[chosen])
    assert found.throughput.interval.mean == pytest.approx(measures.throughput(run, window), rel=1e-12)
    assert found.valid
    assert inside(run, Window(0.0, 200.0, 1.0)) is None


@pytest.mark.parametrize(("size", "share", "ranks"), [
    (6, 0.5, (1, 6)), (5, 0.5, (0, 6)), (10, 0.5, (2, 9)), (100, 0.5, (40, 61)), (368, 0.99, (360, 368)),
    (367, 0.99, (359, 368)), (300, 0.01, (0, 8))])
def test_order_statistics_are_the_innermost_that_hold_often_enough(
        size: int, share: float, ranks: tuple[int, int]) -> None:
    """Ranks (l, u), 0 and N + 1 standing for no limit: 1/64 <= 2.5% < 1/32 at N = 6 and 5 (median); 11/1024 <= 2.5% at
    N = 10; N = 100 is in the tables (40, 61); 0.99^368 = 2.48% and 0.99^367 = 2.50% > 2.5%.
    """
    found = quantile_interval(np.arange(1.0, size + 1), share)
    low, high = ranks
    assert found.low == (low or -math.inf)
    assert found.high == (high if high <= size else math.inf)


@sampled
@given(st.integers(1, 500), st.floats(0.01, 0.99), st.sampled_from([0.8, 0.95, 0.99]))
def test_order_statistics_hold_at_least_as_often_as_they_say_and_no_wider_than_needed(
        size: int, share: float, level: float) -> None:
    """Binomial probabilities from another library: each tail within alpha/2, and beyond it one rank further in."""
    found, tail = quantile_interval(np.arange(1.0, size + 1), share, level), (1 - level) / 2
    lower = 0 if math.isinf(found.low) else int(found.low)
    upper = size + 1 if math.isinf(found.high) else int(found.high)
    assert binom.cdf(lower - 1, size, share) <= tail * (1 + 1e-9)
    assert binom.cdf(lower, size, share) > tail * (1 - 1e-9)
    assert binom.sf(upper - 1, size, share) <= tail * (1 + 1e-9)
    assert binom.sf(upper - 2, size, share) > tail * (1 - 1e-9)
    assert found.low <= found.mean <= found.high


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.0), ([1.0], math.nan)])
def test_a_quantile_of_nothing_or_beyond_the_sample_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(InputError, match=r"^values and share must be "):
        quantile_interval(values, share)


def test_a_percentile_is_exact_while_the_unfinished_are_beyond_it() -> None:
    """Delays 1, 2, 3 and one not over after 5 s or after 1 s: the median (third of four) is 3 or at least 2."""
    delays = np.array([3.0, 1.0, np.nan, 2.0])
    for age, expected in ((5.0, (3.0, False)), (3.0, (3.0, False)), (1.5, (2.0, True))):
        assert percentile(delays, np.full(4, age), 0.5) == expected


@sampled
@given(arrays(np.float64, st.integers(1, 40), elements=st.integers(0, 9).map(float)), st.data())
def test_a_percentile_bounds_that_of_every_way_to_finish(delays: np.ndarray, data: st.DataObject) -> None:
    """Whatever the unfinished delays become, from their ages on, the percentile is at least the value found; one that
    is not flagged is it, always; a flagged one becomes larger if they never end.
    """
    open_ones = data.draw(arrays(np.bool_, len(delays)))
    share = data.draw(st.sampled_from([0.1, 0.5, 0.9, 0.99]))
    ages = np.minimum(delays, data.draw(arrays(np.float64, len(delays), elements=st.integers(0, 9).map(float))))
    found = percentile(np.where(open_ones, np.nan, delays), ages, share)
    true, never = (float(np.quantile(each, share, method="higher"))
                   for each in (delays, np.where(open_ones, 100.0, delays)))
    assert found.value <= true <= never
    assert found.at_least == (never > found.value)


def test_a_percentile_of_a_run_says_when_it_needs_unfinished_requests() -> None:
    """M/D/1 at load 2 over 100 s: half of the requests wait at the end."""
    run = simulate(WaitPolicy((1,)), Workload([PromptType(1, 1, 2.0)]), Replica(9, IterationTime(1.0, 0.0)),
                   horizon=100.0, seed=1)
    found = delays(run, Window(0.0, 100.0, 100.0))
    assert "latency_p99" in found.at_least
    assert found.unfinished > 80
    early = delays(run, Window(0.0, 100.0, 30.0))
    assert (early.at_least, early.unfinished) == (frozenset(), 0)


@pytest.mark.parametrize(("size", "share"), [(100, 0.5), (1000, 0.9), (1000, 0.99)])
def test_order_statistics_of_independent_values_hold_the_quantile(size: int, share: float) -> None:
    """400 exponential samples: at least 95% - 3%; the binomial law makes it 95.6% to 97.6%, so at most 97.6% + 3%."""
    values = np.random.default_rng(21).exponential(1.0, (EXPERIMENTS, size))
    found = held([quantile_interval(row, share) for row in values], -math.log(1 - share))
    assert 0.95 - TOLERANCE < found < 0.976 + TOLERANCE


def test_order_statistics_of_values_in_a_row_hold_far_less_often() -> None:
    """Why they are not used on the delays of a run: AR(1) with weight 0.9 has 19 times the variance of independence, so
    95% become about 2 Phi(1.96/sqrt 19) - 1 = 35% (for the mean; for the median a little more).
    """
    paths = autoregressive(np.random.default_rng(22), 0.9, (EXPERIMENTS, 2_000))
    assert held([quantile_interval(row, 0.5) for row in paths], 1.0) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("service", "load", "size"), [
    (DETERMINISTIC, 0.7, 40_000), (EXPONENTIAL, 0.7, 80_000)])
def test_batch_means_inside_a_run_hold_the_mean_wait(service: str, load: float, size: int) -> None:
    """Long enough for nearly every run to be called so: 95% +- 3% of 400 hold rho E[S^2]/(2 (1 - rho))."""
    generator, found = np.random.default_rng(31), []
    for _ in range(EXPERIMENTS // 40):
        _, waits, _ = single_server(generator, load, (40, size + size // 9), service)
        found += [batch_means(row[size // 9:]) for row in waits]
    assert np.mean([each.valid for each in found]) > 0.9
    assert abs(held([each.interval for each in found], mean_wait(load, service)) - 0.95) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("size", [5_000, 10_000, 20_000, 40_000, 80_000])
@pytest.mark.parametrize(("service", "load"), [(DETERMINISTIC, 0.7), (DETERMINISTIC, 0.9), (EXPONENTIAL, 0.8)])
def test_batch_means_that_are_called_trustworthy_miss_rarely_at_any_length(
        service: str, load: float, size: int) -> None:
    """In at most 5% + 3% of all runs does one miss the mean that says it can be trusted."""
    generator, missed = np.random.default_rng(32), 0
    for _ in range(EXPERIMENTS // 40):
        _, waits, _ = single_server(generator, load, (40, size + size // 9), service)
        found = [batch_means(row[size // 9:]) for row in waits]
        missed += sum(each.valid and not each.interval.holds(mean_wait(load, service)) for each in found)
    assert missed / EXPERIMENTS <= 0.05 + TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.5, 0.9])
def test_batch_means_hold_the_mean_of_an_autoregressive_path(weight: float) -> None:
    paths = autoregressive(np.random.default_rng(33), weight, (EXPERIMENTS, 20_000))
    assert abs(held([batch_means(row).interval for row in paths], 1.0) - 0.95) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(("service", "load"), [(DETERMINISTIC, 0.7), (EXPONENTIAL, 0.7)])
@pytest.mark.parametrize("replications", [5, 10])
def test_intervals_over_replications_hold_the_mean_wait(service: str, load: float, replications: int) -> None:
    """Replications from empty of 20,000 customers, the first tenth deleted."""
    generator, means = np.random.default_rng(34), []
    for _ in range(EXPERIMENTS * replications // 100):
        _, waits, _ = single_server(generator, load, (100, 20_000), service)
        means.append(waits[:, 2_000:].mean(axis=1))
    rows = np.concatenate(means).reshape(EXPERIMENTS, replications)
    assert abs(held([t_interval(row) for row in rows], mean_wait(load, service)) - 0.95) < TOLERANCE


@pytest.mark.slow
def test_intervals_over_replications_hold_the_99th_percentile_of_long_runs() -> None:
    """The time in M/M/1 at 0.7 is exponential with mean 1/0.3, so its 99th percentile is ln 100/0.3; 10 replications of
    32,000 customers.
    """
    generator, found = np.random.default_rng(35), []
    for _ in range(EXPERIMENTS // 8):
        _, waits, services = single_server(generator, 0.7, (80, 32_000), EXPONENTIAL)
        found.append(np.quantile((waits + services)[:, 2_000:], 0.99, axis=1, method="higher"))
    rows = np.concatenate(found).reshape(EXPERIMENTS, 10)
    assert abs(held([t_interval(row) for row in rows], math.log(100) / 0.3) - 0.95) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_intervals_over_replications_hold_the_percentiles_of_an_autoregressive_path(share: float) -> None:
    """Normal with variance 1/(1 - 0.9^2); 10 replications of 4,000 values."""
    truth = 1 + float(ndtri(share)) / math.sqrt(1 - 0.9**2)
    paths = autoregressive(np.random.default_rng(36), 0.9, (EXPERIMENTS * 10, 4_000))
    rows = np.quantile(paths, share, axis=1).reshape(EXPERIMENTS, 10)
    assert abs(held([t_interval(row) for row in rows], truth) - 0.95) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("start", [5, 10])
def test_a_mean_found_by_sequential_stopping_is_as_close_as_asked_for(gamma: float, start: int) -> None:
    """M/D/1 at 0.7, replications of 5,000 customers: within gamma of rho/(2 (1 - rho)) in at least 95% - 3% of 400."""
    generator, truth = np.random.default_rng(37), mean_wait(0.7, DETERMINISTIC)
    means = [single_server(generator, 0.7, (100, 5_000), DETERMINISTIC)[1][:, 500:].mean(axis=1) for _ in range(300)]
    close = 0
    for _ in range(EXPERIMENTS):
        row, size = generator.choice(np.concatenate(means), 1_000, replace=False), start
        while relative([t_interval(row[:size])]) > gamma and more(size) > size:
            size = more(size)
        close += abs(row[:size].mean() - truth) <= gamma * truth
    assert close / EXPERIMENTS > 0.95 - TOLERANCE
