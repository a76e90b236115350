"""A fleet to simulate: how many replicas of each kind there are, and the policy that each runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from fluid import Replica, StageProfile, Workload, stage_profile
from fluid.arrays import Bools, Ints
from fluid.errors import InputError, whole
from fluid.planning import FleetPlan, Kind
from verification.policies import OwnRule, Policy, on_replica
from verification.rules.vllm_v1 import as_it_comes

MOST_REPLICAS = 10_000


@dataclass(frozen=True, eq=False)
class Fleet:
    """`counts` (K,) of the `kinds`, all replicas of a kind running one of the `policies`; numbered kind by kind.

    Raises InputError unless there is a replica, 10,000 at most, and one count and one compiled policy for each kind,
    and for kinds that serve a part of requests.

    >>> from fluid import IterationTime
    >>> Fleet.of([Kind("a100", Replica(137_000, IterationTime(0.0106, 4.013e-7)))], [3])
    Fleet(3 x a100 with vLLM V1)
    """

    kinds: tuple[Kind, ...]
    counts: tuple[int, ...]
    policies: tuple[Policy, ...]

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.kinds) or len(self.policies) != len(self.kinds):
            raise InputError("counts and policies", f"{len(self.kinds)} of each, one per kind",
                             (len(self.counts), len(self.policies)), "Fleet")
        if not 1 <= sum(self.counts) <= MOST_REPLICAS:
            raise InputError("counts", f"1 to {MOST_REPLICAS:,} replicas together", self.counts, "Fleet")
        for policy in self.policies:
            if isinstance(policy, OwnRule):
                raise InputError("policies", "compiled rules, which one in Python is not", policy, "Fleet")
        for each in self.kinds:
            if each.part is not None:
                raise InputError("kinds", "of whole requests; pools of parts are a Tandem", each, "Fleet")

    @classmethod
    def of(cls, kinds: Sequence[Kind], counts: ArrayLike, policies: Sequence[Policy] | None = None) -> Fleet:
        """A fleet of so many replicas of each kind; without policies every replica runs vLLM V1 as it comes."""
        numbers = tuple(whole("counts", float(n), "Fleet", unit="replicas", least=0) for n in np.atleast_1d(counts))
        given = [as_it_comes(each.replica) for each in kinds] if policies is None else policies
        return cls(tuple(kinds), numbers, tuple(given))

    @classmethod
    def planned(cls, plan: FleetPlan, policies: Sequence[Policy] | None = None) -> Fleet:
        """The fleet of a plan; raises InputError where that found none."""
        if plan.counts is None:
            raise InputError("plan", "one that found a fleet", plan.status, "Fleet")
        return cls.of(plan.kinds, plan.counts, policies)

    def __repr__(self) -> str:
        parts = (f"{n:,} x {each.name} with {getattr(policy, 'label', type(policy).__name__)}"
                 for n, each, policy in zip(self.counts, self.kinds, self.policies, strict=True) if n)
        return f"Fleet({' + '.join(parts)})"

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def kind_of(self) -> Ints:
        """The kind of each replica, shape (replicas,)."""
        return np.repeat(np.arange(len(self.kinds)), self.counts)

    def served(self, kind: int) -> Replica:
        """A replica of a kind, with the stages that its policy goes by; `fits` says what it serves."""
        return on_replica(self.policies[kind], replace(self.kinds[kind].replica, max_model_len=None))

    def profiles(self, workload: Workload) -> tuple[StageProfile, ...]:
        """The stages of the types on each kind."""
        return tuple(stage_profile(workload, self.served(k)) for k in range(len(self.kinds)))

    def fits(self, workload: Workload) -> Bools:
        """Which types each kind can serve, by memory and by `max_model_len`: shape (K, J)."""
        rows = []
        for each, profile in zip(self.kinds, self.profiles(workload), strict=True):
            longest = each.replica.max_model_len
            short = workload.prompt_tokens + workload.output_tokens <= (np.inf if longest is None else longest)
            rows.append((profile.peak <= each.replica.kv_capacity) & short)
        return np.array(rows)
