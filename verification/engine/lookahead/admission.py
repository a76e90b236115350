"""What rules that look ahead do in every decision: admit in turn while the load ahead allows it, then serve everybody.

A rule says in which order the waiting have their turn, by two compiled functions of what it keeps them in: `first`
gives the place in the queue of the next in turn (NOBODY if none waits), `take` removes it. All else is the same for
all of them: the test of `verification.engine.lookahead.load`, the bounds on sequences and tokens of an iteration, an
empty server that takes whoever is first, and for how long a refusal need not be looked at again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from verification.engine.clock import next_moment
from verification.engine.compile import woven
from verification.engine.continuous_batching import admit, run_until, settle, tokens_computed
from verification.engine.lookahead.load import Load, expect, refused_until, withdraw_completed
from verification.engine.queues import Queue, request_at
from verification.engine.residents import KV, PREFILL, SIZE, Residents
from verification.engine.state import NO_CAP, NOBODY, Problem, State, stage_computes

Line = TypeVar("Line")


@woven
def admit_what_fits(problem: Problem, state: State, queue: Queue, line: Line, residents: Residents, load: Load, t: int,
                    limit: int, first: Callable[[Line], int], take: Callable[[Line], None]) -> int:
    """Admit the first in turn while they pass; return for how many iterations, unless somebody completes, the one that
    does not pass is sure not to.
    """
    tally = residents.tally
    while tally[SIZE] < problem.most_sequences:
        place = first(line)
        if place == NOBODY:
            return NO_CAP
        r = request_at(queue, place)
        if tally[SIZE] > 0:
            if tokens_computed(residents) + stage_computes(problem, problem.types[r], 0) > problem.most_tokens:
                return 1 if tally[PREFILL] > 0 else NO_CAP
            until = refused_until(problem, load, r, t, tally[KV], limit)
            if until > t:
                return until - t
        take(line)
        admit(problem, state, residents, place, r)
        expect(problem, load, r, t)
    return NO_CAP


@woven
def serve(problem: Problem, state: State, queue: Queue, residents: Residents, load: Load, t: int, listening: bool,
          most: int) -> None:
    """Run all residents until one leaves, the first in turn may pass or, if it is listened for, another arrives."""
    until = next_moment(problem, state, listening)
    if residents.tally[KV] > problem.capacity:  # one with a longer prompt than it was predicted to have: it must go
        most = 1
    m, end = run_until(problem, state, queue, residents, t, until, most)
    if load.mistaken:
        withdraw_completed(problem, queue, residents, load, t + m - 1)
    settle(problem, state, queue, residents, t + m - 1, end)
