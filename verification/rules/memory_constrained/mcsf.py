"""MC-SF, memory-constrained shortest first [J], in continuous time; mathematics, section 6.8.

All residents are in every batch. At each decision:

 (1) while the KV that residents need in this iteration exceeds C, clear the most recently admitted one: it loses its
     progress and waits again, in its old place;
 (2) go through the waiting by (predicted stages, arrival); admit while, with all residents and those admitted so far,
     the KV predicted in every coming iteration is at most (1 - protection) C; stop at the first that fails. The
     number of sequences and the tokens of an iteration are bounded as in greedy admission. With nothing resident the
     first enters, whatever is predicted.

The test, and why a refusal need not be tried again at once, is in `verification.engine.lookahead.load`: an iteration is
a round of [J], however long it lasts, and a request holds what its stages say, with blocks, chunks and windows. On a
decode-only replica with one iteration a second this is [J]'s rule word for word.

With predictions that are never short (R~ >= R) no iteration ever needs more than C and (1) never happens; whoever ends
before it was predicted to frees what had been counted for it. With shorter ones a resident that outlives its prediction
is taken to need one more iteration, each time anew, and (1) may happen. Some request is always served to its end: the
oldest resident is never cleared, since alone it fits. That it is the newest who goes, and that a resident outlives its
prediction by an iteration each time, are our choices: the source as available to us leaves both open. So is how [J]
keeps a tenth free where predictions err; here the limit of the test shrinks, `protection=0.1`.

MC-SF is O(1)-competitive in [J]'s rounds, for prompts of one length all present at the start; nothing is claimed here.
Source: Jaillet, Jiang, Mellou, Molinaro, Podimata, Zhou, arXiv 2502.07115v5; the order of equal lengths is that of
arrival, as in code that accompanied it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from verification.engine.clock import paused, sleep
from verification.engine.compile import entry
from verification.engine.eviction import note_eviction
from verification.engine.lookahead.admission import admit_what_fits, serve
from verification.engine.lookahead.load import Load, clear_newest, look_from, make_load
from verification.engine.lookahead.waiting import (
    COUNT,
    Waiting,
    first,
    make_waiting,
    take_first,
    take_in_arrivals,
    wait,
)
from verification.engine.queues import Queue, request_at
from verification.engine.residents import KV, SIZE, Residents, make_residents, most_resident
from verification.engine.state import ITERATION, Kernel, Problem, State
from verification.policies import Protecting
from verification.rules.rule import Claim, Look, Rule


@dataclass(frozen=True)
class MCSF(Protecting):
    """Memory-constrained shortest first; `protection` is the share of C that the test leaves free.

    Raises InputError for a protection outside [0, 1).

    >>> MCSF().by_type
    True
    """

    name: ClassVar[str] = "mc-sf"
    label: ClassVar[str] = "MC-SF"
    protection: float = 0.0

    @property
    def by_type(self) -> bool:
        """Whether output lengths must be known or predicted on arrival: always."""
        return True


def kernel(policy: MCSF, problem: Problem) -> Kernel:
    """Return the rule, ready to run."""
    return kernel_looking_ahead(policy, problem, shortest_first=True)


def kernel_looking_ahead(policy: Protecting, problem: Problem, shortest_first: bool) -> Kernel:
    """Return the loop of steps (1) and (2), ready to run; without `shortest_first` by arrival."""
    stages = problem.stages[problem.seen]
    queue, waiting = make_waiting(problem, stages if shortest_first else None)
    load = make_load(problem, problem.seen, stages)
    residents = make_residents(problem, most_resident(problem), evicts=load.mistaken)
    limit = policy.admission_limit(problem.capacity, problem.unit)
    return lambda state, budget: run(problem, state, queue, waiting, residents, load, limit, budget)


@entry
def run(problem: Problem, state: State, queue: Queue, waiting: Waiting, residents: Residents, load: Load, limit: int,
        budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    while not paused(problem, state, budget):
        take_in_arrivals(problem, state, waiting)
        t = state.counts[ITERATION]
        look_from(load, t)
        while residents.tally[KV] > problem.capacity:
            place = clear_newest(problem, queue, residents, load, t)
            note_eviction(problem, state, queue, request_at(queue, place))
            wait(waiting, place)
        most = admit_what_fits(problem, state, queue, waiting, residents, load, t, limit, first, take_first)
        if residents.tally[SIZE] > 0:
            overtaken = len(waiting.rank) > 0 and residents.tally[SIZE] < problem.most_sequences
            listening = waiting.tally[COUNT] == 0 or overtaken
            serve(problem, state, queue, residents, load, t, listening, most)
        else:
            sleep(problem, state)


RULE = Rule(MCSF, kernel, frozenset({Claim.ITERATION_TIME, Claim.INVENTORY}),
            Look("olive", (0, (3, 1)), "*"), made=lambda _: MCSF())
