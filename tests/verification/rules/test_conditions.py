"""What the theorems ask for, and what happens where less is given: rates that change, prompts of unequal length."""

from __future__ import annotations

import math

import numpy as np

from fluid import IterationTime, PromptType, Replica, Schedule, Workload
from thresholds import NestedWaitPolicy, WaitPolicy, balanced_rates, bulk_queue_mean
from verification import Scheduled, replicate, simulate, t_interval

STEADY = Replica(137_000, IterationTime(0.02, 0.0))  # every iteration takes 20 ms
TWO = WaitPolicy((2,))
SHORT = Workload([PromptType(512, 20, 1.0)])


def mean_wait(workload: Workload, schedule: Schedule, periods: int = 40) -> tuple[float, float]:
    """Mean wait until the prefill over 20 runs of so many periods, seconds, and its standard error."""
    runs = replicate(TWO, workload, STEADY, horizon=periods * schedule.period, replications=20, seed=4,
                     traffic=Scheduled(schedule), record=False)
    waits = [np.nanmean(run.admitted - run.arrivals.times) for run in runs]
    return float(np.mean(waits)), float(np.std(waits, ddof=1) / math.sqrt(20))


def test_thresholds_of_the_largest_rates_bound_the_queue_however_rates_change() -> None:
    """n = 2 balances the peak with a tenth of slack: Q stays below the walk of the peak, n and what comes in a batch
    added, whether the rates change every few iterations or every few hundred. Little's law makes a wait of it.
    """
    peak = balanced_rates(TWO, SHORT, STEADY, slack=0.1)
    arrive = peak.rate * 0.02
    bound = bulk_queue_mean(2, arrive) + 2 + arrive
    for window in (0.1, 10.0):
        schedule = Schedule([window, window], [1.0, 0.4])
        wait, error = mean_wait(peak, schedule)
        assert peak.rate * schedule.mean_factor * wait < bound + 4 * error


def test_thresholds_of_the_mean_rates_only_leave_a_queue_as_long_as_the_windows() -> None:
    """Balance with a tenth of slack on average, but 1.36 times what is served in every other window: the backlog at its
    end is 0.36 D, in the mean over a period a share of D. Windows four times as long make waits four times as long.
    """
    mean = balanced_rates(TWO, SHORT, STEADY, slack=0.1)
    short, long = (mean_wait(mean, Schedule([window, window], [1.5, 0.5]), 20) for window in (50.0, 200.0))
    assert abs(long[0] - 4 * short[0]) < 4 * math.hypot(long[1], 4 * short[1]) + 0.05 * long[0]
    assert short[0] > 3 * 0.02 * bulk_queue_mean(2, 2 / 1.1)


def test_the_base_of_nested_wait_weighs_no_prompt_lengths() -> None:
    """1 + 20 and 1000 + 20 tokens half and half, n_1 = 8 in 21 stages: type-weighted the base is 8 x 21 x (500.5 + 10).
    Half of all full batches hold more; none holds more than 8 x 21 x (1000 + 10).
    """
    mix = Workload([PromptType(1, 20, 150.0), PromptType(1000, 20, 150.0)])
    replica = Replica(1_000_000, IterationTime(0.02, 0.0))
    runs = [simulate(NestedWaitPolicy((20,), (8,)), mix, replica, horizon=20.0, replication=r) for r in range(20)]
    peaks = np.array([run.kv_peak for run in runs])
    assert np.all(peaks <= 8 * 21 * (1000 + 10))
    assert t_interval(peaks > 8 * 21 * (500.5 + 10)).mean > 0.9
