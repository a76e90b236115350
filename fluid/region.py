"""The stability region: the arrival rates that one replica can carry.

M* <= C with M* = Delta* W and Delta* = max_i a_i / (1 - rho_i) is a polytope in the rates, one half-space for each
piece i of the iteration time, because a_i W / (1 - rho_i) <= C is a_i W / C <= 1 - rho_i. The sequences of a batch at
equilibrium are Delta* sum_j lambda_j S_j, one in each of the S_j stages, so an engine that runs at most B together
(`max_num_seqs`) adds half-spaces of the same form, S_j for w_j and B for C. So does one that computes at most q tokens
in an iteration (`max_num_batched_tokens`): at equilibrium they are Delta* sum_j lambda_j t_j, with t_j = l_j + o_j the
tokens a prompt takes over its life (o_j where prefill happens elsewhere):

    sum_j lambda_j h_ij <= 1,      memory      h_ij = c_ij + a_i w_j / C
                                   sequences   h_ij = c_ij + a_i S_j / B        where there is a cap
                                   tokens      h_ij = c_ij + a_i t_j / q        where there is a token budget
                                   time        h_ij = c_ij (1 + 3e-9)

The last ensures rho < 1, to the shared tolerance of 1e-9, at every point of the region; it binds only where the second
terms of the others are negligible. A mix can grow by the factor 1 / max_i sum_j lambda_j h_ij. A type that never fits
(its largest stage KV exceeds C) is outside at every positive rate. Source: mathematics, sections 2.2 and 2.5; sequences
and tokens derived here.

**How sure.** With one piece the load of the edge is linear in its coefficients d = (d0, d1, d2, d3): the largest over
the limits of g . d, g = (sum_j lambda_j x_j / X of the limit, sum_j lambda_j (KV read, tokens prefilled, stages)). If d
is known up to a covariance V, the factor 1 / (g . d) has at 95% the interval 1 / (g . d +- 1.96 sqrt(g' V g)).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import TOLERANCE, Floats, Ints, at_most, bounded
from fluid.errors import InputError
from fluid.replica import Replica
from fluid.stages import StageProfile, stage_profile
from fluid.workload import Workload


@dataclass(frozen=True, eq=False)
class Region:
    """Half-spaces sum_j lambda_j h_ij <= 1 over the rates of J types.

    `half_spaces` is h, shape (constraints, J), seconds; `limits` says which limit each row is, "memory", "sequences",
    "tokens" or "time": one row for each piece of the iteration time, those of memory first, those of a cap on sequences
    and of a token budget (where there are such) next, those of time last. `never_fits` lists the types whose largest
    stage KV exceeds C.
    """

    half_spaces: Floats
    limits: tuple[str, ...]
    never_fits: Ints

    def __repr__(self) -> str:
        return f"Region({len(self.limits)} half-spaces in the rates of {self.half_spaces.shape[1]:,} types)"

    def edge_load(self, rates: ArrayLike) -> float:
        """Return max_i sum_j lambda_j h_ij for rates of shape (J,): 1 on the edge, above it outside."""
        return float(min(self._loads(rates).max(), sys.float_info.max))

    def binding(self, rates: ArrayLike) -> str:
        """Return the limit that a mix in these proportions reaches first as its rates grow."""
        return self.limits[int(np.argmax(self._loads(rates)))]

    def contains(self, rates: ArrayLike) -> bool:
        """Whether the rates are inside the region or on its edge."""
        return not self._has_type_that_never_fits(rates) and at_most(self.edge_load(rates), 1.0)

    def max_rate_scale(self, rates: ArrayLike) -> float:
        """Return the largest factor on all rates that stays inside, 1 / max_i sum_j lambda_j h_ij.

        It is 0 if none does, and at most the largest float.
        """
        load = self.edge_load(rates)
        if self._has_type_that_never_fits(rates):
            return 0.0
        return 1.0 / load if load > 1 / sys.float_info.max else sys.float_info.max

    def _loads(self, rates: ArrayLike) -> Floats:
        values = np.asarray(rates, dtype=np.float64)
        if values.shape != self.half_spaces.shape[1:]:
            raise InputError("rates", f"{self.half_spaces.shape[1]} numbers, one per prompt type", rates, "region")
        with np.errstate(over="ignore"):
            loads: Floats = self.half_spaces @ values
        return loads

    def _has_type_that_never_fits(self, rates: ArrayLike) -> bool:
        return bool(np.any(np.asarray(rates)[self.never_fits] > 0))


def stability_region(workload: Workload, replica: Replica) -> Region:
    """Return the stability region over the rates of the workload's types (its own rates do not matter).

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=9, iteration_time=IterationTime(0.5, 0.5 / 9))
    >>> region = stability_region(Workload([PromptType(1, 1, 1.0), PromptType(1, 2, 1.0)]), replica)
    >>> round(region.edge_load([1.0, 1.0]), 12)
    1.0
    """
    return region_of(stage_profile(workload, replica), replica)


def max_rate_scale_interval(workload: Workload, replica: Replica, covariance: Floats) -> tuple[float, float | None]:
    """The interval at 95% of `max_rate_scale` under a covariance (4, 4) of the one piece of the iteration time.

    The upper end is None where the interval has none. Raises InputError for an iteration time of several pieces.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=9, iteration_time=IterationTime(0.5, 0.5 / 9))
    >>> workload = Workload([PromptType(1, 1, 1.0)])
    >>> low, high = max_rate_scale_interval(workload, replica, np.diag([1e-4, 0, 0, 0]))
    >>> low < stability_region(workload, replica).max_rate_scale([1.0]) < high
    True
    """
    if len(replica.iteration_time.pieces) > 1:
        raise InputError("iteration_time", "one piece", len(replica.iteration_time.pieces), "max_rate_scale_interval")
    profile, rates = stage_profile(workload, replica), workload.rates
    limits = [profile.kv_work / replica.kv_capacity, profile.stages / replica.most_sequences,
              profile.tokens / replica.most_tokens]
    held = max(float(rates @ each) for each in limits)
    g = np.array([held, *(float(rates @ each) for each in (profile.kv_read, profile.prefilled, profile.stages))])
    load, half = float(g @ replica.iteration_time.coefficients[0]), 1.96 * float(np.sqrt(g @ covariance @ g))
    return 1.0 / (load + half), 1.0 / (load - half) if half < load else None


def region_of(profile: StageProfile, replica: Replica) -> Region:
    """Return the stability region of types whose stage profile is already known."""
    overheads = replica.iteration_time.overheads[:, None]
    time_work = profile.time_work(replica.iteration_time)
    with np.errstate(over="ignore"):
        rows = {"memory": time_work + overheads * (profile.kv_work / replica.kv_capacity)}
        if replica.max_num_seqs is not None:
            rows["sequences"] = time_work + overheads * (profile.stages / replica.max_num_seqs)
        if replica.max_num_batched_tokens is not None:
            rows["tokens"] = time_work + overheads * (profile.tokens / replica.max_num_batched_tokens)
        rows["time"] = time_work * (1 + 3 * TOLERANCE)
        half_spaces = bounded(np.concatenate(list(rows.values())))
    limits = tuple(limit for limit, block in rows.items() for _ in block)
    return Region(half_spaces, limits, np.flatnonzero(profile.peak > replica.kv_capacity))
