"""The largest rate a policy sustains, for people and for programs."""

from __future__ import annotations

from typing import Any

from fluidwait.deployment.deployment import Deployment
from fluidwait.reports import answers
from fluidwait.reports.console import console, new_table, optional, say, title
from fluidwait.reports.wording import DOUBTED
from fluidwait.study.largest_rate import LargestRate
from fluidwait.study.outcomes import Plan
from verification.experiments.rate_search import Probe


def capacity_answer(found: LargestRate, plan: Plan, precision: float) -> dict[str, Any]:
    """The body of `capacity --json`."""
    capacity, bound = found.capacity, found.bound
    return {"policy": found.policy, "used": found.used, "horizon": plan.horizon, "replications": plan.replications,
            "seed": plan.seed, "precision": precision,
            "bound": None if bound is None else {"measure": bound.measure, "seconds": bound.seconds},
            "low": capacity.low, "high": capacity.high, "reason": capacity.reason, "fluid_limit": found.fluid_limit,
            "design_limit": found.design_limit, "probes": [_probe(each) for each in capacity.probes]}


def _probe(probe: Probe) -> dict[str, Any]:
    return {"rate": probe.rate, "answer": probe.answer, "reason": probe.reason, "score": probe.score,
            "measured": probe.measured and answers.interval(probe.measured), "horizon": probe.horizon,
            "doubt": probe.doubt or None}


def show_capacity(deployment: Deployment, found: LargestRate, plan: Plan) -> None:
    """The report of `fluidwait capacity`."""
    title(f"Capacity with {found.policy}", f"{deployment.source}: {plan.replications} replications of {plan.horizon:g} "
                                           f"s and longer, seed {plan.seed}")
    delay = "" if found.bound is None else f"{found.bound.measure} s"
    table = new_table("requests/s", delay, "score of the verdict", "horizon s", "")
    for each in found.capacity.probes:
        table.add_row(f"{each.rate:.4g}", _interval(each), optional(each.score), optional(each.horizon), each.answer)
    console.print(table)
    if any(each.doubt for each in found.capacity.probes):
        console.print(f"[dim]{DOUBTED}: too short a run, or too heavy a tail, to trust the interval[/dim]")
    say(found.capacity.low is not None, found.capacity.reason)
    if found.used != found.policy:
        console.print(f"{found.policy} uses {found.used} there")
    console.print(f"fluid limit {found.fluid_limit:.4g} requests/s" + (
        "" if found.design_limit is None else f"; thresholds fit up to {optional(found.design_limit)}"))


def _interval(probe: Probe) -> str:
    measured = probe.measured
    mark = DOUBTED if probe.doubt else ""
    return "" if measured is None else f"{measured.low:.4g} .. {measured.high:.4g}{mark}"
