"""Traces as values: workloads that keep every count, KV work to the last unit, few types with their errors stated."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import SHARED_DATA
from strategies import replicas, sampled

from fluid import InputError, IterationTime, PromptType, Replica, Trace, Workload, read_trace, stage_profile
from fluid.arrays import MOST_TOKENS

AZURE = SHARED_DATA / "azure_conv.csv"
PLAIN = Replica(2**50, IterationTime(1.0, 0.0))

lengths = st.one_of(st.integers(1, 6), st.integers(1, 5000), st.integers(MOST_TOKENS - 3, MOST_TOKENS))


@st.composite
def traces(draw: Any, timed: bool = False) -> Trace:
    """One to forty requests, many of them alike or none, some as long as any may be."""
    pairs = draw(st.lists(st.tuples(lengths, lengths), min_size=1, max_size=40))
    times = None
    if timed:
        gaps = draw(st.lists(st.floats(0.0, 100.0), min_size=len(pairs) - 1, max_size=len(pairs) - 1))
        times = np.concatenate([[0.0], np.cumsum(gaps)])
    return Trace([prompt for prompt, _ in pairs], [output for _, output in pairs], times)


def literal_work(prompt: int, output: int) -> int:
    """Whole prefill holds l tokens for an iteration, decode stage s = 1..R holds l + s."""
    return prompt + sum(prompt + s for s in range(1, output + 1))


@sampled
@given(traces(), st.floats(1e-3, 1e3))
def test_the_workload_of_a_trace_has_a_type_for_each_length_pair_at_its_share_of_the_rate(
        trace: Trace, rate: float) -> None:
    mix = trace.workload(rate)
    counts = Counter(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True))
    assert [(each.prompt_tokens, each.output_tokens) for each in mix.types] == sorted(counts)
    assert mix.rates == pytest.approx([rate * counts[pair] / len(trace) for pair in sorted(counts)], rel=1e-14)
    assert np.array_equal(mix.prompt_tokens[trace.types], trace.prompt_tokens)
    assert np.array_equal(mix.output_tokens[trace.types], trace.output_tokens)


@sampled
@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 300)), min_size=1, max_size=20))
def test_kv_work_is_that_of_a_literal_loop_over_the_stages(pairs: list[tuple[int, int]]) -> None:
    trace = Trace([prompt for prompt, _ in pairs], [output for _, output in pairs])
    assert trace.kv_work().tolist() == [literal_work(*pair) for pair in pairs]


@sampled
@given(traces())
def test_the_mean_kv_work_is_the_exact_integer_sum_over_the_requests(trace: Trace) -> None:
    """(R + 1)(2 l + R) / 2 in Python's integers, 4.2e14 where both lengths are 2^24; N of them divided once."""
    rows = zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
    total = sum((output + 1) * (2 * prompt + output) // 2 for prompt, output in rows)
    assert trace.total_kv_work() == total
    assert trace.mean_kv_work() == total / len(trace)


def test_a_total_beyond_64_bits_is_exact() -> None:
    """200,000 requests of (2^24 + 1)(3 2^24) / 2 = 4.2e14 each hold 8.4e19 > 2^63 = 9.2e18."""
    trace = Trace([MOST_TOKENS] * 200_000 + [1], [MOST_TOKENS] * 200_000 + [1])
    assert trace.total_kv_work() == 200_000 * (MOST_TOKENS + 1) * 3 * MOST_TOKENS // 2 + 3


@sampled
@given(traces(), replicas())
def test_kv_work_on_a_replica_is_that_of_its_stage_profile(trace: Trace, replica: Replica) -> None:
    trace = Trace(np.minimum(trace.prompt_tokens, 5000), np.minimum(trace.output_tokens, 5000) + 1)
    for prompt, output, work in zip(trace.prompt_tokens, trace.output_tokens, trace.kv_work(replica), strict=True):
        assert work == stage_profile(Workload([PromptType(int(prompt), int(output), 1.0)]), replica).kv_work[0]
    assert trace.total_kv_work(replica) == int(trace.kv_work(replica).sum())


@sampled
@given(traces(), st.integers(1, 50), st.floats(1e-3, 1e3))
def test_a_binned_workload_states_its_errors_truly(trace: Trace, bins: int, rate: float) -> None:
    """Totals of the types given to the requests, in integers, against those of the trace."""
    binned = trace.binned(bins, rate)
    mix = binned.workload
    assert len(mix) <= bins
    assert mix.rate == pytest.approx(rate, rel=1e-12)
    assert mix.rates == pytest.approx(np.bincount(binned.types) * rate / len(trace), rel=1e-12)
    prompt, output = mix.prompt_tokens[binned.types], mix.output_tokens[binned.types]

    def total(work: Any) -> int:
        return sum(int(each) for each in work)

    for error, after, before in (
        (binned.kv_work_error, total(stage_profile(mix, PLAIN).kv_work[binned.types]), total(trace.kv_work())),
        (binned.prompt_tokens_error, total(prompt), total(trace.prompt_tokens)),
        (binned.output_tokens_error, total(output), total(trace.output_tokens)),
    ):
        assert error == (after - before) / before


@sampled
@given(traces(), st.integers(0, 5))
def test_with_a_bin_for_each_pair_nothing_is_lost(trace: Trace, more: int) -> None:
    mix = trace.workload(1.0)
    binned = trace.binned(len(mix) + more, 1.0)
    assert binned.workload == mix
    assert np.array_equal(binned.types, trace.types)
    assert (binned.kv_work_error, binned.prompt_tokens_error, binned.output_tokens_error) == (0.0, 0.0, 0.0)


def chats(count: int, seed: int = 0) -> Trace:
    """Lognormal lengths with mean 58 and median 21, mean 147 and median 117: ln(mean / median) = sigma^2 / 2."""
    random = np.random.default_rng(seed)

    def tokens(mean: float, median: float) -> Any:
        drawn = random.lognormal(math.log(median), math.sqrt(2 * math.log(mean / median)), count)
        return np.clip(np.round(drawn), 1, MOST_TOKENS)

    return Trace(tokens(58, 21), tokens(147, 117))


@pytest.mark.parametrize("bins", [1, 2, 5, 20, 100, 1000])
def test_binning_keeps_kv_work_and_outputs_as_nearly_as_whole_tokens_allow(bins: int) -> None:
    """As the module says: off by at most half the largest n in output tokens, half the largest n (o + 1) in KV work."""
    trace = chats(20_000)
    binned = trace.binned(bins, 1.0)
    held = np.bincount(binned.types)
    steps = held * (binned.workload.output_tokens + 1)
    assert abs(binned.output_tokens_error) <= held.max() / 2 / trace.output_tokens.sum()
    assert abs(binned.kv_work_error) <= steps.max() / 2 / trace.total_kv_work()


def test_more_bins_bring_requests_closer_to_their_types() -> None:
    """The mean distance in KV work, relative to the mean, falls with every fourfold number of bins."""
    trace = chats(20_000)
    work = trace.kv_work()
    found = []
    for bins in (1, 4, 16, 64, 256):
        binned = trace.binned(bins, 1.0)
        found.append(np.abs(stage_profile(binned.workload, PLAIN).kv_work[binned.types] - work).mean() / work.mean())
    assert found == sorted(found, reverse=True)


def test_two_clusters_are_the_two_bins() -> None:
    """Outputs 10 and 12 about 11, prompts all 500; and one long pair: the widest gap is split."""
    binned = Trace([500, 500, 9000], [10, 12, 300]).binned(2, 3.0)
    assert binned.workload.prompt_tokens.tolist() == [500, 9000]
    assert binned.workload.output_tokens.tolist() == [11, 300]
    assert binned.workload.rates.tolist() == [2.0, 1.0]


@sampled
@given(traces(timed=True), st.floats(1e-3, 1e3))
def test_scaling_stretches_the_times_to_the_rate_and_keeps_the_rest(trace: Trace, rate: float) -> None:
    if trace.rate is None:
        with pytest.raises(InputError, match="times must be known, and not all one moment"):
            trace.scaled(rate)
        return
    scaled = trace.scaled(rate)
    assert trace.times is not None
    assert scaled.times == pytest.approx(trace.times * trace.rate / rate, rel=1e-12)
    assert scaled.rate == pytest.approx(rate, rel=1e-12)
    assert scaled.workload() == Trace(trace.prompt_tokens, trace.output_tokens).workload(scaled.rate)


@sampled
@given(traces(timed=True), st.integers(1, 100), st.floats(0.5, 1.0))
def test_rates_over_time_hold_every_request(trace: Trace, windows: int, share: float) -> None:
    """Widths are the window's but the last; rates times widths are the counts between the edges."""
    if not trace.duration or trace.times is None or trace.rate is None:
        return  # all one moment, or as good as that
    window = trace.duration / windows * (share if share < 0.99 else 1.0)
    edges, rates = trace.rates_over_time(window)
    widths = np.diff(edges)
    assert (edges[0], edges[-1]) == (0.0, trace.duration)
    assert widths[:-1] == pytest.approx(window)
    assert 0 < widths[-1] <= window * (1 + 1e-9)
    counts = np.histogram(trace.times, bins=edges)[0]
    assert rates * widths == pytest.approx(counts, rel=1e-9)
    assert counts.sum() == len(trace)


@pytest.mark.parametrize("windows", range(1, 200))
def test_a_duration_cut_into_equal_windows_gives_as_many(windows: int) -> None:
    """A duration over (duration / n) is n only up to rounding, and no sliver may be left over."""
    edges, _ = Trace([1, 1], [1, 1], [0.0, 3501.721937]).rates_over_time(3501.721937 / windows)
    assert len(edges) == windows + 1


def test_windows_are_positive_and_not_without_number() -> None:
    trace = Trace([1, 1], [1, 1], [0.0, 1e9])
    with pytest.raises(InputError, match=r"window must be long enough for at most 10,000,000 windows \(got 1.0\)"):
        trace.rates_over_time(1.0)
    with pytest.raises(InputError, match="window must be a positive finite number of seconds"):
        trace.rates_over_time(0.0)


def test_a_rate_is_asked_for_where_the_trace_has_none() -> None:
    for trace in (Trace([5, 5], [6, 6]), Trace([5, 5], [6, 6], [0.0, 0.0]), Trace([5], [6], [0.0])):
        assert trace.rate is None
        with pytest.raises(InputError) as caught:
            trace.workload()
        assert str(caught.value) == ("rate must be a positive finite number of requests/s, as the trace has no rate of "
                                     "its own (got None) in trace")
        assert trace.workload(3.0).rate == 3.0
    assert Trace([5, 5], [6, 6], duration=4.0).workload().rate == 0.5


@pytest.mark.parametrize("bins", [0, -1, 1.5, "2", None])
def test_bins_are_a_whole_number(bins: Any) -> None:
    with pytest.raises(InputError, match="bins must be a whole number of types from 1"):
        Trace([5], [6]).binned(bins, 1.0)


@pytest.mark.parametrize(("fields", "complaint"), [
    ({"prompt_tokens": []}, "prompt_tokens must be numbers in one dimension, each a whole number of tokens from 1"),
    ({"prompt_tokens": [1, 0]}, "prompt_tokens[1] must be a whole number of tokens from 1 to 16777216 (got 0)"),
    ({"output_tokens": [1.5, 1]}, "output_tokens[0] must be a whole number of tokens from 1 to 16777216 (got 1.5)"),
    ({"output_tokens": ["a", "b"]}, "output_tokens must be numbers in one dimension"),
    ({"output_tokens": [1]}, "prompt_tokens, output_tokens and times must be of one length (got [1, 2])"),
    ({"times": [0.0]}, "prompt_tokens, output_tokens and times must be of one length (got [1, 2])"),
    ({"times": [0.0, -1.0]}, "times must be finite seconds, sorted, the first 0 (got [0.0, -1.0])"),
    ({"times": [1.0, 2.0]}, "times must be finite seconds, sorted, the first 0 (got [1.0, 2.0])"),
    ({"times": [0.0, math.inf]}, "times must be finite seconds, sorted, the first 0 (got [0.0, inf])"),
    ({"times": "now"}, "times must be numbers of seconds in one dimension"),
    ({"duration": -1.0}, "duration must be a nonnegative finite number of seconds (got -1.0)"),
])
def test_a_trace_that_cannot_be_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        Trace(**{"prompt_tokens": [1, 2], "output_tokens": [1, 2], **fields})
    assert str(caught.value).startswith(complaint)


def test_a_trace_cannot_be_changed_and_keeps_its_own_copy() -> None:
    prompt = np.array([1, 2])
    trace = Trace(prompt, [3, 4], [0, 1])
    prompt[0] = 9
    assert trace.prompt_tokens.tolist() == [1, 2]
    assert trace.times is not None
    for array in (trace.prompt_tokens, trace.output_tokens, trace.times, trace.types):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    again = pickle.loads(pickle.dumps(trace))
    assert again.workload() == trace.workload()


@pytest.mark.skipif(not AZURE.exists(), reason="the shared data is not here")
def test_the_azure_conversations_are_19366_requests_of_14027_kinds() -> None:
    """Known of the trace; the mean KV work by a loop over the rows of the file."""
    trace = read_trace(AZURE)
    rows = [tuple(map(int, line.split(",")[1:])) for line in AZURE.read_text().splitlines()[1:]]
    assert (len(trace), len(trace.workload()), trace.skipped) == (19_366, 14_027, 0)
    assert trace.mean_kv_work() == sum((r + 1) * (2 * p + r) // 2 for p, r in rows) / 19_366
    assert trace.rate == 19_366 / trace.duration
