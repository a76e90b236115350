"""Greedy first-come-first-served admission with eviction ("vLLM-like"), model.md section 6.

At each decision: (1) while the KV that residents need in this iteration exceeds C, evict the most recently admitted
one: it loses its progress and goes back to the front of the queue, or to its end. (2) If nothing was evicted, admit
from the head of the queue while KV + (KV of the first stage) <= (1 - watermark) C and the batch has fewer than B
sequences, stopping at the first that does not fit; with nothing resident the head enters whenever it fits C. (3) All
residents form the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fluid.errors import InputError, one_of, real
from verification.continuous import admit, advance, evict
from verification.engine import (
    Kernel,
    Problem,
    State,
    compiled,
    in_blocks,
    paused,
    sleep,
    stage_read,
)
from verification.residents import KV, SIZE, Residents, make_residents, put_back, take_arrivals


class Evicting:
    """A rule that admits under a watermark and evicts: `watermark` is the share of C kept free, `requeue` where an
    evicted request goes back, "front" (vLLM) or "back" ([A]'s new job).
    """

    watermark: float
    requeue: str

    def __post_init__(self) -> None:
        name = type(self).__name__
        if real("watermark", self.watermark, name, zero=True) >= 1:
            raise InputError("watermark", "a share of the KV cache in [0, 1)", self.watermark, name)
        one_of("requeue", self.requeue, ("front", "back"), name)

    def admission_limit(self, kv_capacity: int) -> int:
        """The KV tokens up to which requests are admitted, (1 - watermark) C in whole tokens."""
        return math.floor((1 - self.watermark) * kv_capacity * (1 + 1e-12))


@dataclass(frozen=True)
class Greedy(Evicting):
    """Greedy admission: `watermark` is the share of C kept free, `requeue` where an evicted request goes back.

    `requeue` is "front" (vLLM) or "back" ([A]'s new job). Raises InputError for a watermark outside [0, 1).

    >>> Greedy(watermark=0.0).requeue
    'front'
    """

    watermark: float = 0.01
    requeue: str = "front"


def kernel(policy: Greedy, problem: Problem) -> Kernel:
    """Return the rule, ready to run."""
    residents = make_residents(problem)
    limit, to_front = policy.admission_limit(problem.capacity), policy.requeue == "front"
    return lambda state, budget: run(problem, state, residents, limit, to_front, budget)


@compiled
def run(problem: Problem, state: State, residents: Residents, limit: int, to_front: bool, budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    while not paused(problem, state, budget):
        take_arrivals(problem, state, residents)
        if not _evict_overflow(problem, state, residents, to_front):
            _admit_what_fits(problem, state, residents, limit)
        if residents.tally[SIZE] > 0:
            advance(problem, state, residents)
        else:
            sleep(problem, state)


@compiled
def _evict_overflow(problem: Problem, state: State, residents: Residents, to_front: bool) -> bool:
    evicted = False
    while residents.tally[KV] > problem.capacity:
        put_back(residents, evict(problem, state, residents), to_front)
        evicted = True
    return evicted


@compiled
def _admit_what_fits(problem: Problem, state: State, residents: Residents, limit: int) -> None:
    tally = residents.tally
    while residents.waiting[0] > 0 and tally[SIZE] < problem.most_sequences:
        first = in_blocks(problem, stage_read(problem, problem.types[residents.head[0]], 0))
        if tally[KV] + first > limit and tally[SIZE] > 0:
            break
        admit(problem, state, residents, 0)
