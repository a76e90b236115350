"""Windowed and global layers side by side, and constant states, in simulation and design: bounds attained, not passed.

That the compiled rules agree with their literal twins on such replicas is in `tests/verification/reference`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from fluid import IterationTime, PromptType, Replica, Workload, solve
from thresholds import PacedPolicy, kv_bound, nested, paced, wait
from thresholds.nested_wait.segments import DecodeSegments, UnknownLengths
from verification import Arrivals, Greedy, VllmV1, invariants, simulate, verify

MIXED = Replica(130_000, IterationTime(0.0106, 4.013e-7, 1e-5, 1e-5), block=16, attention_window=200,
                windowed_layers=(52, 62), state=40)
MIX = Workload([PromptType(50, 400, 2.0), PromptType(300, 60, 2.0), PromptType(150, 20, 2.0)])


def test_a_resident_goes_on_growing_in_its_global_layers_by_hand() -> None:
    """3 + 4 tokens, z = 5 in one of two layers, a state of 1: 4, 5, 6, 6 1/2, 7 tokens, a second apart, two requests:
    4, 9, 11, 12 1/2, 13 1/2, 7 in all, rounded up; iterations of 1 s and 0.1 s a token read.
    """
    replica = Replica(1000, IterationTime(1.0, 0.1), attention_window=5, windowed_layers=(1, 2), state=1)
    run = simulate(Greedy(), Workload([PromptType(3, 4, 1.0)]), replica, arrivals=Arrivals([0, 1], [0, 0]), record=True)
    assert run.timeline is not None
    assert run.timeline.kv.tolist() == [4, 9, 11, 13, 14, 7]
    assert run.timeline.duration == pytest.approx([1.4, 1.9, 2.1, 2.25, 2.35, 1.7])
    assert run.kv_peak == 14


def test_memory_is_full_at_the_very_fraction() -> None:
    """Two of the requests above need 13 1/2 tokens at their largest: with 13 one is evicted, with 14 none."""
    mix, arrivals = Workload([PromptType(3, 4, 1.0)]), Arrivals([0, 1], [0, 0])
    for capacity, evictions in ((13, 1), (14, 0)):
        replica = Replica(capacity, IterationTime(1.0, 0.0), attention_window=5, windowed_layers=(1, 2), state=1)
        assert simulate(Greedy(0.0), mix, replica, arrivals=arrivals).evictions == evictions


@examples(60)
@given(st.tuples(st.integers(1, 60), st.integers(2, 60)), st.integers(1, 4), st.integers(1, 30),
       st.sampled_from([1, 3, 16]), st.integers(1, 100), st.integers(1, 6), st.integers(0, 9),
       st.sampled_from(["whole", "decode-only", 7]))
def test_the_bound_of_windows_is_attained(lengths: tuple[int, int], entries: int, iterations: int, block: int,
                                          window: int, windowed: int, state: int, prefill: str | int) -> None:
    """Enough requests at once, N enter together every g iterations: the peak is the bound, and never above it."""
    mix = Workload([PromptType(*lengths, 1.0)])
    replica = Replica(10**6, IterationTime(1.0, 1e-6), prefill, block, attention_window=window,
                      windowed_layers=(windowed, 7), state=state)
    balance, policy = solve(mix, replica), PacedPolicy((entries,), (iterations,))
    count = entries * (2 * int(balance.profile.stages[0]) // iterations + 2)
    run = simulate(policy, mix, replica, arrivals=Arrivals(np.zeros(count), np.zeros(count, dtype=np.int64)))
    assert run.kv_peak == kv_bound(policy, balance)


@pytest.mark.parametrize("design", ["wait", "known", "unknown"])
def test_designs_keep_their_promises_where_layers_mix(design: str) -> None:
    """At 80% of what each carries: stable, within its bound on KV, every prediction inside its interval."""
    make = {"wait": wait, "known": paced, "unknown": partial(paced, lengths="unknown")}[design]
    replica = replace(MIXED, kv_capacity=400_000) if design == "wait" else MIXED
    mix = MIX.scaled(0.8 * make(MIX, replica).max_rate_scale)
    found = verify(make(mix, replica), mix, replica, horizon=300.0, replications=6, workers=2)
    assert found.verified
    assert (found.overflow_runs, found.evictions.mean) == (0, 0.0)
    alike = [replace(replica, attention_window=z, windowed_layers=None, state=s) for z, s in ((200, 0), (None, 40))]
    most = [make(MIX, each).max_rate_scale for each in (alike[1], replica, alike[0])]
    assert most[0] < most[1] < most[2]


def test_segments_of_nested_wait_hold_the_mean_over_layers() -> None:
    """a_k sums held(l + s) over the stages of a segment, b_k and b'_k are held at its start and a stage later."""
    mix = Workload([PromptType(50, 400, 0.5), PromptType(50, 60, 2.0)])
    segments = DecodeSegments(UnknownLengths.of(mix, MIXED, 100.0, 0.01), np.array([60, 400]))

    def held(stage: int) -> float:
        near, every = (-(-x // 16) * 16 for x in (min(50 + stage, 200), 50 + stage))
        return (52 * near + 10 * every) / 62 + 40

    assert segments.kv == pytest.approx([sum(map(held, range(61))), sum(map(held, range(61, 401)))])
    assert np.array(segments.queue_prices) == pytest.approx(np.array([[0, held(60)], [0, held(61)]]))


def test_nested_wait_keeps_its_memory_where_layers_mix() -> None:
    """The base and buffers hold in every one of 10 runs, with less memory than without the window."""
    mix = Workload([PromptType(50, 400, 0.02), PromptType(50, 60, 0.1)])
    design = nested(mix, MIXED, horizon=600.0)
    assert design.feasible
    free = replace(MIXED, attention_window=None, windowed_layers=None)
    assert design.kv_required < nested(mix, free, horizon=600.0).kv_required
    crowded = mix.scaled(0.9 * design.max_rate_scale)
    again = nested(crowded, MIXED, horizon=600.0)
    for replication in range(10):
        run = simulate(again, crowded, MIXED, horizon=600.0, replication=replication)
        assert run.kv_peak <= np.ceil(again.kv_required)


@pytest.mark.parametrize("crowding", [0.5, 1.2])
@pytest.mark.parametrize("policy", [Greedy(), VllmV1(512)], ids=lambda policy: policy.name)
def test_no_invariant_breaks_where_layers_mix(policy: Greedy | VllmV1, crowding: float) -> None:
    """Nor under pressure; KV stage by stage among them where all residents are in every batch and none is evicted."""
    replica = replace(MIXED, kv_capacity=6_000, first_token="prefill")
    mix = MIX.scaled(crowding * solve(MIX, replica).max_rate_scale)
    run = simulate(policy, mix, replica, horizon=60.0, record=True)
    greedy = isinstance(policy, Greedy)
    assert invariants(run, replica, always=greedy, in_parts=not greedy, keeps=not greedy) == ()
