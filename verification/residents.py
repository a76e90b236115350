"""The queues and the batch of continuous batching, where every resident is in every batch.

An iteration costs what happens in it, not the number of residents: a resident that only decodes is never touched.
For that `Residents` keeps

    a calendar       for each future iteration the requests that finish in it (a wheel as long as the longest life),
    a stack          residents in order of admission; the newest is evicted first; finished ones are dropped lazily,
    the young        residents without their first token, in order of admission, the only ones looked at one by one,
    block phases     how many residents open a new cache block after iteration t, by (context - t) mod block,
    the stopping     for each future iteration how many residents have filled their attention window in it: a count is
                     enough, since the context of all of them is the window then, and so is their block phase,

and the KV tokens held and read as running sums. A request is either waiting or resident, so one array of links serves
the queue and the calendar. Requests queue in lanes: one, or one for each type.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.workload import Ints
from verification.engine import NOBODY, Problem, State, compiled, next_arrival

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
    stopping: Ints
    stack: Ints
    young: Ints
    phase: Ints
    tally: Ints


def make_residents(problem: Problem, lanes: int = 1) -> Residents:
    """Return empty queues, one for all types or one for each, and the empty batch."""
    n, types = len(problem.times), len(problem.stages)
    lane, longest = np.arange(types) if lanes > 1 else np.zeros(types, dtype=np.int64), problem.stages.max()
    return Residents(lane, np.full(lanes, NOBODY), np.full(lanes, NOBODY), np.zeros(lanes, dtype=np.int64),
                     np.full(n, NOBODY), np.full(n, NOBODY), np.full(longest, NOBODY),
                     np.zeros(longest, dtype=np.int64), np.empty(2 * n + 64, dtype=np.int64),
                     np.empty(n, dtype=np.int64), np.zeros(problem.block, dtype=np.int64),
                     np.zeros(TALLIES, dtype=np.int64))


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
def put_back(residents: Residents, r: int, to_front: bool) -> None:
    """Return an evicted request to the one queue."""
    if to_front:
        push_front(residents, 0, r)
    else:
        push_back(residents, 0, r)
