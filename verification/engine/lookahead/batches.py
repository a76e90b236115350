"""The requests that wait, in batches that fit together: the first batch of Sorted-F, found anew with each arrival.

A request is known by its predicted stages S and the KV P of the last of them, at most C; those that have both in common
are a group. Let the waiting be sorted by

    (8 - j) S + j P        for j = 0, ..., 8; of equal ones by S, then P, then arrival

The first batch is, of all sets of the first k in one of these nine orders with sum P <= C, that of least sum S / k^2, a
quotient of whole numbers below 2^53; of equal ones the larger, then that of the smaller j. Its members have their turn
by (S, arrival).

**A group at a time.** In no order does anybody stand between two of a group. With L = sum S over the k before it and i
of its members F(i) = (L + i S)/(k + i)^2, and dF/di has the sign of k S - 2 L - i S: F rises first, if at all, and then
falls, so that it is least at i = 0 or at the most that fit. Ends of groups are all that need to be looked at.

**What it costs.** Requests of a group wait in a binary heap, a piece of one array, and each order has a bit for every
group, set while somebody waits in it. To come or to go costs log2 of the group and nine bits. To find the first batch
takes a step for each group that fits side by side with those before it, in each of the orders, and one for 32 that are
empty: with G groups in the run, B of which fit, 9 (B + G/32), and B log2 B for the groups of the batch. Nothing depends
on how many wait beyond those that fit. Orders that are alike, as all are where prompts are equal, are looked at once. A
batch is found only when somebody may enter, and stands until somebody comes or it is used up.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.arrays import Ints
from verification.engine.calendar import BITS, BITS_LOG, LOWEST, lowest_bit
from verification.engine.compile import apart, compiled
from verification.engine.lookahead.waiting import COUNT, Waiting, first, make_waiting, pop, push, take_first, wait
from verification.engine.queues import Queue
from verification.engine.state import NOBODY, NOW, Problem, State, next_arrival

SLOPES = 8
STALE = 1  # place in Batches.tally, beside COUNT: whether somebody came since the first batch was found


class Batches(NamedTuple):
    """Who waits and the first batch; requests by number, groups by rank in the order of j = 0.

    The `group` of each request. By group: `stages` and `peak`, where its piece of the `heap` begins, how many are
    `waiting` and how many of these are in the first batch (`chosen`). By order: the group at each place, the place of
    each group, bits of the places where somebody waits. `batch` is a heap of who is next of each group in it.
    """

    group: Ints
    stages: Ints
    peak: Ints
    begin: Ints
    waiting: Ints
    chosen: Ints
    heap: Ints
    order: Ints
    place: Ints
    occupied: Ints
    batch: Waiting
    tally: Ints
    lowest: Ints
    memory: int


def make_batches(problem: Problem) -> tuple[Queue, Batches]:
    """Nobody waits; the places of the queue are the numbers of requests."""
    queue, batch = make_waiting(problem)
    kinds, kind = np.unique(problem.seen, return_inverse=True)
    pairs = np.stack([problem.stages[kinds], np.minimum(problem.peak[kinds], problem.capacity)], axis=1)
    (stages, peak), of_kind = _groups(pairs)
    group = of_kind[kind.reshape(-1)]
    order = _orders(stages * problem.unit, peak)
    begin = np.concatenate([[0], np.bincount(group, minlength=len(stages)).cumsum()]).astype(np.int64)
    waiting, chosen = np.zeros((2, len(stages)), dtype=np.int64)
    occupied = np.zeros((len(order), len(stages) // BITS + 1), dtype=np.int64)
    return queue, Batches(group, stages, peak, begin, waiting, chosen, np.empty(len(group), dtype=np.int64), order,
                          np.argsort(order, axis=1).astype(np.int64), occupied, batch, np.zeros(2, dtype=np.int64),
                          LOWEST, problem.capacity)


def _groups(pairs: Ints) -> tuple[Ints, Ints]:
    """The distinct pairs (S, P), sorted, as columns, and which of them each row is."""
    found, which = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
    return np.ascontiguousarray(found.T.astype(np.int64)), which.reshape(-1).astype(np.int64)


def _orders(stages: Ints, peak: Ints) -> Ints:
    """The nine orders of the groups, each that differs from the one before; the first is that of their ranks."""
    orders = [np.argsort((SLOPES - j) * stages + j * peak, kind="stable") for j in range(SLOPES + 1)]
    return np.array([order for j, order in enumerate(orders) if j == 0 or not np.array_equal(order, orders[j - 1])])


@compiled
def stand_by_arrival(problem: Problem, state: State, batches: Batches) -> None:
    """Every request that has arrived by now waits."""
    r = next_arrival(problem, state, state.clock[NOW])
    while r != NOBODY:
        stand(batches, r)
        r = next_arrival(problem, state, state.clock[NOW])


@compiled
def stand(batches: Batches, r: int) -> None:
    """Let a request wait; the batches are to be found anew."""
    g = batches.group[r]
    push(batches.heap, batches.begin[g], batches.waiting[g], r)
    if batches.waiting[g] == 0:
        _turn_bits(batches, g)
    batches.waiting[g] += 1
    batches.tally[COUNT] += 1
    batches.tally[STALE] = 1


@compiled
def first_of_batch(batches: Batches) -> int:
    """The request whose turn it is, NOBODY if none waits."""
    if batches.tally[COUNT] == 0:
        return NOBODY
    if batches.tally[STALE] == 1 or batches.batch.tally[COUNT] == 0:
        _find_first_batch(batches)
    return first(batches.batch) % len(batches.heap)


@compiled
def take_first_of_batch(batches: Batches) -> None:
    """The request whose turn it is waits no more; to be called after `first_of_batch`."""
    g = batches.group[first(batches.batch) % len(batches.heap)]
    take_first(batches.batch)
    batches.waiting[g] -= 1
    batches.chosen[g] -= 1
    batches.tally[COUNT] -= 1
    pop(batches.heap, batches.begin[g], batches.waiting[g])
    if batches.waiting[g] == 0:
        _turn_bits(batches, g)
    if batches.chosen[g] > 0:
        _wait_in_batch(batches, g)


@compiled
def _wait_in_batch(batches: Batches, g: int) -> None:
    """The first of a group is the next of it in the first batch, in a place that tells its stages and itself."""
    wait(batches.batch, batches.stages[g] * len(batches.heap) + batches.heap[batches.begin[g]])


@compiled
def _turn_bits(batches: Batches, g: int) -> None:
    """A group becomes empty, or is so no more."""
    for j in range(batches.place.shape[0]):
        place = batches.place[j, g]
        batches.occupied[j, place >> BITS_LOG] ^= np.int64(1) << (place & (BITS - 1))


@apart
def _find_first_batch(batches: Batches) -> None:
    """Write down how many of each group it takes."""
    j, size = _least_ratio(batches)
    batches.batch.tally[COUNT], batches.tally[STALE] = 0, 0
    place = _occupied_from(batches, j, 0)
    while size > 0:
        g = batches.order[j, place]
        batches.chosen[g] = min(batches.waiting[g], size)
        size -= batches.chosen[g]
        _wait_in_batch(batches, g)
        place = _occupied_from(batches, j, place + 1)


@compiled
def _least_ratio(batches: Batches) -> tuple[int, int]:
    """The order whose first requests have the least F, and how many they are."""
    best, most, least = 0, 0, np.inf
    for j in range(batches.order.shape[0]):
        size, stages, free = 0, 0, batches.memory
        place = _occupied_from(batches, j, 0)
        while place != NOBODY:
            g = batches.order[j, place]
            fitting = batches.waiting[g]
            if fitting * batches.peak[g] > free:
                fitting = free // batches.peak[g]
            size += fitting
            stages += fitting * batches.stages[g]
            free -= fitting * batches.peak[g]
            ratio = stages / (size * size)
            if ratio < least or (ratio == least and size > most):
                best, most, least = j, size, ratio
            if fitting < batches.waiting[g]:
                break
            place = _occupied_from(batches, j, place + 1)
    return best, most


@compiled
def _occupied_from(batches: Batches, j: int, place: int) -> int:
    """The first place of an order, from one on, where somebody waits; NOBODY if there is none."""
    word = place >> BITS_LOG
    bits = batches.occupied[j, word] & -(np.int64(1) << (place & (BITS - 1)))
    while bits == 0:
        word += 1
        if word == batches.occupied.shape[1]:
            return NOBODY
        bits = batches.occupied[j, word]
    return (word << BITS_LOG) + lowest_bit(batches.lowest, bits)
