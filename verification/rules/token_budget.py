"""Continuous batching under one budget of tokens an iteration: the loop that Sarathi and vLLM V1 share.

An iteration has a budget of q tokens. At each decision:

    (0) every resident that decodes takes one token; a request in prefill takes what is left of the budget, up to what
        it has left to prefill and, if it is not alone, up to `chunk`; the oldest first;
    (1) while the KV that residents hold exceeds C, evict the most recently admitted one;
    (2) if nothing was evicted, admit from the head of the queue while the budget is not spent, there are fewer than B
        residents and the KV counted for residents and head is within a limit; with nothing resident the head enters.
        It takes what is left of the budget, as in (0);
    (3) whoever takes tokens is the batch.

A request in prefill holds and reads the tokens it has and those it takes now; one that decodes l + s tokens at its s-th
decode (in whole cache blocks, within the attention window). Rules differ in what (2) counts of unfinished prompts.

Nobody but the newest resident ever takes less than it could, by induction: when somebody was admitted behind it a
token of the budget was left, and what it could take never grows while it is not alone. So decodes never exceed the
budget, to visit residents in order of admission is to visit those that decode first, and without `chunk` at most one
request, the newest, is unfinished between iterations: looking at those in prefill costs as much as there are prompts
begun. See mathematics, section 6.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fluid.arrays import Floats
from verification.engine.clock import paused
from verification.engine.compile import compiled, entry, for_each, woven
from verification.engine.eviction import evict_overflow
from verification.engine.prefills import (
    COUNT,
    Prefills,
    enter,
    held_on_entry,
    left_to_prefill,
    make_prefills,
    plan,
    reach,
    serve_or_sleep,
    take_newest_of_both,
    to_prefill,
)
from verification.engine.queues import (
    AGAIN,
    Queue,
    head,
    kept_by_head,
    queue_of_evicting,
    request_at,
    take,
    take_arrivals,
    waiting,
)
from verification.engine.residents import KV, SIZE, Residents, make_residents
from verification.engine.state import NO_CAP, NOBODY, NOW, PAUSE, Kernel, Loop, Problem, State, held_by
from verification.policies import Evicting

# what is counted of requests in prefill when the head of the queue is tried: of all what they hold, the head with what
# it takes now; the head with all it has to prefill; all with all they have to prefill
CHUNK, HEAD, ALL = range(3)


class Tokens(NamedTuple):
    """The budget of an iteration, the most a request in prefill takes that is not alone, the KV up to which requests
    are admitted, and what is counted.
    """

    budget: int
    chunk: int
    limit: int
    counted: int


def kernel(policy: Evicting, problem: Problem, tokens: Tokens) -> Kernel:
    """Return the loop of a rule, ready to run."""
    room = min(problem.capacity // (problem.block * problem.unit) + 1, problem.most_sequences, tokens.budget)
    residents, prefills = make_residents(problem, room, evicts=True), make_prefills(problem, room)
    queue = queue_of_evicting(problem, room, policy.requeue, policy.eviction)
    return Loop(run, run_each, problem, (queue, residents, prefills, tokens))


@entry
def run(problem: Problem, state: State, queue: Queue, residents: Residents, prefills: Prefills, tokens: Tokens,
        budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    while not paused(problem, state, budget):
        take_arrivals(problem, state, queue)
        chunk = _most_of_one(queue, residents, tokens)
        left = _plan(problem, queue, residents, prefills, tokens, chunk)
        evicted = evict_overflow(problem, state, queue, residents, take_newest_of_both, prefills)
        blocked = evicted or _admit_what_fits(problem, state, queue, residents, prefills, tokens, chunk, left)
        serve_or_sleep(problem, state, queue, residents, prefills, True, evicted, blocked)


@for_each
def run_each(replicas: Sequence[Any], clocks: Floats) -> None:
    """Run the rule on every replica of a fleet that is before its pause, up to there."""
    for one in range(len(replicas)):
        if clocks[one, NOW] < clocks[one, PAUSE]:
            problem, state, queue, residents, prefills, tokens = replicas[one]
            run(problem, state, queue, residents, prefills, tokens, NO_CAP)


@compiled
def _most_of_one(queue: Queue, residents: Residents, tokens: Tokens) -> int:
    """The most tokens a request in prefill takes now: no more than `chunk` unless it is alone."""
    requests = residents.tally[SIZE] + waiting(queue, 0) + queue.tally[AGAIN]
    return tokens.chunk if requests > 1 else NO_CAP


@woven
def _plan(problem: Problem, queue: Queue, residents: Residents, prefills: Prefills, tokens: Tokens, chunk: int) -> int:
    """Those that decode and those in prefill take their tokens; return what is left of the budget."""
    left = tokens.budget - (residents.tally[SIZE] - prefills.tally[COUNT])
    for one in range(prefills.tally[COUNT]):
        taken = min(left, chunk, left_to_prefill(problem, queue, prefills, one))
        plan(problem, residents, prefills, one, taken)
        left -= taken
    return left


@woven
def _admit_what_fits(problem: Problem, state: State, queue: Queue, residents: Residents, prefills: Prefills,
                     tokens: Tokens, chunk: int, left: int) -> bool:
    """Admit from the head of the queue; return whether somebody is left who must wait for memory, a place or tokens."""
    tally, place = residents.tally, head(queue, 0)
    reserved = _still_to_hold(problem, queue, prefills) if tokens.counted == ALL else 0
    while place != NOBODY:
        kept, j = kept_by_head(queue), problem.types[request_at(queue, place)]
        whole = to_prefill(problem, j, kept)
        prefilled = min(left, chunk, whole)
        held, all_held = held_on_entry(problem, j, prefilled), held_on_entry(problem, j, whole)
        counted = tally[KV] + reserved + (held if tokens.counted == CHUNK else all_held)
        if (tally[SIZE] > 0 and counted > tokens.limit) or left <= 0 or tally[SIZE] >= problem.most_sequences:
            return True
        take(queue, 0)
        enter(problem, state, queue, residents, prefills, place, kept, prefilled)
        reserved += all_held - held if tokens.counted == ALL else 0
        left -= max(prefilled, 1)  # a first decode takes a token too
        place = head(queue, 0)
    return False


@woven
def _still_to_hold(problem: Problem, queue: Queue, prefills: Prefills) -> int:
    """KV that those in prefill will hold at its end beyond what they hold now."""
    more = 0
    for one in range(prefills.tally[COUNT]):
        whole = prefills.done[one] + left_to_prefill(problem, queue, prefills, one)
        more += held_by(problem, whole) - held_by(problem, reach(prefills, one))
    return more
