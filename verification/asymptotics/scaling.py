r"""The scaling of heavy traffic: a system zeta times as fast, with the same memory.

    rates zeta lambda_j       coefficients of the iteration time over zeta       C, lengths and thresholds as they were

During an iteration as many prompts arrive as before, lambda_j Delta, so the inventory n*, the memory M* and all
thresholds stay what they are, and T seconds are in law what zeta T seconds were: a policy that looks at counts only
cannot tell. Hence every quantity of [A, Theorem 1] is a function of zeta T, and delays are reported
service-normalised, multiplied by zeta. Where zeta is a power of two, floating point cannot tell either: the path is
the same to the last bit. Source: [A, section 3]; mathematics, section 3.3.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from fluid import IterationTime, Replica, Workload
from fluid.errors import real


class Scaled(NamedTuple):
    """A workload and a replica, zeta times as fast as those they were made from."""

    workload: Workload
    replica: Replica


def scaled(workload: Workload, replica: Replica, zeta: float) -> Scaled:
    """Return the system at scale `zeta`: rates zeta lambda, times d0/zeta, d1/zeta, d2/zeta, d3/zeta, C as it is.

    Raises InputError unless zeta is positive and finite, or where rates or times leave the floating-point numbers.

    >>> from fluid import PromptType, solve
    >>> mix = Workload([PromptType(512, 20, 100.0)])
    >>> replica = Replica(137_000, IterationTime(overhead=0.0106, per_kv_token=4.013e-7))
    >>> solve(mix, replica).kv_required == solve(*scaled(mix, replica, 64.0)).kv_required
    True
    """
    factor = real("zeta", zeta, "scaled")
    lines = [IterationTime(*(coefficient / factor for coefficient in line)) for line in replica.iteration_time.pieces]
    return Scaled(workload.scaled(factor), replace(replica, iteration_time=IterationTime.largest(*lines)))
