"""What `simulate` runs: policies as values, apart from the rules that simulate them.

WAIT, paced WAIT and nested WAIT are in `thresholds.policies`; a rule that needs no thresholds has its value in its own
file under `verification/rules/`. Here is what several of them share, and what a rule of a user's own must have.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol, runtime_checkable

from fluid import Replica
from fluid.errors import InputError, one_of, real, share_meant, whole
from fluid.replica import DECODE_ONLY, WHOLE
from verification.reference.system import Request, System


class Policy(Protocol):
    """A policy: a value that one of `verification.rules.RULES` runs, or a rule of a user's own (`OwnRule`)."""

    @property
    def by_type(self) -> bool:
        """Whether the type of a request, its output length with it, must be known or predicted on arrival."""


def on_replica(policy: Policy, replica: Replica) -> Replica:
    """The replica whose stages a policy goes by: its own, unless the policy says otherwise (`Sarathi.on_replica`)."""
    stages_of = getattr(policy, "on_replica", None)
    return replica if stages_of is None else stages_of(replica)


def with_whole_prompts(replica: Replica) -> Replica:
    """The replica as rules see it that make their own chunks, or none, under a token budget of their own."""
    prefill = DECODE_ONLY if replica.prefill == DECODE_ONLY else WHOLE
    return replace(replica, prefill=prefill, max_num_batched_tokens=None)


def all_but(share: float, kv_capacity: int, unit: int = 1) -> int:
    """The KV capacity but for a share of it, in whole tokens, each of so many units."""
    tokens = kv_capacity // unit
    return unit * min(math.floor((1 - share) * tokens * (1 + 1e-12)), tokens)


class Protecting:
    """A rule of [J]: `protection` is alpha, the share of C that admissions leave free."""

    protection: float

    def __post_init__(self) -> None:
        name = type(self).__name__
        if real("protection", self.protection, name, zero=True) >= 1:
            raise InputError("protection", "a share of the KV cache in [0, 1)", self.protection, name,
                             share_meant(self.protection))

    def admission_limit(self, kv_capacity: int, unit: int = 1) -> int:
        """The KV up to which requests are admitted, (1 - protection) C in whole tokens, each of so many units."""
        return all_but(self.protection, kv_capacity, unit)


class Evicting:
    """A rule that admits under a watermark and evicts: `watermark` is the share of C kept free.

    `requeue` is where an evicted request goes back, to the "front" (vLLM) or the "back" ([A]'s new job); `eviction`
    what becomes of the tokens it has made: "recompute" keeps them, and prefills them with the prompt when it comes back
    (engines), "restart" makes them again ([A]).
    """

    watermark: float
    requeue: str
    eviction: str

    def __post_init__(self) -> None:
        name = type(self).__name__
        if real("watermark", self.watermark, name, zero=True) >= 1:
            raise InputError("watermark", "a share of the KV cache in [0, 1)", self.watermark, name,
                             share_meant(self.watermark))
        one_of("requeue", self.requeue, ("front", "back"), name)
        one_of("eviction", self.eviction, ("recompute", "restart"), name)

    def keep_whole_tokens(self, field: str) -> None:
        """Keep a field of the rule as a whole number of tokens; raises InputError where it is none."""
        object.__setattr__(self, field, whole(field, getattr(self, field), type(self).__name__, unit="tokens"))

    @property
    def by_type(self) -> bool:
        """Whether output lengths must be known on arrival: never."""
        return False

    def admission_limit(self, kv_capacity: int, unit: int = 1) -> int:
        """The KV up to which requests are admitted, (1 - watermark) C in whole tokens, each of so many units."""
        return all_but(self.watermark, kv_capacity, unit)


@runtime_checkable
class OwnRule(Protocol):
    """A decision rule in Python: `simulate` and `verify` take any object with `batch` and `by_type`.

    `batch(system)` is called whenever the server is free and returns the residents that the next iteration serves.
    Before, it may admit requests of `system.waiting` (`system.enter`) and evict residents (`system.leave`: all progress
    lost, and to wait again the request must be put back into `system.waiting`). A resident holds
    `system.kv[r.type][r.stage]` tokens, its stage the one it executes next; `r.seen` is the type it is taken for;
    `system.replica.kv_capacity` is C. Without a batch the server sleeps until the next arrival. `by_type` says whether
    the rule looks at types.

    >>> from fluid import IterationTime, PromptType, Workload
    >>> class OneByOne:
    ...     by_type = False
    ...     def batch(self, system):
    ...         if system.waiting and not system.residents:
    ...             system.enter(system.waiting[0])
    ...         return list(system.residents)
    >>> replica = Replica(kv_capacity=100, iteration_time=IterationTime(1.0, 0.0))
    >>> workload = Workload([PromptType(10, 2, 1.0)])
    >>> from verification import Arrivals, simulate
    >>> simulate(OneByOne(), workload, replica, arrivals=Arrivals([0.0, 0.5], [0, 0])).latency.tolist()
    [3.0, 5.5]
    """

    @property
    def by_type(self) -> bool:
        """Whether the rule looks at types."""

    def batch(self, system: System) -> list[Request]:
        """The residents that the next iteration serves."""
