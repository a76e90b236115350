"""The largest of several lines, prefill and per-sequence time: no part of the toolkit looks at the first line only."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Instance, examples, instances, lines, replicas, sampled

from fluid import Equilibrium, IterationTime, PromptType, Replica, Workload, solve
from thresholds import WaitPolicy, nested, paced, predict, predict_continuous, wait
from thresholds.delay.mean_iteration import pace_of
from thresholds.paced_wait.known import design_known
from verification import Greedy, replicate, simulate, verify

briefly = examples(12)
one_line = instances(load=(0.05, 0.9), replica=replicas(lines()), most_types=3)
# Llama-2-7B on an A100 as Vidur's predictor has it: max(10.1 ms, 8.9 ms + 58.5 us per token) + 0.255 us per KV token
VIDUR = IterationTime.largest(IterationTime(0.0101, 2.55e-7), IterationTime(0.0089, 2.55e-7, 58.5e-6, 58.5e-6))


def answers(instance: Instance) -> dict[str, object]:
    """What the toolkit says of an instance: equilibrium, designs, delays; None where there is no number."""
    mix, replica = instance
    found, whole, windows = solve(mix, replica), wait(mix, replica), design_known(mix, replica)
    hidden = paced(mix, replica, lengths="unknown", horizon=100.0)
    said: dict[str, object] = {"thresholds": whole.thresholds, "entries": windows.entries, "hidden": hidden.entries,
                               "iterations": (windows.iterations, hidden.iterations), "limit": found.limit,
                               "iteration_time": found.iteration_time, "kv_required": found.kv_required,
                               "scale": found.max_rate_scale, "greedy": predict_continuous(found).by_type}
    for name, design in (("wait", whole), ("paced", windows), ("unknown", hidden)):
        said |= {f"{name} time": design.iteration_time, f"{name} scale": design.max_rate_scale,
                 f"{name} feasible": design.feasible}
        if design.exists:
            said[f"{name} delay"] = predict(design, mix, replica).by_type
    return said


def assert_alike(one: dict[str, object], two: dict[str, object], accuracy: float) -> None:
    """The same answers, numbers to a relative accuracy."""
    assert one.keys() == two.keys()
    for name, value in one.items():
        if isinstance(value, float):
            assert two[name] == pytest.approx(value, rel=accuracy), name
        elif name.endswith(("delay", "greedy")):
            assert np.array(two[name]) == pytest.approx(np.array(value), rel=accuracy), name
        else:
            assert two[name] == value, name


def with_lines(instance: Instance, *more: IterationTime) -> Instance:
    """The instance with further lines after its own."""
    time = IterationTime.largest(instance.replica.iteration_time, *more)
    return Instance(instance.workload, replace(instance.replica, iteration_time=time))


def lower(line: IterationTime, share: float) -> IterationTime:
    """A line that lies below in every coefficient."""
    return IterationTime(*(share * value for value in line.pieces[0]))


@briefly
@given(one_line)
def test_the_larger_of_two_identical_lines_is_that_line(instance: Instance) -> None:
    twice = with_lines(instance, instance.replica.iteration_time)
    assert_alike(answers(instance), answers(twice), 1e-9)
    one, two = (simulate(Greedy(), *each, horizon=100 / instance.workload.rate) for each in (instance, twice))
    np.testing.assert_array_equal(one.finished, two.finished)


@briefly
@given(one_line, st.floats(0.1, 0.999), st.booleans())
def test_a_line_that_never_binds_changes_nothing(instance: Instance, share: float, first: bool) -> None:
    """Below in every coefficient, before the line that binds or after it; Delta is the root of an equation then."""
    line = instance.replica.iteration_time
    more = with_lines(instance, lower(line, share))
    if first:
        more = Instance(more.workload, replace(more.replica, iteration_time=IterationTime.largest(
            lower(line, share), line)))
    assert_alike(answers(instance), answers(more), 1e-8)
    for policy in (Greedy(0.0), WaitPolicy((2,) * len(instance.workload))):
        one, two = (simulate(policy, *each, horizon=100 / instance.workload.rate) for each in (instance, more))
        np.testing.assert_array_equal(one.finished, two.finished)


@pytest.mark.parametrize("load", [0.1, 0.5, 0.9])
def test_a_line_that_binds_in_no_batch_the_cache_can_hold_changes_no_delay(load: float) -> None:
    """1 ms + 0.8 us KV is below 10.6 ms + 0.75 us KV up to 192,000 tokens, beyond C; yet its load is the larger one."""
    line, steep = IterationTime(0.0106, 7.5e-7), IterationTime(0.001, 8e-7)
    replica, workload = Replica(137_000, line), Workload([PromptType(512, 100, 1.0)])
    mix = workload.scaled(load * solve(workload, replica).max_rate_scale)
    both = replace(replica, iteration_time=IterationTime.largest(line, steep))
    one, two = solve(mix, replica), solve(mix, both)
    assert two.load > one.load
    assert predict_continuous(two).latency == pytest.approx(predict_continuous(one).latency, rel=1e-9)
    assert predict(wait(mix, replica), mix, both) == predict(wait(mix, replica), mix, replica)


def test_nested_wait_sees_all_lines() -> None:
    """Two identical lines, or a lower one besides: the design and what it carries stay; a slower line changes them."""
    mix = Workload([PromptType(50, 20, 2.0), PromptType(50, 100, 1.0), PromptType(50, 60, 1.0)])
    line = IterationTime(0.0106, 4.013e-7, 1e-5, 1e-5)

    def designed(*more: IterationTime) -> tuple[object, ...]:
        replica = Replica(137_000, IterationTime.largest(line, *more))
        design = nested(mix, replica, horizon=600.0, boundaries=[20, 60, 100])
        return design.boundaries, design.thresholds, design.iteration_time, design.kv_required, design.max_rate_scale

    assert designed(line) == designed()
    assert designed(lower(line, 0.9)) == designed()
    slower = designed(IterationTime(0.0106, 4.013e-7, 2e-5, 1e-4))
    assert slower[2] > designed()[2]
    assert slower[4] < designed()[4]


@sampled
@given(instances(load=(0.05, 0.9), most_types=3))
def test_the_iteration_time_of_a_design_is_that_of_its_full_batch(instance: Instance) -> None:
    """Delta(x) = tau(x_j prompts of type j in every stage), prefill and sequences counted stage by stage."""
    mix, replica = instance
    for design in (wait(mix, replica), design_known(mix, replica)):
        counts = design.thresholds if isinstance(design, WaitPolicy) else design.rates
        if not design.exists or len(counts) != len(mix):
            continue
        profile = design.equilibrium.profile
        sums = [(profile.stage_read(j).sum(), profile.stage_prefill(j).sum(), len(profile.stage_read(j)))
                for j in range(len(mix))]
        batch = np.array(counts, dtype=float) @ np.array(sums, dtype=float)
        assert design.iteration_time == pytest.approx(replica.iteration_time(*batch), rel=1e-12)


@pytest.mark.parametrize("prefill", ["whole", 256])
@pytest.mark.parametrize("load", [0.05, 0.3, 0.8])
def test_the_pace_is_the_mean_over_the_chunks_of_a_batch(prefill: str | int, load: float) -> None:
    """One type of 512 tokens: Delta = sum_k e^-m m^k/k! f(512 k/K), m = K lambda Delta, and it is at least Delta*."""
    replica = Replica(137_000, VIDUR, prefill)
    mix = Workload([PromptType(512, 40, 1.0)])
    mix = mix.scaled(load * solve(mix, replica).max_rate_scale)
    found, (memory, compute) = solve(mix, replica), VIDUR.pieces
    pace, profile = pace_of(found), found.profile
    assert pace is not None
    K, n = int(profile.prefill_stages[0]), float(mix.rates[0]) * pace.iteration
    read, size, total = n * int(profile.kv_read[0]), n * int(profile.stages[0]), 0.0
    for k in range(100):
        chance = math.exp(-K * n + k * math.log(K * n) - math.lgamma(k + 1))
        total += chance * max(memory.overhead + memory.per_kv_token * read,
                              compute.overhead + compute.per_kv_token * read
                              + compute.per_prefill_token * k * 512 / K + compute.per_sequence * size)
    assert pace.iteration == pytest.approx(total, rel=1e-9)
    assert pace.iteration >= found.iteration_time


def means(found: Equilibrium) -> tuple[float, float]:
    """Mean latency and TTFT of greedy runs, some thousands of requests each."""
    runs = replicate(Greedy(0.0), found.workload, found.replica, horizon=4000 / found.workload.rate, replications=4)
    return (float(np.mean([np.nanmean(run.latency) for run in runs])),
            float(np.mean([np.nanmean(run.ttft) for run in runs])))


@pytest.mark.parametrize("tokens", [(512, 100), (2000, 50), (58, 147)])
@pytest.mark.parametrize("load", [0.1, 0.3])
def test_delays_know_the_prefill_though_another_line_sets_the_equilibrium(tokens: tuple[int, int], load: float) -> None:
    """Memory sets Delta* = 10.1 ms and more here, yet a prompt of 2,000 tokens takes 117 ms: TTFT within a tenth."""
    mix, replica = Workload([PromptType(*tokens, 1.0)]), Replica(137_000, VIDUR)
    found = solve(mix.scaled(load * solve(mix, replica).max_rate_scale), replica)
    latency, ttft = means(found)
    predicted = predict_continuous(found)
    assert predicted.latency == pytest.approx(latency, rel=0.05)
    assert predicted.ttft == pytest.approx(ttft, rel=0.1)


def test_a_mix_of_lengths_on_two_lines_is_verified() -> None:
    """Paced WAIT at 60% of its limit: every prediction inside its interval, the same checks as with the line twice."""
    mix = Workload([PromptType(512, 100, 2.0), PromptType(58, 147, 4.0), PromptType(200, 20, 6.0)])
    replica = Replica(137_000, VIDUR)
    mix = mix.scaled(0.6 * paced(mix, replica).max_rate_scale)
    assert verify(paced(mix, replica), mix, replica, horizon=300.0, replications=6, workers=2).verified
    line = IterationTime(*VIDUR.pieces[1])
    once, twice = (verify(Greedy(), mix, Replica(137_000, time), horizon=100.0, replications=2)
                   for time in (line, IterationTime.largest(line, line)))
    assert once.checks == twice.checks


def test_a_hundred_thousand_length_pairs_have_a_pace() -> None:
    """Sizes are put into 64 groups of one share: the mean chunk, and so the equation for one line, stays."""
    rng = np.random.default_rng(0)
    mix = Workload.from_arrays(rng.integers(1, 4000, 100_000), rng.integers(1, 500, 100_000), np.full(100_000, 1e-5))
    found = solve(mix, Replica(10**9, VIDUR))
    pace = pace_of(found)
    assert pace is not None
    assert found.iteration_time <= pace.iteration < 2 * found.iteration_time
    assert predict_continuous(found).ttft < math.inf
