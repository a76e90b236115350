"""Prompts in prefill beside residents that decode: the compiled steps of rules that serve the two at different paces.

`verification.continuous` moves every resident by one stage in every iteration. Here the residents in prefill are few
and looked at one by one: a rule `plan`s the tokens each prefills in the coming iteration. All that decode advance
together, in some iterations: `clock` counts those, and everything that `verification.residents` keeps by iterations
(calendar, block phases, full windows) goes by it, for the decoding residents alone. A prompt whose prefill ends with K
prefill stages behind it joins them as if it had been admitted K such iterations ago; the clock starts at the largest K,
so that this is never before 0.

The KV tokens held are those of the decoding residents, at the stage they execute next, and of the prompts in prefill,
up to the last token planned.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.workload import Ints
from verification.continuous import grow, lose_progress, newest, note_admission, release, settle
from verification.engine import (
    NOBODY,
    NOW,
    Problem,
    State,
    compiled,
    complete,
    execute,
    in_blocks,
    make_first_token,
    stage_read,
)
from verification.residents import KV, READ, SIZE, YOUNG, Residents, put_back

IN_PREFILL = -2  # in Residents.entered
# places in Prefills.tally
COUNT, CLOCK = range(2)


class Prefills(NamedTuple):
    """The residents in prefill: `who`, in order of admission; by request the prompt tokens `done` and `planned`."""

    who: Ints
    done: Ints
    planned: Ints
    tally: Ints


def make_prefills(problem: Problem) -> Prefills:
    """Return the state in which nobody is in prefill."""
    n = len(problem.times)
    return Prefills(np.empty(n, dtype=np.int64), np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64),
                    np.array([0, problem.prefill_stages.max()], dtype=np.int64))


@compiled
def enter(problem: Problem, state: State, residents: Residents, prefills: Prefills, tokens: int) -> None:
    """Admit the head of the queue: to so many tokens of prefill, or to its first decode where prefill is elsewhere."""
    r = residents.head[0]
    residents.head[0] = residents.link[r]
    residents.waiting[0] -= 1
    state.admitted[r] = state.clock[NOW]
    note_admission(residents, r)
    residents.tally[SIZE] += 1
    if problem.prefill_stages[problem.types[r]] == 0:
        _join(problem, residents, prefills, r)
        return
    residents.entered[r] = IN_PREFILL
    prefills.who[prefills.tally[COUNT]] = r
    prefills.tally[COUNT] += 1
    prefills.done[r] = 0
    plan(problem, residents, prefills, r, tokens)


@compiled
def plan(problem: Problem, residents: Residents, prefills: Prefills, r: int, tokens: int) -> None:
    """Let a resident prefill so many tokens in the coming iteration; it holds them from now on."""
    prefills.planned[r] = tokens
    residents.tally[KV] += in_blocks(problem, reach(problem, prefills, r))


@compiled
def reach(problem: Problem, prefills: Prefills, r: int) -> int:
    """KV tokens a prompt in prefill reads in the coming iteration."""
    return min(prefills.done[r] + prefills.planned[r], problem.window)


@compiled
def evict_overflow(problem: Problem, state: State, residents: Residents, prefills: Prefills, to_front: bool) -> bool:
    """While the residents hold more than C, send the newest back to the queue; return whether there was one."""
    evicted = False
    while residents.tally[KV] > problem.capacity:
        put_back(residents, _evict(problem, state, residents, prefills), to_front)
        evicted = True
    return evicted


@compiled
def serve(problem: Problem, state: State, residents: Residents, prefills: Prefills, decode: bool) -> None:
    """Run one iteration of what is planned and, with `decode`, of all residents that are not in prefill."""
    tally, read, prefill, size = residents.tally, 0, 0, 0
    if decode:
        read, size = tally[READ], tally[SIZE] - prefills.tally[COUNT]
    for place in range(prefills.tally[COUNT]):
        r = prefills.who[place]
        if prefills.planned[r] > 0:
            read += reach(problem, prefills, r)
            prefill += prefills.planned[r]
            size += 1
    end = execute(problem, state, tally[KV], read, prefill, size)
    if decode:
        settle(problem, state, residents, prefills.tally[CLOCK], end)
        prefills.tally[CLOCK] += 1
    _progress(problem, state, residents, prefills, end)


@compiled
def _progress(problem: Problem, state: State, residents: Residents, prefills: Prefills, end: float) -> None:
    """What was planned is done; whoever has its whole prompt joins those that decode."""
    kept = 0
    for place in range(prefills.tally[COUNT]):
        r = prefills.who[place]
        residents.tally[KV] -= in_blocks(problem, reach(problem, prefills, r))
        prefills.done[r] += prefills.planned[r]
        if prefills.done[r] < problem.prompt[problem.types[r]]:
            prefills.who[kept] = r
            kept += 1
        else:
            _end_prefill(problem, state, residents, prefills, r, end)
    prefills.tally[COUNT] = kept


@compiled
def _end_prefill(problem: Problem, state: State, residents: Residents, prefills: Prefills, r: int, end: float) -> None:
    j = problem.types[r]
    if problem.first_stage[j] == problem.prefill_stages[j] - 1:
        make_first_token(problem, state, r, end)
    if problem.stages[j] > problem.prefill_stages[j]:
        _join(problem, residents, prefills, r)
        return
    complete(problem, state, r, end)
    residents.tally[SIZE] -= 1
    residents.entered[r] = NOBODY


@compiled
def _join(problem: Problem, residents: Residents, prefills: Prefills, r: int) -> None:
    """Count a resident, at its first decode stage, among those that decode."""
    tally, j, t = residents.tally, problem.types[r], prefills.tally[CLOCK]
    stage = problem.prefill_stages[j]
    slot = (t + problem.stages[j] - stage - 1) % len(residents.calendar)
    residents.link[r] = residents.calendar[slot]
    residents.calendar[slot] = r
    residents.entered[r] = t - stage
    if problem.first_stage[j] == stage:
        residents.young[tally[YOUNG]] = r
        tally[YOUNG] += 1
    read = stage_read(problem, j, stage)
    tally[READ] += read
    tally[KV] += in_blocks(problem, read)
    grow(problem, residents, r, stage, 1)


@compiled
def _evict(problem: Problem, state: State, residents: Residents, prefills: Prefills) -> int:
    """Remove the newest resident, all its progress lost, and return it."""
    r = newest(residents)
    if residents.entered[r] == IN_PREFILL:
        prefills.tally[COUNT] -= 1  # the newest resident is the last in prefill
        residents.tally[SIZE] -= 1
        residents.tally[KV] -= in_blocks(problem, reach(problem, prefills, r))
        residents.entered[r] = NOBODY
    else:
        _unlist(problem, residents, r)
        release(problem, residents, r, prefills.tally[CLOCK] - residents.entered[r])
    lose_progress(problem, state, r)
    return r


@compiled
def _unlist(problem: Problem, residents: Residents, r: int) -> None:
    """Take the newest resident off the calendar and out of the young.

    Only prompts admitted before it that joined after it, since the last decode, are passed on the way.
    """
    link, tally = residents.link, residents.tally
    slot = (residents.entered[r] + problem.stages[problem.types[r]] - 1) % len(residents.calendar)
    if residents.calendar[slot] == r:
        residents.calendar[slot] = link[r]
    else:
        before = residents.calendar[slot]
        while link[before] != r:
            before = link[before]
        link[before] = link[r]
    place = tally[YOUNG] - 1
    while place >= 0 and residents.young[place] != r:
        place -= 1
    if place >= 0:
        for later in range(place, tally[YOUNG] - 1):
            residents.young[later] = residents.young[later + 1]
        tally[YOUNG] -= 1
