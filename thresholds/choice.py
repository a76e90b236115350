"""Which policy to use: the feasible design with the least predicted latency, and why.

Candidates where output lengths are known: WAIT and paced WAIT. Where they are unknown: paced WAIT with one window for
the mix. Literal WAIT pauses its residents, so its latency grows like 1/lambda as the load falls, while continuous
batching takes S iterations at Delta* (`thresholds.delay`): waiting pays only where whole thresholds happen to lie close
to n*. Nested WAIT is designed when asked for by name: on one GPU it needs several times the memory of paced WAIT.
Source: model.md sections 3, 4, 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fluid import Equilibrium, Replica, Workload
from fluid.errors import one_of
from thresholds.delay import predict
from thresholds.nested import NestedDesign
from thresholds.paced import PacedDesign, design_known
from thresholds.unknown import UnknownPacedDesign, paced_unknown
from thresholds.wait import WaitDesign, wait

Continuous = PacedDesign | UnknownPacedDesign
Design = WaitDesign | Continuous | NestedDesign
NAMES = {WaitDesign: "wait", PacedDesign: "paced", UnknownPacedDesign: "paced", NestedDesign: "nested"}


def name_of(design: Design) -> str:
    """The name of a design's policy: "wait", "paced" or "nested"."""
    return NAMES[type(design)]


@dataclass(frozen=True)
class Choice:
    """The design to use, the sentence that says why, and every candidate that was looked at."""

    design: Design
    why: str
    candidates: tuple[Design, ...]


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


def auto(workload: Workload, replica: Replica, *, lengths: str = "known", horizon: float = 3600.0,
         overflow_probability: float = 1e-3) -> Choice:
    """Return the policy to use for a workload, and why.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.01e-7))
    >>> auto(Workload([PromptType(512, 1000, 1.0)]), replica).why
    'paced, because whole WAIT thresholds do not fit'
    """
    windows = paced(workload, replica, lengths=lengths, horizon=horizon, overflow_probability=overflow_probability)
    if lengths == "unknown":
        return Choice(windows, "paced, because output lengths are unknown", (windows,))
    whole = wait(workload, replica)
    if not whole.feasible:
        return Choice(windows, "paced, because whole WAIT thresholds do not fit", (windows, whole))
    return _faster(windows, whole)


def _faster(windows: Continuous, whole: WaitDesign) -> Choice:
    delays: dict[WaitDesign | Continuous, float] = {windows: latency(windows), whole: latency(whole)}
    best: WaitDesign | Continuous = windows if windows.feasible and delays[windows] <= delays[whole] else whole
    other: WaitDesign | Continuous = whole if best is windows else windows
    if not other.feasible:
        return Choice(best, f"{name_of(best)}, because {name_of(other)} WAIT does not fit", (best, other))
    why = (f"{name_of(best)}, because its predicted latency is {delays[best]:.3g} s against {delays[other]:.3g} s "
           f"of {name_of(other)}")
    return Choice(best, why, (best, other))


def latency(design: WaitDesign | Continuous) -> float:
    """The predicted mean latency of a design, seconds; infinite where there is none."""
    equilibrium: Equilibrium = design.equilibrium
    return predict(design, equilibrium.workload, equilibrium.replica).latency if design.exists else math.inf
