"""A_min: shortest first on lower bounds of the output lengths, which grow as tokens are made.

Each request comes with a lower bound l_i of its output length; predictions of the instance are read as such. The bound
in use, otilde_i, is l_i at first. At each moment

 1. *clearing*: while the coming round would need more than M, the active request with the least otilde goes, where a
    request that has made more tokens than its bound counts with these. It loses its tokens and waits again; what it had
    made is its new bound if that is larger: otilde_i <- max(otilde_i, made_i). Ties: the request that came last goes;
 2. *admission*: requests start by ascending otilde while the KV of all that run, each to its bound, stays within M at
    every predicted completion; the first that fails ends the round's admissions.

Its relative A_max takes upper bounds for lengths and never overflows: it is MC-SF (`verification.rounds.mc_sf`) on
predictions that are upper bounds.

**It ends.** otilde_i never falls, and rises only to numbers of tokens made, below o_i: it changes at most o_i times.
Consider rounds after the last arrival in which no otilde changes and nobody finishes. Of those active the one with the
largest otilde (of equal ones, the first that came) is never cleared, since alone it fits; only a start with a larger
one takes its place, at most N times; and after max o rounds without that it finishes. So such a stretch lasts at most
(N + 1) max o rounds, and there are at most N + sum o of them:

    all is done by moment   max a + (N + sum o)(N + 1) max o

A bound above the truth does no harm: the request ends early. Source: Chen, Ye, Zhou, arXiv 2508.14544, for requests of
one prompt length that are all there at the start. The body of the algorithm was not open to us: that the least bound
goes first, and that a bound once raised stays so, is what reviews of it say; the ties, that admission looks ahead along
the bounds, and arrivals over time are our choices. See mathematics, section 7.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fluid.arrays import Ints
from verification.rounds.state import (
    LEAST,
    RUNNING,
    SHORTEST,
    Answers,
    Problem,
    State,
    clear,
    inner,
    needed_next,
)


@dataclass(frozen=True)
class AMin:
    """Shortest first on lower bounds: the instance's predictions are the first bounds.

    >>> from verification.rounds import Instance, play
    >>> schedule = play(AMin(), Instance([0, 0], [1, 1], [3, 2], memory=4, predicted=[1, 1]))
    >>> schedule.clearings, schedule.finished.tolist()
    (1, [3, 5])
    """

    name: ClassVar[str] = "a-min"
    label: ClassVar[str] = "shortest first on lower bounds (A_min)"

    def answers(self, memory: int) -> Answers:
        """By bound, looking ahead; the least bound goes."""
        return Answers(SHORTEST, True, memory, LEAST)


@inner
def clear_least(problem: Problem, state: State, log: Ints, moment: int) -> None:
    """Whoever has the least bound goes, until the coming round fits."""
    for k in range(state.counts[RUNNING]):
        i = state.running[k]
        state.estimate[i] = max(state.estimate[i], moment - state.start[i])
    while needed_next(problem, state, moment) > problem.memory:
        least = state.running[0]
        for k in range(1, state.counts[RUNNING]):
            i = state.running[k]
            if (state.estimate[i], -i) < (state.estimate[least], -least):
                least = i
        clear(state, log, least, moment)
