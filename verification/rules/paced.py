"""Paced WAIT, mathematics, section 4.1: in any g consecutive iterations at most N prompts enter; residents never pause.

A lane (one for each type, or one for the mix) remembers the iterations of its last N entries. A prompt may enter
iteration t if the N-th last entry was before t - g + 1: then no g consecutive iterations hold more than N. With a gate
a lane enters only as a full cohort of N. Iterations are counted while something is resident; when nothing is, entries
of the past are forgotten. A prompt for which a batch of B sequences has no place, or an iteration of q tokens no room,
waits, without counting as an entry; a cohort waits until all of it finds them. Lanes take their turn in the order of
the types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fluid.arrays import Floats, Ints
from fluid.errors import InputError
from thresholds import PacedPolicy
from verification.engine.clock import next_moment, paused, sleep
from verification.engine.compile import compiled, entry, for_each, woven
from verification.engine.continuous_batching import admit, advance, tokens_computed
from verification.engine.queues import Queue, head, make_queue, request_at, take, take_arrivals, waiting
from verification.engine.residents import PREFILL, SIZE, Residents, make_residents
from verification.engine.state import (
    ITERATION,
    NO_CAP,
    NOBODY,
    NOW,
    PAUSE,
    Kernel,
    Loop,
    Problem,
    State,
    stage_computes,
)
from verification.rules.rule import Claim, Look, Rule

LONG_AGO = -(2**62)


class Windows(NamedTuple):
    """Per lane: N, g, and the ring `recent` (from `offset` on, oldest at `place`) of its last N entries' iterations.

    `fresh` holds the iteration from which entries count.
    """

    entries: Ints
    iterations: Ints
    recent: Ints
    offset: Ints
    place: Ints
    fresh: Ints


def kernel(policy: PacedPolicy, problem: Problem) -> Kernel:
    """Return the rule, ready to run; raises InputError unless there is one window, or one per type."""
    lanes = len(policy.entries)
    if lanes not in (1, len(problem.stages)):
        requirement = f"1 number for the mix or {len(problem.stages)}, one per prompt type"
        raise InputError("entries", requirement, policy.entries, "policy")
    entries, iterations = (np.array(numbers, dtype=np.int64) for numbers in (policy.entries, policy.iterations))
    entries = np.minimum(entries, len(problem.times) + 1)  # more than there are requests is as good as one more
    windows = Windows(entries, iterations, np.full(entries.sum(), LONG_AGO), np.cumsum(entries) - entries,
                      np.zeros(lanes, dtype=np.int64), np.zeros(1, dtype=np.int64))
    most = (entries * -(-problem.longest // iterations)).sum()
    queue, residents = make_queue(problem, lanes), make_residents(problem, most)
    return Loop(run, run_each, problem, (queue, residents, windows, policy.gate))


@entry
def run(problem: Problem, state: State, queue: Queue, residents: Residents, windows: Windows, gate: bool,
        budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    counts = state.counts
    while not paused(problem, state, budget):
        take_arrivals(problem, state, queue)
        if residents.tally[SIZE] == 0:
            windows.fresh[0] = counts[ITERATION]
        opens, listening = NO_CAP, False
        for lane in range(len(windows.entries)):
            again = _enter(problem, state, queue, residents, windows, gate, lane)
            opens, listening = min(opens, again), listening or again == NO_CAP
        if residents.tally[SIZE] > 0:
            t, until = counts[ITERATION], next_moment(problem, state, listening)
            advance(problem, state, queue, residents, t, until, opens - t)
        else:
            sleep(problem, state)


@for_each
def run_each(replicas: Sequence[Any], clocks: Floats) -> None:
    """Run the rule on every replica of a fleet that is before its pause, up to there."""
    for one in range(len(replicas)):
        if clocks[one, NOW] < clocks[one, PAUSE]:
            problem, state, queue, residents, windows, gate = replicas[one]
            run(problem, state, queue, residents, windows, gate, NO_CAP)


@woven
def _enter(problem: Problem, state: State, queue: Queue, residents: Residents, windows: Windows, gate: bool,
           lane: int) -> int:
    """Admit from a lane what its window and the batch allow; with a gate, a full cohort or nothing.

    Returns the iteration in which the window lets the next of those that wait enter; `NO_CAP` if none waits for it.
    """
    t, entries = state.counts[ITERATION], windows.entries[lane]
    if gate and min(waiting(queue, lane), problem.most_sequences - residents.tally[SIZE]) < entries:
        return NO_CAP
    place = head(queue, lane)
    if gate and _over_budget(problem, queue, residents, place, entries):
        return _budget_frees(residents, t)
    while place != NOBODY and residents.tally[SIZE] < problem.most_sequences:
        oldest = windows.offset[lane] + windows.place[lane]
        if windows.recent[oldest] >= max(t - windows.iterations[lane] + 1, windows.fresh[0]):
            return windows.recent[oldest] + windows.iterations[lane]
        if _over_budget(problem, queue, residents, place, 1):
            return _budget_frees(residents, t)
        windows.recent[oldest] = t
        windows.place[lane] = windows.place[lane] + 1 if windows.place[lane] + 1 < entries else 0
        take(queue, lane)
        admit(problem, state, residents, place, request_at(queue, place))
        place = head(queue, lane)
    return NO_CAP


@compiled
def _over_budget(problem: Problem, queue: Queue, residents: Residents, place: int, count: int) -> bool:
    """Whether the coming iteration has no tokens for so many more, from a place on."""
    if problem.most_tokens == NO_CAP:
        return False
    tokens = tokens_computed(residents)
    for each in range(place, place + count):
        tokens += stage_computes(problem, problem.types[request_at(queue, each)], 0)
    return tokens > problem.most_tokens


@compiled
def _budget_frees(residents: Residents, t: int) -> int:
    """The iteration in which tokens may be free again: the next while somebody prefills, else once somebody leaves."""
    return t + 1 if residents.tally[PREFILL] > 0 else NO_CAP


RULE = Rule(PacedPolicy, kernel, frozenset({Claim.ITERATION_TIME, Claim.INVENTORY, Claim.LATENCY}),
            Look("blue", "-", "o"))
