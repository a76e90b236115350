"""Replicas behind a router that looks at them: all run to the moment of an arrival, then one of them gets the request.

A replica runs its iterations one after the other until one ends at that moment or later. A router sees the moment, not
the end of the iteration that runs: what this one completes still counts, and the KV is what it holds. The bits of each
replica's path are those of a run by itself on the requests that it was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
from numba.typed import List

from fluid import Workload
from fluid.arrays import Floats, Ints
from fluid.compiled import jit
from fluid.errors import InputError
from verification.engine.state import (
    ANSWERED,
    CLOCKS,
    COUNTS,
    HELD,
    LAST_COMPLETION,
    LATEST,
    PAUSE,
    SENT,
    Loop,
    Problem,
    State,
    make_problem,
    make_state,
)
from verification.fleets.fleet import Fleet
from verification.fleets.router import LEAST_KV, Choices
from verification.run import Run
from verification.simulation import kernel_of, run_of
from verification.traffic.arrivals import Arrivals

RULES = "vllm-v1, vllm-v0, sarathi, greedy or windows where a router looks at replicas"


def simulate_together(fleet: Fleet, rule: str, choices: Choices, workload: Workload, arrivals: Arrivals,
                      horizon: float) -> tuple[Ints, tuple[Run, ...]]:
    """Return where each request went, shape (N,), and the run of each replica.

    Raises InputError for a policy whose rule must know all requests before.
    """
    together = Together(fleet, workload, arrivals, horizon)
    where, turns = np.empty(len(arrivals), dtype=np.int64), np.zeros(len(choices.groups), dtype=np.int64)
    for r, (moment, group) in enumerate(zip(arrivals.times.tolist(), choices.of.tolist(), strict=True)):
        together.run_to(moment)
        where[r] = together.least(choices.groups[group], turns[group:], moment, rule == LEAST_KV)
        together.send(int(where[r]), r)
    together.run_to(np.inf)
    return where, together.runs()


class Together:
    """The replicas of a fleet, all at one moment; arrays have a row for each, with room for all requests."""

    def __init__(self, fleet: Fleet, workload: Workload, arrivals: Arrivals, horizon: float) -> None:
        shape = len(fleet), len(arrivals)
        self.arrivals, self.kinds = arrivals, fleet.kind_of
        self.profiles = fleet.profiles(workload)
        self.times, self.admitted = np.full(shape, np.inf), np.full(shape, np.nan)
        self.types, self.seen = (np.tile(each, (len(fleet), 1)) for each in (arrivals.types, arrivals.seen))
        self.counts, self.clocks = np.zeros((len(fleet), COUNTS), dtype=np.int64), np.zeros((len(fleet), CLOCKS))
        self.first_waiting = np.zeros(len(fleet), dtype=np.int64)
        self.problems, self.states, loops = [], [], list[Loop]()
        for i, k in enumerate(self.kinds.tolist()):
            problem, state = self._replica(i, k, fleet, horizon)
            loop = kernel_of(fleet.policies[k], problem)
            if not isinstance(loop, Loop):
                raise InputError("policies", RULES, fleet.policies[k], "fleet")
            self.problems.append(problem)
            self.states.append(state)
            loops.append(loop)
        self.capacity = np.array([problem.capacity for problem in self.problems])
        self.waits = np.array([self.profiles[k].layout.held(self.profiles[k].prompt) for k in self.kinds.tolist()])
        self.lists = self._lists(loops)

    def _replica(self, i: int, k: int, fleet: Fleet, horizon: float) -> tuple[Problem, State]:
        """A replica to which nobody was sent yet, its arrays rows of ours."""
        types, seen = self.types[i], self.seen[i]
        for each in (types, seen):
            each.flags.writeable = False  # a view as the kernels are compiled for; it is written to through the table
        problem = make_problem(Arrivals.made(self.times[i], types, seen), self.profiles[k], fleet.served(k), horizon)
        state = make_state(problem, 0)
        self.counts[i], self.clocks[i] = state.counts, state.clock
        return (problem._replace(times=self.times[i]),
                state._replace(admitted=self.admitted[i], counts=self.counts[i], clock=self.clocks[i]))

    def _lists(self, loops: list[Loop]) -> list[tuple[Callable[[Any, Floats], None], Any, Floats]]:
        """The replicas as compiled code takes them, one list for each stretch of replicas with the same rule."""
        lists, begin = [], 0
        for each, stretch in groupby(range(len(loops)), lambda i: loops[i].each):
            replicas: Any = List()
            for i in stretch:
                replicas.append((loops[i].problem, self.states[i], *loops[i].parts))
            lists.append((each, replicas, self.clocks[begin:begin + len(replicas)]))
            begin += len(replicas)
        return lists

    def run_to(self, moment: float) -> None:
        """Let every replica run until an iteration ends at the moment or later."""
        self.clocks[:, PAUSE] = moment
        for each, replicas, clocks in self.lists:
            each(replicas, clocks)

    def least(self, group: Ints, turn: Ints, moment: float, by_kv: bool) -> int:
        """The replica of a group with the least KV or the fewest requests; of equal ones the next in turn."""
        if by_kv:
            _pass_admitted(self.counts, self.admitted, self.first_waiting)
            return _least_kv(group, turn, self.counts, self.admitted, self.types, self.first_waiting, self.waits,
                             self.capacity)
        return _fewest(group, turn, moment, self.counts, self.clocks)

    def send(self, one: int, r: int) -> None:
        """A request goes to a replica."""
        place, arrivals, problem = int(self.counts[one, SENT]), self.arrivals, self.problems[one]
        self.times[one, place] = arrivals.times[r]
        j = self.types[one, place] = arrivals.types[r]
        self.seen[one, place] = arrivals.seen[r]
        made = problem.first_stage[j] < 0 and problem.peak[j] <= problem.capacity
        self.states[one].first_token[place] = arrivals.times[r] if made else np.nan
        self.counts[one, SENT] += 1

    def runs(self) -> tuple[Run, ...]:
        """What each replica did, once all is over."""
        found = []
        for one, (problem, state) in enumerate(zip(self.problems, self.states, strict=True)):
            sent = slice(self.counts[one, SENT])
            own = Arrivals.made(self.times[one, sent].copy(), self.types[one, sent].copy(), self.seen[one, sent].copy())
            found.append(run_of(state, problem, own, self.profiles[self.kinds[one]], None, None))
        return tuple(found)


@jit
def _fewest(group: Ints, turn: Ints, moment: float, counts: Ints, clocks: Floats) -> int:
    """Requests count until the iteration that completes them ends."""
    best, place = np.inf, 0
    for step in range(len(group)):
        at = (turn[0] + step) % len(group)
        one = group[at]
        still = counts[one, LATEST] if clocks[one, LAST_COMPLETION] > moment else 0
        load = counts[one, SENT] - counts[one, ANSWERED] + still
        if load < best:
            best, place = load, at
    turn[0] = (place + 1) % len(group)
    return int(group[place])


@jit
def _least_kv(group: Ints, turn: Ints, counts: Ints, admitted: Floats, types: Ints, first_waiting: Ints, waits: Ints,
              capacity: Ints) -> int:
    """KV of the iteration that runs, and of the prompts that wait, over the capacity."""
    best, place = np.inf, 0
    for step in range(len(group)):
        at = (turn[0] + step) % len(group)
        one = group[at]
        kv = counts[one, HELD]
        for r in range(first_waiting[one], counts[one, SENT]):
            if np.isnan(admitted[one, r]):
                kv += waits[one, types[one, r]]
        if kv < best * capacity[one]:
            best, place = kv / capacity[one], at
    turn[0] = (place + 1) % len(group)
    return int(group[place])


@jit
def _pass_admitted(counts: Ints, admitted: Floats, first: Ints) -> None:
    """Move on to the first request of each replica that may wait: all before it were admitted, once at least."""
    for one in range(len(first)):
        while first[one] < counts[one, SENT] and not np.isnan(admitted[one, first[one]]):
            first[one] += 1
