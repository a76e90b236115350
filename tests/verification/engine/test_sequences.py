"""The cap on sequences in simulation: by hand, never passed where prompts enter freely, counted where cohorts move."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Instance, capped, sampled

from fluid import IterationTime, PromptType, Replica, Workload, solve, stage_profile
from thresholds import NestedWaitPolicy, PacedPolicy, WaitPolicy, paced, wait
from thresholds.paced_wait.known import design_known
from verification import Arrivals, Greedy, Sarathi, VllmV0, replicate, simulate, verify

UNIT = Replica(1000, IterationTime(1.0, 0.0), max_num_seqs=2)
FREELY = [Greedy(0.0), Greedy(0.1, "back"), PacedPolicy((3,), (2,)), PacedPolicy((2,), (1,), gate=True),
          VllmV0(0.1, "back"), Sarathi(64)]
SLOW = IterationTime(0.0106, 4.01e-7, 1e-6, 1e-5)


def of_one(prompt: int, output: int, rate: float = 1.0) -> Workload:
    """A workload of one type."""
    return Workload([PromptType(prompt, output, rate)])


def test_greedy_fills_the_batch_and_lets_the_others_wait() -> None:
    """Iterations of 1 s, prompts of 3 stages, two places: two at 0, two at 3, the last at 6; nothing is evicted."""
    run = simulate(Greedy(), of_one(5, 2), UNIT, arrivals=Arrivals([0] * 5, [0] * 5))
    np.testing.assert_array_equal(run.admitted, [0, 0, 3, 3, 6])
    assert (run.evictions, run.overflows) == (0, 0)


def test_a_blocked_prompt_is_no_entry_of_its_window() -> None:
    """Three in any 4 iterations, 3 stages, two places, prompts at 0, 1, 1, 1: two enter at 0 and 1 and fill the batch.

    At 3 the first has left and the window holds the entries at 0 and 1: the third enters. Had its wait at 1 been an
    entry, the window would be full. At 4 the second has left: the fourth enters.
    """
    run = simulate(PacedPolicy((3,), (4,)), of_one(5, 2), UNIT, arrivals=Arrivals([0, 1, 1, 1], [0] * 4))
    np.testing.assert_array_equal(run.admitted, [0, 1, 3, 4])


def test_a_cohort_waits_until_all_of_it_finds_a_place() -> None:
    """Two types with gates, cohorts of 1 and 2, three stages, two places: the pair waits for the single to leave."""
    workload = Workload([PromptType(5, 2, 1.0), PromptType(6, 2, 1.0)])
    run = simulate(PacedPolicy((1, 2), (1, 1), gate=True), workload, UNIT, arrivals=Arrivals([0, 0, 0], [0, 1, 1]))
    np.testing.assert_array_equal(run.admitted, [0, 3, 3])


@pytest.mark.parametrize("policy", [WaitPolicy((2,)), NestedWaitPolicy((1, 2), (2, 1))])
def test_cohorts_past_the_cap_go_on_and_are_counted(policy: WaitPolicy | NestedWaitPolicy) -> None:
    """Pairs at 0, 1, 2, three stages, two places: the batches at 1 and 2 have 4 sequences or more and are counted."""
    run = simulate(policy, of_one(5, 2), UNIT, arrivals=Arrivals([0, 0, 1, 1, 2, 2], [0] * 6), record=True)
    assert run.timeline is not None
    assert run.overflows == np.count_nonzero(run.timeline.batch > 2) >= 2
    assert (run.kv_peak <= 1000, run.evictions) == (True, 0)


@pytest.mark.parametrize("prefill", ["whole", "decode-only", 64])
def test_a_batch_that_is_always_full_serves_at_the_edge_of_the_region(prefill: str | int) -> None:
    """A prompt takes S iterations and adds c to their time, so B places turn over in S d0 + c B seconds: B/(S d0 + c B)
    requests/s, which is the half-space of the cap. Ten fillings at once move in lockstep and end exactly there.
    """
    workload, replica = of_one(200, 30), Replica(10**6, SLOW, prefill, max_num_seqs=16)
    profile = stage_profile(workload, replica)
    stages, work = int(profile.stages[0]), float(profile.time_work(SLOW)[0, 0])
    rate = 16 / (stages * 0.0106 + work * 16)
    assert solve(workload, replica).max_rate_scale == pytest.approx(rate, rel=1e-12)
    run = simulate(Greedy(), workload, replica, arrivals=Arrivals(np.zeros(160), np.zeros(160, dtype=int)))
    assert run.end_time == pytest.approx(160 / rate, rel=1e-9)


def test_saturated_greedy_completes_at_the_edge_of_the_region() -> None:
    """Poisson at 1.2 times the edge B/(S d0 + c B): once the queue stands the batch is always full. Completions in the
    second half of 20 runs per second, within 4 standard errors of the mean.
    """
    workload, replica = of_one(200, 30), Replica(10**6, SLOW, max_num_seqs=16)
    edge = solve(workload, replica).max_rate_scale
    runs = replicate(Greedy(), workload.scaled(1.2 * edge), replica, horizon=400.0, replications=20, seed=3)
    rates = np.array([np.count_nonzero(run.finished > 200.0) / 200.0 for run in runs])
    # the count starts and ends inside a filling of 16, which moves a rate by at most 16/200
    assert abs(rates.mean() - edge) <= 4 * rates.std(ddof=1) / math.sqrt(20) + 1e-12
    assert all(run.overflows == run.evictions == 0 for run in runs)


def test_of_several_types_the_saturated_batch_serves_the_mix_at_the_edge() -> None:
    """First come first served keeps the mix: sum_j lambda_j (c_j + d0 S_j/B) = 1 at the rate of completion."""
    workload = Workload([PromptType(100, 10, 2.0), PromptType(200, 40, 1.0)])
    replica = Replica(10**6, SLOW, max_num_seqs=12)
    edge = workload.rate * solve(workload, replica).max_rate_scale
    runs = replicate(Greedy(), workload.scaled(1.3 * edge / workload.rate), replica, horizon=600.0, replications=30)
    rates = np.array([np.count_nonzero(run.finished > 300.0) / 300.0 for run in runs])
    assert abs(rates.mean() - edge) <= 4 * rates.std(ddof=1) / math.sqrt(30)


@sampled
@given(capped(load=(0.1, 1.5), most_types=3), st.sampled_from(FREELY), st.integers(0, 99))
def test_batches_that_prompts_enter_freely_never_pass_the_cap(instance: Instance, policy: Greedy, seed: int) -> None:
    mix, replica = instance
    run = simulate(policy, mix, replica, horizon=60 / mix.rate, seed=seed, record=True)
    assert run.timeline is not None
    assert run.timeline.batch.max(initial=0) <= replica.max_num_seqs
    assert run.overflows == np.count_nonzero(run.timeline.kv > replica.kv_capacity)


@sampled
@given(capped(load=(0.05, 0.8), most_types=3), st.integers(0, 99))
def test_designs_for_known_lengths_never_meet_the_cap(instance: Instance, seed: int) -> None:
    """Where feasible: at most the sequences they promise, and the path is the one without a cap, to the last bit."""
    mix, replica = instance
    for design in (wait(mix, replica), design_known(mix, replica)):
        if not design.feasible:
            continue
        free = replace(replica, max_num_seqs=None)
        run, same = (simulate(design, mix, each, horizon=200 / mix.rate, seed=seed, record=True)
                     for each in (replica, free))
        assert run.timeline is not None
        assert run.timeline.batch.max(initial=0) <= design.sequences <= replica.max_num_seqs
        assert run.overflows == 0
        np.testing.assert_array_equal(run.finished, same.finished)


def test_a_window_for_unknown_lengths_carries_its_load_though_the_cap_makes_prompts_wait() -> None:
    """At 90% of what it carries with 30 places: the batch fills now and then, the KV bound and the rate both hold."""
    workload = Workload.from_arrays([58] * 4, [50, 150, 300, 500], [0.4, 0.3, 0.2, 0.1])
    replica = Replica(137_000, IterationTime(0.0106, 4.013e-7), max_num_seqs=30)
    scale = paced(workload, replica, lengths="unknown").max_rate_scale
    mix = workload.scaled(0.9 * scale)
    design = paced(mix, replica, lengths="unknown")
    assert design.feasible
    found = verify(design, mix, replica, horizon=600.0, replications=8, workers=2)
    assert found.verdict.answer == "stable"
    assert (found.overflow_runs, found.evictions.mean) == (0, 0.0)
    assert 0 < np.mean(found.runs[0].timeline.batch == 30) < 1
    (check,) = (each for each in found.checks if each.name == "sequences in a batch at most")
    assert (check.predicted, check.measured, check.agrees) == (30, 30, True)


def test_wait_past_the_cap_is_caught_by_the_check() -> None:
    """20 outputs, threshold 2: 42 sequences where 40 are taken; without a cap nothing is claimed of sequences."""
    workload, replica = of_one(50, 20, 30.0), Replica(137_000, IterationTime(0.0106, 4.013e-7), max_num_seqs=40)
    found = verify(WaitPolicy((2,)), workload, replica, horizon=100.0, replications=2, workers=1)
    (check,) = (each for each in found.checks if each.name == "sequences in a batch at most")
    assert (check.predicted, check.measured, check.agrees) == (40, 42, False)
    assert found.overflow_runs == 2
    free = verify(WaitPolicy((2,)), workload, replace(replica, max_num_seqs=None), horizon=100.0, replications=2)
    assert all(each.name != "sequences in a batch at most" for each in free.checks)
