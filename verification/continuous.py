"""Continuous batching: every resident is in every batch. The compiled steps that greedy and paced rules share.

Between two calls of `advance` a rule may `admit` the head of a queue and `evict` the newest resident; `advance` runs
one iteration of all residents. What they keep is in `verification.residents`. Rules whose prefills and decodes go at
different paces use the steps from `settle` on (`verification.prefills`).
"""

from __future__ import annotations

import numpy as np

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
    stage_prefill,
    stage_read,
    stage_tokens,
)
from verification.residents import GROWING, KV, PREFILL, READ, SIZE, STACKED, YOUNG, Residents


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
    note_admission(residents, r)
    if problem.first_stage[j] >= 0 or problem.prefill_stages[j] > 1:
        residents.young[tally[YOUNG]] = r
        tally[YOUNG] += 1
    read = stage_read(problem, j, 0)
    tally[SIZE] += 1
    tally[READ] += read
    tally[KV] += in_blocks(problem, read)
    tally[PREFILL] += stage_prefill(problem, j, 0)
    grow(problem, residents, r, 0, 1)


@compiled
def evict(problem: Problem, state: State, residents: Residents) -> int:
    """Remove the newest resident, all its progress lost, and return it."""
    tally, r = residents.tally, newest(residents)
    j = problem.types[r]
    stage = state.counts[ITERATION] - residents.entered[r]
    slot = (residents.entered[r] + problem.stages[j] - 1) % len(residents.calendar)
    residents.calendar[slot] = residents.link[r]  # the newest resident heads its slot
    release(problem, residents, r, stage)
    tally[PREFILL] -= stage_prefill(problem, j, stage)
    if tally[YOUNG] > 0 and residents.young[tally[YOUNG] - 1] == r:
        tally[YOUNG] -= 1
    lose_progress(problem, state, r)
    return r


@compiled
def lose_progress(problem: Problem, state: State, r: int) -> None:
    """Note an eviction: nothing of this pass counts, but a first token made elsewhere stays."""
    state.counts[EVICTIONS] += 1
    state.admitted[r] = np.nan
    if problem.first_stage[problem.types[r]] >= 0:
        state.first_token[r] = np.nan


@compiled
def advance(problem: Problem, state: State, residents: Residents) -> None:
    """Run one iteration of all residents."""
    t, tally = state.counts[ITERATION], residents.tally
    end = execute(problem, state, tally[KV], tally[READ], tally[PREFILL], tally[SIZE])
    settle(problem, state, residents, t, end)


@compiled
def settle(problem: Problem, state: State, residents: Residents, t: int, end: float) -> None:
    """Iteration t of all residents is over: who ends in it leaves, the others go on to their next stage."""
    tally = residents.tally
    _leave(problem, state, residents, t, end)
    _stop(problem, residents, t)
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
        release(problem, residents, r, last)
        r = residents.link[r]


@compiled
def release(problem: Problem, residents: Residents, r: int, stage: int) -> None:
    """Free what a resident holds at a stage."""
    tally, j = residents.tally, problem.types[r]
    read = stage_read(problem, j, stage)
    tally[SIZE] -= 1
    tally[READ] -= read
    tally[KV] -= in_blocks(problem, read)
    grow(problem, residents, r, stage, -1)
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
    grow(problem, residents, r, stage, 1)


@compiled
def grow(problem: Problem, residents: Residents, r: int, stage: int, change: int) -> None:
    """Count a resident in (or out of) those that hold a token more after each iteration, if at its stage it is one.

    It is from its last chunk until its window is full; if that comes before its last stage it is due to stop then.
    """
    j = problem.types[r]
    if stage < problem.prefill_stages[j] - 1 or stage_tokens(problem, j, stage) > problem.window:
        return
    residents.tally[GROWING] += change
    offset = problem.prompt[j] - problem.prefill_stages[j] + 1 - residents.entered[r]
    residents.phase[offset % problem.block] += change
    if stage_tokens(problem, j, problem.stages[j] - 1) > problem.window:
        residents.stopping[(problem.window - offset) % len(residents.stopping)] += change


@compiled
def _stop(problem: Problem, residents: Residents, t: int) -> None:
    """Those whose context fills the window in iteration t grow no more."""
    slot = t % len(residents.stopping)
    residents.tally[GROWING] -= residents.stopping[slot]
    residents.phase[(problem.window - t) % problem.block] -= residents.stopping[slot]
    residents.stopping[slot] = 0


@compiled
def note_admission(residents: Residents, r: int) -> None:
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
def newest(residents: Residents) -> int:
    tally, stack = residents.tally, residents.stack
    while residents.entered[stack[tally[STACKED] - 1]] == NOBODY:
        tally[STACKED] -= 1
    tally[STACKED] -= 1
    return stack[tally[STACKED]]
