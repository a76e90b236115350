"""The literal twin of every decision rule: a function from what there is at one moment to the batch it serves.

Residents are in order of admission and carry the stage they execute next. `TWINS` pairs each policy with its twin, as
`verification.rules.RULES` pairs it with its compiled rule. The words of each rule are in its file under
`verification/rules/`; nothing of its code is used here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thresholds import NestedWaitPolicy, PacedPolicy, WaitPolicy
from verification.policies import Evicting
from verification.reference.system import Request, System
from verification.rules.greedy import Greedy
from verification.rules.sarathi import Sarathi
from verification.rules.vllm_v0 import VllmV0


def _evict_overflow(policy: Evicting, system: System) -> bool:
    evicted = False
    while system.held() > system.replica.kv_capacity:
        newest = system.residents[-1]
        system.leave(newest)
        system.waiting.insert(0 if policy.requeue == "front" else len(system.waiting), newest)
        evicted = True
    return evicted


def _greedy_batch(policy: Greedy, system: System) -> list[Request]:
    evicted = _evict_overflow(policy, system)
    limit = policy.admission_limit(system.replica.kv_capacity)
    while system.waiting and system.places() and not evicted:
        first = system.kv[system.waiting[0].type][0]
        if system.residents and system.held() + first > limit:
            break
        system.enter(system.waiting[0])
    return list(system.residents)


def _vllm_v0_batch(policy: VllmV0, system: System) -> list[Request]:
    evicted = _evict_overflow(policy, system)
    limit = policy.admission_limit(system.replica.kv_capacity)
    while system.waiting and system.places() and not evicted:
        head = system.waiting[0]
        if system.residents and system.held() + system.kv[head.type][0] > limit:
            break
        begun = sum(system.prefill[r.type][r.stage] for r in system.residents)
        most = policy.max_num_batched_tokens
        if most is not None and begun > 0 and begun + system.prefill[head.type][0] > most:
            break
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
        r.part = min(left, system.prefill[r.type][0] - r.done)
        left -= r.part
    return decoding + prefilling, left


def _admit_to_tokens(policy: Sarathi, system: System, left: int) -> list[Request]:
    """(2) Requests from the head of the queue, while a token is left, a place, and KV for their whole prompts."""
    admitted: list[Request] = []
    limit = policy.admission_limit(system.replica.kv_capacity)
    while system.waiting and system.places() and left:
        head = system.waiting[0]
        reserved = sum(system.kv[r.type][r.stage] for r in (*system.residents, head))  # stage 0 is the whole prompt
        if system.residents and reserved > limit:
            break
        system.enter(head)
        admitted.append(head)
        if system.in_prefill(head):
            head.part = min(left, system.prefill[head.type][0])
        left -= 1 if head.part is None else head.part
    return admitted


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
        if policy.gate and (room < entries or len(waiting) < entries):
            room = 0
        for r in waiting[:room]:
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
    VllmV0: _vllm_v0_batch, Sarathi: _sarathi_batch,
}
