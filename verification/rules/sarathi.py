"""Sarathi, mathematics, section 6.5: prefills ride along with decodes, in chunks that fill a token budget.

The loop is that of `verification.rules.token_budget`; a request is admitted while

    reserved KV + (KV of the whole prompt) <= (1 - watermark) C

where a prompt that is not complete reserves all of itself, one that decodes what it holds. The chunks replace those of
`replica.prefill`; where prefill happens elsewhere (decode-only) a prompt enters with its first decode, which takes one
token and reserves l + 1. The prompt is complete with its last chunk. An evicted request comes back with its prompt and
the tokens it had made as one prompt (`eviction`).

The KV tokens that a prompt reads depend on its chunks. With k of them its time work is at least that of a whole
prefill: the last chunk alone reads l, all together prefill l tokens, in k iterations in place of one.

This is the scheduler of the Sarathi-Serve paper as Vidur simulates it, on our memory: blocks are held for the tokens of
the coming iteration, not for the whole prompt from its admission on, though no one else is admitted to what is
reserved. vLLM V1 (`verification.rules.vllm_v1`) reserves nothing for the unfinished prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fluid.replica import Replica
from verification.engine.state import NO_CAP, Kernel, Problem
from verification.policies import Evicting, with_whole_prompts
from verification.rules import token_budget
from verification.rules.rule import Look, Rule


@dataclass(frozen=True)
class Sarathi(Evicting):
    """Sarathi: `chunk` is the budget q of an iteration in tokens; `watermark`, `requeue` and `eviction` as in `Greedy`.

    Raises InputError for a chunk below 1 token or a watermark outside [0, 1).

    >>> Sarathi(chunk=256).eviction
    'recompute'
    """

    name: ClassVar[str] = "sarathi"
    label: ClassVar[str] = "Sarathi"
    chunk: int = 512
    watermark: float = 0.01
    requeue: str = "front"
    eviction: str = "recompute"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.keep_whole_tokens("chunk")

    def on_replica(self, replica: Replica) -> Replica:
        """The replica with the stages this rule goes by: it makes its own chunks of whole prompts."""
        return with_whole_prompts(replica)


def kernel(policy: Sarathi, problem: Problem) -> Kernel:
    """Return the rule, ready to run."""
    limit = policy.admission_limit(problem.capacity, problem.unit)
    return token_budget.kernel(policy, problem, token_budget.Tokens(policy.chunk, NO_CAP, limit, token_budget.ALL))


def _for_chunks_of(replica: Replica) -> Sarathi:
    """With the replica's budget, or its chunk, where it has one."""
    return Sarathi(replica.max_num_batched_tokens or replica.prefill_chunk or Sarathi.chunk)


RULE = Rule(Sarathi, kernel, frozenset(),
            Look("grey", (0, (6, 2, 1, 2, 1, 2)), "P"), made=_for_chunks_of)
