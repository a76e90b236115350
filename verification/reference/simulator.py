"""The literal simulator: the rules of mathematics, sections 3 to 6, word for word, request by request, slow, no numba.

It shares with the fast simulator only the policies with their numbers, the stage profile of each type and the lines of
the iteration time. Everything else is said again in the plainest way: what there is at one moment in
`verification.reference.system`, the rules in `verification.reference.rules`. The two must agree path by path, to the
last bit.

It also runs rules that a user writes in Python (`OwnRule`), some ten thousand stages of requests a second.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from fluid import Replica, Workload, stage_profile
from verification.policies import OwnRule, Policy, on_replica
from verification.reference.rules import TWINS
from verification.reference.system import Request, System
from verification.run import Gaps, Run, Timeline
from verification.traffic.arrivals import Arrivals
from verification.traffic.closed import Returning


def simulate_literally(policy: Policy | OwnRule, workload: Workload, replica: Replica, arrivals: Arrivals,
                       horizon: float = math.inf) -> Run:
    """Simulate a policy literally on explicit arrivals, up to a horizon if there is one; the run has its timeline.

    Raises ValueError where a rule serves who is not resident.

    >>> from fluid import IterationTime, PromptType
    >>> from thresholds import WaitPolicy
    >>> replica = Replica(kv_capacity=100, iteration_time=IterationTime(1.0, 0.0))
    >>> workload = Workload([PromptType(10, 2, 1.0)])
    >>> simulate_literally(WaitPolicy((1,)), workload, replica, Arrivals([0.0, 0.5], [0, 0])).latency.tolist()
    [nan, nan]
    """
    served = on_replica(policy, replica)
    profile = stage_profile(workload, served)
    if isinstance(arrivals, Returning):
        arrivals.check_served(profile, served)
    system = System(arrivals, profile, served, horizon)
    while system.now < horizon:
        decided_before = getattr(policy, "asynchronous", False)  # while the iteration before ran
        system.take_arrivals(system.before if decided_before else system.now)
        if not decided_before:
            system.ended.clear()
        batch = _batch(policy, system)
        if batch:
            system.serve(batch)
        elif system.ended:
            system.wait_for_the_iteration_before()
        elif system.arrived < system.sent:
            system.rest(system.requests[system.arrived].arrival)
        else:
            break
    system.rest(system.now)
    if isinstance(arrivals, Returning) and arrivals.more is not None and system.sent == len(arrivals):
        return simulate_literally(policy, workload, replica, arrivals.more(), horizon)
    return _run(system)


def _batch(policy: Policy | OwnRule, system: System) -> list[Request]:
    if not isinstance(policy, OwnRule):
        return next(twin for policy_type, twin in TWINS.items() if isinstance(policy, policy_type))(policy, system)
    batch, resident = policy.batch(system), {id(r) for r in system.residents}
    if not isinstance(batch, list) or not {id(r) for r in batch} <= resident or len(set(map(id, batch))) < len(batch):
        raise ValueError(f"{type(policy).__name__}.batch must return a list of residents, each once")
    return batch


def _run(system: System) -> Run:
    arrivals = system.arrivals
    if isinstance(arrivals, Returning):
        arrivals = arrivals.sent(system.times("arrival"), system.horizon)
        system.requests = system.requests[:len(arrivals)]
    finished = system.times("finished")
    last = float(np.nanmax(finished)) if np.isfinite(finished).any() else 0.0
    return Run(arrivals, system.profile, system.replica.kv_capacity, system.times("admitted"),
               system.times("first_token"), finished,
               iterations=system.iterations, evictions=system.evictions, overflows=system.overflows,
               kv_peak=math.ceil(system.kv_peak), busy_time=system.busy,
               end_time=last if math.isinf(system.horizon) else system.horizon,
               timeline=_timeline(system), gaps=_gaps(system))


def _timeline(system: System) -> Timeline:
    rows = [(start, end, math.ceil(kv), batch, served) for start, end, kv, batch, served in system.rows]
    start, end, kv, batch, served = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    return Timeline(start, end, *(column.astype(np.int64) for column in (kv, batch, served)))


def _gaps(system: System) -> Gaps:
    """Every gap between two tokens of a request, in the order in which they end."""
    found = sorted((after, after - before) for r in system.requests for before, after in pairwise(r.tokens))
    end, seconds = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return Gaps(end, seconds, np.ones(len(found), dtype=np.int64))
