"""The order of vLLM v0, mathematics, section 6.3: a batch is either prefills only or decodes only, prefills first.

Steps (1) and (2) of a decision are those of greedy admission (`verification.rules.greedy`) with a budget of tokens, the
third differs:

    (1) while the KV that residents hold exceeds C, evict the most recently admitted one;
    (2) if nothing was evicted, admit from the head of the queue while KV + (KV of the first stage) <= (1 - watermark)
        C, there are fewer than B residents and its tokens fit the batch; with nothing resident the head enters;
    (3) if residents have prefill to do, these are the batch, a stage each; else it is all residents, a decode each.

While prefills run, the prompts that decode stand still. As everywhere a resident, standing still or not, holds the KV
of the stage it executes next: a prompt of l tokens holds l before its prefill and l + 1 after it. So with whole
prefills (1) evicts only where a decode batch follows. `max_num_batched_tokens` bounds the prompt tokens of a prefill
batch; a batch without any takes the head of the queue however long it is.

Prompts are whole, whatever chunks the replica has: vLLM v0 with chunked prefill serves as Sarathi does. Where prefill
happens elsewhere (decode-only) this is greedy admission. An evicted request comes back with its prompt and the tokens
it had made as one prompt (vLLM's preemption by recomputation; `eviction`).

Where we differ from the engine: it takes the block of a token only when a decode needs it, so that while prefills run
a request holds l tokens after its prefill, not l + 1; and it rejects what is longer than its budget, which here goes
alone. Neither changes who is admitted by more than a block a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fluid.arrays import Floats
from fluid.replica import Replica
from verification.engine.clock import paused
from verification.engine.compile import entry, for_each, woven
from verification.engine.eviction import evict_overflow
from verification.engine.prefills import (
    COUNT,
    Prefills,
    enter,
    held_on_entry,
    left_to_prefill,
    make_prefills,
    plan,
    serve_or_sleep,
    take_newest_of_both,
    to_prefill,
)
from verification.engine.queues import (
    Queue,
    head,
    kept_by_head,
    queue_of_evicting,
    request_at,
    take,
    take_arrivals,
)
from verification.engine.residents import KV, SIZE, Residents, make_residents, most_resident
from verification.engine.state import NO_CAP, NOBODY, NOW, PAUSE, Kernel, Loop, Problem, State
from verification.policies import Evicting, with_whole_prompts
from verification.rules.rule import Claim, Look, Rule


@dataclass(frozen=True)
class VllmV0(Evicting):
    """vLLM v0: prefills before decodes, never together; `watermark`, `requeue` and `eviction` as in `Greedy`.

    `max_num_batched_tokens` is the most prompt tokens of a prefill batch (None: as many as fit). Raises InputError for
    a watermark outside [0, 1) or a budget below 1 token.

    >>> VllmV0(max_num_batched_tokens=2048).watermark
    0.01
    """

    name: ClassVar[str] = "vllm-v0"
    label: ClassVar[str] = "vLLM v0"
    watermark: float = 0.01
    requeue: str = "front"
    max_num_batched_tokens: int | None = None
    eviction: str = "recompute"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_num_batched_tokens is not None:
            self.keep_whole_tokens("max_num_batched_tokens")

    def on_replica(self, replica: Replica) -> Replica:
        """The replica with the stages this rule goes by: its prompts are whole."""
        return with_whole_prompts(replica)


def kernel(policy: VllmV0, problem: Problem) -> Kernel:
    """Return the rule, ready to run."""
    most = NO_CAP if policy.max_num_batched_tokens is None else policy.max_num_batched_tokens
    return kernel_with_prefills(policy, problem, most, together=False)


def kernel_with_prefills(policy: Evicting, problem: Problem, most: int, together: bool) -> Kernel:
    """Return the loop of steps (1) to (3), ready to run; `together`: prefills and decodes share every batch."""
    room = most_resident(problem)
    residents, prefills = make_residents(problem, room, evicts=True), make_prefills(problem, room)
    queue = queue_of_evicting(problem, room, policy.requeue, policy.eviction)
    limit = policy.admission_limit(problem.capacity, problem.unit)
    return Loop(run, run_each, problem, (queue, residents, prefills, limit, most, together))


@entry
def run(problem: Problem, state: State, queue: Queue, residents: Residents, prefills: Prefills, limit: int, most: int,
        together: bool, budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    while not paused(problem, state, budget):
        take_arrivals(problem, state, queue)
        left = most - _plan_chunks(problem, queue, residents, prefills, together)
        evicted = evict_overflow(problem, state, queue, residents, take_newest_of_both, prefills)
        blocked = evicted or _admit_what_fits(problem, state, queue, residents, prefills, limit, left, together)
        serve_or_sleep(problem, state, queue, residents, prefills, together, evicted, blocked)


@for_each
def run_each(replicas: Sequence[Any], clocks: Floats) -> None:
    """Run the rule on every replica of a fleet that is before its pause, up to there."""
    for one in range(len(replicas)):
        if clocks[one, NOW] < clocks[one, PAUSE]:
            problem, state, queue, residents, prefills, limit, most, together = replicas[one]
            run(problem, state, queue, residents, prefills, limit, most, together, NO_CAP)


@woven
def _plan_chunks(problem: Problem, queue: Queue, residents: Residents, prefills: Prefills, together: bool) -> int:
    """Everyone in prefill goes on to its next chunk; return the tokens of the batch."""
    tokens = residents.tally[SIZE] - prefills.tally[COUNT] if together else 0
    for one in range(prefills.tally[COUNT]):
        chunk = min(problem.prefill_chunk, left_to_prefill(problem, queue, prefills, one))
        plan(problem, residents, prefills, one, chunk)
        tokens += chunk
    return tokens


@woven
def _admit_what_fits(problem: Problem, state: State, queue: Queue, residents: Residents, prefills: Prefills, limit: int,
                     left: int, together: bool) -> bool:
    """Admit from the head of the queue; return whether somebody is left who must wait for memory, a place or tokens."""
    tally, place = residents.tally, head(queue, 0)
    while place != NOBODY:
        kept, j = kept_by_head(queue), problem.types[request_at(queue, place)]
        tokens = min(problem.prefill_chunk, to_prefill(problem, j, kept))
        full = tally[KV] + held_on_entry(problem, j, tokens) > limit and tally[SIZE] > 0
        begun = tally[SIZE] if together else prefills.tally[COUNT]  # a batch without any takes the head
        if full or tally[SIZE] >= problem.most_sequences or (max(tokens, together) > left and begun > 0):
            return True
        take(queue, 0)
        enter(problem, state, queue, residents, prefills, place, kept, tokens)
        left -= max(tokens, together)
        place = head(queue, 0)
    return False


RULE = Rule(VllmV0, kernel, frozenset({Claim.ITERATION_TIME}),
            Look("indigo", ":", "v"),
            made=lambda replica: VllmV0(max_num_batched_tokens=replica.max_num_batched_tokens))
