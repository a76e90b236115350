"""Sorted-F: the waiting in batches that fit together, those with many short requests first; in continuous time.

With S the predicted stages of a request, P the KV of the last of them (at most C), and for a set X that fits side by
side, sum_{i in X} P_i <= C,

    F(X) = sum_{i in X} S_i / |X|^2        small for many short requests

the waiting are ordered by batches: X_1 has the least F, X_2 the least F of those that are left, and so on, inside a
batch by (S, arrival). At each decision:

 (1) while the KV that residents need in this iteration exceeds C, clear the most recently admitted one;
 (2) if requests came or were cleared, order all that wait anew; then go through the order and admit while the KV
     predicted in every coming iteration is at most C; stop at the first that fails. Later batches overlap the tails of
     earlier ones.

Except for the order all is as under MC-SF (`mcsf` beside this file). The least F is sought among the first k in nine
orders of the waiting, as the search "sweep" of the rounds does (`verification.rounds.sorted_f` says why these): which
they are, how ties are broken and what it costs is in `verification.engine.lookahead.batches`. Of the order only X_1 is
ever needed: it is found when somebody may enter, and X_2 when it is used up.

**Where S alone decides P, and P never falls with it, this is MC-SF**, path by path: with equal prompts, say. The nine
orders are then one, by (S, arrival), every batch takes the first that are left of it, and the batches one after the
other are that order.

On a decode-only replica with one iteration a second it is the rule of the rounds, request by request.

Source: Wang, Ye, Zhou, arXiv 2508.06133, for rounds and requests that are all there at the start; there it is within a
constant of the best. The bodies of its algorithms were not open to us. Our choices: peaks side by side as the meaning
of "fits" in a batch; stages for output tokens, and KV as the replica counts it, so that prefills in chunks, blocks and
windows are allowed for; nine orders in place of all sets; ties; the test that carries the order out; the order anew
with each arrival; who goes on overflow. Nothing is claimed here. See mathematics, section 6.10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from verification.engine.clock import paused, sleep
from verification.engine.compile import entry
from verification.engine.eviction import note_eviction
from verification.engine.lookahead.admission import admit_what_fits, serve
from verification.engine.lookahead.batches import (
    Batches,
    first_of_batch,
    make_batches,
    stand,
    stand_by_arrival,
    take_first_of_batch,
)
from verification.engine.lookahead.load import Load, clear_newest, look_from, make_load
from verification.engine.lookahead.waiting import COUNT
from verification.engine.queues import Queue
from verification.engine.residents import KV, SIZE, Residents, make_residents, most_resident
from verification.engine.state import ITERATION, Kernel, Problem, State
from verification.rules.rule import Claim, Look, Rule


@dataclass(frozen=True)
class SortedF:
    """Sorted-F: batches of many short requests first.

    >>> SortedF().by_type, SortedF.name
    (True, 'sorted-f')
    """

    name: ClassVar[str] = "sorted-f"
    label: ClassVar[str] = "Sorted-F"

    @property
    def by_type(self) -> bool:
        """Whether output lengths must be known or predicted on arrival: always."""
        return True


def kernel(policy: SortedF, problem: Problem) -> Kernel:
    """Return the rule, ready to run."""
    queue, batches = make_batches(problem)
    load = make_load(problem, problem.seen, problem.stages[problem.seen])
    residents = make_residents(problem, most_resident(problem), evicts=load.mistaken)
    return lambda state, budget: run(problem, state, queue, batches, residents, load, budget)


@entry
def run(problem: Problem, state: State, queue: Queue, batches: Batches, residents: Residents, load: Load,
        budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    while not paused(problem, state, budget):
        stand_by_arrival(problem, state, batches)
        t = state.counts[ITERATION]
        look_from(load, t)
        while residents.tally[KV] > problem.capacity:
            r = clear_newest(problem, queue, residents, load, t)
            note_eviction(problem, state, queue, r)
            stand(batches, r)
        most = admit_what_fits(problem, state, queue, batches, residents, load, t, problem.capacity, first_of_batch,
                               take_first_of_batch)
        if residents.tally[SIZE] > 0:
            overtaken = len(batches.stages) > 1 and residents.tally[SIZE] < problem.most_sequences
            listening = batches.tally[COUNT] == 0 or overtaken
            serve(problem, state, queue, residents, load, t, listening, most)
        else:
            sleep(problem, state)


RULE = Rule(SortedF, kernel, frozenset({Claim.ITERATION_TIME, Claim.INVENTORY}),
            Look("brown", (0, (5, 1, 1, 1)), "H"), made=lambda _: SortedF())
