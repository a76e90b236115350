"""The fluid equilibrium of a replica under a workload.

Flow balance: in one iteration lambda_j Delta prompts of type j arrive and n_j leave, so n_j = lambda_j Delta at every
stage. With W = sum_j lambda_j w_j and, for each piece i, rho_i = sum_j lambda_j c_ij, the iteration time solves
Delta = max_i (a_i + rho_i Delta):

    Delta* = max_i a_i / (1 - rho_i)     needs every rho_i < 1
    M*     = Delta* W                    KV tokens
    n_j*   = lambda_j Delta*             prompts of type j in each stage
    sequences   = sum_j n_j* S_j         in a batch, one in each stage
    tokens      = sum_j n_j* t_j         computed in an iteration, t_j = l_j + o_j over a prompt's life
    throughput* = sum_j lambda_j R_j     output tokens/s

Outside the region no policy is stable: rho >= 1 [A, Prop. 1], or rho < 1 and M* > C, or more sequences than the
engine's cap B, or more tokens than its budget q. Inside, the mix may still be impossible (`fluid.bounds.impossible`):
the fluid edge is an upper bound, reached up to o(1) with one line and a cache of many requests.

**Where the time goes.** At equilibrium the line that binds, the one with Delta* = d0 + d1 KV + d2 prefill + d3 size,
gives the shares

    d0 / Delta*,   sum_j lambda_j d1 r_j,   sum_j lambda_j d2 l_j,   sum_j lambda_j d3 S_j        (they add up to 1)

with r_j the KV tokens read over a prompt's life, as n_j* = lambda_j Delta* prompts are in each stage. Prefill takes
1 - f/f' of the region, f the largest factor on all rates that stays in it and f' the same with d2 = 0: the stage and
the KV cache of a prefill remain, only its computing is free. Source: mathematics, sections 2.1 to 2.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fluid.arrays import Floats, Ints, at_most, below_one, bounded, finite_sum
from fluid.bounds.impossible import Impossible
from fluid.region import Region, region_of, stability_region
from fluid.replica import IterationTime, Replica
from fluid.stages import StageProfile, stage_profile
from fluid.tables import Tabular, duration, figure, plain
from fluid.workload import Workload

LIMITS = {"memory": "memory", "sequences": "max_num_seqs", "tokens": "max_num_batched_tokens",
          "time": "time"}  # as sentences name them


@dataclass(frozen=True, eq=False)
class Equilibrium(Tabular):
    """What the fluid model says of a workload on a replica; made by `solve`. As a table, a row for each type.

    `load` is rho = max_i rho_i; `iteration_time` Delta* (s), `kv_required` M* (tokens), `inventory` n* (prompts per
    stage, shape (J,)), `sequences` (in a batch) and `tokens` (of an iteration) are None where rho >= 1; `throughput` is
    the offered output tokens/s; `max_rate_scale` the largest factor on all rates that stays in the region; `reason`
    says it in words.
    """

    workload: Workload
    replica: Replica
    profile: StageProfile
    region: Region
    load: float
    iteration_time: float | None
    throughput: float

    def __repr__(self) -> str:
        outcome = self.reason.partition(":")[0].removesuffix(" what was evicted")
        needs = ("" if self.iteration_time is None else f", iteration {duration(self.iteration_time)}, "
                 f"{figure(self.kv_required)} of {self.kv_capacity:,} KV tokens")
        return f"Equilibrium({outcome}, load {self.load:.4g}{needs}, up to {self.max_rate_scale:.4g} of these rates)"

    def to_dict(self) -> dict[str, Any]:
        """Return what it says in plain values, under the names of `fluidwait solve --json`."""
        shares = time_shares(self)
        return plain({  # type: ignore[no-any-return]
            "stable": self.stable, "reason": self.reason, "load": self.load, "iteration_time": self.iteration_time,
            "kv_required": self.kv_required, "kv_capacity": self.kv_capacity, "throughput": self.throughput,
            "max_rate_scale": self.max_rate_scale, "sequences": self.sequences, "tokens": self.tokens,
            "time_shares": shares._asdict() if shares else None,
            "max_rate_scale_without_prefill_cost": scale_without_prefill_cost(self), **self._proved,
            "types": self._types})

    @property
    def _proved(self) -> dict[str, Any]:
        """The factors on all rates that no policy carries, with the prices that prove it."""
        if self.limit == "length":
            return {"proved_impossible": 0.0, "proved_impossible_recompute": 0.0, "certificate": None}
        found = self.impossible
        return {"proved_impossible": found.keeping.scale, "proved_impossible_recompute": found.anyone.scale,
                "certificate": found.keeping.to_dict()}

    @property
    def _types(self) -> list[dict[str, Any]]:
        nothing = [None] * len(self.workload)
        columns = (self.workload.names, self.workload.rates, nothing if self.inventory is None else self.inventory,
                   nothing if self.kv_tokens is None else self.kv_tokens, self.profile.kv_work)
        keys = ("name", "rate", "inventory", "kv_tokens", "kv_work")
        return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]

    def columns(self) -> dict[str, Sequence[object] | Floats | Ints]:
        """The types: lengths, rate, prompts per stage and KV tokens (None where rho >= 1)."""
        nothing = [None] * len(self.workload)
        return {**self.workload.columns(), "prompts per stage": nothing if self.inventory is None else self.inventory,
                "KV tokens": nothing if self.kv_tokens is None else self.kv_tokens}

    def caption(self) -> str:
        """The outcome."""
        return self.reason

    @property
    def kv_capacity(self) -> int:
        """C, tokens."""
        return self.replica.kv_capacity

    @cached_property
    def inventory(self) -> Floats | None:
        """n_j* = lambda_j Delta*, prompts of each type in each stage."""
        if self.iteration_time is None:
            return None
        with np.errstate(over="ignore"):
            return bounded(self.workload.rates * self.iteration_time)

    @cached_property
    def kv_tokens(self) -> Floats | None:
        """n_j* w_j, the KV tokens each type holds."""
        if self.inventory is None:
            return None
        with np.errstate(over="ignore"):
            return bounded(self.inventory * self.profile.kv_work)

    @cached_property
    def kv_required(self) -> float | None:
        """M* = sum_j n_j* w_j, tokens."""
        return None if self.kv_tokens is None else finite_sum(self.kv_tokens)

    @cached_property
    def sequences(self) -> float | None:
        """sum_j n_j* S_j, the mean number of sequences in a batch."""
        if self.inventory is None:
            return None
        with np.errstate(over="ignore"):
            return finite_sum(self.inventory * self.profile.stages)

    @cached_property
    def tokens(self) -> float | None:
        """sum_j n_j* t_j, the mean number of tokens computed in an iteration, prefilled and decoded."""
        if self.inventory is None:
            return None
        with np.errstate(over="ignore"):
            return finite_sum(self.inventory * self.profile.tokens)

    @cached_property
    def max_rate_scale(self) -> float:
        """The largest factor on all rates that stays in the region."""
        return self.region.max_rate_scale(self.workload.rates)

    def scaled(self, factor: float) -> Equilibrium:
        """The equilibrium of the same types at `factor` times the rates."""
        return _balanced(self.workload.scaled(factor), self.replica, self.profile, self.region)

    @cached_property
    def impossible(self) -> Impossible:
        """What no policy carries, with the prices that prove it."""
        return Impossible(self.profile, self.workload.rates, self.replica)

    @property
    def stable(self) -> bool:
        """Inside the region (rho < 1, M* <= C, batches as the engine takes them, every type fits) and not proved to be
        impossible for any policy at all."""
        return self.limit is None and not self.impossible.beyond_anyone

    @property
    def limit(self) -> str | None:
        """The limit that is exceeded, or None: "length" (a type never fits), "time" (rho >= 1), "memory" (M* > C),
        "sequences" or "tokens" (more than the engine takes); of the last three the one exceeded by the largest factor.
        """
        if self.region.never_fits.size:
            return "length"
        if self.kv_required is None or self.sequences is None or self.tokens is None:
            return "time"
        shares = {"memory": self.kv_required / self.kv_capacity, "sequences": self.sequences / self._cap,
                  "tokens": self.tokens / self.replica.most_tokens}
        further = max(shares, key=shares.__getitem__)
        return None if at_most(shares[further], 1.0) else further

    @property
    def reason(self) -> str:
        """One sentence: the outcome, what binds, and by how much."""
        edge = f"at most up to {self.max_rate_scale:.4g} of these rates"
        match self.limit:
            case "length":
                j = int(self.region.never_fits[0])
                return (f'never fits: a request of type "{self.workload.names[j]}" grows to '
                        f"{self.profile.peak[j]:,} KV tokens, the replica has {self.kv_capacity:,}")
            case "time":
                return (f"overloaded: the work alone takes {self.load:.4g} s per second (time); "
                        f"the mix is stable {edge}")
            case "memory":
                return (f"overloaded: needs {_tokens(self.kv_required)} KV tokens, the replica has "
                        f"{self.kv_capacity:,} (memory); the mix is stable {edge}")
            case "sequences":
                return (f"overloaded: needs {_count(self.sequences)} sequences in a batch, the replica takes "
                        f"{self._cap:,} (max_num_seqs); the mix is stable {edge}")
            case "tokens":
                return (f"overloaded: needs {_tokens(self.tokens)} tokens in an iteration, the replica takes "
                        f"{self.replica.most_tokens:,} (max_num_batched_tokens); the mix is stable {edge}")
        return self._impossibility or self._stability

    @property
    def _impossibility(self) -> str:
        """One sentence where rates inside the region are proved to be impossible; else nothing."""
        found, fluid = self.impossible, f"the fluid limit, an upper bound, is {self.max_rate_scale:.4g}"
        if found.beyond_anyone:
            whole = " that prefills in the stages of this replica" if found.by_pieces else ""
            return (f"impossible: no policy{whole} carries more than {found.anyone.scale:.4g} of these rates; {fluid}")
        if found.beyond_keeping:
            return ("impossible without recomputing what was evicted: completions cannot overlap in "
                    f"{self.kv_capacity:,} KV tokens, no other policy carries more than {found.keeping.scale:.4g} of "
                    f"these rates; {fluid}")
        return ""

    @property
    def _stability(self) -> str:
        batch = ""
        if self.replica.max_num_seqs is not None:
            batch += f" and {_count(self.sequences)} of {self._cap:,} sequences in a batch"
        if self.replica.max_num_batched_tokens is not None:
            batch += f" and {_tokens(self.tokens)} of {self.replica.max_num_batched_tokens:,} tokens in an iteration"
        return (f"stable: needs {self.kv_required:,.0f} of {self.kv_capacity:,} KV tokens{batch}; "
                f"{LIMITS[self.region.binding(self.workload.rates)]} binds at "
                f"{self.workload.rate * self.max_rate_scale:.4g} requests/s, {self.max_rate_scale:.4g} of these rates "
                "(fluid limit, an upper bound)")

    @property
    def _cap(self) -> float:
        return self.replica.most_sequences


def _tokens(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}" if number < 1e15 else f"{number:.4g}"


def _count(number: float | None) -> str:
    return f"{number:.3g}" if number is not None and number < 1000 else _tokens(number)


def solve(workload: Workload, replica: Replica) -> Equilibrium:
    """Solve the fluid equilibrium, Delta* = max_i a_i / (1 - rho_i).

    `workload` holds J prompt types (rates in requests/s), `replica` the capacity and the iteration time. Returns an
    `Equilibrium`; an overloaded replica is an answer, not an error. Source: mathematics, section 2.1.

    >>> from fluid import IterationTime, PromptType, Workload
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.013e-7))
    >>> solve(Workload([PromptType(512, 20, 20.0)]), replica).stable
    True
    """
    profile = stage_profile(workload, replica)
    return _balanced(workload, replica, profile, region_of(profile, replica))


def _balanced(workload: Workload, replica: Replica, profile: StageProfile, region: Region) -> Equilibrium:
    """The equilibrium at the workload's rates; profile and region are those of its types."""
    with np.errstate(over="ignore"):
        loads = profile.time_work(replica.iteration_time) @ workload.rates
        throughput = finite_sum(workload.rates * workload.output_tokens)
    iteration_time = None
    if below_one(loads.max()):
        iteration_time = float(np.max(replica.iteration_time.overheads / (1.0 - loads)))
    return Equilibrium(workload, replica, profile, region, finite_sum(loads.max()), iteration_time, throughput)


