"""The literal twins of the rules of `verification.rules.memory_constrained`: every test is made, in every iteration."""

from __future__ import annotations

from fractions import Fraction

from verification.reference.system import Request, System
from verification.rules.memory_constrained.mc_benchmark import MCBenchmark
from verification.rules.memory_constrained.mcsf import MCSF


def mcsf_batch(policy: MCSF, system: System) -> list[Request]:
    """By (predicted stages, arrival)."""
    return _looking_ahead(policy, system, shortest_first=True)


def mc_benchmark_batch(policy: MCBenchmark, system: System) -> list[Request]:
    """By arrival."""
    return _looking_ahead(policy, system, shortest_first=False)


def _looking_ahead(policy: MCSF | MCBenchmark, system: System, shortest_first: bool) -> list[Request]:
    while system.held() > system.replica.kv_capacity:
        _clear(system, system.residents[-1])
    system.waiting.sort(key=lambda r: (len(system.kv[r.seen]) if shortest_first else 0, r.number))
    while system.waiting and system.places():
        head = system.waiting[0]
        refused = system.tokens_of(head) > system.tokens_left() or not _fits(policy, system, head)
        if system.residents and refused:
            break
        system.enter(head)
    return list(system.residents)


def _clear(system: System, r: Request) -> None:
    system.leave(r)
    system.waiting.append(r)


def _fits(policy: MCSF | MCBenchmark, system: System, candidate: Request) -> bool:
    """Whether the KV of everybody stays within the limit in every iteration in which the candidate is resident."""
    limit = policy.admission_limit(system.replica.kv_capacity)
    return all(_predicted(system, later) + kv <= limit for later, kv in enumerate(system.kv[candidate.seen]))


def _predicted(system: System, later: int) -> int | Fraction:
    """The KV of the residents so many iterations after the coming one, of which it is known."""
    if later == 0:
        return system.held()
    return sum(system.kv[r.seen][r.stage + later] for r in system.residents
               if r.stage + later < len(system.kv[r.seen]))
