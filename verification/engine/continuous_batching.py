"""Continuous batching: every resident is in every batch. The compiled steps that greedy and paced rules share.

Between two calls of `advance` a rule may `admit` the head of a queue and evict the newest residents
(`verification.engine.eviction`); `advance` runs all residents until one leaves or the rule may admit another. The
residents are kept by `verification.engine.residents`. Rules whose prefills and decodes go at different paces use the
steps from `first_tokens` on (`verification.engine.prefills`).
"""

from __future__ import annotations

import numpy as np

from verification.engine.calendar import clear, look_ahead, turn
from verification.engine.clock import leader
from verification.engine.compile import apart, compiled, woven
from verification.engine.fast_forward import end_after, held_after, leap, run_batch
from verification.engine.queues import Queue, request_at
from verification.engine.residents import (
    GROWING,
    KV,
    PREFILL,
    PREFILLING,
    READ,
    SERIAL,
    SIZE,
    WIDENING,
    YOUNG,
    Residents,
    grow,
    join,
    release,
)
from verification.engine.state import (
    ITERATION,
    NOBODY,
    NOW,
    Problem,
    State,
    answer,
    held_by,
    read_by,
    stage_prefill,
    stage_tokens,
)


@compiled
def admit(problem: Problem, state: State, residents: Residents, place: int, r: int) -> None:
    """Let a request, which was taken from its place in a queue, into the batch, at its first stage."""
    tally, j = residents.tally, problem.types[r]
    state.admitted[r] = state.clock[NOW]
    tally[SIZE] += 1
    if problem.prefill_stages[j] > 0:
        tally[PREFILL] += stage_prefill(problem, j, 0)
        tally[PREFILLING] += 1
    join(problem, residents, place, j, 0, tally[SERIAL], state.counts[ITERATION])
    tally[SERIAL] += 1


@compiled
def tokens_computed(residents: Residents) -> int:
    """Tokens of the coming iteration: those that are prefilled, and one of each who decodes."""
    tally = residents.tally
    return tally[PREFILL] + tally[SIZE] - tally[PREFILLING]


@woven
def advance(problem: Problem, state: State, queue: Queue, residents: Residents, t: int, until: float, most: int) -> int:
    """Run all residents until one leaves or, if that is sooner, the first iteration that ends at `until` or later.

    At most `most` iterations. t is the number of the first, in the count by which the residents were admitted. Returns
    how many were run.
    """
    m, end = run_until(problem, state, queue, residents, t, until, most)
    settle(problem, state, queue, residents, t + m - 1, end)
    return m


@woven
def run_until(problem: Problem, state: State, queue: Queue, residents: Residents, t: int, until: float,
              most: int) -> tuple[int, float]:
    """Run the iterations of `advance`; return how many and when the last ended. To be followed by `settle`."""
    tally = residents.tally
    line = leader(problem, tally[READ], tally[PREFILL], tally[SIZE])
    m, end = leap(problem, state, residents, line, t, until, most)
    first_tokens(problem, state, queue, residents, line, t, m, end)
    run_batch(problem, state, residents, line, t, m, end)
    return m, end


@woven
def first_tokens(problem: Problem, state: State, queue: Queue, residents: Residents, line: int, t: int, m: int,
                 end: float) -> None:
    """Note the first tokens made in iterations t, ..., t + m - 1, the last of which ends at `end`."""
    tally, young, kept = residents.tally, residents.young, 0
    for place in range(tally[YOUNG]):
        slot = young[place]
        ahead = residents.entered[slot] + problem.first_stage[residents.kind[slot]] - t + 1
        if ahead <= m:
            made = end if ahead == m else end_after(problem, state, residents, line, ahead)
            if made <= problem.horizon:
                note(queue, residents, slot, state.first_token, made)
        else:
            young[kept] = slot
            kept += 1
    tally[YOUNG] = kept


@compiled
def note(queue: Queue, residents: Residents, slot: int, times: np.ndarray, moment: float) -> None:
    """Write a moment for each member of a cohort."""
    for place in range(residents.first[slot], residents.first[slot] + residents.members[slot]):
        times[request_at(queue, place)] = moment


@woven
def settle(problem: Problem, state: State, queue: Queue, residents: Residents, t: int, end: float) -> None:
    """Iteration t is over: requests complete, full attention windows grow no more, chunked prefills go on by one."""
    if t == residents.calendar.due[0]:
        slot = clear(residents.calendar, t)
        while slot != NOBODY:
            after = residents.link[slot]
            if end <= problem.horizon:
                note(queue, residents, slot, state.finished, end)
                answer(problem, state, residents.members[slot], end)
            release(problem, residents, slot, problem.stages[residents.kind[slot]] - 1, residents.members[slot])
            slot = after
        if len(residents.stopping) > 0:
            _stop(problem, residents, t)
        look_ahead(residents.calendar, t + 1, residents.tally[SIZE] > 0)
    residents.tally[KV] = held_after(problem, residents, t, 1)
    residents.tally[READ] += residents.tally[WIDENING]
    if problem.in_chunks and residents.tally[YOUNG] > 0:
        _next_chunks(problem, residents, t)


@apart
def _stop(problem: Problem, residents: Residents, t: int) -> None:
    """Those whose context fills the window in iteration t grow no more in the layers that have one."""
    place = turn(residents.calendar, t)
    residents.tally[GROWING] -= residents.stopping[place]
    residents.phase[(problem.window - t) % problem.block] -= residents.stopping[place]
    residents.tally[WIDENING] -= residents.stopping[place] + residents.sating[place]
    residents.stopping[place] = residents.sating[place] = 0


@apart
def _next_chunks(problem: Problem, residents: Residents, t: int) -> None:
    """Cohorts in chunked prefill go on from their stage of iteration t to the next."""
    tally = residents.tally
    for place in range(tally[YOUNG]):
        slot = residents.young[place]
        j, stage, count = residents.kind[slot], t - residents.entered[slot], residents.members[slot]
        if stage < problem.prefill_stages[j] - 1:
            before, after = stage_tokens(problem, j, stage), stage_tokens(problem, j, stage + 1)
            tally[READ] += count * (read_by(problem, j, after) - read_by(problem, j, before))
            tally[KV] += count * (held_by(problem, after) - held_by(problem, before))
            tally[PREFILL] += count * stage_prefill(problem, j, stage + 1)
            tally[PREFILLING] += count
            grow(problem, residents, j, residents.entered[slot], stage + 1, after, count)
