"""A design in words: its name, what it promises, what happens when traffic grows."""

from __future__ import annotations

import numpy as np

from fluid import solve
from thresholds import (
    Design,
    NestedDesign,
    PacedDesign,
    PacedPolicy,
    Prediction,
    UnknownPacedDesign,
    WaitPolicy,
    predict,
)

GROWTH = 1.1


def predicted(design: Design) -> Prediction | None:
    """The predicted delays of a design; None where it has no thresholds, or there is no formula (nested)."""
    if isinstance(design, NestedDesign) or not design.exists:
        return None
    return predict(design)


def window_names(design: PacedDesign | UnknownPacedDesign) -> tuple[str, ...]:
    """What each window of a paced design admits: a type, or "all"."""
    names = design.equilibrium.workload.names
    return ("all",) if len(design.entries) == 1 < len(names) else names


def memory(design: Design) -> str:
    """One sentence: base, buffer and what they guarantee."""
    if design.kv_required is None or design.kv_base is None:
        return "no thresholds carry this load"
    chance = design.overflow_probability
    promise = "on every path of arrivals" if not chance else f"except with probability {chance:.2g} over the horizon"
    return (f"memory: {design.kv_base:,.0f} KV tokens base + {design.kv_buffer:,.0f} buffer = "
            f"{design.kv_required:,.0f} of {design.kv_capacity:,}, "
            + (f"kept {promise}" if design.feasible else "which does not fit" if design.kv_required > design.kv_capacity
               else "which fits, but does not carry this load"))


def growth(design: Design) -> str:
    """One sentence: what happens if the traffic grows by 10%."""
    scale = design.max_rate_scale
    if not design.feasible:
        return f"it would fit at {scale:.4g} of these rates"
    if scale < GROWTH:
        return f"traffic 10% higher does not fit: this kind of policy stops at {scale:.4g} of these rates"
    kept = "these thresholds still carry it" if _carries(design, GROWTH) else "thresholds must be derived anew"
    return f"traffic 10% higher fits; {kept}; the limit is {scale:.4g} of these rates"


def _carries(design: Design, factor: float) -> bool:
    """Whether the installed thresholds are above the equilibrium at `factor` times the rates."""
    inventory = solve(design.equilibrium.workload.scaled(factor), design.equilibrium.replica).inventory
    if inventory is None:
        return False
    if isinstance(design, PacedPolicy):
        admitted = np.array(design.entries) / np.array(design.iterations)
        return bool(np.all(admitted > (inventory if len(admitted) == len(inventory) else inventory.sum())))
    if isinstance(design, WaitPolicy):
        return bool(np.all(np.array(design.thresholds) > inventory))
    return False
