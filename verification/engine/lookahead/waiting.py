"""The requests that wait, first by a priority, then by arrival: a binary heap of places.

A request's place is its rank among all requests of the run, by (priority, number), so that the smallest place is the
next in turn, and requests of one type that are admitted after one another stand next to each other: they can be one
cohort (`verification.engine.residents`). Where all have one priority the place is the number. Whoever is cleared comes
back to its old place. To come or to go costs log2 of those that wait.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.arrays import Ints
from verification.engine.compile import compiled
from verification.engine.queues import Queue, make_queue
from verification.engine.state import NOBODY, NOW, Problem, State, next_arrival

COUNT = 0  # place in Waiting.tally


class Waiting(NamedTuple):
    """The `heap` of places, the `rank` of each request (none: its number), and how many wait."""

    heap: Ints
    rank: Ints
    tally: Ints


def make_waiting(problem: Problem, priority: Ints | None = None) -> tuple[Queue, Waiting]:
    """Nobody waits; `priority`, shape (N,), small first (None: by arrival). The queue says who stands at a place."""
    order = rank = np.empty(0, dtype=np.int64)
    if priority is not None and len(priority) > 0 and priority.min() < priority.max():
        order = np.argsort(priority, kind="stable").astype(np.int64)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
    queue = make_queue(problem)._replace(order=order)
    return queue, Waiting(np.empty(len(problem.times), dtype=np.int64), rank, np.zeros(1, dtype=np.int64))


@compiled
def take_in_arrivals(problem: Problem, state: State, waiting: Waiting) -> None:
    """Every request that has arrived by now waits."""
    r = next_arrival(problem, state, state.clock[NOW])
    while r != NOBODY:
        wait(waiting, r if len(waiting.rank) == 0 else waiting.rank[r])
        r = next_arrival(problem, state, state.clock[NOW])


@compiled
def wait(waiting: Waiting, place: int) -> None:
    """Let the request of a place wait."""
    push(waiting.heap, 0, waiting.tally[COUNT], place)
    waiting.tally[COUNT] += 1


@compiled
def first(waiting: Waiting) -> int:
    """The place of the first in turn, NOBODY if none waits."""
    return waiting.heap[0] if waiting.tally[COUNT] > 0 else NOBODY


@compiled
def take_first(waiting: Waiting) -> None:
    """The first in turn waits no more."""
    waiting.tally[COUNT] -= 1
    pop(waiting.heap, 0, waiting.tally[COUNT])


@compiled
def push(heap: Ints, begin: int, count: int, place: int) -> None:
    """Add a place to the heap of so many that begins there."""
    hole = count
    while hole > 0 and heap[begin + ((hole - 1) >> 1)] > place:
        heap[begin + hole] = heap[begin + ((hole - 1) >> 1)]
        hole = (hole - 1) >> 1
    heap[begin + hole] = place


@compiled
def pop(heap: Ints, begin: int, count: int) -> None:
    """Remove the first from the heap that begins there; so many are left."""
    last, hole, child = heap[begin + count], 0, 1
    while child < count:
        if child + 1 < count and heap[begin + child + 1] < heap[begin + child]:
            child += 1
        if heap[begin + child] >= last:
            break
        heap[begin + hole] = heap[begin + child]
        hole, child = child, 2 * child + 1
    heap[begin + hole] = last
