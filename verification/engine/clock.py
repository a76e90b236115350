"""Time, kept as whole numbers: it is the same to the last bit whether iterations are run one by one or many at once.

From the moment `origin` at which the server was last idle,

    now = origin + sum_i [ (d0_i I_i + d1_i R_i) + (d2_i P_i + d3_i Z_i) ]

with I_i the iterations since then in which line i of the iteration time was the largest (the first of those that were),
R_i the KV they read, P_i the prompt tokens they prefilled, Z_i their sequences. These are integers, so no
rounding piles up, and a stretch of iterations in which residents only decode adds to them the sums of arithmetic
series. Should R_i pass 2^53, beyond which a float no longer holds every integer, the origin moves up to now.
"""

from __future__ import annotations

import numpy as np

from verification.engine.compile import compiled
from verification.engine.state import (
    ARRIVED,
    BUSY,
    DONE,
    HELD,
    ITERATION,
    KV_PEAK,
    NO_CAP,
    NOW,
    ORIGIN,
    OVERFLOWS,
    PAUSE,
    RECORDED,
    SENT,
    SPELLS,
    Problem,
    State,
)

# columns of State.totals
ITERATIONS, READ, PREFILLED, SEQUENCES = range(4)
MOST_EXACT = 2**53


@compiled
def line_time(problem: Problem, line: int, read: int, prefill: int, size: int) -> float:
    """Seconds a line gives for a batch, d0 + d1 KV + d2 prefill + d3 size."""
    pieces = problem.pieces
    return (pieces[line, 0] + pieces[line, 1] * read) + (pieces[line, 2] * prefill + pieces[line, 3] * size)


@compiled
def leader(problem: Problem, read: int, prefill: int, size: int) -> int:
    """The line that gives the longest time for a batch, the first of those that do."""
    first = 0
    for line in range(1, problem.pieces.shape[0]):
        if line_time(problem, line, read, prefill, size) > line_time(problem, first, read, prefill, size):
            first = line
    return first


@compiled
def moment(problem: Problem, state: State, line: int, iterations: int, read: int, prefill: int, size: int) -> float:
    """When so many more iterations on a line will be over; the numbers are sums over them."""
    time = state.clock[ORIGIN]
    if problem.pieces.shape[0] == 1:
        return time + _time_on(problem, state, 0, iterations, read, prefill, size)
    for i in range(problem.pieces.shape[0]):
        own = i == line
        time += _time_on(problem, state, i, own * iterations, own * read, own * prefill, own * size)
    return time


@compiled
def _time_on(problem: Problem, state: State, line: int, iterations: int, read: int, prefill: int, size: int) -> float:
    """Seconds spent on a line, so many more iterations included."""
    pieces, totals = problem.pieces, state.totals
    return (pieces[line, 0] * (totals[line, 0] + iterations) + pieces[line, 1] * (totals[line, 1] + read)) + (
        pieces[line, 2] * (totals[line, 2] + prefill) + pieces[line, 3] * (totals[line, 3] + size))


@compiled
def spend(state: State, line: int, iterations: int, read: int, prefill: int, size: int) -> None:
    """Add iterations on a line to the totals; the numbers are sums over them."""
    totals = state.totals
    totals[line, ITERATIONS] += iterations
    totals[line, READ] += read
    totals[line, PREFILLED] += prefill
    totals[line, SEQUENCES] += size
    state.counts[ITERATION] += iterations


@compiled
def note_batch(problem: Problem, state: State, iterations: int, kv: int, size: int, tokens: int) -> None:
    """Note iterations all of which are above a limit or none, `kv` the most that is held in any of them."""
    counts = state.counts
    counts[HELD] = kv
    counts[KV_PEAK] = max(counts[KV_PEAK], kv)
    if kv > problem.capacity or size > problem.most_sequences or tokens > problem.most_tokens:
        counts[OVERFLOWS] += iterations


@compiled
def record(state: State, start: float, end: float, kv: int, size: int, served: int) -> None:
    """Write a row of the timeline."""
    row = state.timeline[state.counts[RECORDED]]
    row[0], row[1], row[2], row[3], row[4] = start, end, kv, size, served
    state.counts[RECORDED] += 1


@compiled
def execute(problem: Problem, state: State, kv: int, read: int, prefill: int, size: int, tokens: int,
            served: int) -> float:
    """Run one iteration from now, which computes so many tokens: account for it, move the clock, return its end.

    `served` says who has decoded in it (`verification.run.Timeline`).
    """
    line, start = leader(problem, read, prefill, size), state.clock[NOW]
    spend(state, line, 1, read, prefill, size)
    note_batch(problem, state, 1, kv, size, tokens)
    end = moment(problem, state, line, 0, 0, 0, 0)
    if state.timeline.shape[0] > 0:
        record(state, start, end, kv, size, served)
    arrive(problem, state, line, end)
    return end


@compiled
def arrive(problem: Problem, state: State, line: int, now: float) -> None:
    """Move the clock to the end of iterations on a line."""
    state.clock[NOW] = now
    if state.totals[line, READ] > MOST_EXACT:
        rest(problem, state)


@compiled
def rest(problem: Problem, state: State) -> None:
    """The server stops for a moment: the time starts from here."""
    clock = state.clock
    clock[BUSY] += max(min(clock[NOW], problem.horizon) - clock[ORIGIN], 0.0)
    clock[ORIGIN] = clock[NOW]
    state.totals[:] = 0


@compiled
def sleep(problem: Problem, state: State) -> None:
    """Nothing can be served: wait for the next arrival, or for what a router may send; without any the run is over."""
    rest(problem, state)
    counts, clock = state.counts, state.clock
    counts[HELD] = 0
    if counts[ARRIVED] < counts[SENT]:
        clock[NOW] = clock[ORIGIN] = problem.times[counts[ARRIVED]]
    elif clock[PAUSE] < np.inf:
        clock[NOW] = clock[ORIGIN] = max(clock[NOW], clock[PAUSE])
    else:
        counts[DONE] = 1


@compiled
def paused(problem: Problem, state: State, budget: int) -> bool:
    """Whether the kernel should hand back: all is done, the budget is spent, what is recorded has no more room, or a
    router comes first.
    """
    counts = state.counts
    if state.clock[NOW] >= problem.horizon and counts[DONE] == 0:
        rest(problem, state)
        counts[DONE] = 1
    room = state.timeline.shape[0]
    full = 0 < room == counts[RECORDED] or 2 * counts[SPELLS] > len(state.spells)
    return counts[DONE] == 1 or counts[ITERATION] >= budget or full or state.clock[NOW] >= state.clock[PAUSE]


@compiled
def next_moment(problem: Problem, state: State, listening: bool) -> float:
    """The moment from which a decision may differ: the end of the run, a pause or, if arrivals matter, the next."""
    coming, until = state.counts[ARRIVED], min(problem.horizon, state.clock[PAUSE])
    if listening and coming < len(problem.times):
        return min(problem.times[coming], until)
    return until


@compiled
def room_left(state: State) -> int:
    """How many more iterations the timeline takes."""
    if state.timeline.shape[0] == 0:
        return NO_CAP
    return state.timeline.shape[0] - state.counts[RECORDED]
