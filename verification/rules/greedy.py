"""Greedy first-come-first-served admission with eviction, the baseline of [A], mathematics, section 6.2.

At each decision: (1) while the KV that residents need in this iteration exceeds C, evict the most recently admitted
one: it goes back to the front of the queue, or to its end, and loses its progress or keeps the tokens it has made. (2)
If nothing was evicted, admit from the head of the queue while KV + (KV of the first stage) <= (1 - watermark) C, the
tokens of the iteration are within the replica's budget and the batch has fewer than B sequences, stopping at the first
that does not fit; with nothing resident the head enters whenever it fits C. (3) All residents form the batch.

No engine does this: none loses the tokens made ("restart", the default here), and all have a budget of tokens. Their
rules are `vllm-v1`, `vllm-v0` and `sarathi`. Under "recompute" those that are in prefill are followed one by one, in
the loop of vLLM v0, here with prefills and decodes together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fluid.arrays import Floats
from verification.engine.clock import next_moment, paused, sleep
from verification.engine.compile import compiled, entry, for_each, woven
from verification.engine.continuous_batching import admit, advance, tokens_computed
from verification.engine.eviction import evict_overflow
from verification.engine.queues import Queue, head, queue_of_evicting, request_at, take, take_arrivals
from verification.engine.residents import KV, PREFILL, SIZE, Residents, make_residents, most_resident, take_newest
from verification.engine.state import (
    ITERATION,
    NO_CAP,
    NOBODY,
    NOW,
    PAUSE,
    Kernel,
    Loop,
    Problem,
    State,
    held_by,
    stage_computes,
    stage_tokens,
)
from verification.policies import Evicting
from verification.rules.rule import Claim, Look, Rule
from verification.rules.vllm_v0 import kernel_with_prefills


@dataclass(frozen=True)
class Greedy(Evicting):
    """Greedy admission: `watermark` is the share of C kept free, `requeue` where an evicted request goes back.

    `requeue` is "front" or "back" ([A]'s new job); `eviction` is "restart" ([A]: all progress is lost) or "recompute"
    (engines: the tokens made are kept, and prefilled again with the prompt). Raises InputError for a watermark outside
    [0, 1) or another word.

    >>> Greedy(watermark=0.0).eviction
    'restart'
    """

    name: ClassVar[str] = "greedy"
    label: ClassVar[str] = "greedy"
    watermark: float = 0.01
    requeue: str = "front"
    eviction: str = "restart"


def kernel(policy: Greedy, problem: Problem) -> Kernel:
    """Return the rule, ready to run."""
    if policy.eviction == "recompute":
        return kernel_with_prefills(policy, problem, problem.most_tokens, together=True)
    most = most_resident(problem)
    residents = make_residents(problem, most, evicts=True)
    queue = queue_of_evicting(problem, most, policy.requeue, policy.eviction)
    limit = policy.admission_limit(problem.capacity, problem.unit)
    return Loop(run, run_each, problem, (queue, residents, limit))


@entry
def run(problem: Problem, state: State, queue: Queue, residents: Residents, limit: int, budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    while not paused(problem, state, budget):
        take_arrivals(problem, state, queue)
        evicted = evict_overflow(problem, state, queue, residents, take_newest, state.counts[ITERATION])
        blocked = evicted or _admit_what_fits(problem, state, queue, residents, limit)
        if residents.tally[SIZE] > 0:
            most = 1 if evicted or _short(problem, residents) else NO_CAP
            advance(problem, state, queue, residents, state.counts[ITERATION],
                    next_moment(problem, state, not blocked), most)
        else:
            sleep(problem, state)


@for_each
def run_each(replicas: Sequence[Any], clocks: Floats) -> None:
    """Run the rule on every replica of a fleet that is before its pause, up to there."""
    for one in range(len(replicas)):
        if clocks[one, NOW] < clocks[one, PAUSE]:
            problem, state, queue, residents, limit = replicas[one]
            run(problem, state, queue, residents, limit, NO_CAP)


@woven
def _admit_what_fits(problem: Problem, state: State, queue: Queue, residents: Residents, limit: int) -> bool:
    """Admit from the head of the queue; return whether somebody is left who must wait for a completion."""
    tally, place = residents.tally, head(queue, 0)
    while place != NOBODY:
        r = request_at(queue, place)
        j = problem.types[r]
        first, tokens = held_by(problem, stage_tokens(problem, j, 0)), stage_computes(problem, j, 0)
        full = tally[KV] + first > limit or tokens_computed(residents) + tokens > problem.most_tokens
        if tally[SIZE] >= problem.most_sequences or (full and tally[SIZE] > 0):
            return True
        take(queue, 0)
        admit(problem, state, residents, place, r)
        place = head(queue, 0)
    return False


@compiled
def _short(problem: Problem, residents: Residents) -> bool:
    """Whether the budget of tokens may hold somebody up who enters once the prefills of this iteration are over."""
    return problem.most_tokens < NO_CAP and residents.tally[PREFILL] > 0


RULE = Rule(Greedy, kernel, frozenset({Claim.ITERATION_TIME, Claim.INVENTORY}),
            Look("wine", "--", "D"), made=lambda _: Greedy())
