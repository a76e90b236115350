"""The load ahead: the KV that the residents are predicted to hold in each coming iteration.

A request is taken for a `kind` and for so many stages, its `bound` S': those of the type it is seen as, if the rule
says nothing else. With k'_s the KV of its kind at stage s, one that was admitted in iteration e is predicted to hold
k'_s in iteration e + s, s < S', and nothing from e + S' on. Let

    D_t           what all residents really hold in the coming iteration t: that is known
    D_T, T > t    the sum of what they are predicted to hold in iteration T

A resident that outlives its prediction is in D_t alone: it is taken to need one more iteration, each time anew. A
candidate of S stages and KV k_s (as it is taken for) passes the test of a limit M if

    D_{t+s} + k_s <= M            for all s < S                                                        (*)

**It is [J]'s test.** [J] asks for (*) at predicted completions alone. KV never falls from stage to stage, so between
two of them the left side never falls: it is largest where somebody is predicted to complete, and (*) holds everywhere
if it holds there.

**How long a refusal lasts.** Let (*) fail at T = t + s > t. As long as nobody leaves before its predicted end, nobody
is cleared and nobody else is admitted D_T stays, while the candidate, admitted in t' < T, would hold k_{T-t'} in T,
which falls in t'. So it is refused in every iteration before

    t* = the first t' with D_T + k_{T-t'} <= M, at most T

and need not be tried before; admissions of others raise D_T and leave that true. A refusal at s = 0 lasts one
iteration. Of the T at which (*) fails we take one where it fails by most. The literal twin tries in every iteration.

**Never above M.** If nobody outlives its prediction nor holds more than it says, D_T bounds what is held in T from the
moment the last of those resident then is admitted, and (*) keeps it at M: by induction over admissions KV <= M always.

The numbers lie in a window of twice the most stages, shifted back when half of it is past: sums over stages run over
neighbours in memory. An admission, a test and a withdrawal take S steps each, four at a time: places are unsigned where
it matters, since a signed one might count from the end, and is then taken by itself. See mathematics, section 6.7.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.arrays import Ints
from verification.engine.calendar import turn
from verification.engine.compile import apart, compiled, entry
from verification.engine.queues import Queue, request_at
from verification.engine.residents import Residents, newest, take_newest
from verification.engine.state import NOBODY, Problem, held_by, stage_tokens

# places in Load.tally: the iteration of the first number, the place that was refused, the iteration until when
ORIGIN, REFUSED, UNTIL = range(3)


class Load(NamedTuple):
    """The `kind` and the `bound` of each request, KV `coming` by iteration, KV `held` by tokens, `width` the most
    stages, and whether requests may be `mistaken`.
    """

    kind: Ints
    bound: Ints
    coming: Ints
    held: Ints
    tally: Ints
    width: int
    mistaken: bool


def make_load(problem: Problem, kind: Ints, bound: Ints) -> Load:
    """Return the load of the empty batch; `kind` and `bound` have shape (N,)."""
    width = max(int(bound.max(initial=1)), problem.longest)
    held = np.zeros(int(problem.prompt[np.unique(kind)].max(initial=0)) + width + 1, dtype=np.int64)
    _fill(problem, held)
    mistaken = not np.array_equal(kind, problem.types) or not np.array_equal(bound, problem.stages[problem.types])
    return Load(kind, bound, np.zeros(2 * width, dtype=np.int64), held, np.array([0, NOBODY, 0], dtype=np.int64), width,
                mistaken)


@entry
def _fill(problem: Problem, held: Ints) -> None:
    for tokens in range(1, len(held)):
        held[tokens] = held_by(problem, tokens)


@compiled
def look_from(load: Load, t: int) -> None:
    """Iteration t comes next: there is room for those that are admitted now."""
    past = t - load.tally[ORIGIN]
    if past > load.width:
        _shift(load, past)
        load.tally[ORIGIN] = t


@apart
def _shift(load: Load, past: int) -> None:
    coming, size = load.coming, len(load.coming)
    for i in range(size):
        coming[i] = coming[i + past] if i + past < size else 0


@compiled
def refused_until(problem: Problem, load: Load, r: int, t: int, held: int, limit: int) -> int:
    """The iteration until which a request is sure to be refused; t if it passes the test.

    `held` is what the residents hold in iteration t.
    """
    tally, j = load.tally, load.kind[r]
    if tally[REFUSED] == r and t < tally[UNTIL]:
        return tally[UNTIL]
    ahead = _most_ahead(problem, load, r, t)
    if ahead > limit:
        tally[REFUSED], tally[UNTIL] = r, _passes_again(problem, load, j, t, ahead, limit)
        return tally[UNTIL]
    return t if held + load.held[stage_tokens(problem, j, 0)] <= limit else t + 1


@compiled
def _most_ahead(problem: Problem, load: Load, r: int, t: int) -> int:
    """The largest D_T + k_{T-t} over T > t; 0 for a request of one stage."""
    coming, held, base, most, j = load.coming, load.held, t - load.tally[ORIGIN], 0, load.kind[r]
    chunks = problem.prefill_stages[j]
    for stage in range(1, chunks):
        most = max(most, coming[base + stage] + held[min(problem.chunk[j] * (stage + 1), problem.prompt[j])])
    shift = problem.prompt[j] - chunks + 1
    for stage in range(max(chunks, 1), load.bound[r]):
        most = max(most, coming[np.uint64(base + stage)] + held[np.uint64(shift + stage)])
    return most


@apart
def _passes_again(problem: Problem, load: Load, j: int, t: int, worst: int, limit: int) -> int:
    """t* of the first T at which D_T + k_{T-t} is the worst."""
    coming, held, base, stage = load.coming, load.held, t - load.tally[ORIGIN], 1
    while coming[base + stage] + held[stage_tokens(problem, j, stage)] < worst:
        stage += 1
    later = 1
    while later < stage and coming[base + stage] + held[stage_tokens(problem, j, stage - later)] > limit:
        later += 1
    return t + later


@compiled
def expect(problem: Problem, load: Load, r: int, entered: int) -> None:
    """A request enters in an iteration."""
    _change(problem, load, r, entered, 0, 1)


@compiled
def _change(problem: Problem, load: Load, r: int, entered: int, begin: int, sign: int) -> None:
    """Add what a request is predicted to hold from a stage on, or take it away."""
    coming, held, base, j = load.coming, load.held, entered - load.tally[ORIGIN], load.kind[r]
    chunks = problem.prefill_stages[j]
    for stage in range(begin, chunks):
        coming[base + stage] += sign * held[min(problem.chunk[j] * (stage + 1), problem.prompt[j])]
    shift = problem.prompt[j] - chunks + 1
    for stage in range(max(chunks, begin), load.bound[r]):
        coming[np.uint64(base + stage)] += sign * held[np.uint64(shift + stage)]


@apart
def withdraw(problem: Problem, load: Load, r: int, entered: int, stage: int) -> None:
    """A request leaves before a stage: what it was predicted to hold from there on is free."""
    if stage < load.bound[r]:
        _change(problem, load, r, entered, stage, -1)
        load.tally[REFUSED] = NOBODY


@apart
def withdraw_completed(problem: Problem, queue: Queue, residents: Residents, load: Load, t: int) -> None:
    """Whoever completes in iteration t, which is over but not settled, may leave earlier than predicted."""
    if t != residents.calendar.due[0]:
        return
    slot = residents.calendar.first[turn(residents.calendar, t)]
    while slot != NOBODY:
        begin, entered = residents.first[slot], residents.entered[slot]
        for place in range(begin, begin + residents.members[slot]):
            withdraw(problem, load, request_at(queue, place), entered, t + 1 - entered)
        slot = residents.link[slot]


@compiled
def clear_newest(problem: Problem, queue: Queue, residents: Residents, load: Load, t: int) -> int:
    """Remove the newest resident before iteration t, with all that it was predicted to hold; return its place."""
    entered = residents.entered[newest(residents)]
    place, _ = take_newest(problem, residents, t)
    withdraw(problem, load, request_at(queue, place), entered, t - entered)
    return place
