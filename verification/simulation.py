"""One simulated path of a policy on a replica.

Time is continuous: a decision is taken when the server is idle, at an arrival or when an iteration ends; arrivals at
that very moment are seen by it, equal times keep the order of arrival. With a horizon T arrivals fall in [0, T), the
last iteration may start before T, and nothing that happens after T counts.

A decision rule is one file under `verification/rules/`: a frozen policy and `kernel(policy, problem)`, which makes the
rule's own state and returns a compiled loop of (state, budget): until `paused`, take the arrivals, decide, run one
iteration or as many as pass without a new decision (or `sleep`), note who has a first token or completes. It is entered
in `verification.rules.RULES`, its literal twin in `verification.reference.rules.TWINS`. A rule of a user's own
(`verification.policies.OwnRule`) is Python, and slow: the literal simulator runs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fluid import Replica, StageProfile, Workload, stage_profile
from fluid.errors import InputError, real, whole
from thresholds import OnReplica
from verification.engine.state import (
    BUSY,
    DONE,
    EVICTIONS,
    ITERATION,
    KV_PEAK,
    LAST_COMPLETION,
    OVERFLOWS,
    RECORDED,
    SENT,
    SPELLS,
    Kernel,
    Problem,
    State,
    make_problem,
    make_state,
)
from verification.lost_work import lost_time
from verification.policies import OwnRule, Policy, on_replica
from verification.reference.simulator import simulate_literally
from verification.rules import RULES, rule_of
from verification.run import Gaps, Run, Timeline
from verification.token_gaps import gaps_of
from verification.traffic.arrivals import Arrivals
from verification.traffic.closed import Returning
from verification.traffic.processes import POISSON, Traffic

SLICE = 1 << 20  # iterations between two moments at which a run can be interrupted
ROWS = 1 << 16  # timeline rows handed over at a time


def simulate(policy: Policy, workload: Workload, replica: Replica, *, horizon: float | None = None,
             arrivals: Arrivals | None = None, traffic: Traffic = POISSON, seed: int = 0, replication: int = 0,
             record: bool = False) -> Run:
    """Simulate a policy, on `traffic` over [0, horizon) seconds or on explicit arrivals until nothing moves.

    `traffic` is Poisson unless told otherwise (`verification.traffic.processes`); `seed` and `replication` choose the
    random stream; `record` keeps the timeline (one row per iteration). Raises InputError unless exactly one of
    `horizon` and `arrivals` is given and the policy fits the workload.

    >>> from fluid import IterationTime, PromptType
    >>> from thresholds import WaitPolicy
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.013e-7))
    >>> run = simulate(WaitPolicy((2,)), Workload([PromptType(512, 20, 20.0)]), replica, horizon=60.0, seed=1)
    >>> run.evictions, run.kv_peak <= 2 * 10_962
    (0, True)
    """
    requests, until = who_arrives(workload, horizon, arrivals, traffic, seed, replication)
    requests.check(workload)
    if isinstance(policy, OwnRule):
        run = simulate_literally(policy, workload, replica, requests, until)
        return run if record else replace(run, timeline=None, gaps=None)
    return run_kernel(policy, workload, replica, requests, until, record)


def who_arrives(workload: Workload, horizon: float | None, arrivals: Arrivals | None, traffic: Traffic, seed: int,
                 replication: int) -> tuple[Arrivals, float]:
    """The requests and the end of the run: explicit arrivals without an end, or what `traffic` brings by `horizon`."""
    if (horizon is None) == (arrivals is None):
        raise InputError("horizon", "given where arrivals are not, and only there", horizon, "simulate")
    if arrivals is not None:
        return arrivals, math.inf
    until = real("horizon", horizon, "simulate", unit="seconds")
    stream = whole("seed", seed, "simulate", unit="seeds", least=0, most=2**128)
    return traffic.draw(workload, until, stream,
                        whole("replication", replication, "simulate", unit="replications", least=0)), until


def run_kernel(policy: Policy, workload: Workload, replica: Replica, arrivals: Arrivals, until: float,
                record: bool) -> Run:
    """The run of a rule that is compiled."""
    served = on_replica(policy, replica)
    profile = stage_profile(workload, served)
    if isinstance(arrivals, Returning):
        arrivals.check_served(profile, served)
    problem = make_problem(arrivals, profile, served, until)
    state = make_state(problem, ROWS if record else 0)
    rows, spells = zip(*_play(kernel_of(policy, problem), state), strict=True)
    if isinstance(arrivals, Returning):
        if arrivals.more is not None and state.counts[SENT] == len(arrivals):
            return run_kernel(policy, workload, replica, arrivals.more(), until, record)
        arrivals = arrivals.sent(problem.times, until)
    if not record:
        return run_of(state, problem, arrivals, profile)
    timeline, ended = _timeline(list(rows), profile), np.concatenate(spells)
    return run_of(state, problem, arrivals, profile, timeline, gaps_of(policy, problem, state, ended, timeline),
                  lost_time(policy, problem, state, ended, timeline, profile))


def kernel_of(policy: Policy, problem: Problem) -> Kernel:
    """The compiled loop of the rule that runs a policy; raises InputError where there is none."""
    if isinstance(policy, OnReplica) and not policy.exists:
        raise InputError("policy", "one with thresholds", policy.equilibrium.reason, "simulate")
    rule = rule_of(policy)
    if rule is not None:
        return rule.kernel(policy, problem)
    names = " or ".join([*(each.policy.__name__ for each in RULES), "an OwnRule"])
    raise InputError("policy", names, policy, "simulate")


def _play(kernel: Kernel, state: State) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Run the kernel to the end, slice by slice, yielding the rows of the timeline and the spells of each."""
    counts = state.counts
    while not counts[DONE]:
        kernel(state, int(counts[ITERATION]) + SLICE)
        yield state.timeline[: counts[RECORDED]].copy(), state.spells[: counts[SPELLS]].copy()
        counts[RECORDED] = counts[SPELLS] = 0


def run_of(state: State, problem: Problem, arrivals: Arrivals, profile: StageProfile,
           timeline: Timeline | None = None, gaps: Gaps | None = None, lost: float | None = None) -> Run:
    """What the state of a run that is over says; without a horizon it ended with the last completion."""
    counts, clock = state.counts, state.clock
    admitted, first_token, finished = (each[:len(arrivals)] for each in (state.admitted, state.first_token,
                                                                         state.finished))
    return Run(arrivals, profile, problem.capacity // problem.unit, admitted, first_token, finished,
               iterations=int(counts[ITERATION]), evictions=int(counts[EVICTIONS]), overflows=int(counts[OVERFLOWS]),
               kv_peak=int(profile.layout.whole(counts[KV_PEAK])), busy_time=float(clock[BUSY]),
               end_time=float(clock[LAST_COMPLETION]) if math.isinf(problem.horizon) else problem.horizon,
               timeline=timeline, gaps=gaps, lost_time=lost)


def _timeline(pieces: list[np.ndarray], profile: StageProfile) -> Timeline:
    columns = [np.concatenate([piece[:, i] for piece in pieces]) for i in range(5)]  # not rows: columns are read alone
    kv = profile.layout.whole(columns[2].astype(np.int64))
    return Timeline(columns[0], columns[1], kv, columns[3].astype(np.int64), columns[4].astype(np.int64))
