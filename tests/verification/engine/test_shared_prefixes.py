"""Prefixes that are cached, in simulation and design: what requests read, and bounds on what they hold themselves.

That the compiled rules agree with their literal twins on types that find a prefix is in `tests/verification/reference`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from fluid import IterationTime, PromptType, Replica, SharedPrefix, Workload, share_prefixes
from thresholds import PacedPolicy, nested, paced, wait
from thresholds.nested_wait.segments import DecodeSegments, UnknownLengths
from verification import Arrivals, Greedy, Sarathi, VllmV0, VllmV1, simulate, verify
from verification.policies import Policy

A100 = Replica(40_000, IterationTime(0.0106, 4.013e-7, 1e-5, 1e-5), block=16)
CHAT = [PromptType(600, 100, 2.0, "chat"), PromptType(300, 60, 2.0, "search")]
SYSTEM = [SharedPrefix(400, 0.7), SharedPrefix(200, 0.5)]


def test_a_request_that_hits_by_hand() -> None:
    """3 + 4 tokens behind a prefix of 10, z = 15 in one of two layers: 3, 4, 5, 6, 7 tokens held, and read 13, 14, 15,
    15 1/2, 16; iterations of 1 s and 0.1 s a token read and a token prefilled.
    """
    replica = Replica(1000, IterationTime(1.0, 0.1, 0.1), attention_window=15, windowed_layers=(1, 2))
    mix = Workload([PromptType(13, 4, 1.0, cached_prefix=10)])
    run = simulate(Greedy(), mix, replica, arrivals=Arrivals([0], [0]), record=True)
    assert run.timeline is not None
    assert run.timeline.kv.tolist() == [3, 4, 5, 6, 7]
    assert run.timeline.duration == pytest.approx([2.6, 2.4, 2.5, 2.55, 2.6])


@pytest.mark.parametrize("policy", [Greedy(0.0), VllmV0(0.0), VllmV1(64), Sarathi(64, 0.0), PacedPolicy((2,), (3,))],
                         ids=lambda policy: policy.name)
def test_where_reading_takes_no_time_a_hit_is_the_rest_of_its_prompt(policy: Policy) -> None:
    """With d1 = 0 every moment of every request is that of prompts cut short by their prefixes, under evictions too."""
    replica = replace(A100, kv_capacity=1_500, iteration_time=IterationTime(0.01, 0.0, 1e-4, 1e-5))
    whole, cached, output = np.array([200, 300]), np.array([160, 96]), [120, 60]
    rng = np.random.default_rng(5)
    arrivals = Arrivals(np.sort(rng.uniform(0, 20, 200)), rng.integers(0, 2, 200))
    hit, cut = (simulate(policy, Workload.from_arrays(prompts, output, [1.0, 1.0], cached_prefix=found), replica,
                         arrivals=arrivals) for prompts, found in ((whole, cached), (whole - cached, None)))
    np.testing.assert_array_equal(hit.finished, cut.finished)
    np.testing.assert_array_equal(hit.first_token, cut.first_token)
    assert (hit.kv_peak, hit.evictions) == (cut.kv_peak, cut.evictions)


@pytest.mark.parametrize("design", ["wait", "known", "unknown"])
def test_designs_keep_their_promises_where_some_hit(design: str) -> None:
    """At 80% of what each carries: stable, within its bound on KV, every prediction inside its interval; and hits carry
    more than there is without them.
    """
    make = {"wait": wait, "known": paced, "unknown": partial(paced, lengths="unknown")}[design]
    replica = replace(A100, kv_capacity=400_000) if design == "wait" else A100
    mix, left = share_prefixes(CHAT, SYSTEM, replica)
    mix = mix.scaled(0.8 * make(mix, left).max_rate_scale)
    found = verify(make(mix, left), mix, left, horizon=200.0, replications=6, workers=2)
    assert found.verified
    assert (found.overflow_runs, found.evictions.mean) == (0, 0.0)
    alone = Workload(CHAT)
    assert make(*share_prefixes(CHAT, SYSTEM, replica)).max_rate_scale > make(alone, replica).max_rate_scale


def test_nested_wait_keeps_its_memory_where_some_hit() -> None:
    """The base and buffers hold in every one of 10 runs."""
    mix, left = share_prefixes([PromptType(200, 400, 0.02), PromptType(200, 60, 0.1, "short")],
                               [SharedPrefix(150, 0.5, "system")] * 2, replace(A100, kv_capacity=400_000))
    design = nested(mix, left, horizon=300.0)
    assert design.feasible
    crowded = mix.scaled(0.9 * design.max_rate_scale)
    again = nested(crowded, left, horizon=300.0)
    for replication in range(10):
        assert simulate(again, crowded, left, horizon=300.0, replication=replication).kv_peak <= again.kv_required


def test_segments_of_nested_wait_read_the_prefix_and_hold_the_rest() -> None:
    """50 + 4 tokens, 30 of them cached, cut after 2: 20, 21, 22 and 23, 24 are held, 30 more are read of each."""
    mix = Workload([PromptType(50, 4, 1.0, cached_prefix=30), PromptType(20, 2, 1.0)])
    replica = Replica(999, IterationTime(1.0, 0.1))
    segments = DecodeSegments(UnknownLengths.of(mix, replica, 100.0, 0.01), np.array([2, 4]))
    assert segments.kv.tolist() == [63, 47]
    assert segments.profile.kv_read.tolist() == [63 + 90, 47 + 60]
    assert [price.tolist() for price in segments.queue_prices] == [[0, 22], [0, 23]]
