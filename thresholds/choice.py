"""Which policy to use: the feasible design with the least predicted latency, and why.

Candidates where output lengths are known: WAIT and paced WAIT. Where they are unknown, or types too many for a window
each: paced WAIT with one window for the mix, and look-ahead admission, which carries more under the same promise but is
more to install: it is chosen where the window does not carry the load. WAIT pauses its residents until whole thresholds
are reached, so its latency grows like 1/lambda as the load falls, while under the others a request takes S iterations
of Delta* (`thresholds.delay.prediction`): WAIT is faster only where whole thresholds happen to lie close to n*. Nested
WAIT is no candidate: on one GPU it needs several times the memory of paced WAIT. Source: mathematics, section 4.9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fluid import Replica, Workload
from fluid.traces.trace import Trace
from thresholds.delay.prediction import predict
from thresholds.look_ahead.design import LookAheadDesign, look_ahead_at
from thresholds.nested_wait.design import NestedDesign
from thresholds.paced_wait.design import AnyPacedDesign, paced
from thresholds.paced_wait.unknown import UnknownPacedDesign
from thresholds.wait_thresholds import WaitDesign, wait_at

Design = WaitDesign | AnyPacedDesign | NestedDesign | LookAheadDesign


def name_of(design: Design) -> str:
    """The name of a design's policy: "wait", "paced", "nested" or "look-ahead"."""
    return design.name


@dataclass(frozen=True)
class Choice:
    """The design to use, the sentence that says why, and every candidate that was looked at."""

    design: Design
    why: str
    candidates: tuple[Design, ...]

    def __repr__(self) -> str:
        return f"Choice({self.why}; of {len(self.candidates)} candidates)"


def auto(workload: Workload, replica: Replica, *, lengths: str = "known", horizon: float = 3600.0,
         overflow_probability: float = 1e-3, rows: Trace | int | None = None, confidence: float = 0.95) -> Choice:
    """Return the policy to use for a workload on a replica, and why.

    `lengths` says whether the scheduler knows output lengths on arrival, "known" or "unknown". Where they are unknown,
    the KV cache overflows within `horizon` seconds with probability at most `overflow_probability`; with `confidence`
    over the `rows` that the lengths were seen in, where these are given (see `paced`). The design may be infeasible,
    which it says; raises InputError for a bad argument.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.01e-7))
    >>> auto(Workload([PromptType(512, 1000, 1.0)]), replica).why
    'paced, because whole WAIT thresholds do not fit'
    """
    windows = paced(workload, replica, lengths=lengths, horizon=horizon, overflow_probability=overflow_probability,
                    rows=rows, confidence=confidence)
    ahead = (look_ahead_at(windows.equilibrium, horizon, overflow_probability)
             if rows is None and isinstance(windows, UnknownPacedDesign) else None)
    if ahead is not None and ahead.feasible and not windows.feasible:
        why = (f"look-ahead, because one window for the mix carries {windows.max_rate_scale:.4g} of these rates with "
               "the same promise")
        return Choice(ahead, why, (windows, ahead))
    others: tuple[Design, ...] = () if ahead is None else (ahead,)
    if lengths == "unknown":
        return Choice(windows, "paced, because output lengths are unknown", (windows, *others))
    whole = wait_at(windows.equilibrium)
    if not whole.feasible:
        return Choice(windows, "paced, because whole WAIT thresholds do not fit", (windows, *others, whole))
    choice = _faster(windows, whole)
    return replace(choice, candidates=(*choice.candidates, *others))


def _faster(windows: AnyPacedDesign, whole: WaitDesign) -> Choice:
    delays: dict[WaitDesign | AnyPacedDesign, float] = {windows: latency(windows), whole: latency(whole)}
    best: WaitDesign | AnyPacedDesign = windows if windows.feasible and delays[windows] <= delays[whole] else whole
    other: WaitDesign | AnyPacedDesign = whole if best is windows else windows
    if not other.feasible:
        return Choice(best, f"{name_of(best)}, because {name_of(other)} WAIT does not fit", (best, other))
    why = (f"{name_of(best)}, because its predicted latency is {delays[best]:.3g} s against {delays[other]:.3g} s "
           f"of {name_of(other)}")
    return Choice(best, why, (best, other))


def latency(design: WaitDesign | AnyPacedDesign) -> float:
    """The predicted mean latency of a design, seconds; infinite where there is none."""
    return predict(design).latency if design.exists else math.inf
