"""The literal twin of every decision rule: a function from what there is at one moment to the batch it serves.

Residents are in order of admission and carry the stage they execute next. `TWINS` pairs each policy with its twin, as
`verification.rules.RULES` pairs it with its compiled rule. The words of each rule are in its file under
`verification/rules/`; nothing of its code is used here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from thresholds import LookAheadPolicy, NestedWaitPolicy, PacedPolicy, WaitPolicy
from verification.policies import Evicting
from verification.reference.look_ahead import look_ahead_batch
from verification.reference.memory_constrained import (
    a_min_batch,
    clearing_batch,
    mc_benchmark_batch,
    mcsf_batch,
    protected_batch,
    sorted_f_batch,
)
from verification.reference.system import Request, System
from verification.rules.greedy import Greedy
from verification.rules.memory_constrained.a_min import AMin
from verification.rules.memory_constrained.clearing import Clearing
from verification.rules.memory_constrained.mc_benchmark import MCBenchmark
from verification.rules.memory_constrained.mcsf import MCSF
from verification.rules.memory_constrained.protected import Protected
from verification.rules.memory_constrained.sorted_f import SortedF
from verification.rules.sarathi import Sarathi
from verification.rules.vllm_v0 import VllmV0
from verification.rules.vllm_v1 import VllmV1


def _evict_overflow(policy: Evicting, system: System) -> bool:
    evicted = False
    while system.held() > system.replica.kv_capacity:
        newest = system.residents[-1]
        system.leave(newest, policy.eviction == "recompute")
        system.waiting.insert(0 if policy.requeue == "front" else len(system.waiting), newest)
        evicted = True
    return evicted


def _plan_again(system: System, r: Request) -> Request:
    """What an evicted request kept is prefilled in chunks of the replica, or as a whole."""
    if r.again > 0:
        r.part = min(system.replica.prefill_chunk or system.to_prefill(r), system.to_prefill(r))
    return r


def _greedy_batch(policy: Greedy, system: System) -> list[Request]:
    for r in system.residents:
        _plan_again(system, r)
    evicted = _evict_overflow(policy, system)
    limit = policy.admission_limit(system.replica.kv_capacity)
    while system.waiting and system.places() and not evicted:
        head = _plan_again(system, system.waiting[0])
        full = system.held() + system.held_by(head) > limit or system.tokens_of(head) > system.tokens_left()
        if system.residents and full:
            break
        system.enter(head)
    return list(system.residents)


def _vllm_v0_batch(policy: VllmV0, system: System) -> list[Request]:
    evicted = _evict_overflow(policy, system)
    limit, begun = policy.admission_limit(system.replica.kv_capacity), 0
    while system.waiting and system.places() and not evicted:
        head = system.waiting[0]
        head.part = system.to_prefill(head) or None
        if system.residents and system.held() + system.held_by(head) > limit:
            break
        most, tokens = policy.max_num_batched_tokens, system.to_prefill(head)
        if most is not None and begun > 0 and begun + tokens > most:
            break
        begun += tokens
        system.enter(head)
    prefilling = [r for r in system.residents if system.in_prefill(r)]
    return prefilling or list(system.residents)


def _sarathi_batch(policy: Sarathi, system: System) -> list[Request]:
    batch, left = _take_tokens(policy, system)
    if not _evict_overflow(policy, system):
        batch += _admit_to_tokens(policy, system, left)
    return [r for r in batch if r in system.residents and r.part != 0]  # not evicted, and with a token at least


def _take_tokens(policy: Sarathi, system: System) -> tuple[list[Request], int]:
    """(0) A token for every decode, then chunks for prompts in prefill, oldest first; and the tokens that are left."""
    decoding = [r for r in system.residents if not system.in_prefill(r)][: policy.chunk]
    prefilling = [r for r in system.residents if system.in_prefill(r)]
    left = policy.chunk - len(decoding)
    for r in prefilling:
        r.part = min(left, system.to_prefill(r))
        left -= r.part
    return decoding + prefilling, left


def _admit_to_tokens(policy: Sarathi, system: System, left: int) -> list[Request]:
    """(2) Requests from the head of the queue, while a token is left, a place, and KV for their whole prompts."""
    admitted: list[Request] = []
    limit = policy.admission_limit(system.replica.kv_capacity)
    while system.waiting and system.places() and left:
        head = system.waiting[0]
        if system.residents and sum(_reserved(system, r) for r in (*system.residents, head)) > limit:
            break
        system.enter(head)
        admitted.append(head)
        if system.in_prefill(head):
            head.part = min(left, system.to_prefill(head))
        left -= 1 if head.part is None else head.part
    return admitted


def _reserved(system: System, r: Request) -> int | Fraction:
    """KV of all that is to be prefilled; of the coming stage if it decodes."""
    if system.in_prefill(r):
        return system.kv_of(r.done + system.to_prefill(r), system.replica.block)
    return system.kv[r.type][r.stage]


def _vllm_v1_batch(policy: VllmV1, system: System) -> list[Request]:
    """As the engine does it: block by block, one running request after the other, then the waiting ones.

    Decided early (async scheduling) those whose last token is being made still run: they stand in `system.ended`.
    """
    step = _Step(policy, system)
    step.schedule_running()
    if not step.preempted:
        step.schedule_waiting()
    return step.batch


class _Step:
    """A scheduling step of vLLM V1: the budget that is left, and the blocks of each who is scheduled."""

    def __init__(self, policy: VllmV1, system: System) -> None:
        self.policy, self.system = policy, system
        self.left, self.preempted, self.batch = policy.max_num_batched_tokens, False, list[Request]()
        alone = len(self.running()) + len(system.waiting) == 1
        self.chunk = math.inf if alone else policy.long_prefill_token_threshold or math.inf

    def running(self) -> list[Request]:
        """In order of admission."""
        return sorted([*self.system.residents, *self.system.ended], key=lambda r: r.turn)

    def blocks_of(self, r: Request, more: int = 0) -> int | Fraction:
        """KV of the blocks for the tokens computed so far, and for so many more."""
        if r in self.system.ended:
            return self.system.kv[r.type][-1]
        if self.system.in_prefill(r):
            computed = r.done
        else:
            computed = self.system.prompt_of(r) + r.stage - int(self.system.profile.prefill_stages[r.type])
        return self.system.kv_of(computed + more, self.system.replica.block)

    def free(self) -> int | Fraction:
        return self.system.replica.kv_capacity - sum(
            self.blocks_of(r, self.tokens_of(r) if r in self.batch else 0) for r in self.running())

    def tokens_of(self, r: Request) -> int:
        return self.system.tokens_of(r)

    def give(self, r: Request) -> None:
        """The tokens of the coming iteration: one for a decode, else what the budget and the threshold allow."""
        r.part = int(min(self.system.to_prefill(r), self.chunk, self.left)) if self.system.in_prefill(r) else None

    def take_into_batch(self, r: Request) -> None:
        self.batch.append(r)
        self.left -= self.tokens_of(r)

    def schedule_running(self) -> None:
        place = 0
        while place < len(self.running()) and self.left > 0:
            r = self.running()[place]
            place += 1
            if r in self.system.ended:
                continue
            self.give(r)
            while self.blocks_of(r, self.tokens_of(r)) - self.blocks_of(r) > self.free():
                newest = self.running()[-1]
                self.preempt(newest)
                if newest is r:
                    return
            self.take_into_batch(r)

    def preempt(self, r: Request) -> None:
        """The blocks are free at once; a last token that is being made is delivered all the same."""
        self.preempted = True
        if r in self.system.ended:
            self.system.ended.remove(r)
            self.system.evictions += 1
        else:
            self.system.leave(r, self.policy.eviction == "recompute")
            self.system.waiting.insert(0, r)

    def schedule_waiting(self) -> None:
        while self.left > 0 and self.system.waiting and self.system.places() > len(self.system.ended):
            head = self.system.waiting[0]
            self.give(head)
            block = self.system.replica.block
            blocks = self.system.replica.kv_capacity // block
            kept_free = int(self.policy.watermark * (blocks + 1)) * block if self.running() else 0
            whole = head.done + self.system.to_prefill(head)
            asked = [self.blocks_of(head, self.tokens_of(head))]
            if self.policy.reserve_full_prompt and whole > 0:
                asked.append(self.system.kv_of(whole, block))
            if max(asked) + kept_free > self.free():
                return
            self.system.enter(head)
            self.take_into_batch(head)


def _wait_batch(policy: WaitPolicy, system: System) -> list[Request]:
    batch: list[Request] = []
    for j, threshold in enumerate(policy.thresholds):
        entering = [r for r in system.waiting if r.seen == j]
        if len(entering) < threshold:
            continue
        inside = [r for r in system.residents if r.seen == j]
        for stage in range(max(len(kv) for kv in system.kv)):
            here = entering if stage == 0 else [r for r in inside if r.stage == stage]
            batch.extend(here[:threshold])
    for r in batch:
        if r in system.waiting:
            system.enter(r)
    return batch


def _paced_batch(policy: PacedPolicy, system: System) -> list[Request]:
    if not system.residents:
        system.entries.clear()
    lanes = len(policy.entries)
    for lane, (entries, iterations) in enumerate(zip(policy.entries, policy.iterations, strict=True)):
        waiting = [r for r in system.waiting if lanes == 1 or r.seen == lane]
        within = [t for t, entered in system.entries if entered == lane and t > system.iterations - iterations]
        room = min(entries - len(within), system.places())
        cohort = sum(system.tokens_of(r) for r in waiting[:entries])
        if policy.gate and (room < entries or len(waiting) < entries or cohort > system.tokens_left()):
            room = 0
        for r in waiting[:room]:
            if system.tokens_of(r) > system.tokens_left():
                break
            system.enter(r)
            system.entries.append((system.iterations, lane))
    return list(system.residents)


def _nested_batch(policy: NestedWaitPolicy, system: System) -> list[Request]:
    prefill = int(system.profile.prefill_stages[0])
    first = [0, *(r + prefill for r in policy.boundaries)]
    batch: list[Request] = []
    for k, threshold in enumerate(policy.thresholds):
        entering = system.waiting if k == 0 else [r for r in system.residents if r.stage == first[k]]
        if len(entering) < threshold:
            break
        batch.extend(entering[:threshold])
        for stage in range(first[k] + 1, first[k + 1]):
            batch.extend([r for r in system.residents if r.stage == stage][:threshold])
    for r in batch:
        if r in system.waiting:
            system.enter(r)
    return batch


TWINS: dict[type, Callable[[Any, System], list[Request]]] = {
    WaitPolicy: _wait_batch, PacedPolicy: _paced_batch, NestedWaitPolicy: _nested_batch, Greedy: _greedy_batch,
    VllmV0: _vllm_v0_batch, VllmV1: _vllm_v1_batch, Sarathi: _sarathi_batch, MCSF: mcsf_batch,
    MCBenchmark: mc_benchmark_batch, Protected: protected_batch, Clearing: clearing_batch, AMin: a_min_batch,
    SortedF: sorted_f_batch, LookAheadPolicy: look_ahead_batch,
}
