"""Continuous batching: every resident is in every batch. The compiled steps that greedy and paced rules share.

An iteration costs what happens in it, not the number of residents: a resident that only decodes is never touched.
For that `Residents` keeps

    a calendar       for each future iteration the requests that finish in it (a wheel as long as the longest life),
    a stack          residents in order of admission; the newest is evicted first; finished ones are dropped lazily,
    the young        residents without their first token, in order of admission, the only ones looked at one by one,
    block phases     how many residents open a new cache block after iteration t, by (context - t) mod block,

and the KV tokens held and read as running sums. A request is either waiting or resident, so one array of links serves
the queue and the calendar. Between two calls of `advance` a rule may `admit` the head of the queue and `evict` the
newest resident; `advance` runs one iteration of all residents. Requests queue in lanes: one, or one for each type.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.workload import Ints
from verification.engine import (
    EVICTIONS,
    ITERATION,
    NOBODY,
    NOW,
    Problem,
    State,
    compiled,
    complete,
    execute,
    in_blocks,
    make_first_token,
    next_arrival,
    stage_prefill,
    stage_read,
)

# places in Residents.tally
KV, READ, PREFILL, SIZE, GROWING, STACKED, YOUNG, TALLIES = range(8)


class Residents(NamedTuple):
    """The queues and the batch: `entered` is the iteration a resident was admitted in, NOBODY for all others.

    `lane` is the queue of each type; `head`, `tail` and `waiting` describe each queue.
    """

    lane: Ints
    head: Ints
    tail: Ints
    waiting: Ints
    entered: Ints
    link: Ints
    calendar: Ints
    stack: Ints
    young: Ints
    phase: Ints
    tally: Ints


def make_residents(problem: Problem, lanes: int = 1) -> Residents:
    """Return empty queues, one for all types or one for each, and the empty batch."""
    n, types = len(problem.times), len(problem.stages)
    lane = np.arange(types) if lanes > 1 else np.zeros(types, dtype=np.int64)
    return Residents(lane, np.full(lanes, NOBODY), np.full(lanes, NOBODY), np.zeros(lanes, dtype=np.int64),
                     np.full(n, NOBODY), np.full(n, NOBODY), np.full(problem.stages.max(), NOBODY),
                     np.empty(2 * n + 64, dtype=np.int64), np.empty(n, dtype=np.int64),
                     np.zeros(problem.block, dtype=np.int64), np.zeros(TALLIES, dtype=np.int64))


@compiled
def take_arrivals(problem: Problem, state: State, residents: Residents) -> None:
    """Queue every request that has arrived by now."""
    r = next_arrival(problem, state)
    while r != NOBODY:
        push_back(residents, residents.lane[problem.types[r]], r)
        r = next_arrival(problem, state)


@compiled
def push_back(residents: Residents, lane: int, r: int) -> None:
    """Put a request at the end of a queue."""
    residents.link[r] = NOBODY
    if residents.head[lane] == NOBODY:
        residents.head[lane] = r
    else:
        residents.link[residents.tail[lane]] = r
    residents.tail[lane] = r
    residents.waiting[lane] += 1


@compiled
def push_front(residents: Residents, lane: int, r: int) -> None:
    """Put a request at the front of a queue."""
    residents.link[r] = residents.head[lane]
    if residents.head[lane] == NOBODY:
        residents.tail[lane] = r
    residents.head[lane] = r
    residents.waiting[lane] += 1


@compiled
def admit(problem: Problem, state: State, residents: Residents, lane: int) -> None:
    """Move the head of a queue into the batch, at its first stage."""
    tally, r, t = residents.tally, residents.head[lane], state.counts[ITERATION]
    j = problem.types[r]
    residents.head[lane] = residents.link[r]
    residents.waiting[lane] -= 1
    slot = (t + problem.stages[j] - 1) % len(residents.calendar)
    residents.link[r] = residents.calendar[slot]
    residents.calendar[slot] = r
    residents.entered[r] = t
    state.admitted[r] = state.clock[NOW]
    _stack(residents, r)
    if problem.first_stage[j] >= 0 or problem.prefill_stages[j] > 1:
        residents.young[tally[YOUNG]] = r
        tally[YOUNG] += 1
    read = stage_read(problem, j, 0)
    tally[SIZE] += 1
    tally[READ] += read
    tally[KV] += in_blocks(problem, read)
    tally[PREFILL] += stage_prefill(problem, j, 0)
    if problem.prefill_stages[j] <= 1:
        _grow(problem, residents, r, 1)


@compiled
def evict(problem: Problem, state: State, residents: Residents) -> int:
    """Remove the newest resident, all its progress lost, and return it."""
    tally, r = residents.tally, _newest(residents)
    j = problem.types[r]
    stage = state.counts[ITERATION] - residents.entered[r]
    slot = (residents.entered[r] + problem.stages[j] - 1) % len(residents.calendar)
    residents.calendar[slot] = residents.link[r]  # the newest resident heads its slot
    _release(problem, residents, r, stage)
    tally[PREFILL] -= stage_prefill(problem, j, stage)
    if tally[YOUNG] > 0 and residents.young[tally[YOUNG] - 1] == r:
        tally[YOUNG] -= 1
    state.counts[EVICTIONS] += 1
    state.admitted[r] = np.nan
    if problem.first_stage[j] >= 0:
        state.first_token[r] = np.nan
    return r


@compiled
def advance(problem: Problem, state: State, residents: Residents) -> None:
    """Run one iteration of all residents; those that end in it leave, the others go on to their next stage."""
    t, tally = state.counts[ITERATION], residents.tally
    end = execute(problem, state, tally[KV], tally[READ], tally[PREFILL], tally[SIZE])
    _leave(problem, state, residents, t, end)
    tally[READ] += tally[GROWING]
    tally[KV] += problem.block * residents.phase[-t % problem.block]
    _raise_young(problem, state, residents, t, end)


@compiled
def _leave(problem: Problem, state: State, residents: Residents, t: int, end: float) -> None:
    slot = t % len(residents.calendar)
    r = residents.calendar[slot]
    residents.calendar[slot] = NOBODY
    while r != NOBODY:
        last = problem.stages[problem.types[r]] - 1
        if last == problem.first_stage[problem.types[r]]:
            make_first_token(problem, state, r, end)
        complete(problem, state, r, end)
        _release(problem, residents, r, last)
        r = residents.link[r]


@compiled
def _release(problem: Problem, residents: Residents, r: int, stage: int) -> None:
    """Free what a resident holds at a stage."""
    tally, j = residents.tally, problem.types[r]
    read = stage_read(problem, j, stage)
    tally[SIZE] -= 1
    tally[READ] -= read
    tally[KV] -= in_blocks(problem, read)
    if stage >= problem.prefill_stages[j] - 1:
        _grow(problem, residents, r, -1)
    residents.entered[r] = NOBODY


@compiled
def _raise_young(problem: Problem, state: State, residents: Residents, t: int, end: float) -> None:
    """First tokens are made, and prompts in chunks go on to their next chunk."""
    tally, young, kept = residents.tally, residents.young, 0
    tally[PREFILL] = 0
    for place in range(tally[YOUNG]):
        r = young[place]
        if residents.entered[r] == NOBODY:
            continue
        j, stage = problem.types[r], t - residents.entered[r]
        if stage < problem.prefill_stages[j] - 1:
            _next_chunk(problem, residents, r, stage + 1)
        if stage == problem.first_stage[j]:
            make_first_token(problem, state, r, end)
        else:
            young[kept] = r
            kept += 1
    tally[YOUNG] = kept


@compiled
def _next_chunk(problem: Problem, residents: Residents, r: int, stage: int) -> None:
    tally, j = residents.tally, problem.types[r]
    before, after = stage_read(problem, j, stage - 1), stage_read(problem, j, stage)
    tally[READ] += after - before
    tally[KV] += in_blocks(problem, after) - in_blocks(problem, before)
    tally[PREFILL] += stage_prefill(problem, j, stage)
    if stage == problem.prefill_stages[j] - 1:
        _grow(problem, residents, r, 1)


@compiled
def _grow(problem: Problem, residents: Residents, r: int, change: int) -> None:
    """Count a resident in (or out of) those whose context grows by one token an iteration."""
    j = problem.types[r]
    residents.tally[GROWING] += change
    offset = problem.prompt[j] - problem.prefill_stages[j] + 1 - residents.entered[r]
    residents.phase[offset % problem.block] += change


@compiled
def _stack(residents: Residents, r: int) -> None:
    tally, stack = residents.tally, residents.stack
    if tally[STACKED] >= 2 * tally[SIZE] + 64:
        kept = 0
        for place in range(tally[STACKED]):
            if residents.entered[stack[place]] != NOBODY:
                stack[kept] = stack[place]
                kept += 1
        tally[STACKED] = kept
    stack[tally[STACKED]] = r
    tally[STACKED] += 1


@compiled
def _newest(residents: Residents) -> int:
    tally, stack = residents.tally, residents.stack
    while residents.entered[stack[tally[STACKED] - 1]] == NOBODY:
        tally[STACKED] -= 1
    tally[STACKED] -= 1
    return stack[tally[STACKED]]
