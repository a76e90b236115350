"""Windows of paced WAIT: their exact bound, the design that carries the load, the delay they predict."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Instance, instances, sampled

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve, stage_profile
from thresholds import (
    PacedPolicy,
    batch_time,
    bulk_queue_mean,
    heavy_traffic_mean,
    kingman_bound,
    paced,
    predict,
    predict_continuous,
)
from thresholds.paced_wait.entry_windows import EntryWindow
from thresholds.paced_wait.known import MOST_WINDOWS, PacedDesign, design_known
from verification import Greedy, replicate

PUBLISHED = Replica(137_000, IterationTime(0.0106, 4.01e-7))


def of_one(prompt: int, output: int, rate: float = 1.0) -> Workload:
    """A workload of one type."""
    return Workload([PromptType(prompt, output, rate)])


def worst_case(held: list[int], entries: int, iterations: int) -> int:
    """The largest KV of any schedule with at most N entries in any g iterations, by trying all of them.

    Entries by age 0..S-1 (older entries are gone) in 0..N, each g consecutive ages adding up to at most N.
    """
    best = 0
    for schedule in product(range(entries + 1), repeat=len(held)):
        windows = (sum(schedule[a: a + iterations]) for a in range(len(held)))
        if all(total <= entries for total in windows):
            best = max(best, sum(n * kv for n, kv in zip(schedule, held, strict=True)))
    return best


@pytest.mark.parametrize("prefill", ["whole", "decode-only", 3])
@pytest.mark.parametrize(("entries", "iterations"), [(1, 1), (1, 2), (2, 3), (2, 4), (1, 9)])
def test_the_bound_of_a_type_is_the_worst_of_all_schedules(prefill: str | int, entries: int, iterations: int) -> None:
    """Brute force over every schedule of entries of a prompt of 5 + 4 tokens, in blocks of 2."""
    profile = stage_profile(of_one(5, 4), Replica(100, IterationTime(1.0, 0.0), prefill, block=2))
    held = profile.stage_kv(0).tolist()
    assert EntryWindow.of_type(profile, 0).kv_bound(entries, iterations) == worst_case(held, entries, iterations)


def test_the_bound_of_a_mix_holds_the_largest_type_of_every_age() -> None:
    """Types 5 + 2 and 1 + 4: the envelope is (5, 6, 7, 4, 5); g = 1 holds its sum, 27."""
    workload = Workload([PromptType(5, 2, 1.0), PromptType(1, 4, 1.0)])
    window = EntryWindow.of_mix(stage_profile(workload, PUBLISHED), workload.rates)
    assert window.held.tolist() == [5, 6, 7, 4, 5]
    assert window.kv_bound(1, 1) == 27
    assert window.kv_bound(1, 5) == 7  # one resident at a time: any one age
    assert window.work == (5 + 6 + 7 + 1 + 2 + 3 + 4 + 5) / 2


@sampled
@given(instances(load=(0.01, 0.9), most_types=4))
def test_windows_carry_the_load_and_fit_where_they_are_called_feasible(instance: Instance) -> None:
    """lambda_j Delta(N/g) <= N_j/g_j for every type, the bounds add up to kv_required <= C, base below required."""
    design = design_known(*instance)
    if not design.entries:
        assert not design.feasible
        return
    share = np.array(design.entries) / np.array(design.iterations)
    time = instance.replica.iteration_time
    iteration = np.max(time.overheads + design.equilibrium.profile.time_work(time) @ share)
    assert design.iteration_time == pytest.approx(iteration)
    balanced = np.all(instance.workload.rates * iteration <= share * (1 + 1e-9))
    required = sum(EntryWindow.of_type(design.equilibrium.profile, j).kv_bound(n, g)
                   for j, (n, g) in enumerate(zip(design.entries, design.iterations, strict=True)))
    assert design.kv_required == required
    assert design.feasible == (balanced and required <= instance.replica.kv_capacity * (1 + 1e-9))
    if design.feasible:
        assert design.kv_base <= required * (1 + 1e-12)
        assert share @ design.equilibrium.profile.kv_work == pytest.approx(design.kv_base)
        assert design.overflow_probability == 0.0
    else:
        assert "infeasible" in design.reason or "overloaded" in design.reason


@pytest.mark.parametrize("load", [0.5, 0.9, 0.98])
def test_the_published_instance_gets_two_entries_in_fifteen_iterations(load: float) -> None:
    """512 + 1000 tokens: (2, 15) needs 136,278 of 137,000; of N/g with that bound or less none is wider, N up to 24.

    Brute force: for each N the least g with N sum_b (1512 - b g) <= C.
    """
    edge = solve(of_one(512, 1000), PUBLISHED).max_rate_scale
    design = design_known(of_one(512, 1000, load * edge), PUBLISHED)
    widest = 0.0
    for entries in range(1, 25):
        g = 1
        while entries * sum(range(1512, 511, -g)) > 137_000:
            g += 1
        widest = max(widest, entries / g)
    assert (design.entries, design.iterations) == ((2,), (15,))
    assert widest == pytest.approx(2 / 15)


def test_the_largest_rate_is_that_of_the_widest_window() -> None:
    """One type: n* = N/g at lambda = x/(d0 + c x), x = 2/15, c = d1 w; that over the edge is the share kept."""
    workload = of_one(512, 1000)
    design = design_known(workload, PUBLISHED)
    x, c = 2 / 15, 4.01e-7 * 1001 * 1012
    assert design.max_rate_scale == pytest.approx(x / (0.0106 + c * x), rel=1e-6)
    assert design.fluid_share == pytest.approx(design.max_rate_scale / solve(workload, PUBLISHED).max_rate_scale)
    above = design_known(of_one(512, 1000, design.max_rate_scale * 1.001), PUBLISHED)
    assert not above.feasible
    assert "infeasible" in above.reason


def test_many_types_share_one_window() -> None:
    """Past a few dozen types a window each would cost sum_j (l_j + o_j): the mix gets one."""
    rng = np.random.default_rng(0)
    count = MOST_WINDOWS + 1
    workload = Workload.from_arrays(rng.integers(10, 60, count), rng.integers(5, 40, count), np.full(count, 0.5))
    design = design_known(workload, PUBLISHED)
    assert len(design.entries) == len(design.iterations) == 1
    assert design.feasible
    total = design.entries[0] / design.iterations[0]
    assert total > solve(workload, PUBLISHED).inventory.sum()


def test_no_windows_where_no_policy_is_stable() -> None:
    """rho >= 1: no entries at all, and the reason of the equilibrium."""
    design = design_known(of_one(512, 1000, 100.0), PUBLISHED)
    assert (design.entries, design.feasible, design.kv_required, design.kv_buffer) == ((), False, None, None)
    assert "overloaded" in design.reason


def test_a_design_is_a_policy_and_keeps_its_gate() -> None:
    """The design can be simulated as it is; the gate asked for is in it."""
    design = design_known(of_one(512, 20, 100.0), PUBLISHED, gate=True)
    assert isinstance(design, PacedDesign)
    assert isinstance(design, PacedPolicy)
    assert design.gate


GRID = [(512, 20, 0.0), (512, 1000, 0.0), (58, 147, 0.0), (64, 60, 5.9e-5)]


@pytest.mark.parametrize(("prompt", "output", "prefill"), GRID)
@pytest.mark.parametrize("load", [0.5, 0.8, 0.9, 0.95])
def test_predicted_latency_is_within_five_percent(prompt: int, output: int, prefill: float, load: float) -> None:
    """Mean latency of paced WAIT against 4 replications of 20,000 requests, ungated, at a load of what windows carry.

    The interval of the simulation is added to the 5%: near the edge few independent busy periods fit a run.
    """
    replica = Replica(137_000, IterationTime(0.0106, 4.01e-7, prefill))
    scale = design_known(of_one(prompt, output), replica).max_rate_scale
    workload = of_one(prompt, output, load * scale)
    design = design_known(workload, replica)
    runs = replicate(design, workload, replica, horizon=20_000 / workload.rate, replications=4)
    means = [np.nanmean(run.latency[2_000:18_000]) for run in runs]
    error = 3 * np.std(means, ddof=1) / 2
    assert abs(predict(design, workload, replica).latency - np.mean(means)) < 0.05 * np.mean(means) + error


def test_continuous_delay_of_greedy_below_the_boundary() -> None:
    """512 + 20 at half the edge: latency within 2%, TTFT within 5% of 4 replications of 20,000 requests."""
    workload = of_one(512, 20, 0.5 * solve(of_one(512, 20), PUBLISHED).max_rate_scale)
    runs = replicate(Greedy(0.0), workload, PUBLISHED, horizon=20_000 / workload.rate, replications=4)
    found = predict_continuous(solve(workload, PUBLISHED))
    assert found.latency == pytest.approx(np.mean([np.nanmean(run.latency) for run in runs]), rel=0.02)
    assert found.ttft == pytest.approx(np.mean([np.nanmean(run.ttft) for run in runs]), rel=0.05)


@pytest.mark.parametrize(("prompt", "output"), [(1, 1), (300, 40), (10, 500)])
def test_a_lone_prompt_takes_its_iterations_and_its_own_work(prompt: int, output: int) -> None:
    """As the rate falls to 0: half an iteration of waiting, then S (d0) + c; TTFT two iterations and their work."""
    time = IterationTime(0.01, 1e-6, 1e-5, 1e-4)
    workload, replica = of_one(prompt, output, 1e-9), Replica(10**6, time)
    profile = stage_profile(workload, replica)
    found = predict_continuous(solve(workload, replica))
    assert found.latency == pytest.approx(0.005 + profile.stages[0] * 0.01 + profile.time_work(time)[0, 0], rel=1e-5)
    assert found.ttft == pytest.approx(0.005 + 0.02 + 2e-6 * prompt + 1e-5 * prompt + 2e-4, rel=1e-3)


def test_a_narrow_window_never_catches_up() -> None:
    """N/g below n*: the predicted delay is infinite; and for a type that never fits too."""
    workload = of_one(512, 20, 100.0)
    assert predict(PacedPolicy((1,), (9,)), workload, PUBLISHED).latency == math.inf
    assert predict(PacedPolicy((1,), (1,)), of_one(200_000, 1), PUBLISHED).latency == math.inf
    with pytest.raises(InputError, match="entries"):
        predict(PacedPolicy((1, 1), (1, 1)), workload, PUBLISHED)


@sampled
@given(st.integers(1, 500), st.floats(0.01, 0.9999))
def test_kingman_is_above_the_bulk_queue_and_heavy_traffic_near_it(n: int, share: float) -> None:
    """E[Q] <= a/(2 (n - a)); n/(2 (n - a)) - 0.5826 sqrt n is within n + 1 of it (its error stays O(n) as a -> n)."""
    a = share * n
    exact = bulk_queue_mean(n, a)
    assert exact <= kingman_bound(n, a) * (1 + 1e-9)
    assert abs(heavy_traffic_mean(n, a) - exact) < n + 1
    assert kingman_bound(n, n) == heavy_traffic_mean(n, n) == math.inf


@pytest.mark.parametrize("window", [(2, 15), (1, 7), (3, 20)])
def test_windows_that_admit_just_what_arrives_are_not_feasible(window: tuple[int, int]) -> None:
    """lambda = x/Delta(x) at x = N/g: windows of exactly n* leave a queue without drift, and the design takes wider."""
    chat = Replica(1_000_000, IterationTime(0.0106, 4.013e-7))
    entries, iterations = window
    one = Workload([PromptType(512, 1000, 1.0)])
    x = entries / iterations
    there = one.at_rates([x / batch_time(solve(one, chat), np.array([x]))])
    exact = PacedDesign((entries,), (iterations,), equilibrium=solve(there, chat))
    assert exact.equilibrium.inventory[0] == pytest.approx(x, rel=1e-12)
    assert not exact.balanced
    assert not exact.feasible
    assert predict(exact).latency > 1e9  # infinite but for rounding
    wider = paced(there, chat)
    assert wider.feasible
    assert wider.entries[0] / wider.iterations[0] > x
    assert predict(wider).latency < 1e9
