"""A trace at its own moments beside Poisson arrivals: in a few sentences, and as JSON."""

from __future__ import annotations

from typing import Any

from fluid.tables import duration
from fluidwait.reports.answers import interval
from fluidwait.study.burstiness import DELAYS, Burstiness

NAMES = {"latency": "latency", "latency_p99": "p99", "ttft": "TTFT"}


def burstiness_answer(found: Burstiness | None) -> dict[str, Any]:
    """How requests arrived, and what the policy did with Poisson arrivals; null where these were simulated anyway."""
    if found is None:
        return {"laps": None, "poisson": None}
    drawn = found.poisson
    return {"laps": found.laps, "poisson": {
        "replications": drawn.replications, "verdict": drawn.verdict.answer, "differing": list(found.differing),
        **{name: interval(getattr(drawn, name)) for name in DELAYS}}}


def arrivals_said(found: Burstiness) -> str:
    """How requests arrived, and what their bursts cost: both numbers where they differ by more than the intervals."""
    laps = f"{found.laps:.3g} laps of it" if found.laps >= 1 else f"{found.laps:.1%} of it"
    own = (f"the trace's own moments, stretched to the rate, {laps} a run from random moments on: intervals say how "
           "much depends on these, nothing of other days")
    replay, drawn = found.replay, found.poisson
    if replay.verdict.answer != drawn.verdict.answer:
        own += f"; Poisson arrivals at this rate are {drawn.verdict.answer}"
    if not found.differing:
        return f"{own}; delays with Poisson arrivals are the same within the intervals"
    told = [f"{NAMES[name]} {duration(getattr(replay, name).mean)}, not {duration(getattr(drawn, name).mean)}"
            for name in found.differing]
    return f"{own}. Poisson arrivals would tell otherwise: {', '.join(told)}; {_cost(found)}"


def _cost(found: Burstiness) -> str:
    """What the trace's moments cost or save, of the first delay that differs."""
    name = found.differing[0]
    own, drawn = getattr(found.replay, name).mean, getattr(found.poisson, name).mean
    if own > drawn:
        return f"its bursts cost {duration(own - drawn)} of {NAMES[name]}"
    return f"arrivals more even than Poisson save {duration(drawn - own)} of {NAMES[name]}"
