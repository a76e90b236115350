"""Paced WAIT designed: a window per type where output lengths are known and types few, else one for the mix."""

from __future__ import annotations

from fluid import Replica, Workload, solve
from fluid.errors import one_of
from fluid.traces.trace import Trace
from thresholds.paced_wait.known import PacedDesign, known_at
from thresholds.paced_wait.unknown import UnknownPacedDesign, unknown_at

AnyPacedDesign = PacedDesign | UnknownPacedDesign


def paced(workload: Workload, replica: Replica, *, lengths: str = "known", gate: bool = False, horizon: float = 3600.0,
          overflow_probability: float = 1e-3, rows: Trace | int | None = None,
          confidence: float = 0.95) -> AnyPacedDesign:
    """Return paced WAIT: windows per type for known lengths, one for the mix where they are unknown or the types many.

    `lengths` says whether the scheduler knows output lengths on arrival, "known" or "unknown"; `gate` whether a type
    enters in full cohorts only. With known lengths the bound on the KV cache holds on every path of arrivals. Where
    that bound makes one window for a mix infeasible, and wherever lengths are unknown, it holds over `horizon` seconds
    with probability at least 1 - `overflow_probability`. Where the law of lengths was seen in `rows` (how many, or the
    trace, whose order is then tested), that holds with `confidence` over them, and of lengths that depend on each other
    nothing is promised beyond the trace. Raises InputError for a bad argument; infeasible is an answer.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.01e-7))
    >>> design = paced(Workload([PromptType(512, 1000, 2.0)]), replica)
    >>> design.entries, design.iterations
    ((2,), (15,))
    """
    known = one_of("lengths", lengths, ("known", "unknown"), "paced") == "known"
    equilibrium = solve(workload, replica)
    if known:
        design = known_at(equilibrium, gate)
        if design.feasible or len(design.entries) != 1 or len(workload) == 1 or gate:
            return design
    return unknown_at(equilibrium, horizon, overflow_probability, rows, confidence)
