"""Eviction: when residents come to hold more KV than there is, the newest go back to the queue.

Every rule that admits a request by less than the KV of its last stage needs it. There are two kinds (mathematics,
section 6.1). `restart` [A]: all progress of an evicted request is lost, its output is made again. `recompute`
(engines): it keeps the tokens it has made; its KV is gone, so when it comes back prompt and tokens are prefilled, and
decoding goes on.

A rule that clears others than the newest lifts all residents out of the batch, newest first, and sets down again those
that stay, in order of admission: they are then as if nothing had happened. Both take a step for each resident.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np

from fluid.arrays import Ints
from verification.engine.compile import compiled, woven
from verification.engine.queues import Queue, put_back, request_at
from verification.engine.residents import (
    KV,
    PREFILL,
    PREFILLING,
    SIZE,
    Residents,
    join,
    newest,
    take_newest,
)
from verification.engine.state import EVICTIONS, NOW, SPELLS, Problem, State, held_by, stage_prefill, stage_tokens

HowFar = TypeVar("HowFar")


class Lifted(NamedTuple):
    """The residents out of the batch, in order of admission: `place`, `entered` and `serial` as in `Residents`, the
    `kv` each holds, and whether it `stays`.
    """

    place: Ints
    entered: Ints
    serial: Ints
    kv: Ints
    stays: Ints


def make_lifted(residents: Residents) -> Lifted:
    """Return room for all residents."""
    place, entered, serial, kv, stays = (np.zeros(len(residents.kind), dtype=np.int64) for _ in range(5))
    return Lifted(place, entered, serial, kv, stays)


@woven
def evict_overflow(problem: Problem, state: State, queue: Queue, residents: Residents,
                   take_newest: Callable[[Problem, Residents, HowFar], tuple[int, int]], progress: HowFar) -> bool:
    """While the residents hold more than C, send the newest back to the queue; return whether there was one.

    `take_newest`, a compiled function, removes the newest from where its rule keeps it and returns its place in the
    queue and the tokens it would keep; `progress` is what it needs to know how far the residents are.
    """
    evicted = False
    while residents.tally[KV] > problem.capacity:
        place, kept = take_newest(problem, residents, progress)
        note_eviction(problem, state, queue, request_at(queue, place))
        put_back(queue, place, kept if queue.keeps else 0)
        evicted = True
    return evicted


@compiled
def note_eviction(problem: Problem, state: State, queue: Queue, r: int) -> None:
    """Of a request that starts again nothing of this pass counts, but a first token made elsewhere stays."""
    state.counts[EVICTIONS] += 1
    state.admitted[r] = np.nan
    if queue.keeps and len(state.since) > 0:
        _end_spell(state, r)
    if not queue.keeps and problem.first_stage[problem.types[r]] >= 0:
        state.first_token[r] = np.nan


@compiled
def _end_spell(state: State, r: int) -> None:
    """One that had tokens and decoded waits from now on."""
    begin = state.first_token[r] if np.isnan(state.since[r]) else state.since[r]
    if begin < np.inf:  # nor NaN
        row = state.spells[state.counts[SPELLS]]
        row[0], row[1], row[2] = r, begin, state.clock[NOW]
        state.counts[SPELLS] += 1
        state.since[r] = np.inf


@compiled
def lift_all(problem: Problem, residents: Residents, lifted: Lifted, t: int) -> int:
    """Lift everybody out of the batch before iteration t; return how many there are."""
    count = residents.tally[SIZE]
    for one in range(count - 1, -1, -1):
        slot = newest(residents)
        lifted.entered[one] = residents.entered[slot]
        lifted.serial[one] = residents.serial[slot] + residents.members[slot] - 1
        lifted.kv[one] = held_by(problem, stage_tokens(problem, residents.kind[slot], t - residents.entered[slot]))
        lifted.place[one], _ = take_newest(problem, residents, t)
        lifted.stays[one] = 1
    return count


@compiled
def set_down(problem: Problem, queue: Queue, residents: Residents, lifted: Lifted, count: int, t: int) -> None:
    """Let those of the lifted that stay back into the batch, as they were before iteration t."""
    tally = residents.tally
    for one in range(count):
        if lifted.stays[one] == 1:
            place, stage = lifted.place[one], t - lifted.entered[one]
            j = problem.types[request_at(queue, place)]
            tally[SIZE] += 1
            if stage < problem.prefill_stages[j]:
                tally[PREFILL] += stage_prefill(problem, j, stage)
                tally[PREFILLING] += 1
            join(problem, residents, place, j, stage, lifted.serial[one], t)
