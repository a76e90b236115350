"""What the theorems promise of overflow, queues, throughput and delay, held against many replications (slow)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from joblib import Parallel, delayed

from fluid import IterationTime, PromptType, Replica, Workload, solve
from thresholds import NestedDesign, UnknownPacedDesign, nested, paced, wait
from verification import Run, simulate
from verification.statistics.intervals import least_probability

DELTA, HORIZON, RUNS = 0.05, 600.0, 300
REPLICA = Replica(137_000, IterationTime(0.0106, 4.013e-7))
FOUR = Workload.from_arrays([58] * 4, [50, 150, 300, 500], [0.4, 0.3, 0.2, 0.1])

pytestmark = pytest.mark.slow


def replications(policy: NestedDesign | UnknownPacedDesign, workload: Workload, replica: Replica) -> list[Run]:
    """Independent runs over the horizon."""
    jobs = (delayed(simulate)(policy, workload, replica, horizon=HORIZON, replication=r) for r in range(RUNS))
    found: list[Run] = Parallel(n_jobs=-1, backend="threading")(jobs)
    return found


def nested_at_boundaries() -> NestedDesign:
    """Outputs that end exactly at the boundaries: every stage is full and the base is reached."""
    workload = FOUR.scaled(0.5 * solve(FOUR, REPLICA).max_rate_scale)
    large = replace(REPLICA, kv_capacity=10_000_000)
    return nested(workload, large, horizon=HORIZON, overflow_probability=DELTA, boundaries=[50, 150, 300, 500])


def test_nested_wait_overflows_no_more_often_than_promised_and_without_its_buffer_more() -> None:
    """At most delta of 300 runs overflow: more than 24 would have probability below 1% at 5% (mean 15, deviation 3.8).

    Power: at 12% (mean 36) fewer than 25 have probability below 2%. The mutant has the base alone.
    """
    design = nested_at_boundaries()
    runs = replications(design, design.equilibrium.workload, design.equilibrium.replica)
    peaks = np.array([run.kv_peak for run in runs])
    assert least_probability(int(np.count_nonzero(peaks > design.kv_required)), RUNS, 0.99) <= DELTA
    assert least_probability(int(np.count_nonzero(peaks > design.kv_base)), RUNS, 0.99) > DELTA


def test_paced_wait_for_unknown_lengths_keeps_its_promise_with_windows_always_full() -> None:
    """At 1.3 times what fits every window is full; overflow stays below delta, with the base alone it does not."""
    scale = paced(FOUR, REPLICA, lengths="unknown", horizon=HORIZON, overflow_probability=DELTA).max_rate_scale
    workload = FOUR.scaled(1.3 * scale)
    design = paced(workload, REPLICA, lengths="unknown", horizon=HORIZON, overflow_probability=DELTA)
    assert isinstance(design, UnknownPacedDesign)
    peaks = np.array([run.kv_peak for run in replications(design, workload, REPLICA)])
    assert least_probability(int(np.count_nonzero(peaks > 137_000)), RUNS, 0.99) <= DELTA
    assert least_probability(int(np.count_nonzero(peaks > design.kv_base)), RUNS, 0.99) > DELTA


def test_throughput_gap_and_delays_of_wait_are_bounded_in_the_scaling() -> None:
    """[A, Theorem 1], strict load balance: rates zeta lambda, times d0/zeta, d1/zeta; zeta = 1, 4, 16 over one horizon.

    Requests left unserved stay O(1) (so the gap in the share completed falls like 1/zeta), and service-normalized
    latency (times zeta) does not grow: each within 4 standard errors of the first plus a tenth.
    """
    base = Workload([PromptType(512, 20, 30.0), PromptType(100, 40, 20.0)])
    left, delay, gap = [], [], []
    for zeta in (1.0, 4.0, 16.0):
        workload = base.scaled(zeta)
        replica = Replica(137_000, IterationTime(0.0106 / zeta, 4.013e-7 / zeta))
        design = wait(workload, replica)
        assert design.feasible
        assert np.min(design.slack) > 0.01
        runs = [simulate(design, workload, replica, horizon=300.0, replication=r) for r in range(20)]
        left.append([run.unserved for run in runs])
        delay.append([zeta * np.nanmean(run.latency[1000:-1000]) for run in runs])
        gap.append(np.mean([run.unfinished / len(run.arrivals) for run in runs]))
    for values in (left, delay):
        means, errors = np.mean(values, axis=1), np.std(values, axis=1, ddof=1) / math.sqrt(20)
        assert np.all(means < 1.1 * means[0] + 4 * (errors + errors[0]))
    assert gap[1] < gap[0] / 2
    assert gap[2] < gap[1] / 2


def test_boundary_queues_of_nested_wait_stay_under_their_bound() -> None:
    """The KV beyond the base is what waits at boundaries: at most the buffer in at least 1 - delta of the runs.

    The peak of a run is the base plus the largest sum of queues; its 95% quantile lies below the buffer, and above
    zero: the queues are there.
    """
    design = nested_at_boundaries()
    runs = replications(design, design.equilibrium.workload, design.equilibrium.replica)
    beyond = np.quantile([run.kv_peak for run in runs], 1 - DELTA) - design.kv_base
    assert 0 < beyond <= design.kv_buffer
