"""Leaps: iterations in which residents only decode, all at once.

Between two events (an arrival that may enter, a completion, a full attention window, memory that runs out) a batch of n
residents reads R, R + G, R + 2 G, ... KV, G the growth of those that still grow. Its iteration times are an arithmetic
series, so m iterations add R m + G m (m - 1)/2 to the totals of `verification.engine.clock`, and the number of
iterations until a moment is the root of a quadratic. The answer is the same, to the last bit, as one by one: the root
is only where the search starts, the end of an iteration is a function of integers.

A leap stays on one line of the iteration time: that is sure where the line leads at both ends by more than rounding,
since the difference of two lines is affine on the way.
"""

from __future__ import annotations

import math

from verification.engine.clock import MOST_EXACT, arrive, line_time, moment, note_batch, record, room_left, spend
from verification.engine.clock import READ as TOTAL_READ
from verification.engine.compile import apart, compiled, woven
from verification.engine.residents import GROWING, KV, PREFILL, PREFILLING, READ, SIZE, WIDENING, YOUNG, Residents
from verification.engine.state import NOW, Problem, State

CLEAR_LEAD = 1e-9  # relative: what rounding cannot turn round


@compiled
def read_in(residents: Residents, m: int) -> int:
    """KV read in the next m iterations."""
    tally = residents.tally
    return m * tally[READ] + tally[WIDENING] * (m * (m - 1) // 2)


@woven
def end_after(problem: Problem, state: State, residents: Residents, line: int, m: int) -> float:
    """When the next m iterations will be over."""
    tally = residents.tally
    return moment(problem, state, line, m, read_in(residents, m), tally[PREFILL], m * tally[SIZE])


@woven
def held_after(problem: Problem, residents: Residents, t: int, m: int) -> int:
    """KV held once iterations t, ..., t + m - 1 are over, before anybody leaves."""
    tally, block = residents.tally, problem.block
    if block == 1:
        return tally[KV] + m * tally[GROWING]
    opened = (m // block) * tally[GROWING]
    for i in range(t, t + m % block):
        opened += residents.phase[-i % block]
    return tally[KV] + block * opened


@woven
def leap(problem: Problem, state: State, residents: Residents, line: int, t: int, until: float,
         most: int) -> tuple[int, float]:
    """How many iterations to run at once, at most `most`, and when they end: all but the last end before `until`.

    t counts the iterations of those that decode, by which `residents` keeps its calendar.
    """
    limit = _limit(problem, state, residents, line, t, most)
    low, high, end, m = 0, limit + 1, 0.0, 1
    if limit > 1:
        m = _guess(problem, state, residents, line, until, limit)
    while True:  # the answer is above low and at most high, the end of high iterations is `end`
        after = end_after(problem, state, residents, line, m)
        if after < until:
            if m == limit:
                return m, after
            low, m = m, m + 1
            if m == high:
                return high, end
        else:
            high, end, m = m, after, m - 1
            if m == low:
                return high, end


@woven
def _limit(problem: Problem, state: State, residents: Residents, line: int, t: int, most: int) -> int:
    """How many iterations are alike, at least 1."""
    tally = residents.tally
    limit = min(most, residents.calendar.due[0] - t + 1)
    if limit <= 1:
        return 1
    if (problem.in_chunks and tally[YOUNG] > 0) or (problem.pieces.shape[0] > 1 and tally[PREFILL] > 0):
        return 1
    limit = min(limit, room_left(state))
    while limit > 1 and not _even(problem, state, residents, line, t, limit):
        limit //= 2
    return limit


@woven
def _guess(problem: Problem, state: State, residents: Residents, line: int, until: float, limit: int) -> int:
    """How many iterations last until a moment, between 1 and `limit`: a root of a quadratic, give or take rounding."""
    tally, pieces = residents.tally, problem.pieces
    rest = until - state.clock[NOW] - pieces[line, 2] * tally[PREFILL]
    growth = pieces[line, 1] * tally[WIDENING]
    pace = line_time(problem, line, tally[READ], 0, tally[SIZE]) - growth / 2
    if not rest < limit * (pace + growth * limit / 2):
        return limit
    if rest <= 0:
        return 1
    return max(1, min(math.ceil(2 * rest / (pace + math.sqrt(pace * pace + 2 * growth * rest))), limit))


@woven
def _even(problem: Problem, state: State, residents: Residents, line: int, t: int, m: int) -> bool:
    """Whether m iterations are alike: one line leads, the capacity is not passed on the way, totals are exact."""
    tally = residents.tally
    last = tally[READ] + (m - 1) * tally[WIDENING]
    if float(m) * last > MOST_EXACT:  # a float: what is read may pass 2^63
        return False
    if tally[KV] <= problem.capacity < held_after(problem, residents, t, m - 1):
        return False
    if problem.pieces.shape[0] > 1 and not (
            _leads(problem, line, tally[READ], tally[SIZE])
            and _leads(problem, line, last, tally[SIZE])):
        return False
    return state.totals[line, TOTAL_READ] + read_in(residents, m) <= MOST_EXACT


@apart
def _leads(problem: Problem, line: int, read: int, size: int) -> bool:
    longest = line_time(problem, line, read, 0, size)
    for other in range(problem.pieces.shape[0]):
        if other != line and line_time(problem, other, read, 0, size) > longest * (1 - CLEAR_LEAD):
            return False
    return True


@woven
def run_batch(problem: Problem, state: State, residents: Residents, line: int, t: int, m: int, end: float) -> None:
    """Run m iterations of all residents, the last of which, whose batch `residents` then shows, ends at `end`."""
    tally = residents.tally
    if state.timeline.shape[0] > 0:
        _record(problem, state, residents, line, t, m, end)
    spend(state, line, m, read_in(residents, m), tally[PREFILL], m * tally[SIZE])
    tally[KV] = held_after(problem, residents, t, m - 1)
    tally[READ] += (m - 1) * tally[WIDENING]
    note_batch(problem, state, m, tally[KV], tally[SIZE], tally[SIZE])  # rules that admit keep to the budget of tokens
    tally[PREFILL] = tally[PREFILLING] = 0
    arrive(problem, state, line, end)


@apart
def _record(problem: Problem, state: State, residents: Residents, line: int, t: int, m: int, end: float) -> None:
    start = state.clock[NOW]
    for i in range(m):
        after = end if i == m - 1 else end_after(problem, state, residents, line, i + 1)
        record(state, start, after, held_after(problem, residents, t, i), residents.tally[SIZE], 1)
        start = after
