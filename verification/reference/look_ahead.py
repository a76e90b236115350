"""The literal twin of look-ahead admission: every exponent of every resident, from the words of the rule.

A resident's exponent is the largest over the rows of a block of ln(1 + (exp(theta k) - 1) G(v)/G(a)), between the least
and the most prompt of its class on the chord. The words are those of `thresholds.look_ahead.exponents`; of its code
nothing is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from thresholds import LookAheadPolicy
from verification.reference.system import Request, System

ROUNDING = 1e-9


def look_ahead_batch(policy: LookAheadPolicy, system: System) -> list[Request]:
    """Admit from the head of the queue while the residents with it pass in every block."""
    while system.waiting:
        head = system.waiting[0]
        if system.residents:
            if not system.places() or system.tokens_of(head) > system.tokens_left():
                break
            if not _pass(policy, system, [*system.residents, head]):
                break
        system.enter(head)
    return list(system.residents)


def _pass(policy: LookAheadPolicy, system: System, batch: list[Request]) -> bool:
    capacity = system.replica.kv_capacity
    ends = [*policy.points[1:], math.inf]
    for begin, end, log_chance in zip(policy.points, ends, policy.log_chances, strict=True):
        rooms = [(theta, theta * capacity + log_chance) for theta in policy.thetas]
        probably = any(room > 0 and sum(_exponent(policy, system, r, begin, end, theta) for r in batch)
                       <= room * (1 + ROUNDING) for theta, room in rooms)
        if not probably and sum(_most(policy, system, r, begin, end) for r in batch) > capacity * (1 + ROUNDING):
            return False
    return True


def _exponent(policy: LookAheadPolicy, system: System, r: Request, begin: int, end: float, theta: float) -> float:
    def at(prompt: int) -> float:
        row, survival = _row(policy, system, r), _survival(policy, system, r)
        least = survival(row if policy.step == 1 else row + 1)
        rows = [(survival(k), math.expm1(theta * _held(policy, system, r, prompt, k)))
                for k in _reach(policy, row, begin, end) if survival(k) > 0]
        given_age = max((alive * grown for alive, grown in rows), default=0.0)
        certain = max((grown for _, grown in rows), default=0.0)
        return math.log1p(min(given_age / least, certain) if least > 0 else certain)

    return sum(weight * at(prompt) for weight, prompt in _chord(policy, system, r))


def _most(policy: LookAheadPolicy, system: System, r: Request, begin: int, end: float) -> float:
    row, survival = _row(policy, system, r), _survival(policy, system, r)
    return sum(weight * max((_held(policy, system, r, prompt, k) for k in _reach(policy, row, begin, end)
                             if survival(k) > 0), default=0.0)
               for weight, prompt in _chord(policy, system, r))


def _reach(policy: LookAheadPolicy, row: int, begin: int, end: float) -> range:
    """The rows in which a resident of a row may be, so many iterations ahead."""
    rows = len(policy.survival[0])
    if end == math.inf:
        return range(row + begin // policy.step, rows)
    return range(row + begin // policy.step, min(row + (policy.step - 2 + int(end)) // policy.step + 1, rows))


def _kind(policy: LookAheadPolicy, system: System, r: Request) -> int:
    prompt = system.prompt_of(r)
    return next((c for c, (_, most) in enumerate(policy.prompts) if prompt <= most), len(policy.prompts) - 1)


def _chord(policy: LookAheadPolicy, system: System, r: Request) -> Iterator[tuple[float, int]]:
    least, most = policy.prompts[_kind(policy, system, r)]
    high = max(system.prompt_of(r) - least, 0) / max(most - least, 1)
    yield from ((1 - high, least), (high, most))


def _survival(policy: LookAheadPolicy, system: System, r: Request) -> Callable[[int], float]:
    values = policy.survival[_kind(policy, system, r)]

    def survival(row: int) -> float:
        return 1.0 if row < 0 else values[row] if row < len(values) else 0.0

    return survival


def _row(policy: LookAheadPolicy, system: System, r: Request) -> int:
    """The row of its age, the last of its class that anybody reaches at most."""
    early = max(int(system.profile.prefill_stages[r.type]) - 1, 0)
    alive = sum(value > 0 for value in policy.survival[_kind(policy, system, r)])
    return min((r.stage - early) // policy.step, alive - 1)


def _held(policy: LookAheadPolicy, system: System, r: Request, prompt: int, row: int) -> float:
    """KV of a prompt at the last age of a row; more where it must be affine in the prompt."""
    least, most = policy.prompts[_kind(policy, system, r)]
    elsewhere = int(system.profile.prefill_stages[r.type]) == 0
    beyond = elsewhere + max(row * policy.step + policy.step - 1, 0)
    if system.replica.attention_window is not None and (system.replica.windowed_layers or (1, 1))[0] > 0:
        return float(system.kv_of(most + beyond, system.replica.block))
    if least == most:
        return float(system.kv_of(prompt + beyond, system.replica.block))
    return prompt + beyond + system.replica.block - 1 + system.replica.state
