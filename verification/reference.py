"""The literal simulator: the rules of model.md sections 3 to 6 word for word, request by request, slow, no numba.

It shares with the fast simulator only the stage profile of each type and the iteration-time formula. Everything else
is said again in the plainest way: a list of waiting requests, residents with their stage, KV summed anew at each
iteration. The two must agree path by path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fluid import Replica, StageProfile, Workload, stage_profile
from thresholds import NestedWaitPolicy, PacedPolicy, WaitPolicy
from verification.arrivals import Arrivals
from verification.rules.greedy import Greedy
from verification.run import Run
from verification.simulate import Policy


@dataclass
class _Request:
    number: int
    arrival: float
    type: int
    stage: int = 0
    admitted: float = math.nan
    first_token: float = math.nan
    finished: float = math.nan


@dataclass
class _System:
    """Everything there is at one moment."""

    arrivals: Arrivals
    profile: StageProfile
    replica: Replica
    horizon: float
    requests: list[_Request] = field(default_factory=list)
    waiting: list[_Request] = field(default_factory=list)
    residents: list[_Request] = field(default_factory=list)  # in order of admission
    now: float = 0.0
    arrived: int = 0
    busy: float = 0.0
    iterations: int = 0
    evictions: int = 0
    overflows: int = 0
    rejected: int = 0
    kv_peak: int = 0
    entries: list[tuple[int, int]] = field(default_factory=list)  # (iteration, lane), under paced WAIT

    def __post_init__(self) -> None:
        kinds = range(len(self.profile.stages))
        self.kv = [self.profile.stage_kv(j).tolist() for j in kinds]
        self.read = [self.profile.stage_read(j).tolist() for j in kinds]
        self.prefill = [self.profile.stage_prefill(j).tolist() for j in kinds]
        pairs = zip(self.arrivals.times.tolist(), self.arrivals.types.tolist(), strict=True)
        self.requests = [_Request(number, time, kind) for number, (time, kind) in enumerate(pairs)]

    def take_arrivals(self) -> None:
        while self.arrived < len(self.requests) and self.requests[self.arrived].arrival <= self.now:
            request = self.requests[self.arrived]
            self.arrived += 1
            if max(self.kv[request.type]) > self.replica.kv_capacity:
                self.rejected += 1
                continue
            if self.profile.first_token_stage[request.type] < 0:
                request.first_token = request.arrival
            self.waiting.append(request)

    def held(self) -> int:
        return sum(self.kv[r.type][r.stage] for r in self.residents)

    def places(self) -> int:
        """How many more sequences the batch takes where every resident is in it."""
        cap = self.replica.max_num_seqs
        return (len(self.requests) if cap is None else cap) - len(self.residents)

    def serve(self, batch: list[_Request]) -> None:
        """One iteration of the batch; the other residents stand still."""
        read = sum(self.read[r.type][r.stage] for r in batch)
        prefill = sum(self.prefill[r.type][r.stage] for r in batch)
        self.kv_peak = max(self.kv_peak, self.held())
        self.overflows += self.held() > self.replica.kv_capacity or len(batch) > self.replica.most_sequences
        start, self.now = self.now, self.now + self.replica.iteration_time(read, prefill, len(batch))
        self.busy += min(self.now, self.horizon) - start
        self.iterations += 1
        for r in batch:
            self.finish_stage(r)

    def finish_stage(self, r: _Request) -> None:
        if r.stage == self.profile.first_token_stage[r.type] and self.now <= self.horizon:
            r.first_token = self.now
        r.stage += 1
        if r.stage == len(self.kv[r.type]):
            self.residents.remove(r)
            if self.now <= self.horizon:
                r.finished = self.now

    def enter(self, r: _Request) -> None:
        self.waiting.remove(r)
        self.residents.append(r)
        r.stage, r.admitted = 0, self.now

    def leave(self, r: _Request) -> None:
        self.evictions += 1
        self.residents.remove(r)
        r.admitted = math.nan
        if self.profile.first_token_stage[r.type] >= 0:
            r.first_token = math.nan

    def times(self, name: str) -> np.ndarray:
        return np.array([getattr(r, name) for r in self.requests], dtype=np.float64)


def simulate_literally(policy: Policy, workload: Workload, replica: Replica, arrivals: Arrivals,
                       horizon: float = math.inf) -> Run:
    """Simulate a policy literally on explicit arrivals, up to a horizon if there is one.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=100, iteration_time=IterationTime(1.0, 0.0))
    >>> workload = Workload([PromptType(10, 2, 1.0)])
    >>> simulate_literally(WaitPolicy((1,)), workload, replica, Arrivals([0.0, 0.5], [0, 0])).latency.tolist()
    [nan, nan]
    """
    system = _System(arrivals, stage_profile(workload, replica), replica, horizon)
    rule = next(rule for policy_type, rule in RULES.items() if isinstance(policy, policy_type))
    while system.now < horizon:
        system.take_arrivals()
        batch = rule(policy, system)
        if batch:
            system.serve(batch)
        elif system.arrived < len(system.requests):
            system.now = system.requests[system.arrived].arrival
        else:
            break
    return _run(system)


def _greedy_batch(policy: Greedy, system: _System) -> list[_Request]:
    evicted = False
    while system.held() > system.replica.kv_capacity:
        newest = system.residents[-1]
        system.leave(newest)
        system.waiting.insert(0 if policy.requeue == "front" else len(system.waiting), newest)
        evicted = True
    limit = policy.admission_limit(system.replica.kv_capacity)
    while system.waiting and system.places() and not evicted:
        first = system.kv[system.waiting[0].type][0]
        if system.residents and system.held() + first > limit:
            break
        system.enter(system.waiting[0])
    return list(system.residents)


def _wait_batch(policy: WaitPolicy, system: _System) -> list[_Request]:
    batch: list[_Request] = []
    for j, threshold in enumerate(policy.thresholds):
        entering = [r for r in system.waiting if r.type == j]
        if len(entering) < threshold:
            continue
        inside = [r for r in system.residents if r.type == j]
        for stage in range(len(system.kv[j])):
            here = entering if stage == 0 else [r for r in inside if r.stage == stage]
            batch.extend(here[:threshold])
    for r in batch:
        if r in system.waiting:
            system.enter(r)
    return batch


def _paced_batch(policy: PacedPolicy, system: _System) -> list[_Request]:
    if not system.residents:
        system.entries.clear()
    lanes = len(policy.entries)
    for lane, (entries, iterations) in enumerate(zip(policy.entries, policy.iterations, strict=True)):
        waiting = [r for r in system.waiting if lanes == 1 or r.type == lane]
        within = [t for t, entered in system.entries if entered == lane and t > system.iterations - iterations]
        room = min(entries - len(within), system.places())
        if policy.gate and (room < entries or len(waiting) < entries):
            room = 0
        for r in waiting[:room]:
            system.enter(r)
            system.entries.append((system.iterations, lane))
    return list(system.residents)


def _nested_batch(policy: NestedWaitPolicy, system: _System) -> list[_Request]:
    prefill = int(system.profile.prefill_stages[0])
    first = [0, *(r + prefill for r in policy.boundaries)]
    batch: list[_Request] = []
    for k, threshold in enumerate(policy.thresholds):
        entering = system.waiting if k == 0 else [r for r in system.residents if r.stage == first[k]]
        if len(entering) < threshold:
            break
        batch.extend(entering[:threshold])
        for stage in range(first[k] + 1, first[k + 1]):
            batch.extend([r for r in system.residents if r.stage == stage][:threshold])
    for r in batch:
        if r in system.waiting:
            system.enter(r)
    return batch


RULES: dict[type, Callable[[Any, _System], list[_Request]]] = {
    WaitPolicy: _wait_batch, PacedPolicy: _paced_batch, NestedWaitPolicy: _nested_batch, Greedy: _greedy_batch,
}


def _run(system: _System) -> Run:
    finished = system.times("finished")
    last = float(np.nanmax(finished)) if np.isfinite(finished).any() else 0.0
    return Run(system.arrivals, system.profile, system.replica.kv_capacity, system.times("admitted"),
               system.times("first_token"), finished,
               iterations=system.iterations, evictions=system.evictions, overflows=system.overflows,
               rejected=system.rejected, kv_peak=system.kv_peak, busy_time=system.busy,
               end_time=last if math.isinf(system.horizon) else system.horizon)
