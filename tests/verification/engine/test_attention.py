"""Attention windows in simulation and design: what residents hold, and bounds that must not be passed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from fluid import IterationTime, PromptType, Replica, Workload, solve, stage_profile
from thresholds import nested, paced, sequence_bound, wait
from thresholds.nested_wait.segments import DecodeSegments, UnknownLengths
from verification import Arrivals, Greedy, simulate, verify

UNIT = Replica(1000, IterationTime(1.0, 0.0), attention_window=5)
MISTRAL = Replica(130_000, IterationTime(0.0106, 4.013e-7, 1e-5, 1e-5), block=16, attention_window=200)
MIX = Workload([PromptType(50, 400, 2.0), PromptType(300, 60, 2.0), PromptType(150, 20, 2.0)])


def test_a_resident_stops_growing_at_its_window_by_hand() -> None:
    """3 + 4 tokens, z = 5, at 0 and 1: 3, 4, 5, 5, 5 each, a second apart: 3, 7, 9, 10, 10, 5 in all."""
    run = simulate(Greedy(), Workload([PromptType(3, 4, 1.0)]), UNIT, arrivals=Arrivals([0, 1], [0, 0]), record=True)
    assert run.timeline is not None
    assert run.timeline.kv.tolist() == [3, 7, 9, 10, 10, 5]


@pytest.mark.parametrize("prefill", ["whole", "decode-only", 64])
@pytest.mark.parametrize("window", [100, 200, 301])
def test_the_timeline_holds_the_sum_over_residents(prefill: str | int, window: int) -> None:
    """KV of each greedy iteration is the sum over residents, and its duration that of what they read."""
    time = IterationTime(0.02, 1e-5)
    replica = Replica(10**6, time, prefill, block=16, attention_window=window)
    run = simulate(Greedy(), MIX, replica, horizon=60.0, seed=4, record=True)
    profile, timeline = stage_profile(MIX, replica), run.timeline
    assert timeline is not None
    held, read = np.zeros((2, run.iterations + int(profile.stages.max())))
    done = np.isfinite(run.admitted)
    for first, j in zip(np.searchsorted(timeline.start, run.admitted[done]), run.arrivals.types[done], strict=True):
        held[first: first + profile.stages[j]] += profile.stage_kv(j)
        read[first: first + profile.stages[j]] += profile.stage_read(j)
    np.testing.assert_array_equal(timeline.kv, held[: run.iterations])
    np.testing.assert_allclose(timeline.duration, 0.02 + 1e-5 * read[: run.iterations], rtol=1e-12)


@pytest.mark.parametrize("design", ["wait", "known", "unknown"])
def test_designs_keep_their_promises_behind_a_window(design: str) -> None:
    """At 80% of what each carries: stable, within its bound on KV, every prediction inside its interval."""
    make = {"wait": wait, "known": paced, "unknown": partial(paced, lengths="unknown")}[design]
    replica = replace(MISTRAL, kv_capacity=400_000) if design == "wait" else MISTRAL
    mix = MIX.scaled(0.8 * make(MIX, replica).max_rate_scale)
    found = verify(make(mix, replica), mix, replica, horizon=300.0, replications=6, workers=2)
    assert found.verified
    assert (found.overflow_runs, found.evictions.mean) == (0, 0.0)
    free = make(mix, replace(replica, attention_window=None))
    assert free.max_rate_scale < make(mix, replica).max_rate_scale


def test_segments_of_nested_wait_hold_at_most_the_window() -> None:
    """a_k is a sum over the stages of the segment of min(l + s, z), and b_k, b'_k the KV at its start, in blocks."""
    mix, replica = Workload([PromptType(50, 400, 0.5), PromptType(50, 60, 2.0)]), MISTRAL
    segments = DecodeSegments(UnknownLengths.of(mix, replica, 100.0, 0.01), np.array([60, 400]))

    def held(stage: int) -> int:
        return -(-min(50 + stage, 200) // 16) * 16

    assert segments.kv.tolist() == [sum(map(held, range(61))), sum(map(held, range(61, 401)))]
    assert [price.tolist() for price in segments.queue_prices] == [[0, held(60)], [0, held(61)]]


def test_nested_wait_keeps_its_memory_behind_a_window() -> None:
    """The base and buffers hold in every one of 10 runs, with less memory than without the window."""
    mix = Workload([PromptType(50, 400, 0.02), PromptType(50, 60, 0.1)])
    design = nested(mix, MISTRAL, horizon=600.0)
    assert design.feasible
    assert design.kv_required < nested(mix, replace(MISTRAL, attention_window=None), horizon=600.0).kv_required
    crowded = mix.scaled(0.9 * design.max_rate_scale)
    again = nested(crowded, MISTRAL, horizon=600.0)
    for replication in range(10):
        run = simulate(again, crowded, MISTRAL, horizon=600.0, replication=replication, record=True)
        assert run.kv_peak <= again.kv_required
        assert run.timeline is not None
        assert run.timeline.batch.max(initial=0) <= sequence_bound(again, solve(crowded, MISTRAL))
