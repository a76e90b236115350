"""The batch of continuous batching: cohorts of residents, none of which is touched while it only decodes.

A cohort is a run of requests of one type that stand next to each other in the queue and in the batch and go through
their stages together: they make their first token in one iteration and complete in one. Cohorts live in slots: what is
kept grows with the residents, not with the requests of a run. Beside the cohorts `Residents` keeps

    a calendar       for each coming iteration the cohorts that finish in it, and the next in which somebody does, or
                     fills its attention window (`verification.engine.calendar`),
    a stack          cohorts in the order of admission (`serial`); the newest resident is the last of the last; cohorts
                     that finished are dropped lazily; rules that never evict keep none,
    the young        cohorts without their first token, or in chunked prefill, in order: the only ones looked at,
    block phases     who opens a new cache block after iteration t, by (context - t) mod block,
    the stopping     for each coming iteration who fills the attention window in it: the context of all of them is the
                     window then, and so is their block phase,

and the KV held and read as running sums. Of those who grow, open a block or stop it is enough to add up the growths, in
units of KV: one for each where all layers are alike. What is read grows (`WIDENING`) by as much as what is held
(`GROWING`), but for requests that find a prefix in the cache, whose attention window is full for reading before it is
for what they hold themselves: `sating` is how the difference changes. Source: mathematics, sections 1.3 and 6; mixed
layers and prefixes derived.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.arrays import Ints
from verification.engine.calendar import Calendar, make_calendar, mark, turn
from verification.engine.compile import apart, compiled
from verification.engine.state import (
    NOBODY,
    Problem,
    growth,
    held_by,
    read_by,
    stage_prefill,
    stage_tokens,
    tokens_made,
)

# places in Residents.tally
KV, READ, PREFILL, PREFILLING, SIZE, GROWING, WIDENING, STACKED, YOUNG, FREE, SERIAL, OPEN, TALLIES = range(13)


class Residents(NamedTuple):
    """Cohorts by slot: `kind` (the type), `first` place, number of `members`, the iteration `entered` (as if the first
    stage had run then), the `serial` of the first member, `link` to the next of its slot of the calendar.
    """

    kind: Ints
    first: Ints
    members: Ints
    entered: Ints
    serial: Ints
    link: Ints
    calendar: Calendar
    stopping: Ints
    sating: Ints
    stack: Ints
    stamp: Ints
    young: Ints
    phase: Ints
    tally: Ints


def make_residents(problem: Problem, most: int, evicts: bool = False) -> Residents:
    """Return the empty batch, with room for so many residents; `evicts`: the newest must be known."""
    room = int(min(most, len(problem.times)))
    calendar = make_calendar(problem.longest)
    windowed = bool(problem.window < (problem.prompt + problem.prefix + problem.stages).max())
    width = len(calendar.first) if windowed else 0
    tally = np.zeros(TALLIES, dtype=np.int64)
    tally[FREE], tally[OPEN] = (0 if room else NOBODY), NOBODY
    kind, first, members, entered, serial = (np.zeros(room, dtype=np.int64) for _ in range(5))
    link = np.arange(1, room + 1)
    link[-1:] = NOBODY
    stacked = 2 * room + 64 if evicts else 0
    return Residents(kind, first, members, entered, serial, link, calendar,
                     np.zeros(width, dtype=np.int64), np.zeros(width, dtype=np.int64),
                     np.empty(stacked, dtype=np.int64), np.empty(stacked, dtype=np.int64),
                     np.empty(room, dtype=np.int64), np.zeros(problem.block, dtype=np.int64), tally)


def most_resident(problem: Problem) -> int:
    """The most residents there can be where requests are admitted only if the KV of a first stage fits beside the rest.

    One more is for the head of the queue, which enters an empty server whatever is to be kept free.
    """
    served = problem.peak <= problem.capacity
    first = np.where(problem.prefill_stages > 0, np.minimum(problem.chunk, problem.prompt), problem.prompt + 1)
    least = int(np.minimum(first[served], problem.window).min()) if served.any() else problem.capacity
    blocks = -(-least // problem.block)
    return min(problem.capacity // (blocks * problem.block * problem.unit + problem.state) + 1, problem.most_sequences)


@compiled
def join(problem: Problem, residents: Residents, place: int, j: int, stage: int, serial: int, t: int) -> None:
    """Count whoever is at a place of the queue, at its stage of iteration t, among the residents."""
    tally, slot = residents.tally, residents.tally[OPEN]
    if (slot == NOBODY or residents.members[slot] == 0 or residents.entered[slot] != t - stage
            or residents.kind[slot] != j or residents.first[slot] + residents.members[slot] != place
            or residents.serial[slot] + residents.members[slot] != serial):
        slot = _open(problem, residents, place, j, stage, serial, t)
    residents.members[slot] += 1
    tokens = stage_tokens(problem, j, stage)
    tally[READ] += read_by(problem, j, tokens)
    tally[KV] += held_by(problem, tokens)
    grow(problem, residents, j, t - stage, stage, tokens, 1)


@compiled
def _open(problem: Problem, residents: Residents, place: int, j: int, stage: int, serial: int, t: int) -> int:
    """Begin a cohort; return its slot."""
    tally = residents.tally
    slot = tally[FREE]
    tally[FREE], tally[OPEN] = residents.link[slot], slot
    residents.kind[slot], residents.first[slot], residents.members[slot] = j, place, 0
    residents.entered[slot], residents.serial[slot] = t - stage, serial
    due = t - stage + problem.stages[j] - 1
    place_due = turn(residents.calendar, due)
    residents.link[slot] = residents.calendar.first[place_due]
    residents.calendar.first[place_due] = slot
    mark(residents.calendar, due)
    if problem.first_stage[j] >= stage or stage < problem.prefill_stages[j] - 1:
        residents.young[tally[YOUNG]] = slot
        tally[YOUNG] += 1
    if len(residents.stack) > 0:
        _stack(residents, slot, serial)
    return slot


@compiled
def release(problem: Problem, residents: Residents, slot: int, stage: int, count: int) -> None:
    """Free what members of a cohort hold at a stage, and the slot with the last of them."""
    tally, j = residents.tally, residents.kind[slot]
    tokens = stage_tokens(problem, j, stage)
    tally[SIZE] -= count
    tally[READ] -= count * read_by(problem, j, tokens)
    tally[KV] -= count * held_by(problem, tokens)
    grow(problem, residents, j, residents.entered[slot], stage, tokens, -count)
    residents.members[slot] -= count
    if residents.members[slot] == 0:
        residents.link[slot] = tally[FREE]
        tally[FREE] = slot


@compiled
def grow(problem: Problem, residents: Residents, j: int, entered: int, stage: int, tokens: int, change: int) -> None:
    """Count residents in (or out of) those that hold a token more after each iteration, if at their stage they do.

    They do from the last chunk on; if the window is full before the last stage, its layers are due to stop then.
    """
    units = growth(problem, tokens)
    if stage < problem.prefill_stages[j] - 1 or units == 0:
        return
    residents.tally[GROWING] += change * units
    residents.tally[WIDENING] += change * units
    if problem.block == 1 and len(residents.stopping) == 0:
        return
    offset = problem.prompt[j] - problem.prefill_stages[j] + 1 - entered
    residents.phase[offset % problem.block] += change * units
    if tokens <= problem.window < stage_tokens(problem, j, problem.stages[j] - 1):
        full = problem.window - offset
        residents.stopping[turn(residents.calendar, full)] += change * problem.windowed
        mark(residents.calendar, full)
    if problem.prefix[j] > 0 and len(residents.sating) > 0:
        _sate(problem, residents, j, offset, stage, change * problem.windowed)


@apart
def _sate(problem: Problem, residents: Residents, j: int, offset: int, stage: int, units: int) -> None:
    """Count layers in (or out of) those that read no more with each iteration, a window being full, but hold more."""
    tokens, last = stage_tokens(problem, j, stage), stage_tokens(problem, j, problem.stages[j] - 1)
    window, prefix, calendar = problem.window, problem.prefix[j], residents.calendar
    if tokens <= window < tokens + prefix:
        residents.tally[WIDENING] -= units
    elif tokens + prefix <= window < last + prefix:
        residents.sating[turn(calendar, window - prefix - offset)] += units
        mark(calendar, window - prefix - offset)
    if tokens <= window < last:
        residents.sating[turn(calendar, window - offset)] -= units


@compiled
def take_newest(problem: Problem, residents: Residents, t: int) -> tuple[int, int]:
    """Remove the newest resident, at its stage of iteration t; return its place and the tokens it has then."""
    slot = newest(residents)
    j, stage = residents.kind[slot], t - residents.entered[slot]
    place = residents.first[slot] + residents.members[slot] - 1
    if stage < problem.prefill_stages[j]:
        residents.tally[PREFILL] -= stage_prefill(problem, j, stage)
        residents.tally[PREFILLING] -= 1
    if residents.members[slot] == 1:
        _unlist(residents, slot, residents.entered[slot] + problem.stages[j] - 1)
    release(problem, residents, slot, stage, 1)
    return place, tokens_made(problem, j, stage)


@apart
def _unlist(residents: Residents, slot: int, due: int) -> None:
    """Take the newest cohort off the stack, the calendar and the young; in each it is nearly always the first."""
    link, tally, first = residents.link, residents.tally, residents.calendar.first
    tally[STACKED] -= 1
    where = turn(residents.calendar, due)
    if first[where] == slot:
        first[where] = link[slot]
    else:
        before = first[where]
        while link[before] != slot:
            before = link[before]
        link[before] = link[slot]
    place = tally[YOUNG] - 1
    while place >= 0 and residents.young[place] != slot:
        place -= 1
    if place >= 0:
        for later in range(place, tally[YOUNG] - 1):
            residents.young[later] = residents.young[later + 1]
        tally[YOUNG] -= 1


@compiled
def newest(residents: Residents) -> int:
    """The cohort of the newest resident, the top of the stack."""
    tally = residents.tally
    while not _stands(residents, tally[STACKED] - 1):
        tally[STACKED] -= 1
    return residents.stack[tally[STACKED] - 1]


@compiled
def _stack(residents: Residents, slot: int, serial: int) -> None:
    """Note the admission of a cohort, below those that were admitted after it."""
    tally, stack, stamp = residents.tally, residents.stack, residents.stamp
    if tally[STACKED] == len(stack):
        _compact(residents)
    place = tally[STACKED]
    while place > 0 and stamp[place - 1] > serial:
        stack[place], stamp[place] = stack[place - 1], stamp[place - 1]
        place -= 1
    stack[place], stamp[place] = slot, serial
    tally[STACKED] += 1


@apart
def _compact(residents: Residents) -> None:
    """Drop the cohorts that are gone from the stack."""
    stack, stamp, kept = residents.stack, residents.stamp, 0
    for place in range(residents.tally[STACKED]):
        if _stands(residents, place):
            stack[kept], stamp[kept] = stack[place], stamp[place]
            kept += 1
    residents.tally[STACKED] = kept


@compiled
def _stands(residents: Residents, place: int) -> bool:
    """Whether the cohort noted at a place of the stack is still there."""
    slot = residents.stack[place]
    return residents.members[slot] > 0 and residents.serial[slot] == residents.stamp[place]
