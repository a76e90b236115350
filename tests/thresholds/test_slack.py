"""Thresholds with a slack: the same least integers at larger rates, and the rates that thresholds balance exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Instance, instances, sampled

from fluid import IterationTime, PromptType, Replica, Workload, solve
from fluid.errors import InputError
from thresholds import NestedWaitPolicy, WaitPolicy, balanced_rates, batch_time, predict, wait

A100 = Replica(137_000, IterationTime(0.0106, 4.013e-7))
SHORT = Workload([PromptType(512, 20, 100.0)])


@sampled
@given(instances(), st.floats(0.001, 0.3))
def test_a_slack_asks_for_the_thresholds_of_so_much_more_traffic(instance: Instance, slack: float) -> None:
    """The least n with (1 + epsilon) lambda Delta(n) <= n are those of the rates (1 + epsilon) lambda."""
    workload, replica = instance
    design, larger = wait(workload, replica, slack=slack), wait(workload.scaled(1 + slack), replica)
    assert design.thresholds == larger.thresholds
    assert design.equilibrium.workload == workload
    if design.thresholds:
        needed = (1 + slack) * workload.rates * design.iteration_time
        assert np.all(needed <= np.array(design.thresholds) * (1 + 2e-9) + 2e-9)
        assert design.max_rate_scale == pytest.approx(larger.max_rate_scale, rel=1e-9)


def test_no_slack_is_the_design_as_it_was() -> None:
    """Zero is the default, and changes nothing."""
    with_none, plain = wait(SHORT, A100, slack=0.0), wait(SHORT, A100)
    assert with_none.thresholds == plain.thresholds
    assert with_none.max_rate_scale == plain.max_rate_scale


def test_a_slack_beyond_the_load_says_so() -> None:
    """rho = 0.44: with 2.5 times the traffic the load would be above 1, though the replica is stable today."""
    design = wait(SHORT, A100, slack=1.5)
    assert solve(SHORT, A100).stable
    assert not design.feasible
    assert design.reason.startswith("infeasible: no thresholds have a slack of 1.5")


def test_a_slack_beyond_whole_numbers_says_so() -> None:
    """Where iterations take the same time whatever they do the load stays 0; thresholds end at 2^52."""
    reason = wait(SHORT, Replica(137_000, IterationTime(0.0106, 0.0)), slack=1e16).reason
    assert reason.startswith("infeasible: no thresholds have a slack of 1e+16")
    assert reason.endswith("they would pass 4,503,599,627,370,496 prompts")


def test_at_the_boundary_no_bounded_delay_is_promised() -> None:
    """n = n* exactly: feasible as [A] asks, the predicted delay infinite, and the sentence says that delays grow."""
    there = wait(balanced_rates(WaitPolicy((3,)), SHORT, A100), A100)
    assert there.thresholds == (3,)
    assert there.feasible
    assert not there.drains
    assert predict(there).latency == math.inf
    assert there.reason.endswith("without slack: delays grow with the square root of time")


@sampled
@given(instances(most_types=1))
def test_delays_are_bounded_exactly_where_the_prediction_is_finite(instance: Instance) -> None:
    """One type: the exact formula and the word agree."""
    design = wait(*instance)
    assert design.drains == (bool(design.thresholds) and math.isfinite(predict(design).latency))


@pytest.mark.parametrize("slack", [-0.1, float("nan"), float("inf"), "much"])
def test_a_slack_that_cannot_be_used_is_refused(slack: object) -> None:
    """At least 0, and finite."""
    with pytest.raises(InputError, match="slack"):
        wait(SHORT, A100, slack=slack)  # type: ignore[arg-type]


@sampled
@given(instances(), st.integers(1, 20), st.floats(0.0, 0.5))
def test_balanced_rates_are_those_that_thresholds_just_serve(instance: Instance, first: int, slack: float) -> None:
    """(1 + epsilon) lambda_j Delta(n) = n_j for every j; without slack n is the equilibrium n*, by uniqueness."""
    workload, replica = instance
    counts = tuple(first + j for j in range(len(workload)))
    there = balanced_rates(WaitPolicy(counts), workload, replica, slack=slack)
    time = batch_time(solve(workload, replica), np.array(counts, dtype=float))
    assert (1 + slack) * there.rates * time == pytest.approx(np.array(counts), rel=1e-12)
    if slack == 0.0 and solve(there, replica).inventory is not None:
        assert solve(there, replica).inventory == pytest.approx(np.array(counts), rel=1e-6)


def test_balanced_rates_ask_for_a_threshold_of_each_type() -> None:
    """Two types and one threshold do not go together."""
    with pytest.raises(InputError, match="one for each prompt type"):
        balanced_rates(WaitPolicy((1,)), Workload([PromptType(1, 1, 1.0), PromptType(1, 2, 1.0)]), A100)


@pytest.mark.parametrize("policy", [NestedWaitPolicy((20,), (1,)), (1,), None])
def test_balanced_rates_are_those_of_wait(policy: object) -> None:
    """Thresholds of segments are no thresholds of types."""
    with pytest.raises(InputError, match=r"^policy must be a WaitPolicy"):
        balanced_rates(policy, SHORT, A100)  # type: ignore[arg-type]
