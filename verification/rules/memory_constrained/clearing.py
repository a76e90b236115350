"""alpha-protection beta-clearing and alpha-protection greedy, the benchmarks of [J] that do not look ahead.

All residents are in every batch. At each decision:

 (1) if the KV that residents need in this iteration exceeds C, each is cleared with probability beta, independently,
     and again until the rest fits. Who is cleared loses its progress and waits again in its old place by arrival;
 (2) admit in order of arrival while KV + (KV of the first stage) <= (1 - alpha) C, within the bounds on sequences and
     tokens of an iteration; the first that fails ends the admissions. With nothing resident the first enters.

alpha-protection greedy (`verification.rules.memory_constrained.protected`) is the case beta = 1. No length is read.

**Chance.** Whether request i goes in pass m of a clearing before iteration t is decided by a number that depends on
(seed, i, t, m) alone, uniform on [0, 1): the SplitMix64 mixing of one after the other. A run can be replayed, and
neither the number of workers nor the order of looking changes anything. The seed is the same in every replication.

**They need not end.** If beta = 1 and all requests have come, a clearing leaves all that are not complete waiting in
order of arrival: if nobody completes before the next, the same iterations follow for ever, as for small alpha they do.
So once all have come, and some clearings in a row (1 if beta = 1, else 100) saw nobody complete, the oldest resident is
kept at every clearing until somebody completes. Alone it fits, so it does; a run in which this never happens is that of
the published rule, and up to a horizon every run is until the last request has come.

Source: Jaillet et al., arXiv 2502.07115, section 5; the text was not open to us, code that accompanied it was. Our
choices: the test is made request by request (the code makes it once before the admissions of a batch, which then go on
to a batch size); a clearing comes before the iteration that would not fit (there after it), so that no iteration holds
more than C; passes take no time (there a second each); the rescue. See mathematics, section 6.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from fluid.arrays import Ints
from fluid.errors import InputError, real, whole
from verification.engine.clock import next_moment, paused, sleep
from verification.engine.compile import apart, compiled, entry, woven
from verification.engine.continuous_batching import admit, advance, tokens_computed
from verification.engine.eviction import Lifted, lift_all, make_lifted, note_eviction, set_down
from verification.engine.lookahead.waiting import Waiting, first, make_waiting, take_first, take_in_arrivals, wait
from verification.engine.queues import Queue, request_at
from verification.engine.residents import KV, PREFILL, SIZE, Residents, make_residents, most_resident
from verification.engine.state import (
    ARRIVED,
    ITERATION,
    NO_CAP,
    NOBODY,
    SENT,
    Kernel,
    Problem,
    State,
    held_by,
    stage_computes,
    stage_tokens,
)
from verification.policies import Protecting
from verification.rules.rule import Claim, Look, Rule

PATIENCE = 100  # clearings in a row after which nobody completed, until one is kept; 1 where all are cleared
FRUITLESS = 0  # place in Chance.tally


class Chance(NamedTuple):
    """Who is cleared: the probability, the seed, the `patience` of the rescue and the fruitless clearings so far."""

    clears: float
    seed: int
    patience: int
    tally: Ints


@dataclass(frozen=True)
class Clearing(Protecting):
    """alpha-protection beta-clearing: `protection` is alpha, `chance` is beta, the probability of being cleared.

    `seed` decides who is. Raises InputError unless 0 <= protection < 1 and 0 < chance <= 1.

    >>> Clearing(protection=0.1, chance=0.1).admission_limit(1000)
    900
    """

    name: ClassVar[str] = "clearing"
    label: ClassVar[str] = "beta-clearing"
    protection: float = 0.2
    chance: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if real("chance", self.chance, "Clearing") > 1:
            raise InputError("chance", "a probability above 0, at most 1", self.chance, "Clearing")
        object.__setattr__(self, "seed", whole("seed", self.seed, "Clearing", unit="seeds", least=0, most=2**63 - 1))

    @property
    def by_type(self) -> bool:
        """Whether output lengths must be known on arrival: never."""
        return False


def kernel(policy: Clearing, problem: Problem) -> Kernel:
    """Return the rule, ready to run."""
    return kernel_clearing(policy, problem, policy.chance, policy.seed)


def kernel_clearing(policy: Protecting, problem: Problem, chance: float, seed: int) -> Kernel:
    """Return the loop of steps (1) and (2), ready to run."""
    queue, waiting = make_waiting(problem)
    residents = make_residents(problem, most_resident(problem), evicts=True)
    lifted, limit = make_lifted(residents), policy.admission_limit(problem.capacity, problem.unit)
    clearing = Chance(float(chance), seed, 1 if chance == 1 else PATIENCE, np.zeros(1, dtype=np.int64))
    return lambda state, budget: run(problem, state, queue, waiting, residents, lifted, clearing, limit, budget)


@entry
def run(problem: Problem, state: State, queue: Queue, waiting: Waiting, residents: Residents, lifted: Lifted,
        chance: Chance, limit: int, budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    while not paused(problem, state, budget):
        take_in_arrivals(problem, state, waiting)
        t = state.counts[ITERATION]
        if residents.tally[KV] > problem.capacity:
            _clear(problem, state, queue, waiting, residents, lifted, chance, t)
        blocked = _admit_what_fits(problem, state, queue, waiting, residents, limit)
        size = residents.tally[SIZE]
        if size > 0:
            most = 1 if problem.most_tokens < NO_CAP and residents.tally[PREFILL] > 0 else NO_CAP
            advance(problem, state, queue, residents, t, next_moment(problem, state, not blocked), most)
            if residents.tally[SIZE] < size:
                chance.tally[FRUITLESS] = 0
        else:
            sleep(problem, state)


@woven
def _admit_what_fits(problem: Problem, state: State, queue: Queue, waiting: Waiting, residents: Residents,
                     limit: int) -> bool:
    """Admit in order of arrival; return whether somebody is left who must wait for a completion."""
    tally, place = residents.tally, first(waiting)
    while place != NOBODY:
        r = request_at(queue, place)
        j = problem.types[r]
        full = tally[KV] + held_by(problem, stage_tokens(problem, j, 0)) > limit
        full = full or tokens_computed(residents) + stage_computes(problem, j, 0) > problem.most_tokens
        if tally[SIZE] >= problem.most_sequences or (full and tally[SIZE] > 0):
            return True
        take_first(waiting)
        admit(problem, state, residents, place, r)
        place = first(waiting)
    return False


@apart
def _clear(problem: Problem, state: State, queue: Queue, waiting: Waiting, residents: Residents, lifted: Lifted,
           chance: Chance, t: int) -> None:
    """Pass over the residents, again and again, until those that stay fit."""
    held, number, begin = residents.tally[KV], 0, int(chance.tally[FRUITLESS] >= chance.patience)
    count = lift_all(problem, residents, lifted, t)
    while held > problem.capacity:
        for one in range(begin, count):
            place = lifted.place[one]
            r = request_at(queue, place)
            if lifted.stays[one] == 1 and _uniform(chance.seed, r, t, number) < chance.clears:
                lifted.stays[one] = 0
                held -= lifted.kv[one]
                note_eviction(problem, state, queue, r)
                wait(waiting, place)
        number += 1
    set_down(problem, queue, residents, lifted, count, t)
    if state.counts[ARRIVED] == state.counts[SENT]:
        chance.tally[FRUITLESS] += 1


@compiled
def _uniform(seed: int, r: int, t: int, number: int) -> float:
    """A number in [0, 1), as good as random, that depends on these alone."""
    bits = _mixed(_mixed(_mixed(_mixed(np.uint64(seed)) ^ np.uint64(r)) ^ np.uint64(t)) ^ np.uint64(number))
    return float(bits >> np.uint64(11)) * 2.0**-53


@compiled
def _mixed(bits: np.uint64) -> np.uint64:
    """A step of SplitMix64."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


RULE = Rule(Clearing, kernel, frozenset({Claim.ITERATION_TIME, Claim.INVENTORY}),
            Look("sky", (0, (1, 1)), "p"), made=lambda _: Clearing())
