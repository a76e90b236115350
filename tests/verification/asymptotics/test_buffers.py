"""What nested WAIT is seen to need, against what is proved to be enough."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fluid import IterationTime, Replica, Workload, solve
from thresholds import NestedDesign, nested
from thresholds.nested_wait.buffers import nested_buffers
from verification import invariants, simulate
from verification.asymptotics.buffers import NeededMemory, needed_memory

DELTA, HORIZON, RUNS = 0.05, 200.0, 60
OUTPUTS = np.arange(1, 201)


def made(ends_at_boundaries: bool, horizon: float = HORIZON) -> NestedDesign:
    """Prompts of 30 tokens at half of the edge: outputs 50, 120, 200, or geometric of mean 60 cut at 200."""
    outputs = np.array([50, 120, 200]) if ends_at_boundaries else OUTPUTS
    weights = np.array([0.5, 0.3, 0.2]) if ends_at_boundaries else (1 - 1 / 60) ** OUTPUTS
    mix = Workload.from_arrays(np.full(outputs.size, 30), outputs, weights)
    server = Replica(300_000, IterationTime(0.01, 1e-7))
    return nested(mix.scaled(0.5 * solve(mix, server).max_rate_scale), server, boundaries=[50, 120, 200],
                  horizon=horizon, overflow_probability=DELTA)


def observed(design: NestedDesign) -> NeededMemory:
    """Sixty replications over the horizon."""
    return needed_memory(design, replications=RUNS, seed=11)


@pytest.mark.parametrize("ends_at_boundaries", [True, False])
def test_no_more_runs_than_promised_exceed_a_proved_level(ends_at_boundaries: bool) -> None:
    """With each level the chance of a peak above is at most delta, by the Clopper-Pearson bound of 60 runs (95%).

    Where all stages are full the base alone is exceeded in most runs: the buffers are needed there.
    """
    design = made(ends_at_boundaries)
    found, needed = nested_buffers(design), observed(design)
    for level in (found.kv_base + found.theorem, found.kv_base + found.tight, found.kv_base + found.joint,
                  found.thinned):
        assert needed.overflow_at_least(level) <= DELTA
    assert (needed.overflow_at_least(found.kv_base) > 0.5) == ends_at_boundaries
    assert needed.beyond_base.max() == needed.most - found.kv_base
    assert needed.quantile(0.5).low <= np.median(needed.peaks) <= needed.quantile(0.5).high


@pytest.mark.parametrize("ends_at_boundaries", [True, False])
def test_single_iterations_exceed_the_thinned_level_no_more_often_than_chernoff_says(ends_at_boundaries: bool) -> None:
    """For a horizon of one iteration and delta = 5% at most a twentieth of all iterations hold more, and some do.

    The share is within 4 standard errors over 10 replications; independence of stages and queues is what it rests on.
    """
    design = made(ends_at_boundaries, horizon=1e-9)
    level, workload, replica = nested_buffers(design).thinned, design.equilibrium.workload, design.equilibrium.replica
    runs = [simulate(design, workload, replica, horizon=100.0, seed=2, replication=r, record=True) for r in range(10)]
    shares = np.array([np.mean(run.timeline.kv > level) for run in runs if run.timeline is not None])
    assert shares.mean() <= DELTA + 4 * shares.std(ddof=1) / math.sqrt(len(runs))
    assert shares.mean() > 0.0


@pytest.mark.parametrize("boundaries", [(200,), (50, 120, 200)])
def test_an_iteration_takes_what_its_entries_bring_whatever_the_boundaries(boundaries: tuple[int, ...]) -> None:
    """Mean iteration time d0 + n_1 c within 4 standard errors; unserved prompts grow below n*, and do not above it.

    Below, the n_1 prompts of an iteration fall short of the arrivals, and what is left after 100 s is at least half of
    the difference; above, less than that (filling and emptying the stages take the first and last seconds).
    The first 10 s, in which stages fill, are left out: 200 stages of at most 25 ms, and more for boundary queues.
    """
    equilibrium = made(False).equilibrium
    workload, replica = equilibrium.workload, equilibrium.replica
    inventory = float(equilibrium.inventory.sum())
    work = float(workload.rates @ equilibrium.profile.time_work(replica.iteration_time)[0]) / workload.rate
    left, short = [], 0.0
    for n in (math.floor(0.9 * inventory), math.ceil(1.1 * inventory)):
        thresholds = (n,) if len(boundaries) == 1 else (n, math.ceil(0.5 * n) + 1, math.ceil(0.2 * n) + 1)
        design = NestedDesign(boundaries, thresholds, HORIZON, DELTA, equilibrium=equilibrium)
        assert nested_buffers(design).stable == (n > inventory)
        runs = [simulate(design, workload, replica, horizon=100.0, seed=8, replication=r, record=True)
                for r in range(10)]
        lines = [run.timeline for run in runs if run.timeline is not None]
        means = np.array([line.duration[line.start > 10.0].mean() for line in lines])
        assert abs(means.mean() - 0.01 - n * work) <= 4 * means.std(ddof=1) / math.sqrt(len(runs))
        left.append(np.mean([run.unserved for run in runs]))
        short = short or 100.0 * (workload.rate - n / (0.01 + n * work))
    assert left[1] < 0.5 * short < left[0]


def test_peaks_are_those_of_the_runs() -> None:
    """One value for each replication, the same as `simulate` gives; no quantile has an upper end it cannot know."""
    design = made(True)
    needed = needed_memory(design, replications=3, horizon=20.0, seed=4)
    workload, replica = design.equilibrium.workload, design.equilibrium.replica
    runs = [simulate(design, workload, replica, horizon=20.0, seed=4, replication=r, record=True) for r in range(3)]
    assert needed.peaks.tolist() == [run.kv_peak for run in runs]
    assert all(invariants(run, replica) == () for run in runs)
    assert math.isinf(needed.quantile(0.95).high)
    assert list(needed.columns()) == ["replication", "peak, tokens", "beyond the base, tokens"]
