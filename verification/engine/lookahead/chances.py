"""Chances ahead: what the residents take of the test of look-ahead admission, in each block of coming iterations.

`thresholds.look_ahead.exponents` gives the shares of a resident by class of prompt lengths, age, block and column; a
batch passes a block where in some column the shares of all residents add up to at most 1. They change with every
iteration, so they are added up anew, but only where somebody waits, and over *cells*: residents of one class that have
one age. Where the test fails the block that failed is kept: in the next iteration it is tried first, by itself, and as
a rule it fails again. A sum over its columns alone reads a line of memory for each cell.

**Far from the limit** the test passes without a sum: with the largest share that a resident takes at any of its next
`AHEAD` ages in place of its share, the sums of one iteration bound those of the next `AHEAD`, whoever leaves; those who
enter are added. Where such a bound fails and the test does not, bounds are left alone for as long.

A cell has the prompts' places between the least and the most of their class as a sum of whole numbers: no rounding
stays behind when they leave.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.arrays import Floats, Ints
from verification.engine.calendar import turn
from verification.engine.compile import apart, compiled
from verification.engine.residents import Residents
from verification.engine.state import NOBODY, Problem

# places in Chances.tally: cells, the block that failed last, the iteration of the sums, those until when the bounds
# hold, and until when they are not tried again
CELLS, FAILED, SUMMED, UNTIL, AGAIN = range(5)
ROUNDING = 1e-9
AHEAD = 16


class Chances(NamedTuple):
    """The test's `shares` (flat, from `shares_ahead`), and the `largest` at the ages to come; by type the `kind`
    (class), the `place` of its prompt over the least of the class, and its `early` iterations before age 0; by class
    the `width` from least to most.

    By cell, `CELLS` of them: its `group` (class), `born` (the iteration of age 0), `members`, `places`; `cell` is where
    the one of a class and birth stands. `sums` are those of the residents, by block and column, `bounds` what these
    stay below for a while.
    """

    shares: Floats
    largest: Floats
    kind: Ints
    place: Ints
    early: Ints
    width: Ints
    group: Ints
    born: Ints
    members: Ints
    places: Ints
    cell: Ints
    sums: Floats
    bounds: Floats
    tally: Ints
    rows: int
    lead: int
    step: int
    blocks: int
    columns: int


def make_chances(problem: Problem, shares: Floats, prompts: Ints, lead: int, step: int, room: int) -> Chances:
    """Return the chances of an empty batch with room for so many residents; `prompts` are those of the classes."""
    kind = np.minimum(np.searchsorted(prompts[:, 1], problem.prompt), len(prompts) - 1)
    early = np.maximum(problem.prefill_stages - 1, 0)
    wheel = 1 << int(problem.longest + early.max() + 1).bit_length()
    group, born, members, places = (np.zeros(room, dtype=np.int64) for _ in range(4))
    classes, _, rows, blocks, columns = shares.shape
    return Chances(np.ascontiguousarray(shares).reshape(-1), _largest(shares, -(-AHEAD // step)).reshape(-1), kind,
                   np.maximum(problem.prompt - prompts[kind, 0], 0), early,
                   np.maximum(prompts[:, 1] - prompts[:, 0], 1), group, born, members, places,
                   np.full(classes * wheel, NOBODY), np.zeros(blocks * columns), np.zeros(blocks * columns),
                   np.array([0, 0, -1, 0, 0], dtype=np.int64), rows, lead, step, blocks, columns)


def _largest(shares: Floats, ahead: int) -> Floats:
    """The largest share at an age's row and so many later ones."""
    most, reach = np.array(shares), 0
    while reach < min(ahead, shares.shape[2] - 1):
        shift = min(reach + 1, ahead - reach, shares.shape[2] - 1)
        most[:, :, :-shift] = np.maximum(most[:, :, :-shift], most[:, :, shift:])
        reach += shift
    return np.ascontiguousarray(most)


@compiled
def count_in(chances: Chances, j: int, t: int) -> None:
    """One of type j enters in iteration t."""
    group, born = chances.kind[j], t + chances.early[j]
    where = _where(chances, group, born)
    cell = chances.cell[where]
    if cell == NOBODY:
        cell = chances.tally[CELLS]
        chances.tally[CELLS] += 1
        chances.cell[where] = cell
        chances.group[cell], chances.born[cell] = group, born
        chances.members[cell] = chances.places[cell] = 0
    chances.members[cell] += 1
    chances.places[cell] += chances.place[j]


@apart
def count_out_completed(problem: Problem, residents: Residents, chances: Chances, t: int) -> None:
    """Whoever completes in iteration t, which is over but not settled, leaves."""
    if t != residents.calendar.due[0]:
        return
    slot = residents.calendar.first[turn(residents.calendar, t)]
    while slot != NOBODY:
        j = residents.kind[slot]
        _count_out(chances, j, residents.entered[slot] + chances.early[j], residents.members[slot])
        slot = residents.link[slot]


