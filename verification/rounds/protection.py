"""The benchmarks of [J] that do not look ahead: alpha-protection greedy and alpha-protection beta-clearing.

At each moment requests start in order of arrival while the KV after the coming round, sum (s + made + 1) over all
active and the new one, is at most (1 - alpha) M: a share alpha of the memory is kept for what the active will yet make.
When the coming round would need more than M all the same, active requests are cleared: they lose their tokens and wait
again, in order of arrival.

    alpha-protection greedy          all active requests are cleared
    alpha-protection beta-clearing   each with probability beta, independently; again, until the round fits

The first is the second with beta = 1. They read no predictions. Chances are drawn request by request in order of
arrival, from the seed of the run. [J] is reported to try alpha = 0.3 and 0.25, and alpha and beta of 0.2 and 0.1.

**They need not end.** Let beta = 1 and all requests have come. A clearing leaves nobody active and the unfinished
waiting in order of arrival: what follows depends on who is unfinished, and on nothing else. So if nobody finishes
between two clearings in a row, the same rounds are repeated for ever. That happens for small alpha; two requests with
long outputs, which start side by side while they are short, are enough. With beta < 1 some request survives long enough
with positive probability, so the rule ends with probability 1, after a time that can be astronomical.

**The rescue.** Once all requests have come, and `patience` clearings in a row (1 if beta = 1, else 100) have finished
nobody, the active request that started first is kept at every clearing until some request finishes. `Schedule.rescues`
counts the clearings at which it was. For beta = 1 the rule is touched exactly where it would never end; a schedule
without rescues is that of the published rule. Progress: while it is busy and finishes nobody, fewer than max o rounds
pass between clearings, and a request that is kept finishes within max o rounds (alone it fits), so

    all is done by moment   max a + N (patience + 2) max o

Source: [J], section 5; the text was not open to us, code that accompanies it was. Our choices: the test is made for
each request (the code makes it once before the admissions of a batch, which then go on to a batch size; without one,
all that wait enter at once); a clearing comes before the round that would not fit (in the code after it), so that the
KV is at most M at every moment; its passes take no time (in the code a second each); admission goes on in its round;
the rescue. See mathematics, section 7.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fluid.arrays import Ints
from fluid.errors import InputError, real
from verification.rounds.mc_sf import limit, share_kept_free
from verification.rounds.state import (
    BY_CHANCE,
    COMING,
    FIRST,
    FRUITLESS,
    KEPT,
    NOBODY,
    RESCUES,
    RUNNING,
    Answers,
    Problem,
    State,
    ascending,
    clear,
    inner,
    needed_next,
)

PATIENCE = 100  # clearings in a row that finish nobody, before a request is kept; 1 where the state repeats itself


@dataclass(frozen=True)
class Protected:
    """alpha-protection greedy: `protection` is alpha, the share of M that admissions leave free.

    Raises InputError unless 0 <= protection < 1.

    >>> from verification.rounds import Instance, play
    >>> play(Protected(0.5), Instance([0, 0], [1, 1], [3, 1], memory=4)).started.tolist()
    [0, 3]
    """

    protection: float = 0.2
    name: ClassVar[str] = "protected"
    label: ClassVar[str] = "alpha-protection greedy"

    def __post_init__(self) -> None:
        share_kept_free(self.protection, "Protected")

    def answers(self, memory: int) -> Answers:
        """By arrival, one round ahead; everybody goes."""
        return Answers(FIRST, False, limit(self.protection, memory), BY_CHANCE, 1.0, 1)


@dataclass(frozen=True)
class Clearing:
    """alpha-protection beta-clearing: `protection` is alpha, `chance` is beta, the probability of being cleared.

    Raises InputError unless 0 <= protection < 1 and 0 < chance <= 1.

    >>> from verification.rounds import Instance, play
    >>> play(Clearing(0.0, 0.2), Instance([0, 0], [1, 1], [3, 1], memory=4), seed=1).finished.tolist()
    [3, 1]
    """

    protection: float = 0.2
    chance: float = 0.2
    name: ClassVar[str] = "clearing"
    label: ClassVar[str] = "alpha-protection beta-clearing"

    def __post_init__(self) -> None:
        share_kept_free(self.protection, "Clearing")
        object.__setattr__(self, "chance", real("chance", self.chance, "Clearing"))
        if self.chance > 1:
            raise InputError("chance", "a probability above 0, at most 1", self.chance, "Clearing")

    def answers(self, memory: int) -> Answers:
        """By arrival, one round ahead; each goes by chance."""
        patience = 1 if self.chance == 1 else PATIENCE
        return Answers(FIRST, False, limit(self.protection, memory), BY_CHANCE, self.chance, patience)


@inner
def clear_by_chance(problem: Problem, state: State, log: Ints, moment: int, generator: np.random.Generator) -> None:
    """Each active request goes with the chance, in order of arrival, again until the coming round fits."""
    rescued = _keep_one(problem, state)
    while needed_next(problem, state, moment) > problem.memory:
        active = state.running[: state.counts[RUNNING]].copy()
        for i in active[ascending(active)]:
            if i != state.counts[KEPT] and generator.random() < problem.answers.chance:
                clear(state, log, i, moment)
    if rescued:
        state.counts[RESCUES] += 1
    if state.counts[COMING] == len(problem.arrivals):
        state.counts[FRUITLESS] += 1


@inner
def _keep_one(problem: Problem, state: State) -> bool:
    """Whether a request is kept at this clearing, having chosen the one that started first when patience ends."""
    if state.counts[FRUITLESS] < problem.answers.patience:
        return False
    if state.counts[KEPT] == NOBODY:
        first = state.running[0]
        for k in range(1, state.counts[RUNNING]):
            if state.turn[state.running[k]] < state.turn[first]:
                first = state.running[k]
        state.counts[KEPT] = first
    return True
