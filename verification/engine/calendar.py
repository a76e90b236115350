"""A calendar of iterations: what is due in each, and which is the next with anything due.

A wheel with a place for each coming iteration, as many as a request has stages at most, holds the first of the cohorts
that finish then (the others are linked to it). A bit for each place says whether anything is due there: the next is
found a word of 32 bits at a time, and the lowest bit of a word by de Bruijn's sequence, whose 32 multiples by powers of
two differ in their top five bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.arrays import Ints
from verification.engine.compile import compiled
from verification.engine.state import NOBODY

BITS_LOG = 5
BITS = 1 << BITS_LOG  # of a word of `occupied`
_DE_BRUIJN = 0x077CB531
LOWEST = np.zeros(BITS, dtype=np.int64)  # the place of the one bit of x, by the top five bits of x * _DE_BRUIJN
for _bit in range(BITS):
    LOWEST[((_DE_BRUIJN << _bit) & 0xFFFFFFFF) >> (BITS - BITS_LOG)] = _bit


class Calendar(NamedTuple):
    """By place on the wheel: the `first` cohort that finishes, and the bits `occupied`; `due` holds the next iteration
    with anything due (one beyond the wheel if there is none).
    """

    first: Ints
    occupied: Ints
    due: Ints
    lowest: Ints


def make_calendar(longest: int) -> Calendar:
    """Return an empty calendar for requests of at most `longest` iterations."""
    wheel = 1 << max(longest, BITS - 1).bit_length()
    return Calendar(np.full(wheel, NOBODY), np.zeros(wheel >> BITS_LOG, dtype=np.int64), np.array([wheel]), LOWEST)


@compiled
def turn(calendar: Calendar, t: int) -> int:
    """The place of an iteration on the wheel."""
    return t & (len(calendar.first) - 1)


@compiled
def mark(calendar: Calendar, t: int) -> None:
    """Something is due in iteration t."""
    place = turn(calendar, t)
    calendar.occupied[place >> BITS_LOG] |= np.int64(1) << (place & (BITS - 1))
    calendar.due[0] = min(calendar.due[0], t)


@compiled
def clear(calendar: Calendar, t: int) -> int:
    """Iteration t is over: nothing is due in it any more; return the first cohort that finished.

    To be followed by `look_ahead`.
    """
    place = turn(calendar, t)
    first = calendar.first[place]
    calendar.first[place] = NOBODY
    calendar.occupied[place >> BITS_LOG] &= ~(np.int64(1) << (place & (BITS - 1)))
    return first


@compiled
def look_ahead(calendar: Calendar, t: int, anybody: bool) -> None:
    """Find the next iteration from t on with anything due; where there is nobody there is no need to look.

    What is marked for residents that were evicted stays marked, and comes up for nothing.
    """
    calendar.due[0] = _next(calendar, t) if anybody else t + len(calendar.first)


@compiled
def _next(calendar: Calendar, t: int) -> int:
    """The first iteration from t on that is marked; one beyond the wheel if none is."""
    words, place = len(calendar.occupied), turn(calendar, t)
    word, ahead = place >> BITS_LOG, 0
    bits = calendar.occupied[word] >> (place & (BITS - 1))
    if bits == 0:
        ahead = -(place & (BITS - 1))
        while bits == 0 and ahead < len(calendar.first):
            word, ahead = (word + 1) & (words - 1), ahead + BITS
            bits = calendar.occupied[word]
    if bits == 0:
        return t + len(calendar.first)
    return t + ahead + lowest_bit(calendar.lowest, bits)


@compiled
def lowest_bit(lowest: Ints, bits: int) -> int:
    """The place of the lowest bit of a word, not 0, by the table `LOWEST`."""
    return lowest[(((bits & -bits) * _DE_BRUIJN) & 0xFFFFFFFF) >> (BITS - BITS_LOG)]