@compiled
def _count_out(chances: Chances, j: int, born: int, count: int) -> None:
    where = _where(chances, chances.kind[j], born)
    cell = chances.cell[where]
    chances.members[cell] -= count
    chances.places[cell] -= count * chances.place[j]
    if chances.members[cell] > 0:
        return
    chances.tally[CELLS] -= 1
    last = chances.tally[CELLS]  # takes its place
    chances.cell[_where(chances, chances.group[last], chances.born[last])] = cell
    chances.cell[where] = NOBODY
    chances.group[cell], chances.born[cell] = chances.group[last], chances.born[last]
    chances.members[cell], chances.places[cell] = chances.members[last], chances.places[last]


@compiled
def _where(chances: Chances, group: int, born: int) -> int:
    wheel = len(chances.cell) // len(chances.width)
    return group * wheel + (born & (wheel - 1))


@compiled
def passes(chances: Chances, j: int, t: int) -> bool:
    """Whether one of type j may enter iteration t."""
    tally = chances.tally
    bounded = t < tally[UNTIL]
    if bounded and _full_block(chances, chances.largest, chances.bounds, j) == NOBODY:
        return True
    if tally[SUMMED] != t:
        _add_up(chances, chances.shares, chances.sums, t, tally[FAILED], tally[FAILED] + 1)
        if not _has_room(chances, chances.shares, chances.sums, j, tally[FAILED]):
            return False
        _add_up(chances, chances.shares, chances.sums, t, 0, chances.blocks)
        tally[SUMMED] = t
    full = _full_block(chances, chances.shares, chances.sums, j)
    if full != NOBODY:
        tally[FAILED] = full
        return False
    if bounded:
        tally[UNTIL], tally[AGAIN] = 0, t + AHEAD
    elif t >= tally[AGAIN]:
        _add_up(chances, chances.largest, chances.bounds, t, 0, chances.blocks)
        tally[UNTIL] = t + AHEAD
    return True


@compiled
def join_sums(chances: Chances, j: int, t: int) -> None:
    """Add one of type j, who enters iteration t, to the sums and bounds that stand."""
    if chances.tally[SUMMED] == t:
        _join(chances, chances.shares, chances.sums, j)
    if t < chances.tally[UNTIL]:
        _join(chances, chances.largest, chances.bounds, j)


@compiled
def _join(chances: Chances, shares: Floats, sums: Floats, j: int) -> None:
    group = chances.kind[j]
    near, far = _begin(chances, group, -chances.early[j], 0), _begin(chances, group, -chances.early[j], 1)
    high = chances.place[j] / chances.width[group]
    for i in range(chances.blocks * chances.columns):
        sums[i] += (1 - high) * shares[near + i] + high * shares[far + i]


@compiled
def _full_block(chances: Chances, shares: Floats, sums: Floats, j: int) -> int:
    """The first block without room for one of type j, NOBODY if there is none."""
    for block in range(chances.blocks):
        if not _has_room(chances, shares, sums, j, block):
            return block
    return NOBODY


@compiled
def _has_room(chances: Chances, shares: Floats, sums: Floats, j: int, block: int) -> bool:
    """Whether some column of a block has room for one of type j."""
    group, first = chances.kind[j], block * chances.columns
    near = _begin(chances, group, -chances.early[j], 0) + first
    far = _begin(chances, group, -chances.early[j], 1) + first
    high = chances.place[j] / chances.width[group]
    for i in range(chances.columns):
        if sums[first + i] + (1 - high) * shares[near + i] + high * shares[far + i] <= 1 + ROUNDING:
            return True
    return False


@apart
def _add_up(chances: Chances, shares: Floats, sums: Floats, t: int, begin: int, end: int) -> None:
    """The sums of some blocks over all residents."""
    first, size = begin * chances.columns, (end - begin) * chances.columns
    for i in range(first, first + size):
        sums[i] = 0.0
    for cell in range(chances.tally[CELLS]):
        group, age = chances.group[cell], t - chances.born[cell]
        high = chances.places[cell] / chances.width[group]
        low = chances.members[cell] - high
        near, far = _begin(chances, group, age, 0) + first, _begin(chances, group, age, 1) + first
        for i in range(size):
            sums[np.uint64(first + i)] += low * shares[np.uint64(near + i)] + high * shares[np.uint64(far + i)]


@compiled
def _begin(chances: Chances, group: int, age: int, end: int) -> int:
    """Where the shares of a class at an age begin, for its least (0) or most prompt (1)."""
    row = min(age // chances.step + chances.lead, chances.rows - 1)
    return ((2 * group + end) * chances.rows + row) * chances.blocks * chances.columns
