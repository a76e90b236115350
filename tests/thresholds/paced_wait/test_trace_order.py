"""Windows that fit a trace in its order: the bound against brute force and simulation, and the trace of the issue."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from fluid import IterationTime, Replica, StageProfile, solve
from fluid.traces.trace import Trace
from thresholds import PacedPolicy, paced
from thresholds.paced_wait.trace_order import order_bound, window_in_order
from thresholds.paced_wait.unknown import UnknownPacedDesign, paced_unknown
from verification import simulate
from verification.traffic.processes import Replay

A100 = Replica(137_000, IterationTime(0.0106, 4.013e-7))


def blocks() -> Trace:
    """Every fourth block of 3,000 requests has outputs of 400 to 600 tokens, the others of 20 to 60."""
    rng = np.random.default_rng(0)
    long = np.arange(24_000) // 3_000 % 4 == 3
    output = np.where(long, rng.integers(400, 600, 24_000), rng.integers(20, 60, 24_000))
    return Trace(rng.integers(20, 100, 24_000), output, times=np.arange(24_000) * 0.01)


def few(seed: int, count: int = 7) -> Trace:
    """A handful of requests of up to 4 + 6 tokens."""
    rng = np.random.default_rng(seed)
    return Trace(rng.integers(1, 5, count), rng.integers(1, 7, count), times=np.arange(count))


def by_hand(profile: StageProfile, trace: Trace, entries: int, g: int) -> int:
    """The largest sum over all ways to put requests in a row into blocks of ages, at most N in each."""
    types, ages = trace.types, int(profile.stages.max())

    @cache
    def best(last: int, block: int) -> int:
        """Requests up to `last` (going round), the youngest of them in `block` or older."""
        if block * g >= ages:
            return 0
        found, held = best(last, block + 1), 0
        for n in range(1, entries + 1):
            j = types[(last - n + 1) % len(types)]
            mine = profile.units_held(j)[block * g:(block + 1) * g]
            held += int(mine.max()) if mine.size else 0
            found = max(found, held + best((last - n) % len(types), block + 1))
        return found

    return max(best(last, 0) for last in range(len(types)))


@pytest.mark.parametrize("replica", [A100, Replica(10**6, A100.iteration_time, block=4),
                                     Replica(10**6, A100.iteration_time, prefill=2)])
@pytest.mark.parametrize(("entries", "g"), [(1, 1), (1, 3), (2, 2), (3, 1), (9, 4)])
def test_the_bound_is_that_of_every_way_to_fill_the_blocks(replica: Replica, entries: int, g: int) -> None:
    """Brute force on four short traces, cache blocks and chunks among them; nine entries go round the trace."""
    for seed in range(4):
        trace = few(seed)
        profile = solve(trace.workload(1.0), replica).profile
        assert order_bound(profile, trace.types, entries, g) == by_hand(profile, trace, entries, g)


@pytest.mark.parametrize("seed", range(3))
def test_replays_never_hold_more_than_the_bound(seed: int) -> None:
    """Heavy tails, bursts, windows always full: the peak of two replays is at most the bound, and above half of it."""
    rng = np.random.default_rng(seed)
    output = np.minimum(rng.pareto(1.2, 300) * 20 + 1, 400).astype(int)
    moments = np.sort(rng.uniform(0, 30, 300))
    trace = Trace(rng.integers(1, 60, 300), output, times=moments - moments[0])
    workload = trace.workload(200.0)
    profile = solve(workload, A100).profile
    for entries, g in ((1, 2), (7, 3)):
        bound = order_bound(profile, trace.types, entries, g)
        policy = PacedPolicy((entries,), (g,))
        runs = [simulate(policy, workload, A100, horizon=60.0, traffic=Replay(trace), replication=r) for r in range(2)]
        assert 0.5 * bound < max(run.kv_peak for run in runs) <= bound


@pytest.mark.parametrize("seed", range(3))
def test_the_window_found_fits_and_one_more_entry_does_not(seed: int) -> None:
    """On 40 requests and a cache of a dozen of them; the largest N/g over all windows is missed by 15% at most."""
    trace = few(seed, 40)
    profile = solve(trace.workload(1.0), A100).profile
    entries, g = window_in_order(profile, trace.types, 100, np.inf)
    assert order_bound(profile, trace.types, entries, g) <= 100 < order_bound(profile, trace.types, entries + 1, g)
    fits = [n / w for w in range(1, 8) for n in range(1, 41) if order_bound(profile, trace.types, n, w) <= 100]
    assert entries / g >= 0.85 * max(fits)


def test_dependent_lengths_get_a_window_for_their_order_and_no_promise() -> None:
    """The issue's trace: the window for independent lengths promises 1e-3 and overflows in every run, at 2.9 C.

    With the trace's order known nothing is promised of other traffic, and no replay overflows.
    """
    trace = blocks()
    workload = trace.workload(60.0)
    blind, design = paced_unknown(workload, A100), paced(workload, A100, lengths="unknown", rows=trace)
    assert isinstance(design, UnknownPacedDesign)
    assert design.in_order
    assert design.overflow_probability is None
    assert "nothing is promised of other traffic" in design.reason
    before, after = ([simulate(each, workload, A100, horizon=500.0, traffic=Replay(trace), replication=r)
                      for r in range(2)] for each in (blind, design))
    assert all(run.overflows for run in before)
    assert not any(run.overflows for run in after)
    assert design.kv_required is not None
    assert max(run.kv_peak for run in after) <= design.kv_required <= A100.kv_capacity
    assert design.fluid_share > 0.6


def test_the_same_lengths_in_random_order_are_promised_with_confidence() -> None:
    """Shuffled, the issue's trace is not refused, and the window is wider than that for its order."""
    trace = blocks()
    order = np.random.default_rng(1).permutation(len(trace))[:6000]
    shuffled = Trace(trace.prompt_tokens[order], trace.output_tokens[order])
    replica = Replica(137_000, A100.iteration_time, max_model_len=2048)
    mixed = paced_unknown(shuffled.workload(60.0), replica, rows=shuffled)
    ordered = paced_unknown(trace.workload(60.0), replica, rows=trace)
    assert not mixed.in_order
    assert mixed.overflow_probability is not None
    assert mixed.overflow_probability <= 1e-3
    assert "with confidence 95% over 6,000 independent rows" in mixed.reason
    assert mixed.fluid_share > ordered.fluid_share
