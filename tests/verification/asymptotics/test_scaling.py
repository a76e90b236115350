"""The scaling: what it changes, what it leaves, and that a system twice as fast does the same to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Instance, instances, sampled

from fluid import IterationTime, PromptType, Replica, Workload, solve
from fluid.errors import InputError
from thresholds import WaitPolicy, paced, wait
from verification import Arrivals, Greedy, VllmV1, simulate
from verification.asymptotics import entry_queue, scaled

MIX = Workload([PromptType(60, 20, 40.0, "chat"), PromptType(300, 40, 3.0)])
REPLICA = Replica(20_000, IterationTime.largest(IterationTime(0.0106, 4e-7, 1e-6, 2e-6), IterationTime(0.004, 9e-7)))


@sampled
@given(instances(), st.floats(0.01, 1000.0))
def test_inventory_memory_and_thresholds_stay(instance: Instance, zeta: float) -> None:
    """rates x zeta, times / zeta: n*, M*, the load and the thresholds are those of before; Delta* is over zeta."""
    before, after = solve(*instance), solve(*scaled(*instance, zeta))
    assert after.load == pytest.approx(before.load, rel=1e-12)
    if before.inventory is not None and before.load < 0.999:
        assert after.inventory == pytest.approx(before.inventory, rel=1e-9)
        assert after.kv_required == pytest.approx(before.kv_required, rel=1e-9)
        assert after.iteration_time * zeta == pytest.approx(before.iteration_time, rel=1e-9)
        assert after.kv_capacity == before.kv_capacity
    assert scaled(*instance, 4.0).workload.rates.tolist() == (4.0 * instance.workload.rates).tolist()
    assert wait(*scaled(*instance, 8.0)).thresholds == wait(*instance).thresholds


@pytest.mark.parametrize("policy", [WaitPolicy((3, 1)), paced(MIX, REPLICA), Greedy(watermark=0.0),
                                    VllmV1(max_num_batched_tokens=512)])
def test_a_system_sixteen_times_as_fast_does_the_same_in_a_sixteenth_of_the_time(policy: object) -> None:
    """With zeta a power of two not a bit differs: every moment is the old one over zeta."""
    slow = simulate(policy, MIX, REPLICA, horizon=160.0, seed=3)  # type: ignore[arg-type]
    fast = simulate(policy, *scaled(MIX, REPLICA, 16.0), horizon=10.0, seed=3)  # type: ignore[arg-type]
    assert slow.completed > 1000
    for name in ("admitted", "first_token", "finished"):
        np.testing.assert_array_equal(getattr(slow, name), 16.0 * getattr(fast, name))
    assert (slow.evictions, slow.kv_peak, slow.iterations) == (fast.evictions, fast.kv_peak, fast.iterations)


@pytest.mark.parametrize("zeta", [0.0, -1.0, float("nan"), float("inf"), True, "two"])
def test_a_scale_that_is_none_is_refused(zeta: object) -> None:
    """Positive and finite."""
    with pytest.raises(InputError, match="zeta"):
        scaled(MIX, REPLICA, zeta)  # type: ignore[arg-type]


def test_the_entry_queue_is_the_recursion_path_by_path() -> None:
    """Constant iteration time d: between two starts max(d, the wait for the n-th prompt) passes; what is left behind
    follows Q' = (Q + arrivals in d - n)^+ with the very arrivals of the path.
    """
    mix, replica = Workload([PromptType(1, 3, 1.9)]), Replica(1000, IterationTime(1.0, 0.0))
    run = simulate(WaitPolicy((2,)), mix, replica, horizon=2000.0, seed=5)
    queue, starts = entry_queue(run, 2), np.unique(run.admitted[np.isfinite(run.admitted)])
    times = run.arrivals.times
    during = np.searchsorted(times, starts[:-1] + 1.0, side="right") - np.searchsorted(times, starts[:-1], side="right")
    np.testing.assert_array_equal(queue[1:], np.maximum(queue[:-1] + during - 2, 0))
    assert queue.max() > 5


def test_an_entry_queue_of_other_batches_is_refused() -> None:
    """Batches of two are not batches of three, and of one type there is no second."""
    arrivals = Arrivals([0.0, 0.1], [0, 0])
    run = simulate(WaitPolicy((2,)), Workload([PromptType(1, 1, 1.0)]), Replica(9, IterationTime(1.0, 0.0)),
                   arrivals=arrivals)
    with pytest.raises(InputError, match="threshold"):
        entry_queue(run, 3)
    for absent in (1, -1):
        with pytest.raises(InputError, match="type_index"):
            entry_queue(run, 2, type_index=absent)
