"""Summaries of traces, on arrivals and lengths whose answers are known: Poisson, even, batches, runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from shared_data import SHARED_DATA
from strategies import replicas, sampled

from fluid import Replica, Trace, read_trace
from fluid.arrays import Floats
from fluid.traces.burstiness import counts, dispersion, poisson_test
from fluid.traces.summary import block_interval, share_of_largest, summarise

AZURE = SHARED_DATA / "azure_conv.csv"


def poisson(rate: float, arrivals: int, seed: int) -> Floats:
    """Times of Poisson arrivals, the first at 0."""
    times = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, arrivals))
    return np.asarray(times - times[0])


@sampled
@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=60), st.floats(0.1, 10.0))
def test_counts_are_those_of_a_loop_over_the_windows(gaps: list[float], window: float) -> None:
    """The first arrival is not counted; windows open a thousandth of their length early."""
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    whole = int(times[-1] / window + 1e-3)
    places = [math.floor(t / window + 1e-3) for t in times[1:]]
    assert counts(times, window).tolist() == [places.count(i) for i in range(whole)]


def test_poisson_arrivals_have_dispersion_1_in_every_window() -> None:
    """Over 200 samples the mean of I lies within four standard errors of 1."""
    found = [dispersion(poisson(5.0, 3000, seed)) for seed in range(200)]
    for window in (1.0, 10.0):
        index = np.array([each[window] for each in found])
        assert abs(index.mean() - 1) < 4 * index.std(ddof=1) / math.sqrt(len(index))


@pytest.mark.parametrize("rounding", [0.0, 0.1, 1.0])
def test_the_p_value_of_poisson_arrivals_is_uniform_however_times_are_rounded(rounding: float) -> None:
    """200 samples at 7 requests/s, cut down to whole seconds or not, against the uniform distribution."""
    found = []
    for seed in range(200):
        times = poisson(7.0, 4000, seed)
        test = poisson_test(np.floor(times / rounding) * rounding if rounding else times)
        assert test is not None
        assert test.window == 1.0
        found.append(test.p_value)
    assert stats.kstest(found, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("rounding", [0.1, 1.0])
def test_rounding_down_moves_no_arrival_out_of_its_window(rounding: float) -> None:
    """Windows of multiples of the rounding, when they begin at one: the same counts."""
    times = poisson(50.0, 20_000, 3)
    for window in (1.0, 10.0):
        exact = np.bincount((times[1:] / window).astype(int))[: int(times[-1] // rounding * rounding / window + 1e-3)]
        assert counts(np.floor(times / rounding) * rounding, window).tolist() == exact.tolist()


def test_even_arrivals_have_dispersion_near_0_and_are_not_poisson() -> None:
    """Ten a second; one fewer in the first window, without its first arrival: I = (1 / n) / 10 over n windows."""
    times = np.arange(10_001) / 10
    assert dispersion(times)[1.0] == pytest.approx(1 / 1000 / 10, rel=1e-3)
    test = poisson_test(times)
    assert test is not None
    assert test.p_value < 1e-12


@pytest.mark.parametrize("batch", [2, 5, 20])
def test_batches_that_come_as_a_poisson_stream_have_their_size_as_dispersion(batch: int) -> None:
    """Counts are b times Poisson counts: variance b^2 m over mean b m, within four standard errors over 100 samples."""
    index = np.array([dispersion(np.repeat(poisson(3.0, 2000, seed), batch))[10.0] for seed in range(100)])
    assert abs(index.mean() - batch) < 4 * index.std(ddof=1) / math.sqrt(len(index))
    test = poisson_test(np.repeat(poisson(3.0, 2000, 0), batch))
    assert test is not None
    assert test.p_value < 1e-12


def test_the_window_of_the_test_is_the_shortest_with_five_arrivals_and_no_finer_than_the_times() -> None:
    """At 0.3 requests/s five take 16.7 s, so 20 s; at 800/s 6 ms, so 0.01 s, but 1 s if times are whole seconds."""
    for rate, cut, window in ((0.3, 0.0, 20.0), (800.0, 0.0, 0.01), (800.0, 1.0, 1.0)):
        times = poisson(rate, 40_000, 1)
        test = poisson_test(np.floor(times) if cut else times)
        assert test is not None
        assert test.window == window


def test_windows_of_dispersion_are_those_the_trace_allows() -> None:
    """5,000 arrivals at 5/s last some 1,000 s: 20 windows of 10 s but not of 60 s, and 0.1 s has half an arrival."""
    assert set(dispersion(poisson(5.0, 5000, 0))) == {1.0, 10.0}


@pytest.mark.parametrize("times", [[0.0], [0.0] * 100, [0.0, 1.0], [0.0, *[20.5] * 30], list(range(80))])
def test_too_few_arrivals_have_no_answer(times: list[float]) -> None:
    """One moment, two arrivals, all at the very end, 80 in 79 s of which 20 windows of 5 s take 100."""
    assert poisson_test(np.array(times, dtype=np.float64)) is None


@sampled
@given(st.lists(st.floats(0.0, 1e9), max_size=200))
def test_the_answers_are_finite_for_any_times(gaps: list[float]) -> None:
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    assert all(math.isfinite(index) for index in dispersion(times).values())
    test = poisson_test(times)
    assert test is None or 0 <= test.p_value <= 1


def test_the_interval_of_the_mean_holds_it_in_95_of_100_samples() -> None:
    """Lognormal, sigma = 1/2, 300 values, mean exp(1/8): 200 samples, within four standard errors, 0.0154, of 95%."""
    held = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        low, high = block_interval(np.round(1e6 * random.lognormal(0.0, 0.5, 300)).astype(np.int64), random)
        assert low is not None
        assert high is not None
        held += low <= 1e6 * math.exp(1 / 8) <= high
    assert abs(held / 200 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 200)


def test_requests_that_resemble_their_neighbours_widen_the_interval() -> None:
    """1,000 runs of 20 alike are 1,000 blocks, with the standard error of 1,000 values; shuffled, of 20,000.

    The widths differ by sqrt(20) = 4.47; each is known to some 5%, by 2,000 resamples of 1,000 blocks.
    """
    runs = np.repeat(np.random.default_rng(0).integers(1000, 2000, 1000), 20)
    widths = []
    for work in (runs, np.random.default_rng(1).permutation(runs)):
        low, high = block_interval(work, np.random.default_rng(2))
        assert low is not None
        assert high is not None
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(math.sqrt(20), rel=0.2)


def test_the_same_seed_gives_the_same_interval_and_another_one_not() -> None:
    trace = Trace(np.arange(1, 500), np.arange(1, 500))
    assert summarise(trace, seed=1).kv_work == summarise(trace, seed=1).kv_work != summarise(trace, seed=2).kv_work


@pytest.mark.parametrize("count", [2, 1000, 2500])
def test_requests_all_alike_have_a_point_for_an_interval(count: int) -> None:
    """w = (4 + 1)(2 10 + 4) / 2 = 60."""
    assert summarise(Trace([10] * count, [4] * count)).kv_work == (60.0, 60.0, 60.0)


def test_one_request_has_no_interval() -> None:
    summary = summarise(Trace([10], [4], [0.0]))
    assert summary.kv_work == (60.0, None, None)
    assert (summary.dispersion, summary.poisson, summary.rate, summary.top_1_percent) == ({}, None, None, 1.0)


@sampled
@given(st.lists(st.tuples(st.integers(1, 2**24), st.integers(2, 2**24)), min_size=2, max_size=50), replicas())
def test_a_summary_is_finite_and_its_interval_in_order(pairs: list[tuple[int, int]], replica: Replica) -> None:
    trace = Trace([prompt for prompt, _ in pairs], [output for _, output in pairs])
    summary = summarise(trace, replica=replica)
    assert summary.kv_work.low is not None
    assert summary.kv_work.high is not None
    assert 0 < summary.kv_work.low <= summary.kv_work.high < math.inf
    assert summary.kv_work.mean == trace.mean_kv_work(replica)
    assert 0 < summary.top_1_percent <= summary.top_10_percent <= 1


def test_lengths_are_described_as_numpy_describes_them() -> None:
    """1 to 100: mean and median 50.5; the 99% quantile lies at 0.99 of 99 steps, 1 + 98.01."""
    summary = summarise(Trace(np.arange(1, 101), np.full(100, 7)))
    assert summary.prompt_tokens == (50.5, 50.5, pytest.approx(99.01, rel=1e-14), 100)
    assert summary.output_tokens == (7.0, 7.0, 7.0, 7)


@sampled
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=300), st.sampled_from([10, 100]))
def test_the_largest_requests_hold_their_share_of_the_sum(work: list[int], one_in: int) -> None:
    count = math.ceil(len(work) / one_in)
    expected = sum(sorted(work, reverse=True)[:count]) / sum(work)
    assert share_of_largest(np.array(work), one_in) == pytest.approx(expected, rel=1e-12)


def test_without_times_nothing_is_said_of_arrivals() -> None:
    summary = summarise(Trace([1, 2], [3, 4], duration=4.0, skipped=2, failed=1, format="vllm"))
    assert (summary.dispersion, summary.poisson, summary.rate) == ({}, None, 0.5)
    assert (summary.requests, summary.pairs, summary.skipped, summary.failed, summary.format) == (2, 2, 2, 1, "vllm")


@pytest.mark.skipif(not AZURE.exists(), reason="the shared data is not here")
def test_the_azure_conversations_are_burstier_than_poisson() -> None:
    """Counts of whole seconds by a dictionary; conversations follow the day, so I grows with the window."""
    trace = read_trace(AZURE)
    assert trace.times is not None
    seconds: dict[int, int] = {}
    for time in trace.times[1:].tolist():
        seconds[int(time + 1e-3)] = seconds.get(int(time + 1e-3), 0) + 1
    found = [seconds.get(i, 0) for i in range(int(trace.times[-1]))]
    mean = sum(found) / len(found)
    index = sum((each - mean) ** 2 for each in found) / (len(found) - 1) / mean
    summary = summarise(trace)
    assert summary.dispersion[1.0] == pytest.approx(index, rel=1e-12)
    assert 1 < summary.dispersion[1.0] < summary.dispersion[10.0] < summary.dispersion[60.0]
    assert summary.poisson is not None
    assert summary.poisson.p_value < 1e-6
