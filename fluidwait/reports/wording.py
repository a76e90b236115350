"""In words: a design, what it promises, what happens when traffic grows; which intervals cannot be trusted."""

from __future__ import annotations

import numpy as np

from fluid import Equilibrium, solve
from thresholds import (
    Design,
    Dispersion,
    LookAheadDesign,
    NestedDesign,
    PacedDesign,
    PacedPolicy,
    Prediction,
    Reachable,
    UnknownPacedDesign,
    WaitPolicy,
    predict,
    reachable,
)
from thresholds.paced_wait.window_bounds import window_names as names_of_windows
from verification import Verification

GROWTH = 1.1
MOST_PRICES = 2  # sizes of prefills whose price is said
ALIKE = 5e-4  # bounds that are nearer are said to be one
DOUBTED = "?"  # behind an interval that cannot be trusted
MEASURES = {"latency": "latency", "latency_p99": "latency p99", "ttft": "TTFT", "ttft_p99": "TTFT p99",
            "throughput": "throughput"}


def predicted(design: Design, dispersion: Dispersion) -> Prediction | None:
    """The predicted delays of a design at a dispersion of the arrivals; None where it has no thresholds, or there is no
    formula (nested).
    """
    if isinstance(design, NestedDesign) or not design.exists:
        return None
    return predict(design, dispersion=dispersion)


def window_names(design: PacedDesign | UnknownPacedDesign) -> tuple[str, ...]:
    """What each window of a paced design admits: a type, or "all"."""
    return names_of_windows(design, design.equilibrium)


def memory(design: Design) -> str:
    """One sentence: base, buffer and what they guarantee."""
    if design.kv_required is None or design.kv_base is None:
        return "no thresholds carry this load"
    chance = design.overflow_probability
    promise = "on every path of arrivals" if not chance else f"except with probability {chance:.2g} over the horizon"
    if isinstance(design, UnknownPacedDesign) and design.in_order:
        promise = "while the trace is replayed in its order"
    elif isinstance(design, UnknownPacedDesign | NestedDesign) and design.evidence is not None:
        promise += f", with confidence {design.evidence.confidence:.0%} over {design.evidence.rows:,} rows"
    return (f"memory: {design.kv_base:,.0f} KV tokens base + {design.kv_buffer:,.0f} buffer = "
            f"{design.kv_required:,.0f} of {design.kv_capacity:,}, "
            + (f"kept {promise}" if design.feasible else "which does not fit" if design.kv_required > design.kv_capacity
               else "which fits, but does not carry this load"))


def standing(equilibrium: Equilibrium, reach: Reachable) -> str:
    """What is proved of these rates: "reachable", "unknown", "impossible without recomputation" or "impossible"."""
    if equilibrium.limit is not None or equilibrium.impossible.beyond_anyone:
        return "impossible"
    if equilibrium.impossible.beyond_keeping:
        return "impossible without recomputation"
    return "reachable" if reach.scale >= 1 else "unknown"


def reason_of(equilibrium: Equilibrium) -> str:
    """The sentence of the equilibrium, which is called stable without a reserve only where a policy carries it."""
    if equilibrium.limit is None and standing(equilibrium, reachable(equilibrium)) == "unknown":
        return equilibrium.reason.replace("stable: ", "stable in the fluid model, not proved: ", 1)
    return equilibrium.reason


def proved(equilibrium: Equilibrium, reach: Reachable) -> str:
    """One sentence: how far a policy of ours is proved to carry the mix, and from where on none can."""
    found = equilibrium.impossible
    keeping, anyone = found.keeping.scale, found.anyone.scale
    name = {"paced": "paced WAIT", "wait": "WAIT", "": ""}[reach.policy]
    carried = f"{name} carries up to {reach.scale:.4g} of these rates" if name else "no policy of ours carries the mix"
    most = f"no policy carries more than {anyone:.4g}"
    if anyone > keeping * (1 + ALIKE):
        most = (f"no policy carries more than {keeping:.4g} but by recomputing what it evicted, and none more than "
                f"{anyone:.4g}")
    stages = ", prefills being done in the stages of this replica" if found.by_pieces else ""
    open_zone = "" if reach.scale >= keeping * (1 - ALIKE) else "; between them nobody knows"
    return f"proved: {carried}, output lengths known; {most}{stages}{open_zone}"


def worth(equilibrium: Equilibrium) -> str:
    """One sentence: the prices that prove that no policy carries more."""
    certificate = equilibrium.impossible.keeping
    prices, sizes = certificate.prices, certificate.demand.sizes
    parts = [f"{price * 1e6:.4g} us a token prefilled in pieces of {size:,.0f} tokens or more"
             for size, price in list(zip(sizes, prices.prefill, strict=True))[-MOST_PRICES:] if price > 0]
    for price, what in ((prices.kv_read, "a KV token read"), (prices.kv_held, "a KV token held"),
                        (prices.sequence, "a sequence"), (prices.decode, "a token decoded"),
                        (prices.iteration, f"an iteration ({certificate.demand.iterations:.4g} are needed a second)")):
        if price > 0:
            parts.append(f"{price * 1e6:.4g} us {what}")
    return (f"prices that prove it: {'; '.join(parts)}. No batch takes less time than it is worth at them, and a "
            f"second's arrivals are worth {certificate.value:.4g} s")


def growth(design: Design) -> str:
    """One sentence: what happens if the traffic grows by 10%."""
    scale = design.max_rate_scale
    if not design.feasible:
        return f"it would fit at {scale:.4g} of these rates"
    if scale < GROWTH:
        return f"traffic 10% higher does not fit: this kind of policy stops at {scale:.4g} of these rates"
    kept = "these thresholds still carry it" if _carries(design, GROWTH) else "thresholds must be derived anew"
    return f"traffic 10% higher fits; {kept}; the limit is {scale:.4g} of these rates"


def doubts(found: Verification) -> list[str]:
    """A sentence for each reason not to trust some of the intervals."""
    by_reason: dict[str, list[str]] = {}
    for each in found.doubts:
        by_reason.setdefault(each.reason, []).append(MEASURES[each.measure])
    return [f"{DOUBTED} the interval of {', '.join(names)} may not hold: {reason}"
            for reason, names in by_reason.items()]


def _carries(design: Design, factor: float) -> bool:
    """Whether the installed thresholds are above the equilibrium at `factor` times the rates."""
    inventory = solve(design.equilibrium.workload.scaled(factor), design.equilibrium.replica).inventory
    if inventory is None:
        return False
    if isinstance(design, LookAheadDesign):
        return True  # the rule does not depend on the rates
    if isinstance(design, PacedPolicy):
        admitted = np.array(design.entries) / np.array(design.iterations)
        return bool(np.all(admitted > (inventory if len(admitted) == len(inventory) else inventory.sum())))
    if isinstance(design, WaitPolicy):
        return bool(np.all(np.array(design.thresholds) > inventory))
    return False
