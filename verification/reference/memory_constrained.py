"""The literal twins of the rules of `verification.rules.memory_constrained`: every test is made, in every iteration."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate

from verification.reference.system import Request, System
from verification.rules.memory_constrained.a_min import AMin
from verification.rules.memory_constrained.clearing import Clearing
from verification.rules.memory_constrained.mc_benchmark import MCBenchmark
from verification.rules.memory_constrained.mcsf import MCSF
from verification.rules.memory_constrained.protected import Protected
from verification.rules.memory_constrained.sorted_f import SortedF

PATIENCE = 100
WORD = 2**64


def mcsf_batch(policy: MCSF, system: System) -> list[Request]:
    """By (predicted stages, arrival)."""
    return _looking_ahead(policy, system, lambda r: (len(system.kv[r.seen]), r.number))


def mc_benchmark_batch(policy: MCBenchmark, system: System) -> list[Request]:
    """By arrival."""
    return _looking_ahead(policy, system, lambda r: (0, r.number))


def _looking_ahead(policy: MCSF | MCBenchmark, system: System, turn: Callable[[Request], tuple[int, int]]
                   ) -> list[Request]:
    while system.held() > system.replica.kv_capacity:
        _clear(system, system.residents[-1])
    for r in system.waiting:
        r.kind, r.bound = r.seen, len(system.kv[r.seen])
    system.waiting.sort(key=turn)
    limit = policy.admission_limit(system.replica.kv_capacity)
    return _admit_while(system, lambda head: _fits_ahead(system, head, limit))


def protected_batch(policy: Protected, system: System) -> list[Request]:
    """By arrival, one iteration ahead; on overflow everybody goes."""
    return _clearing(policy, system, 1.0, 0)


def clearing_batch(policy: Clearing, system: System) -> list[Request]:
    """By arrival, one iteration ahead; on overflow each goes by chance."""
    return _clearing(policy, system, policy.chance, policy.seed)


def _clearing(policy: Protected | Clearing, system: System, chance: float, seed: int) -> list[Request]:
    if system.held() > system.replica.kv_capacity:
        rescued = system.fruitless >= (1 if chance == 1 else PATIENCE)
        _clear_by_chance(system, chance, seed, system.residents[0] if rescued else None)
        system.fruitless += system.arrived == system.sent
    system.waiting.sort(key=lambda r: r.number)
    limit = policy.admission_limit(system.replica.kv_capacity)
    return _admit_while(system, lambda head: system.held() + system.held_by(head) <= limit)


def _clear_by_chance(system: System, chance: float, seed: int, kept: Request | None) -> None:
    number = 0
    while system.held() > system.replica.kv_capacity:
        for r in list(system.residents):
            if r is not kept and _uniform(seed, r.number, system.iterations, number) < chance:
                _clear(system, r)
        number += 1


def _uniform(*numbers: int) -> float:
    """SplitMix64 of one number after the other, its upper 53 bits."""
    bits = 0
    for number in numbers:
        bits = ((bits ^ number) + 0x9E3779B97F4A7C15) % WORD
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 % WORD
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB % WORD
        bits ^= bits >> 31
    return (bits >> 11) / 2**53


def a_min_batch(policy: AMin, system: System) -> list[Request]:
    """By (bound, arrival); on overflow the least bound goes, and comes back with what it had gone through."""
    for r in system.waiting:
        if r.bound == 0:
            r.kind = r.seen if policy.bound is None else r.type
            r.bound = len(system.kv[r.seen]) if policy.bound is None else _stages_of(system, r, policy.bound)
    while system.held() > system.replica.kv_capacity:
        least = min(system.residents, key=lambda r: (max(r.bound, r.stage), -r.number))
        least.bound = max(least.bound, least.stage)
        _clear(system, least)
    system.waiting.sort(key=lambda r: (r.bound, r.number))
    return _admit_while(system, lambda head: _fits_ahead(system, head, system.replica.kv_capacity))


def sorted_f_batch(policy: SortedF, system: System) -> list[Request]:
    """By batches of least F, ordered anew when somebody came or was cleared: those have no bound yet."""
    while system.held() > system.replica.kv_capacity:
        newest = system.residents[-1]
        newest.bound = 0
        _clear(system, newest)
    if any(r.bound == 0 for r in system.waiting):
        for r in system.waiting:
            r.kind, r.bound = r.seen, len(system.kv[r.seen])
        system.waiting[:] = _in_batches(system, system.waiting)
    return _admit_while(system, lambda head: _fits_ahead(system, head, system.replica.kv_capacity))


def _in_batches(system: System, waiting: list[Request]) -> list[Request]:
    """X_1, X_2, ..., each of the least sum S / k^2 among the first k in nine orders that fit side by side."""
    def peak(r: Request) -> int | Fraction:
        return min(system.kv[r.kind][-1], system.replica.kv_capacity)

    line, left = list[Request](), sorted(waiting, key=lambda r: (r.bound, peak(r), r.number))
    while left:
        orders = [sorted(left, key=lambda r: (8 - j) * r.bound + j * peak(r)) for j in range(9)]
        firsts = [order[:k + 1] for order in orders for k, together in enumerate(accumulate(map(peak, order)))
                  if together <= system.replica.kv_capacity]
        best = {r.number for r in min(firsts, key=lambda x: (Fraction(sum(r.bound for r in x), len(x)**2), -len(x)))}
        line += sorted((r for r in left if r.number in best), key=lambda r: (r.bound, r.number))
        left = [r for r in left if r.number not in best]
    return line


def _stages_of(system: System, r: Request, output: int) -> int:
    """Prefill stages, and a decode for each token that no prefill has made."""
    chunks = int(system.profile.prefill_stages[r.type])
    made_before = system.profile.first_token_stage[r.type] < chunks
    return max(chunks + output - int(made_before), 1)


def _clear(system: System, r: Request) -> None:
    system.leave(r)
    system.waiting.append(r)


def _admit_while(system: System, passes: Callable[[Request], bool]) -> list[Request]:
    """Admit from the head while it passes and the batch has a place and tokens; an empty server takes it anyhow."""
    while system.waiting and system.places():
        head = system.waiting[0]
        if system.residents and (system.tokens_of(head) > system.tokens_left() or not passes(head)):
            break
        system.enter(head)
    return list(system.residents)


def _fits_ahead(system: System, head: Request, limit: int) -> bool:
    """Whether the KV of everybody stays within the limit in every iteration in which the head is resident."""
    return all(_predicted(system, later) + _kv_at(system, head, later) <= limit for later in range(head.bound))


def _predicted(system: System, later: int) -> int | Fraction:
    """The KV of the residents so many iterations after the coming one, of which it is known."""
    if later == 0:
        return system.held()
    return sum(_kv_at(system, r, r.stage + later) for r in system.residents if r.stage + later < r.bound)


def _kv_at(system: System, r: Request, stage: int) -> int | Fraction:
    """The KV of a request at a stage, as what it is taken for; beyond the last of these it grows on."""
    if stage < len(system.kv[r.kind]):
        return system.kv[r.kind][stage]
    decoded = stage - int(system.profile.prefill_stages[r.kind]) + 1
    return system.kv_of(int(system.profile.prompt[r.kind]) + decoded, system.replica.block)
