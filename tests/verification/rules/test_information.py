"""What each rule may know on arrival: the type, the type as it is seen, or nothing of the output length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import sampled

from fluid import IterationTime, PromptType, Replica, Workload
from thresholds import NestedWaitPolicy, PacedPolicy, WaitPolicy, kv_bound, paced, wait
from verification import AMin, Arrivals, Clearing, Greedy, Predicted, Protected, Sarathi, VllmV0, simulate, verify
from verification.policies import Policy
from verification.traffic.predicted_lengths import LogNormalError, Misclassified, Overestimate, seen_workload

REPLICA = Replica(3_000, IterationTime(0.01, 1e-6))
SHORT, LONG = 10, 40
MIX = Workload([PromptType(50, SHORT, 20.0, "short"), PromptType(50, LONG, 5.0, "long")])
BLIND: dict[str, Policy] = {
    "paced for the mix": PacedPolicy((2,), (3,)), "nested": NestedWaitPolicy((SHORT, LONG), (3, 2)),
    "greedy": Greedy(), "vllm v0": VllmV0(), "sarathi": Sarathi(chunk=64), "protected": Protected(),
    "clearing": Clearing(), "a-min": AMin(bound=1),
}


@pytest.mark.parametrize("name", BLIND)
@sampled
@given(st.integers(0, 999), st.integers(1, 60))
def test_a_rule_that_must_not_see_lengths_cannot_tell_them_apart(name: str, seed: int, which: int) -> None:
    """One request made long, or short: until it has made as many tokens as a short one, nothing else changes."""
    generator = np.random.default_rng(seed)
    times, types = generator.exponential(0.05, 60).cumsum(), generator.integers(0, 2, 60)
    other = types.copy()
    other[which - 1] = 1 - other[which - 1]
    one, two = (simulate(BLIND[name], MIX, REPLICA, arrivals=Arrivals(times, kinds), record=True)
                for kinds in (types, other))
    parted = np.nanmin(np.append([run.finished[which - 1] for run in (one, two)], np.inf))
    for field in ("admitted", "first_token", "finished"):
        a, b = getattr(one, field), getattr(two, field)
        before = (a < parted) | (b < parted)
        np.testing.assert_array_equal(a[before], b[before], err_msg=field)


def test_wait_and_windows_by_type_can_tell_them_apart() -> None:
    """The guard of the test above: these rules do look, at the lengths or at what they are told of them."""
    times, types = np.array([0.0, 0.0]), np.array([0, 1])
    for policy in (WaitPolicy((2, 2)), PacedPolicy((2, 2), (1, 1), gate=True)):
        apart = simulate(policy, MIX, REPLICA, arrivals=Arrivals(times, types))
        alike = simulate(policy, MIX, REPLICA, arrivals=Arrivals(times, types, np.array([1, 1])))
        assert np.isnan(apart.admitted).all()
        assert (alike.admitted == 0).all()


def test_errors_leave_the_arrivals_as_they_are() -> None:
    """With and without errors, and under all kinds of them, the same requests come at the same moments."""
    plain = simulate(Greedy(), MIX, REPLICA, horizon=20.0, seed=3)
    for predictor in (LogNormalError(0.5), Overestimate(3.0), Misclassified(0.3)):
        told = simulate(Greedy(), MIX, REPLICA, horizon=20.0, seed=3, traffic=Predicted(predictor))
        np.testing.assert_array_equal(told.arrivals.times, plain.arrivals.times)
        np.testing.assert_array_equal(told.arrivals.types, plain.arrivals.types)
        assert (told.arrivals.seen != plain.arrivals.types).any()


@sampled
@given(st.integers(0, 999), st.floats(1.0, 8.0))
def test_predictions_that_are_never_short_keep_every_bound(seed: int, ratio: float) -> None:
    """A request is taken for a type at least as long, so at every age it holds no more than that: the bound stands."""
    predictor = Overestimate(ratio)
    seen = seen_workload(MIX, predictor)
    for policy in (wait(seen, REPLICA), paced(seen, REPLICA)):
        run = simulate(policy, MIX, REPLICA, horizon=60.0, seed=seed, traffic=Predicted(predictor))
        assert run.kv_peak <= kv_bound(policy, policy.equilibrium)


def test_predictions_that_are_short_break_it() -> None:
    """Lanes whose bound is exactly full: requests that outlive the type they are taken for hold more than it."""
    policy = PacedPolicy((1, 1), (1, 1))
    mix = MIX.scaled(20.0)
    kinds = Predicted(LogNormalError(0.0, bias=0.25)).draw(mix, 10.0, 0, 0)
    assert not kinds.seen.any()  # 40 tokens a quarter as long: all are taken for the short type
    wide = Replica(100_000, IterationTime(0.01, 0.0))
    right, short = (simulate(policy, mix, wide, horizon=10.0, traffic=traffic)
                    for traffic in (Predicted(Overestimate(1.0)), Predicted(LogNormalError(0.0, bias=0.25))))
    bound_of_lane = sum(50 + s for s in range(SHORT + 1))
    assert right.kv_peak <= bound_of_lane + sum(50 + s for s in range(LONG + 1))
    assert short.kv_peak > bound_of_lane


def test_verify_claims_no_bound_that_errors_break() -> None:
    """Where requests may be taken for shorter types the bound of windows by type is not among the checks."""
    policy = paced(seen_workload(MIX, LogNormalError(0.5)), REPLICA)

    def names(predictor: LogNormalError | Overestimate) -> set[str]:
        found = verify(policy, MIX, REPLICA, horizon=30.0, replications=2, traffic=Predicted(predictor))
        return {check.name for check in found.checks}

    blind = verify(Greedy(), MIX, REPLICA, horizon=30.0, replications=2, traffic=Predicted(LogNormalError(0.5)))
    assert blind.checks == verify(Greedy(), MIX, REPLICA, horizon=30.0, replications=2).checks
    assert "kv_peak at most" not in names(LogNormalError(0.5))
    assert "kv_peak at most" in names(Overestimate(3.0))
