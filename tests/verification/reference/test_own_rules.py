"""Rules that a user writes in Python: run as the built-in ones are, and held to the same invariants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import sampled

from fluid import IterationTime, PromptType, Replica, Workload
from verification import Arrivals, Greedy, LogNormalError, Predicted, invariants, simulate, verify
from verification.reference.system import Request, System

MIX = Workload([PromptType(50, 10, 10.0, "short"), PromptType(50, 40, 5.0, "long")])
REPLICA = Replica(700, IterationTime(0.01, 1e-6))


class MyGreedy:
    """Greedy admission without a watermark, evicted requests to the front."""

    by_type = False

    def batch(self, system: System) -> list[Request]:
        evicted = False
        while system.held() > system.replica.kv_capacity:
            newest, evicted = system.residents[-1], True
            system.leave(newest)
            system.waiting.insert(0, newest)
        while system.waiting and not evicted:
            first = system.kv[system.waiting[0].type][0]
            if system.residents and system.held() + first > system.replica.kv_capacity:
                break
            system.enter(system.waiting[0])
        return list(system.residents)


class ShortestFirst:
    """Reserve the peak of a request before it enters; whoever seems shortest enters first."""

    by_type = True

    def batch(self, system: System) -> list[Request]:
        reserved = sum(max(system.kv[r.seen]) for r in system.residents)
        for r in sorted(system.waiting, key=lambda r: len(system.kv[r.seen])):
            if reserved + max(system.kv[r.seen]) <= system.replica.kv_capacity:
                reserved += max(system.kv[r.seen])
                system.enter(r)
        return list(system.residents)


class Careless:
    """Lets one request in and serves who is not resident, one twice, or nobody knows whom."""

    by_type = False

    def __init__(self, served: Callable[[System], Any]) -> None:
        self.served = served

    def batch(self, system: System) -> Any:
        system.enter(system.waiting[0])
        return self.served(system)


@sampled
@given(st.integers(0, 999), st.integers(95, 700))
def test_greedy_written_by_a_user_is_greedy(seed: int, capacity: int) -> None:
    """To the last bit, evictions and timeline included."""
    replica = Replica(capacity, REPLICA.iteration_time)
    mine, ours = (simulate(policy, MIX, replica, horizon=5.0, seed=seed, record=True)
                  for policy in (MyGreedy(), Greedy(watermark=0.0)))
    for field in ("admitted", "first_token", "finished"):
        np.testing.assert_array_equal(getattr(mine, field), getattr(ours, field))
    assert mine.timeline is not None
    assert ours.timeline is not None
    for column in ("start", "end", "kv", "batch"):
        np.testing.assert_array_equal(getattr(mine.timeline, column), getattr(ours.timeline, column))
    assert (mine.evictions, mine.kv_peak, mine.busy_time) == (ours.evictions, ours.kv_peak, ours.busy_time)


@sampled
@given(st.integers(0, 999))
def test_runs_of_a_users_rule_keep_the_invariants(seed: int) -> None:
    run = simulate(ShortestFirst(), MIX, REPLICA, horizon=5.0, seed=seed, record=True)
    assert invariants(run, REPLICA) == ()
    assert run.evictions == run.overflows == 0


def test_a_users_rule_is_verified_like_any_other() -> None:
    """Replications, verdict and checks, the same with one worker and two; lengths seen with an error if so asked."""
    one, two = (verify(ShortestFirst(), MIX, REPLICA, horizon=20.0, replications=3, workers=workers)
                for workers in (1, 2))
    assert one.latency == two.latency
    assert one.verdict.answer == "stable"
    wrong = verify(ShortestFirst(), MIX, REPLICA, horizon=20.0, replications=3, traffic=Predicted(LogNormalError(1.5)))
    assert wrong.latency != one.latency


@pytest.mark.parametrize("served", [
    lambda system: system.waiting, lambda system: system.residents * 2, lambda system: None, lambda system: ["all"],
])
def test_a_rule_that_serves_whom_it_cannot_is_stopped(served: Callable[[System], Any]) -> None:
    with pytest.raises(ValueError, match=r"Careless\.batch must return a list of residents, each once"):
        simulate(Careless(served), MIX, REPLICA, arrivals=Arrivals([0.0, 0.0], [0, 0]))


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(Exception, match=r"policy must be WaitPolicy or .* or an OwnRule"):
        simulate("greedy", MIX, REPLICA, horizon=1.0)  # type: ignore[arg-type]
