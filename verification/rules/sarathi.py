"""Sarathi, model.md section 6: prefills ride along with decodes, in chunks that fill what is left of a token budget.

An iteration has a budget of q tokens. At each decision:

    (0) every resident that decodes takes one token, oldest first; a prompt in prefill takes what is left of the budget,
        up to what is left of the prompt, the oldest first;
    (1) while the KV that residents hold exceeds C, evict the most recently admitted one;
    (2) if nothing was evicted, admit from the head of the queue while the budget is not spent, there are fewer than B
        residents and reserved KV + (KV of the whole prompt) <= (1 - watermark) C; with nothing resident the head
        enters. It takes what is left of the budget, up to its whole prompt;
    (3) whoever takes tokens is the batch.

A prompt in prefill holds and reads the tokens it has and those it takes now, but reserves its whole prompt; one that
decodes holds, reads and reserves l + s tokens at its s-th decode, whether it is in the batch or not (in whole cache
blocks, within the attention window). The chunks replace those of `replica.prefill`; where prefill happens elsewhere
(decode-only) a prompt enters with its first decode, which takes one token and reserves l + 1. The prompt is complete
with its last chunk.

Decodes never exceed the budget, by induction: whoever ends its prefill takes a token of the q - D that D decodes left,
so the next iteration has at most D + (q - D) of them. A prompt is admitted only where the budget is not spent before
it, so at most one prompt, the newest resident, is unfinished between iterations: visiting those in prefill costs as
much as there are prompts begun.

The KV tokens that a prompt reads depend on its chunks. With k of them its time work is at least that of a whole
prefill: the last chunk alone reads l, all together prefill l tokens, in k iterations in place of one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fluid.errors import whole
from fluid.replica import DECODE_ONLY, WHOLE, Replica
from verification.engine.clock import next_moment, paused, sleep
from verification.engine.compile import compiled, entry, woven
from verification.engine.eviction import evict_overflow
from verification.engine.prefills import (
    COUNT,
    Prefills,
    enter,
    make_prefills,
    plan,
    reach,
    serve,
    take_newest_of_both,
)
from verification.engine.queues import Queue, head, queue_of_evicting, request_at, take, take_arrivals
from verification.engine.residents import KV, SIZE, Residents, make_residents, most_resident
from verification.engine.state import NO_CAP, NOBODY, Kernel, Problem, State, in_blocks, stage_read
from verification.policies import Evicting
from verification.rules.rule import Look, Rule


@dataclass(frozen=True)
class Sarathi(Evicting):
    """Sarathi: `chunk` is the budget q of an iteration in tokens; `watermark` and `requeue` as in `Greedy`.

    Raises InputError for a chunk below 1 token or a watermark outside [0, 1).

    >>> Sarathi(chunk=256).requeue
    'front'
    """

    name: ClassVar[str] = "sarathi"
    label: ClassVar[str] = "Sarathi"
    chunk: int = 512
    watermark: float = 0.01
    requeue: str = "front"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "chunk", whole("chunk", self.chunk, "Sarathi", unit="tokens"))

    def on_replica(self, replica: Replica) -> Replica:
        """The replica with the stages this rule goes by: it makes its own chunks of whole prompts."""
        return replica if replica.prefill == DECODE_ONLY else replace(replica, prefill=WHOLE)


def kernel(policy: Sarathi, problem: Problem) -> Kernel:
    """Return the rule, ready to run."""
    most = most_resident(problem)
    residents, prefills = make_residents(problem, most, evicts=True), make_prefills(problem, most)
    queue = queue_of_evicting(problem, most, policy.requeue)
    limit, to_front = policy.admission_limit(problem.capacity), policy.requeue == "front"
    return lambda state, budget: run(problem, state, queue, residents, prefills, limit, policy.chunk, to_front, budget)


@entry
def run(problem: Problem, state: State, queue: Queue, residents: Residents, prefills: Prefills, limit: int, chunk: int,
        to_front: bool, budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    while not paused(problem, state, budget):
        take_arrivals(problem, state, queue)
        left = _plan_chunks(problem, queue, residents, prefills, chunk)
        evicted = evict_overflow(problem, state, queue, residents, to_front, take_newest_of_both, prefills)
        blocked = evicted or _admit_what_fits(problem, state, queue, residents, prefills, limit, left)
        if residents.tally[SIZE] > 0:
            serve(problem, state, queue, residents, prefills, True, next_moment(problem, state, not blocked),
                  1 if evicted else NO_CAP)
        else:
            sleep(problem, state)


@woven
def _plan_chunks(problem: Problem, queue: Queue, residents: Residents, prefills: Prefills, chunk: int) -> int:
    """Decodes and prompts in prefill take their tokens; return what is left of the budget."""
    left = chunk - (residents.tally[SIZE] - prefills.tally[COUNT])
    for one in range(prefills.tally[COUNT]):
        j = problem.types[request_at(queue, prefills.who[one])]
        tokens = min(left, problem.prompt[j] - prefills.done[one])
        plan(problem, residents, prefills, one, tokens)
        left -= tokens
    return left


@woven
def _admit_what_fits(problem: Problem, state: State, queue: Queue, residents: Residents, prefills: Prefills, limit: int,
                     left: int) -> bool:
    """Admit from the head of the queue; return whether somebody is left who must wait for memory, a place or tokens."""
    tally, reserved, place = residents.tally, residents.tally[KV], head(queue, 0)
    for one in range(prefills.tally[COUNT]):
        j = problem.types[request_at(queue, prefills.who[one])]
        reserved += _reserved(problem, j) - in_blocks(problem, reach(problem, prefills, one))
    while place != NOBODY:
        r = request_at(queue, place)
        j = problem.types[r]
        full = reserved + _reserved(problem, j) > limit and tally[SIZE] > 0
        if full or left <= 0 or tally[SIZE] >= problem.most_sequences:
            return True
        tokens = 1 if problem.prefill_stages[j] == 0 else min(left, problem.prompt[j])
        take(queue, 0)
        enter(problem, state, residents, prefills, place, r, tokens)
        reserved += _reserved(problem, j)
        left -= tokens
        place = head(queue, 0)
    return False


@compiled
def _reserved(problem: Problem, j: int) -> int:
    """KV of a whole prompt, or of its first decode where prefill happens elsewhere."""
    return in_blocks(problem, stage_read(problem, j, max(problem.prefill_stages[j] - 1, 0)))


def _for_chunks_of(replica: Replica) -> Sarathi:
    """With the replica's own chunk as its budget, where it has one."""
    return Sarathi(chunk=replica.prefill) if isinstance(replica.prefill, int) else Sarathi()


RULE = Rule(Sarathi, kernel, frozenset(),
            Look("grey", (0, (6, 2, 1, 2, 1, 2)), "P"), made=_for_chunks_of)
