"""MC-SF and MC-Benchmark of [J]: start whoever fits together with all that runs, to the last predicted completion.

At each moment keep all active requests; offer a start to the waiting ones in order; a request starts if at every
predicted completion to come the KV of all that run stays within the limit (`verification.rounds.feasibility`); the
first that fails ends the round's admissions.

    MC-SF         by ascending otilde: memory-constrained shortest first       [J, Algorithm 1]
    MC-Benchmark  by arrival, with the same test                               [J, appendix C]

The limit is (1 - protection) M; 0 is the published algorithm. [J] is reported to keep a tenth free where predictions
err: that it is the limit of this test that shrinks is our reading.

**Never over.** If otilde_i >= o_i for all i, no round ever needs more than M: a set that fits keeps fitting
(`verification.rounds.feasibility`), and a request that starts alone because nothing else runs holds at most s + o <= M.
Nothing is ever cleared, and every start is final.

**Where predictions fall short** a round may need more than M. [J] does not say what happens then; we clear the request
that started last, and again, until the rest fits: the order in which engines preempt. The request that has run longest
is then never cleared (alone it fits), so while anything waits some request finishes every max o rounds at least:

    all is done by moment   max a + sum o                              (`Instance.horizon`)

since from the last arrival on the rounds split into stretches in which one request has run longest: one for each
request at most, of at most o_i rounds. See mathematics, section 7.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fluid.arrays import TOLERANCE, Ints
from fluid.errors import InputError, real
from verification.rounds.state import (
    FIRST,
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
class MCSF:
    """Memory-constrained shortest first; `protection` is the share of M that admissions leave free.

    Raises InputError unless 0 <= protection < 1.

    >>> from verification.rounds import Instance, play
    >>> play(MCSF(), Instance([0, 0], [1, 1], [3, 2], memory=4)).started.tolist()
    [2, 0]
    """

    protection: float = 0.0
    name: ClassVar[str] = "mc-sf"
    label: ClassVar[str] = "memory-constrained shortest first (MC-SF)"

    def __post_init__(self) -> None:
        share_kept_free(self.protection, "MCSF")

    def answers(self, memory: int) -> Answers:
        """By predicted length, looking ahead."""
        return Answers(SHORTEST, True, limit(self.protection, memory))


@dataclass(frozen=True)
class MCBenchmark:
    """First come, first served, with MC-SF's look ahead; `protection` is the share of M that admissions leave free.

    Raises InputError unless 0 <= protection < 1.

    >>> from verification.rounds import Instance, play
    >>> play(MCBenchmark(), Instance([0, 0], [1, 1], [3, 2], memory=4)).started.tolist()
    [0, 3]
    """

    protection: float = 0.0
    name: ClassVar[str] = "mc-benchmark"
    label: ClassVar[str] = "first come, first served, with MC-SF's look ahead (MC-Benchmark)"

    def __post_init__(self) -> None:
        share_kept_free(self.protection, "MCBenchmark")

    def answers(self, memory: int) -> Answers:
        """By arrival, looking ahead."""
        return Answers(FIRST, True, limit(self.protection, memory))


def share_kept_free(protection: float, where: str) -> None:
    """Raise InputError unless `protection` is in [0, 1)."""
    if real("protection", protection, where, zero=True) >= 1:
        raise InputError("protection", "a share of the memory in [0, 1)", protection, where)


def limit(protection: float, memory: int) -> int:
    """Return floor((1 - protection) M), tokens; a product that should be whole is taken for that number."""
    return int(np.floor((1 - protection) * memory + TOLERANCE * memory))


@inner
def clear_newest(problem: Problem, state: State, log: Ints, moment: int) -> None:
    """Whoever started last goes, until the coming round fits."""
    while needed_next(problem, state, moment) > problem.memory:
        newest = state.running[0]
        for k in range(1, state.counts[RUNNING]):
            if state.turn[state.running[k]] > state.turn[newest]:
                newest = state.running[k]
        clear(state, log, newest, moment)
