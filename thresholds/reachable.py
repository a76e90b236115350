"""The largest rates that a policy of ours is proved to carry, output lengths being known.

The larger of what WAIT's whole thresholds and what entry windows carry, each designed anew for the rates
(`thresholds.wait_thresholds`, `thresholds.paced_wait.known`). Between this and what is proved to be impossible
(`fluid.bounds.impossible`) lies what nobody knows: a better policy, or a better proof. See mathematics, section 10.7.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import NamedTuple

from fluid import Equilibrium
from thresholds.paced_wait.known import largest_scale
from thresholds.wait_thresholds import WaitDesign

FINE, COARSE = 1e-5, 1e-3  # shares of the fluid edge by which the windows' factor may be too low: few types, and many
MOST_TYPES_OF_WAIT = 1000  # beyond, a prompt of each type in every stage fits no cache


class Reachable(NamedTuple):
    """A factor on all rates, and the policy that is proved to carry it: "paced", "wait", or none ("")."""

    scale: float
    policy: str


@lru_cache(maxsize=8)  # an equilibrium is asked by several parts of a report
def reachable(equilibrium: Equilibrium) -> Reachable:
    """Return the largest factor on all rates at which WAIT or windows are feasible for this mix.

    >>> from fluid import IterationTime, PromptType, Replica, Workload, solve
    >>> balance = solve(Workload([PromptType(1, 1000, 1.0)]), Replica(1001, IterationTime(0.01, 0.0)))
    >>> found = reachable(balance)
    >>> round(found.scale, 4), found.policy, round(balance.impossible.keeping.scale, 4)
    (0.0999, 'paced', 0.0999)
    """
    if equilibrium.limit == "length":
        return Reachable(0.0, "")
    few, edge = len(equilibrium.workload) <= MOST_TYPES_OF_WAIT, equilibrium.max_rate_scale
    there = equilibrium.scaled(edge)  # where rates are neither vanishing nor huge
    found = [Reachable(largest_scale(there, FINE if few else COARSE), "paced")]
    if few:
        found.append(Reachable(WaitDesign((), equilibrium=there).max_rate_scale, "wait"))
    best = max(found)
    return Reachable(min(edge * best.scale, sys.float_info.max), best.policy) if best.scale > 0 else Reachable(0.0, "")
