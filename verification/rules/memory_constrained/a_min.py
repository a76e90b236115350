"""A_min: shortest first on lower bounds of the lengths, which grow as tokens are made; [C] in continuous time.

A request has a bound b on its stages: at first those of an output of `bound` tokens, the same for all, or without it
the ones it is predicted to have. At each decision:

 (1) while the KV that residents need in this iteration exceeds C, the one with the least b is cleared, where one that
     has gone through more stages than its bound counts with these; of equal ones the last that came. It loses its
     progress, and the stages that were over are its new bound if they are more;
 (2) go through the waiting by (b, arrival), admit while the KV predicted in every coming iteration, with b stages of
     each, is at most C; stop at the first that fails. All else is as under MC-SF (`mcsf` beside this file): a resident
     beyond its bound is taken to need one more iteration, each time anew.

With bounds that are the lengths it is MC-SF. With `bound=1` it reads no length at all. The relative A_max, which takes
upper bounds for lengths, is MC-SF on predictions that are never short.

**It ends.** b never falls and rises only to stages that were over, below a request's own: it rises less often than
there are stages. In iterations after the last arrival in which no b rises and nobody completes, the resident with the
largest b (of equal ones the first that came) is never cleared, since alone it fits; only an admission with a larger one
takes its place, at most once for each request, and then it completes.

Source: Chen, Ye, Zhou, arXiv 2508.14544, for rounds and prompts of one length that are all there at the start; there
the total latency is within O(log(1/alpha)) of the best, alpha the lower over the upper bound. The body of the algorithm
was not open to us: that the least bound goes first and that a bound once raised stays are what reviews of it say; the
ties, the look ahead along the bounds, and arrivals over time are our choices. Nothing is claimed here. See mathematics,
section 6.11.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fluid.arrays import Ints
from fluid.errors import whole
from verification.engine.clock import paused, sleep
from verification.engine.compile import apart, compiled, entry
from verification.engine.eviction import Lifted, lift_all, make_lifted, note_eviction, set_down
from verification.engine.lookahead.admission import admit_what_fits, serve
from verification.engine.lookahead.load import Load, look_from, make_load, withdraw
from verification.engine.lookahead.waiting import Waiting, first, make_waiting, take_first, wait
from verification.engine.queues import Queue
from verification.engine.residents import KV, SIZE, Residents, make_residents, most_resident
from verification.engine.state import ITERATION, NO_CAP, NOBODY, NOW, Kernel, Problem, State, next_arrival
from verification.rules.rule import Claim, Look, Rule


@dataclass(frozen=True)
class AMin:
    """Shortest first on lower bounds: at first `bound` output tokens for all, or (None) the predicted lengths.

    Raises InputError for a bound below 1 token.

    >>> AMin(bound=1).by_type, AMin().by_type
    (False, True)
    """

    name: ClassVar[str] = "a-min"
    label: ClassVar[str] = "A_min"
    bound: int | None = None

    def __post_init__(self) -> None:
        if self.bound is not None:
            object.__setattr__(self, "bound", whole("bound", self.bound, "AMin", unit="tokens", most=2**24))

    @property
    def by_type(self) -> bool:
        """Whether output lengths must be known or predicted on arrival: without a bound."""
        return self.bound is None


def kernel(policy: AMin, problem: Problem) -> Kernel:
    """Return the rule, ready to run."""
    if policy.bound is None:
        kind, bound = problem.seen, problem.stages[problem.seen]
    else:
        kind, bound = problem.types, _stages_of(problem, policy.bound)[problem.types]
    queue, waiting = make_waiting(problem)
    load = make_load(problem, kind, bound)
    residents = make_residents(problem, most_resident(problem), evicts=load.mistaken)
    lifted = make_lifted(residents)
    return lambda state, budget: run(problem, state, queue, waiting, residents, lifted, load, budget)


def _stages_of(problem: Problem, output: int) -> Ints:
    """The stages of each type if its output had so many tokens; the first may come with the prefill."""
    before = (problem.first_stage < problem.prefill_stages).astype(np.int64)
    return np.maximum(problem.prefill_stages + output - before, 1)


@entry
def run(problem: Problem, state: State, queue: Queue, waiting: Waiting, residents: Residents, lifted: Lifted,
        load: Load, budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    while not paused(problem, state, budget):
        r = next_arrival(problem, state, state.clock[NOW])
        while r != NOBODY:
            _wait_by_bound(load, waiting, r)
            r = next_arrival(problem, state, state.clock[NOW])
        t = state.counts[ITERATION]
        look_from(load, t)
        if residents.tally[KV] > problem.capacity:
            _clear(problem, state, queue, waiting, residents, lifted, load, t)
        most = admit_what_fits(problem, state, queue, waiting, residents, load, t, problem.capacity, _first_by_bound,
                               take_first)
        if residents.tally[SIZE] > 0:
            serve(problem, state, queue, residents, load, t, residents.tally[SIZE] < problem.most_sequences, most)
        else:
            sleep(problem, state)


@compiled
def _wait_by_bound(load: Load, waiting: Waiting, r: int) -> None:
    """Let a request wait in a place that tells its bound and itself."""
    wait(waiting, load.bound[r] * len(load.bound) + r)


@compiled
def _first_by_bound(waiting: Waiting) -> int:
    """The request with the least bound, NOBODY if none waits."""
    place = first(waiting)
    return place if place == NOBODY else place % len(waiting.heap)


@apart
def _clear(problem: Problem, state: State, queue: Queue, waiting: Waiting, residents: Residents, lifted: Lifted,
           load: Load, t: int) -> None:
    """Whoever has the least bound goes, until the rest fits."""
    held, count = residents.tally[KV], lift_all(problem, residents, lifted, t)
    while held > problem.capacity:
        one = _least(load, lifted, count, t)
        r, over = lifted.place[one], t - lifted.entered[one]
        withdraw(problem, load, r, lifted.entered[one], over)
        lifted.stays[one] = 0
        held -= lifted.kv[one]
        load.bound[r] = max(load.bound[r], over)
        note_eviction(problem, state, queue, r)
        _wait_by_bound(load, waiting, r)
    set_down(problem, queue, residents, lifted, count, t)


@compiled
def _least(load: Load, lifted: Lifted, count: int, t: int) -> int:
    """Who of those that stay has the least bound, of equal ones the last that came."""
    best, least = 0, NO_CAP
    for one in range(count):
        r = lifted.place[one]
        bound = max(load.bound[r], t - lifted.entered[one])
        if lifted.stays[one] == 1 and (bound < least or (bound == least and r > lifted.place[best])):
            best, least = one, bound
    return best


RULE = Rule(AMin, kernel, frozenset({Claim.ITERATION_TIME, Claim.INVENTORY}),
            Look("forest", (0, (2, 1)), "8"), made=lambda _: AMin(bound=1))
