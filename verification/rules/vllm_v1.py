"""The scheduler of current vLLM (V1): one token budget, running requests first, blocks for the coming tokens only.

The loop is that of `verification.rules.token_budget`. In vLLM's terms: running requests come first, in order of
admission, each with one token if it decodes and with what is left of `max_num_batched_tokens` if its prefill is
unfinished; blocks are allocated for the tokens about to be computed; where none is free the request admitted last is
preempted, and a step that preempted admits no one. Then waiting requests enter in order while budget, `max_num_seqs`
and blocks last. Where something runs the head enters only if

    ceil((prompt + tokens made) / b) + W <= free blocks      with `reserve_full_prompt` (scheduler_reserve_full_isl)
    ceil(tokens of this step / b)    + W <= free blocks      without

with b the tokens of a block and W = floor(watermark (blocks + 1)) (a block more than the cache has for requests: one of
the engine's pool is its own). Nothing is reserved for prefills that are unfinished. A preempted request goes to the
front of the queue and keeps the tokens it has made: prompt and tokens are prefilled again (`eviction="recompute"`).

The engine makes the first token with the last chunk of the prompt: a deployment that is to equal it has
`first_token = "prefill"`, and its cap and block come from the replica. Of prefix caching only prefixes that always stay
cached are modelled (`fluid.shared_prefixes`), of several cache groups what they hold together, without padding; not
speculative decoding nor priorities. Checked against vLLM 0.33: every first token and finish of its recordings
(`tests/verification/rules/test_vllm_v1.py`), and any workload with `benchmarks/vllm_scheduler.py`. See mathematics,
section 6.6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from fluid.errors import InputError
from fluid.replica import Replica
from verification.engine.state import NO_CAP, Kernel, Problem
from verification.policies import Evicting, with_whole_prompts
from verification.rules import token_budget, vllm_v1_async
from verification.rules.rule import Look, Rule


@dataclass(frozen=True)
class VllmV1(Evicting):
    """vLLM V1: `max_num_batched_tokens` is the budget of an iteration, `watermark` the share of blocks kept free.

    `reserve_full_prompt` asks for the blocks of the whole prompt before its first chunk is admitted;
    `long_prefill_token_threshold` is the most tokens of a prefill in one iteration unless it is alone (None: no limit);
    `asynchronous` is async scheduling, where each step is decided while the one before runs
    (`verification.rules.vllm_v1_async`; slower to simulate).
    Raises InputError for a budget or threshold below 1 token, a watermark outside [0, 1), and on a replica whose
    `max_num_seqs` is above the budget, which the engine refuses too.

    >>> VllmV1(max_num_batched_tokens=8192).requeue
    'front'
    """

    name: ClassVar[str] = "vllm-v1"
    label: ClassVar[str] = "vLLM V1"
    max_num_batched_tokens: int = 2048
    watermark: float = 0.0
    reserve_full_prompt: bool = True
    long_prefill_token_threshold: int | None = None
    eviction: str = "recompute"
    asynchronous: bool = False
    requeue: str = field(default="front", init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.keep_whole_tokens("max_num_batched_tokens")
        if self.long_prefill_token_threshold is not None:
            self.keep_whole_tokens("long_prefill_token_threshold")
        for name in ("reserve_full_prompt", "asynchronous"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(name, "True or False", getattr(self, name), type(self).__name__)

    def on_replica(self, replica: Replica) -> Replica:
        """The replica with the stages this rule goes by: it makes its own chunks of whole prompts."""
        if replica.max_num_seqs is not None and replica.max_num_seqs > self.max_num_batched_tokens:
            requirement = f"at least max_num_seqs, {replica.max_num_seqs}, as the engine asks"
            raise InputError("max_num_batched_tokens", requirement, self.max_num_batched_tokens, type(self).__name__)
        return with_whole_prompts(replica)

    def kept_free(self, blocks: int) -> int:
        """W, the blocks kept free while something runs, of a cache with so many for requests."""
        return math.floor(self.watermark * (blocks + 1))


def kernel(policy: VllmV1, problem: Problem) -> Kernel:
    """Return the rule, ready to run."""
    block = problem.block * problem.unit
    limit = problem.capacity - policy.kept_free(problem.capacity // block) * block
    count = token_budget.HEAD if policy.reserve_full_prompt else token_budget.CHUNK
    chunk = policy.long_prefill_token_threshold or NO_CAP
    tokens = token_budget.Tokens(policy.max_num_batched_tokens, chunk, limit, count)
    return (vllm_v1_async if policy.asynchronous else token_budget).kernel(policy, problem, tokens)


def as_it_comes(replica: Replica) -> VllmV1:
    """With the replica's budget; without one, with that which its cap on sequences asks for if it is above the default.
    """
    return VllmV1(replica.max_num_batched_tokens or max(VllmV1.max_num_batched_tokens, replica.max_num_seqs or 0))


RULE = Rule(VllmV1, kernel, frozenset(),
            Look("orange", (0, (5, 1)), "X"), made=as_it_comes)
