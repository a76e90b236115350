"""The requests that wait outside the GPU.

Requests that wait in the order of arrival need no list: the queue is what lies between the next to be admitted and the
last to have arrived. Requests are known by their place in a queue. In one queue of all requests, each of which can be
served, that is their number; else they stand lane by lane in `order`, a lane for each type (as which a request is seen
on arrival), and those that can never be served stand nowhere.

Evicted requests wait in a ring of their own. `after` is the place behind which one was put back: the end of the queue
at that moment, or 0 at its front; `kept` are the tokens it must prefill when it comes back, its prompt and those it had
made, or 0 if it starts anew.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.arrays import Ints
from verification.engine.compile import compiled
from verification.engine.state import ARRIVED, NOBODY, NOW, Problem, State, next_arrival

# places in Queue.tally
AGAIN_HEAD, AGAIN = range(2)


class Queue(NamedTuple):
    """By lane the place of the `next` to be admitted and that `upto` (below) which requests have arrived; `order` holds
    the requests by place, `again` the evicted ones (a ring), `after` what each waits behind, `kept` what it has made.

    `to_front` and `keeps` say where evicted requests go, and whether what they have made is kept.
    """

    next: Ints
    upto: Ints
    order: Ints
    again: Ints
    after: Ints
    kept: Ints
    to_front: bool
    keeps: bool
    tally: Ints


def make_queue(problem: Problem, lanes: int = 1, evicted: int = 0, to_front: bool = False,
               keeps: bool = False) -> Queue:
    """Return an empty queue, one for all or one for each type, with room for so many evicted requests."""
    order, begin = np.empty(0, dtype=np.int64), np.zeros(lanes, dtype=np.int64)
    if lanes > 1 or not problem.all_fit:
        served = np.flatnonzero(problem.peak[problem.types] <= problem.capacity)
        lane = problem.seen[served] if lanes > 1 else np.zeros_like(served)
        order = np.append(served[np.argsort(lane, kind="stable")], NOBODY)  # never empty, even if none is served
        begin = np.searchsorted(np.sort(lane), np.arange(lanes))
    again, after, kept = (np.empty(evicted, dtype=np.int64) for _ in range(3))
    return Queue(begin.astype(np.int64), begin.astype(np.int64), order, again, after, kept, to_front, keeps,
                 np.zeros(2, dtype=np.int64))


def queue_of_evicting(problem: Problem, most_resident: int, requeue: str, eviction: str) -> Queue:
    """Return an empty queue; at its front no more evicted requests wait than were resident, at its end all may."""
    requests, to_front = len(problem.times), requeue == "front"
    room = min(most_resident, requests) if to_front else requests
    return make_queue(problem, 1, room, to_front, eviction == "recompute")


@compiled
def take_arrivals(problem: Problem, state: State, queue: Queue) -> None:
    """Queue every request that has arrived by now."""
    take_arrivals_by(problem, state, queue, state.clock[NOW])


@compiled
def take_arrivals_by(problem: Problem, state: State, queue: Queue, now: float) -> None:
    """Queue every request that has arrived by a moment."""
    if len(queue.order) == 0:
        arrived = state.counts[ARRIVED]
        while arrived < len(problem.times) and problem.times[arrived] <= now:
            arrived += 1
        state.counts[ARRIVED] = queue.upto[0] = arrived
        return
    r = next_arrival(problem, state, now)
    while r != NOBODY:
        lane = problem.seen[r] if len(queue.upto) > 1 else 0
        queue.order[queue.upto[lane]] = r  # known before, unless a router has just sent it
        queue.upto[lane] += 1
        r = next_arrival(problem, state, now)


@compiled
def request_at(queue: Queue, place: int) -> int:
    """The request at a place."""
    if len(queue.order) == 0:
        return place
    return queue.order[place]


@compiled
def waiting(queue: Queue, lane: int) -> int:
    """How many wait in a lane for the first time."""
    return queue.upto[lane] - queue.next[lane]


@compiled
def head(queue: Queue, lane: int) -> int:
    """The first that waits in a lane, NOBODY if none does."""
    if _again_first(queue):
        return queue.again[queue.tally[AGAIN_HEAD]]
    return queue.next[lane] if queue.next[lane] < queue.upto[lane] else NOBODY


@compiled
def take(queue: Queue, lane: int) -> None:
    """Remove the first of a lane."""
    if _again_first(queue):
        queue.tally[AGAIN_HEAD] = (queue.tally[AGAIN_HEAD] + 1) % len(queue.again)
        queue.tally[AGAIN] -= 1
    else:
        queue.next[lane] += 1


@compiled
def kept_by_head(queue: Queue) -> int:
    """The tokens that the head of the one queue must prefill because it was evicted, 0 if it starts."""
    return queue.kept[queue.tally[AGAIN_HEAD]] if _again_first(queue) else 0


@compiled
def put_back(queue: Queue, place: int, kept: int) -> None:
    """Return an evicted request to the one queue: before all others, or behind those that have arrived."""
    tally, room = queue.tally, len(queue.again)
    if queue.to_front:
        tally[AGAIN_HEAD] = (tally[AGAIN_HEAD] + room - 1) % room
        slot, after = tally[AGAIN_HEAD], 0
    else:
        slot, after = (tally[AGAIN_HEAD] + tally[AGAIN]) % room, queue.upto[0]
    queue.again[slot], queue.after[slot], queue.kept[slot] = place, after, kept
    tally[AGAIN] += 1


@compiled
def _again_first(queue: Queue) -> bool:
    return queue.tally[AGAIN] > 0 and queue.after[queue.tally[AGAIN_HEAD]] <= queue.next[0]