class TimeShares(NamedTuple):
    """Shares of an iteration at equilibrium: fixed overhead, reading KV, prefilling, sequences."""

    overhead: float
    kv: float
    prefill: float
    sequences: float


def time_shares(equilibrium: Equilibrium) -> TimeShares | None:
    """Return what an iteration at equilibrium is spent on, by the line that binds; None where rho >= 1.

    >>> from fluid import PromptType, Replica, Workload, solve
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.01, 0.0, 5e-5))
    >>> time_shares(solve(Workload([PromptType(512, 20, 20.0)]), replica)).prefill      # 20 x 512 x 50 us a second
    0.512
    """
    if equilibrium.iteration_time is None:
        return None
    profile, rates = equilibrium.profile, equilibrium.workload.rates
    work = np.stack([profile.kv_read, profile.prefilled, profile.stages]).astype(np.float64) @ rates
    spent = equilibrium.replica.iteration_time.coefficients * np.concatenate([[1 / equilibrium.iteration_time], work])
    return TimeShares(*spent[np.argmax(spent.sum(axis=1))].tolist())


def scale_without_prefill_cost(equilibrium: Equilibrium) -> float:
    """Return the largest factor on all rates that would stay in the region if prefills took no time, d2 = 0."""
    lines = [IterationTime(d0, d1, 0.0, d3) for d0, d1, _, d3 in equilibrium.replica.iteration_time.pieces]
    replica = replace(equilibrium.replica, iteration_time=IterationTime.largest(*lines))
    return stability_region(equilibrium.workload, replica).max_rate_scale(equilibrium.workload.rates)
