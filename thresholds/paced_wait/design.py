"""Paced WAIT designed: windows by type where lengths are known and the types few, else one window for the mix."""

from __future__ import annotations

from fluid import Replica, Workload
from fluid.errors import one_of
from thresholds.paced_wait.known import PacedDesign, design_known
from thresholds.paced_wait.unknown import UnknownPacedDesign, paced_unknown

Continuous = PacedDesign | UnknownPacedDesign


def paced(workload: Workload, replica: Replica, *, lengths: str = "known", gate: bool = False, horizon: float = 3600.0,
          overflow_probability: float = 1e-3) -> Continuous:
    """Return paced WAIT: windows per type for known lengths, one for the mix where they are unknown or the types many.

    With known lengths the bound on the KV cache holds on every path; where that bound leaves a mix behind one window
    infeasible, and wherever lengths are unknown, it holds over `horizon` seconds with probability at least
    1 - `overflow_probability`. Raises InputError for a bad argument; infeasible is an answer.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.01e-7))
    >>> design = paced(Workload([PromptType(512, 1000, 2.0)]), replica)
    >>> design.entries, design.iterations
    ((2,), (15,))
    """
    if one_of("lengths", lengths, ("known", "unknown"), "paced") == "known":
        design = design_known(workload, replica, gate)
        if design.feasible or len(design.entries) != 1 or len(workload) == 1 or gate:
            return design
    return paced_unknown(workload, replica, horizon=horizon, overflow_probability=overflow_probability)
