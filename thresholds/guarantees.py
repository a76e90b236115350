"""What every design has in common: a policy made for a workload on a replica, and the memory it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from math import floor
from typing import Any

import numpy as np

from fluid import Equilibrium, Replica, Workload, solve
from fluid.arrays import Floats, at_most, finite_sum
from fluid.tables import Tabular, duration, figure, listed, plain
from thresholds.mean_time import Batch

INSTALLED = ("boundaries", "thresholds", "entries", "iterations")  # what schedulers take, as policies call it


@dataclass(frozen=True, repr=False)
class OnReplica(Tabular):
    """What makes a policy a design: the `equilibrium` it was designed at, and what follows from it.

    A design class inherits from this one and from its policy, and adds `kv_base` and `kv_required` (tokens), and
    `sequences` and `tokens`, those of an iteration when every stage or window is full. Where no thresholds exist the
    policy's numbers are empty, and the policy's own checks, which ask for at least one, are not made. As a table a
    design is what a scheduler installs, under its `reason`.
    """

    equilibrium: Equilibrium = field(repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.exists:
            super().__post_init__()  # type: ignore[misc]

    def __repr__(self) -> str:
        design: Any = self
        numbers = "".join(f", {name} {listed(value)}" for name in INSTALLED
                          if isinstance(value := getattr(self, name, None), tuple))
        chance = f", overflow {design.overflow_probability:.2g}" if design.overflow_probability else ""
        needs = ", nothing to install"
        if self.exists and design.iteration_time:
            needs = (f"{numbers}, {figure(design.kv_required)} of {self.kv_capacity:,} KV tokens{chance}, iteration "
                     f"{duration(design.iteration_time)}")
        return f"{type(self).__name__}({'feasible' if self.feasible else 'infeasible'}{needs})"

    def to_dict(self) -> dict[str, Any]:
        """Return what it says in plain values, under the names of `fluidwait thresholds --json`."""
        names = ("feasible", "reason", "kv_base", "kv_buffer", "kv_required", "kv_capacity", "iteration_time",
                 "overflow_probability", "max_rate_scale")
        answer = {"policy": getattr(self, "name", ""), **{name: getattr(self, name) for name in names},
                  **self._details()}
        return plain(answer)  # type: ignore[no-any-return]

    def _details(self) -> dict[str, Any]:
        """What only this kind of design has to say."""
        return {}

    def columns(self) -> dict[str, Sequence[object] | Floats]:
        """What is installed, by type, or for the mix where one number serves it; no rows where there is nothing."""
        numbers = {each.name: value for each in fields(self) if isinstance(value := getattr(self, each.name), tuple)}
        rows = len(next(iter(numbers.values())))
        return {"type": self.equilibrium.workload.names if rows > 1 else ("the mix",) * rows, **numbers}

    def caption(self) -> str:
        """What is guaranteed, or why it is not."""
        return str(getattr(self, "reason", ""))

    @property
    def exists(self) -> bool:
        """Whether there are thresholds at all, feasible or not."""
        policy: Any = self
        return bool(policy.entries if hasattr(policy, "entries") else policy.thresholds)

    @property
    def kv_capacity(self) -> int:
        """C, the KV cache of the replica, tokens."""
        return self.equilibrium.kv_capacity

    @property
    def kv_buffer(self) -> float | None:
        """kv_required - kv_base: the tokens kept for what chance, or the phases of windows, can add."""
        base, required = getattr(self, "kv_base", None), getattr(self, "kv_required", None)
        return None if base is None or required is None else required - base

    @property
    def feasible(self) -> bool:
        """Whether thresholds exist, every type can be served, kv_required <= C, and the engine takes such batches."""
        if self.equilibrium.limit in ("time", "length"):
            return False
        return self.kv_suffices and self.places_suffice and self.budget_suffices

    @property
    def kv_suffices(self) -> bool:
        """Whether `kv_required` <= C: KV tokens are whole, so that not even one above C fits."""
        required = getattr(self, "kv_required", None)
        return required is not None and at_most(floor(required), self.kv_capacity)

    @property
    def places_suffice(self) -> bool:
        """Whether a batch takes the `sequences` of the design; true where there is no cap."""
        sequences = getattr(self, "sequences", None)
        return sequences is not None and at_most(sequences, self.equilibrium.replica.most_sequences)

    @property
    def budget_suffices(self) -> bool:
        """Whether the engine computes the `tokens` of the design in an iteration; true where it has no budget."""
        tokens = getattr(self, "tokens", None)
        return tokens is not None and at_most(tokens, self.equilibrium.replica.most_tokens)

    @property
    def lacks(self) -> str:
        """What batches of the design have too much of, for a sentence; nothing where the engine takes them."""
        replica = self.equilibrium.replica
        if not self.places_suffice:
            return (f"{getattr(self, 'sequences', 0):,} sequences into a batch, the replica takes "
                    f"{replica.max_num_seqs:,} (max_num_seqs)")
        if not self.budget_suffices:
            return (f"{getattr(self, 'tokens', 0):,.0f} tokens into an iteration, the replica takes "
                    f"{replica.max_num_batched_tokens:,} (max_num_batched_tokens)")
        return ""

    @property
    def places(self) -> str:
        """The sequences of a batch beside the cap, for a sentence; nothing where there is no cap."""
        cap, sequences = self.equilibrium.replica.max_num_seqs, getattr(self, "sequences", None)
        return "" if cap is None or sequences is None else f", in batches of at most {sequences:,} of {cap:,} sequences"


def beside_a_prefill(equilibrium: Equilibrium) -> float:
    """Return the sequences, this prompt among them, with which the largest first chunk fits a batch: q + 1 - chunk.

    With more of them on average such prompts wait until enough others have left, for ever near the edge. Infinite
    without a budget; an engine that takes smaller chunks instead is a replica with `prefill` in chunks.
    """
    profile = equilibrium.profile
    return equilibrium.replica.most_tokens + 1 - float(np.minimum(profile.chunk, profile.prefilled).max())


@dataclass(frozen=True, repr=False)
class OnEveryPath(OnReplica):
    """A design whose `kv_required` is never exceeded, whatever arrives."""

    @property
    def overflow_probability(self) -> float | None:
        """0 where feasible: the bound holds on every path."""
        return 0.0 if self.feasible else None


def equilibrium_of(policy: object, workload: Workload, replica: Replica) -> Equilibrium:
    """The equilibrium of a workload on a replica; a design that was made for these two brings it along."""
    if isinstance(policy, OnReplica):
        known = policy.equilibrium
        if known.workload == workload and known.replica == replica:
            return known
    return solve(workload, replica)


def mean_batch(equilibrium: Equilibrium, entries: Floats) -> Batch:
    """Return the KV read, prompt tokens and sequences of a batch with x_j prompts of type j in every stage."""
    profile = equilibrium.profile
    return Batch(*(finite_sum(entries * each) for each in (profile.kv_read, profile.prefilled, profile.stages)))


def batch_time(equilibrium: Equilibrium, entries: Floats) -> float:
    """Return Delta(x) = max_i (a_i + sum_j x_j c_ij), seconds, of x_j prompts of type j in every stage; shape (J,)."""
    iteration_time = equilibrium.replica.iteration_time
    return float(np.max(iteration_time.overheads + equilibrium.profile.time_work(iteration_time) @ entries))
