r"""Where the time goes: what an iteration at equilibrium spends on what, and what prefills cost the region.

At equilibrium the line that binds, the one with Delta* = d0 + d1 KV + d2 prefill + d3 size, gives the shares

    d0 / Delta*,   sum_j lambda_j d1 r_j,   sum_j lambda_j d2 l_j,   sum_j lambda_j d3 S_j        (they add up to 1)

with r_j the KV tokens read over a prompt's life: n_j* = lambda_j Delta* prompts sit in each stage. Prefill takes
1 - f/f' of the region, f the largest factor on all rates that stays in it and f' the same with d2 = 0: the stage and
the KV cache of a prefill remain, only its computing is free. Source: model.md section 2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fluid.equilibrium import Equilibrium
from fluid.region import stability_region
from fluid.replica import IterationTime


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
