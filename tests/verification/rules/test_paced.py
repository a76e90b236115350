"""Paced and nested WAIT simulated: paths worked by hand, what each never does, what each never looks at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import sampled

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve, stage_profile
from thresholds import NestedWaitPolicy, PacedPolicy, kv_bound
from thresholds.paced_wait.known import design_known
from verification import Arrivals, Greedy, Run, simulate

UNIT = Replica(1000, IterationTime(1.0, 0.0))
PUBLISHED = Replica(137_000, IterationTime(0.0106, 4.01e-7))


def of_one(prompt: int, output: int, rate: float = 1.0) -> Workload:
    """A workload of one type."""
    return Workload([PromptType(prompt, output, rate)])


def test_a_window_spaces_entries_by_hand() -> None:
    """One entry in any 3 iterations of 1 s, four prompts of 4 stages at time 0: they enter at 0, 3, 6, 9."""
    run = simulate(PacedPolicy((1,), (3,)), of_one(5, 3), UNIT, arrivals=Arrivals([0] * 4, [0] * 4))
    np.testing.assert_array_equal(run.admitted, [0, 3, 6, 9])
    np.testing.assert_array_equal(run.finished, [4, 7, 10, 13])


def test_the_count_of_iterations_starts_anew_when_nothing_is_resident() -> None:
    """One entry in 9 iterations, prompts of 2 stages at 0 and 2: the first has left at 2, so the second may enter."""
    run = simulate(PacedPolicy((1,), (9,)), of_one(5, 1), UNIT, arrivals=Arrivals([0, 2], [0, 0]))
    np.testing.assert_array_equal(run.admitted, [0, 2])


def test_a_gate_waits_for_a_full_cohort() -> None:
    """Cohorts of 2: prompts at 0, 1, 1, 2, 7 enter as {0, 1} at 1, {1, 2} at 3 (2 iterations later), the last never."""
    run = simulate(PacedPolicy((2,), (2,), gate=True), of_one(5, 3), UNIT, arrivals=Arrivals([0, 1, 1, 2, 7], [0] * 5))
    np.testing.assert_array_equal(run.admitted, [1, 1, 3, 3, np.nan])


def test_windows_of_types_are_separate_and_that_of_a_mix_is_shared() -> None:
    """Two types at 0: with a window each both enter at once; with one for the mix the second waits 2 iterations."""
    workload = Workload([PromptType(5, 3, 1.0), PromptType(6, 3, 1.0)])
    arrivals = Arrivals([0, 0], [0, 1])
    own = simulate(PacedPolicy((1, 1), (2, 2)), workload, UNIT, arrivals=arrivals)
    shared = simulate(PacedPolicy((1,), (2,)), workload, UNIT, arrivals=arrivals)
    np.testing.assert_array_equal(own.admitted, [0, 0])
    np.testing.assert_array_equal(shared.admitted, [0, 2])


def test_nested_wait_by_hand() -> None:
    """Boundaries 1, 2 with thresholds 2, 2; prompts of 5 tokens, outputs 2, 1, 2, 2 at times 0, 0, 3, 3; 1 s each.

    Batch 0 (time 0) prefills {0, 1}. At 1 nothing waits outside, so all stand still. Batch 1 (time 3) prefills {2, 3}
    and moves {0, 1} through stage 1: 1 is done at 4, 0 joins the queue of segment 2, alone: it is never served, since
    segment 1 has nothing more to serve. KV of batch 1: 2 x 5 + 2 x 6.
    """
    workload = Workload([PromptType(5, 2, 1.0), PromptType(5, 1, 1.0)])
    arrivals = Arrivals([0, 0, 3, 3], [0, 1, 0, 0])
    run = simulate(NestedWaitPolicy((1, 2), (2, 2)), workload, UNIT, arrivals=arrivals)
    np.testing.assert_array_equal(run.admitted, [0, 0, 3, 3])
    np.testing.assert_array_equal(run.finished, [np.nan, 4, np.nan, np.nan])
    np.testing.assert_array_equal(run.first_token, [4, 4, np.nan, np.nan])
    assert (run.iterations, run.kv_peak) == (2, 22)


@pytest.mark.parametrize("policy", [PacedPolicy((1, 1, 1), (1, 1, 1)), PacedPolicy((1, 1), (2, 2))])
def test_windows_must_fit_the_types(policy: PacedPolicy) -> None:
    """One window, or one for each type."""
    workload = of_one(5, 3) if len(policy.entries) == 2 else Workload([PromptType(5, 3, 1.0), PromptType(6, 3, 1.0)])
    with pytest.raises(InputError, match="entries"):
        simulate(policy, workload, UNIT, horizon=1.0)


def test_boundaries_must_reach_the_longest_output_and_prompts_be_prefilled_whole() -> None:
    """Outputs of 3 past a last boundary of 2, or chunks, are refused."""
    with pytest.raises(InputError, match="boundaries"):
        simulate(NestedWaitPolicy((1, 2), (1, 1)), of_one(5, 3), UNIT, horizon=1.0)
    with pytest.raises(InputError, match="prefill"):
        simulate(NestedWaitPolicy((1, 3), (1, 1)), of_one(5, 3), Replica(100, IterationTime(1.0, 0.0), 4), horizon=1.0)


@st.composite
def windows(draw: st.DrawFn) -> tuple[Workload, Replica, PacedPolicy]:
    """A few types, any windows, any prefill and blocks."""
    count = draw(st.integers(1, 3))
    lengths = [draw(st.lists(st.integers(1, 25), min_size=count, max_size=count)) for _ in range(2)]
    workload = Workload.from_arrays(lengths[0], np.array(lengths[1]) + 1, np.full(count, 2.0))
    lanes = draw(st.sampled_from([1, count]))
    numbers = [tuple(draw(st.lists(st.integers(1, most), min_size=lanes, max_size=lanes))) for most in (3, 9)]
    replica = Replica(100_000, IterationTime(draw(st.sampled_from([0.01, 0.3, 3.0])), 1e-5),
                      draw(st.sampled_from(["whole", "decode-only", 4])), draw(st.integers(1, 5)),
                      attention_window=draw(st.sampled_from([None, 7, 20])))
    return workload, replica, PacedPolicy(*numbers, gate=draw(st.booleans()))


@sampled
@given(windows(), st.integers(0, 1000))
def test_paced_kv_never_exceeds_its_bound(instance: tuple[Workload, Replica, PacedPolicy], seed: int) -> None:
    """On any path resident KV stays within N sum_b kv_{S-1-bg}, types added up, or the envelope bound of a mix."""
    workload, replica, policy = instance
    run = simulate(policy, workload, replica, horizon=200.0, seed=seed)
    bound = kv_bound(policy, solve(workload, replica))
    assert bound is not None
    assert run.kv_peak <= bound
    assert run.evictions == 0


@pytest.mark.parametrize(("entries", "iterations"), [(2, 15), (1, 4), (3, 7), (2, 1001), (1, 2000)])
def test_the_bound_of_a_window_is_attained(entries: int, iterations: int) -> None:
    """N prompts every g iterations of 1 s: once the oldest have reached stage S - 1 the bound is met exactly."""
    workload, replica = of_one(512, 1000), Replica(10**9, IterationTime(1.0, 0.0))
    times = np.repeat(np.arange(0, 2500, iterations), entries)
    policy = PacedPolicy((entries,), (iterations,))
    run = simulate(policy, workload, replica, arrivals=Arrivals(times, np.zeros(len(times), dtype=int)))
    assert run.kv_peak == kv_bound(policy, solve(workload, replica))


def test_the_bound_of_the_published_instance() -> None:
    """512 + 1000 tokens, N = 2, g = 15: 2 sum_{b=0}^{66} (1512 - 15 b) = 2 (67 x 1512 - 15 x 66 x 67/2) = 136,278."""
    assert kv_bound(PacedPolicy((2,), (15,)), solve(of_one(512, 1000), PUBLISHED)) == 136_278


def test_paced_wait_carries_98_percent_of_the_edge_where_greedy_collapses() -> None:
    """512 + 1000 tokens at 98% of the region's edge for 3,000 s: no overflow, nothing evicted, more completed.

    A run from empty completes all but what is in the system at the end, some latencies' worth: with latency near 60 s
    at least 96% of the arrivals; greedy loses a fifth to evictions (mathematics, section 8.3).
    """
    edge = solve(of_one(512, 1000), PUBLISHED).max_rate_scale
    workload = of_one(512, 1000, 0.98 * edge)
    design = design_known(workload, PUBLISHED)
    assert design.feasible
    for replication in range(4):
        run = simulate(design, workload, PUBLISHED, horizon=3000.0, replication=replication)
        assert (run.overflows, run.evictions) == (0, 0)
        greedy = simulate(Greedy(0.0), workload, PUBLISHED, horizon=3000.0, replication=replication)
        assert run.completed > 0.95 * len(run.arrivals)
        assert greedy.completed < 0.96 * run.completed


@pytest.mark.parametrize("policy", [PacedPolicy((2,), (5,)), NestedWaitPolicy((10, 30), (2, 2))])
def test_decisions_do_not_change_when_lengths_not_yet_revealed_do(policy: PacedPolicy | NestedWaitPolicy) -> None:
    """Two worlds with the same arrivals, where 50 requests in the middle have other lengths (both in the workload).

    Until one of those reaches the end of the shorter length nothing can be known of it: up to that moment all
    admissions and completions are the same. Iteration times depend on the KV read alone, equal while both still live.
    """
    workload = Workload([PromptType(50, 12, 1.0), PromptType(50, 30, 1.0)])
    replica = Replica(10**6, IterationTime(0.05, 1e-6))
    rng = np.random.default_rng(1)
    times, kinds = np.cumsum(rng.exponential(0.2, 200)), rng.integers(0, 2, 200)
    other = np.where((np.arange(200) >= 100) & (np.arange(200) < 150), 1 - kinds, kinds)
    one, two = (simulate(policy, workload, replica, arrivals=Arrivals(times, k)) for k in (kinds, other))
    revealed = min(_first_end(one), _first_end(two))
    for name in ("admitted", "first_token", "finished"):
        a, b = getattr(one, name), getattr(two, name)
        np.testing.assert_array_equal(np.where(a < revealed, a, np.nan), np.where(b < revealed, b, np.nan), name)
    assert np.count_nonzero(one.finished < revealed) > 50


def _first_end(run: Run) -> float:
    """When the first of the 50 requests is done."""
    return float(np.nanmin(run.finished[100:150]))


def test_entries_per_window_never_exceed_the_policy() -> None:
    """Counted from the timeline of a crowded run: at most N entries of each type start in any g iterations."""
    workload = Workload([PromptType(50, 12, 3.0), PromptType(80, 30, 3.0)])
    policy = PacedPolicy((2, 1), (5, 3))
    run = simulate(policy, workload, Replica(10**6, IterationTime(0.1, 1e-6)), horizon=300.0, record=True)
    timeline = run.timeline
    assert timeline is not None
    assert stage_profile(workload, UNIT).stages.tolist() == [13, 31]
    for j, (entries, iterations) in enumerate(zip(policy.entries, policy.iterations, strict=True)):
        admitted = run.admitted[(run.arrivals.types == j) & np.isfinite(run.admitted)]
        per_iteration = np.bincount(np.searchsorted(timeline.start, admitted), minlength=run.iterations)
        assert np.convolve(per_iteration, np.ones(iterations, dtype=int)).max() == entries
