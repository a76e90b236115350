"""The cautious law of rows, and nested WAIT designed for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from fluid import IterationTime, Replica, Workload, solve
from fluid.arrays import Floats
from fluid.traces.trace import Trace
from thresholds import nested
from thresholds.rows import Rows, cautious, longest_request

REPLICA = Replica(20_000_000, IterationTime(0.0106, 4.013e-8), max_model_len=600)


def survival(workload: Workload, at: np.ndarray) -> Floats:
    """The share of requests with more than so many output tokens."""
    return np.array([workload.rates[workload.output_tokens > r].sum() for r in at]) / workload.rate


def geometric(seed: int, count: int) -> Trace:
    """Prompts of 58 tokens, geometric outputs of mean 40, at most 500."""
    output = np.minimum(np.random.default_rng(seed).geometric(1 / 40, count), 500)
    return Trace(np.full(count, 58), output)


def test_outputs_of_a_cautious_law_go_on_more_often_than_the_true_ones() -> None:
    """60 times 300 rows: some true chance to go on, or some share beyond a length, is larger in 5% of them at most."""
    missed = 0
    for seed in range(60):
        trace = geometric(seed, 300)
        worse = cautious(Rows.of(300, solve(trace.workload(1.0), REPLICA), 0.95), 1.0)
        cuts = np.append(0, worse.output_tokens[:-1])
        true, theirs = 0.975 ** cuts * (cuts < 500), survival(worse, cuts)
        ahead = true[1:] / np.maximum(true[:-1], 1e-300) > theirs[1:] / theirs[:-1] * (1 + 1e-9)
        missed += bool(np.any(ahead)) or bool(np.any(true > theirs * (1 + 1e-9)))
    assert missed <= binom.isf(1e-3, 60, 0.05)


def test_a_cautious_law_reaches_as_far_as_requests_can() -> None:
    """Some of its outputs have L - 1 tokens; no request with such an output can have a longer prompt."""
    worse = cautious(Rows.of(300, solve(geometric(0, 300).workload(1.0), REPLICA), 0.95), 2.0)
    assert worse.output_tokens.max() == 599
    assert worse.rate == pytest.approx(2.0)
    assert np.all(worse.prompt_tokens + worse.output_tokens >= 600)
    assert worse.prompt_tokens.max() == 599


def test_nested_wait_from_rows_needs_more_memory_and_promises_with_confidence() -> None:
    """The same outputs as a law and as 2,000 rows: the last boundary is L - 1, the memory larger, the rows named."""
    trace = geometric(1, 2000)
    workload = trace.workload(200.0)
    given, seen = nested(workload, REPLICA, segments=3), nested(workload, REPLICA, segments=3, rows=2000)
    assert seen.boundaries[-1] == 599
    assert given.kv_required is not None
    assert seen.kv_required is not None
    assert seen.kv_required > given.kv_required
    assert "with confidence 95% over 2,000 independent rows" in seen.reason


def test_nested_wait_promises_nothing_where_lengths_depend_on_each_other() -> None:
    """The rows sorted by length: infeasible, and why."""
    output = np.sort(geometric(2, 500).output_tokens)
    trace = Trace(np.full(500, 58), output)
    design = nested(trace.workload(20.0), REPLICA, segments=2, rows=trace)
    assert not design.feasible
    assert "lengths depend on each other" in design.reason


def test_the_longest_request_is_what_the_cache_holds_and_max_model_len_at_most() -> None:
    """100 tokens in blocks of 16 leave room for 96; 60 where the engine takes no more."""
    assert longest_request(Replica(100, REPLICA.iteration_time, block=16)) == 96
    assert longest_request(replace(REPLICA, max_model_len=60)) == 60
