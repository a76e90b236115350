"""What was found at many rates, for people and for programs: a sweep's cells, the largest rate a policy sustains."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.markup import escape

from fluidwait.deployment.deployment import Deployment
from fluidwait.reports import answers
from fluidwait.reports.console import console, new_table, optional, say, title, with_interval
from fluidwait.reports.energy import money
from fluidwait.reports.wording import DOUBTED
from fluidwait.study.cell import KEPT_INTERVALS, Finished
from fluidwait.study.largest_rate import LargestRate
from fluidwait.study.outcomes import Plan
from fluidwait.study.store import NAME
from fluidwait.study.sweep import Sweep
from verification.experiments.rate_search import Probe
from verification.experiments.targets.bounds import Held
from verification.experiments.targets.names import DELAYS
from verification.experiments.verification import ENERGY
from verification.statistics.intervals import Interval
from verification.store.question import Question

VERDICT_COLOURS = {"stable": "green", "unstable": "red"}


def sweep_answer(deployment: Deployment, found: Sweep, question: Question) -> dict[str, Any]:
    """The body of `sweep --json`."""
    return {"question": question.digest, "horizon": found.plan.horizon, "replications": found.plan.replications,
            "seed": found.plan.seed, "fluid_limit": found.fluid_limit,
            "cells": [_cell(deployment, each) for each in found.finished], "limits": found.limits}


def _cell(deployment: Deployment, finished: Finished) -> dict[str, Any]:
    measured = finished.measured
    numbers = ("kv_peak", "overflow_runs", "score", "verdict_horizon")
    return {**finished.cell._asdict(),
            **{name: measured and _told(name, measured.interval(name)) for name in KEPT_INTERVALS},
            "money": measured and money(deployment, measured.interval("throughput").mean, finished.energy),
            "verdict": finished.verdict, "reason": finished.reason,
            **{name: measured and getattr(measured, name) for name in numbers},
            "doubted": measured and finished.doubted}


def _told(name: str, found: Interval) -> dict[str, float] | None:
    """An interval; nothing of an energy that is not known."""
    return None if name in ENERGY and math.isnan(found.mean) else answers.interval(found)


def show_sweep(deployment: Deployment, found: Sweep, out: Path | None) -> None:
    """The report of `fluidwait sweep`."""
    plan = found.plan
    title("Sweep", f"{deployment.source}: requests/s and seconds, {plan.replications} replications of "
                   f"{plan.horizon:g} s, seed {plan.seed}")
    known = any(each.energy is not None for each in found.finished)
    table = new_table("rate", "policy", "latency s", "p99 s", "TTFT p99", "TPOT s", "evictions",
                      *(["J/token"] if known else []), "")
    for each in found.finished:
        energy = [] if not known else ["-" if each.energy is None else f"{each.energy:.3g}"]
        table.add_row(f"{each.cell.rate:g}", each.cell.policy, *_measured(each), *energy, _verdict(each))
    console.print(table)
    if any(each.overflows for each in found.finished):
        console.print("overflows: a policy that never evicts held more KV tokens than the replica has; its thresholds "
                      "do not fit there (fluidwait thresholds), or an overflow within the permitted probability "
                      "occurred")
    if any(each.doubted for each in found.finished):
        console.print(f"{DOUBTED}: the interval may not hold, the run is too short or the tail too heavy; "
                      "the JSON names every such measure")
    console.print()
    for policy, limit in found.limits.items():
        console.print(f"{policy}: " + ("stable at none of these rates" if limit is None else f"stable up to {limit:g} "
                                       "requests/s of these"))
    console.print(f"fluid limit: {found.fluid_limit:.4g} requests/s, beyond it no policy is stable")
    if out is not None:
        console.print(f"Written to {escape(str(out))}: {NAME}, report.json, sweep.png and sweep.svg.")


def _measured(finished: Finished) -> list[str]:
    if finished.measured is None:
        return ["-"] * 5
    shown = finished.measured
    doubted = DOUBTED if "latency" in finished.doubted else ""
    delays = [optional(shown.interval(name).mean) for name in ("latency_p99", "ttft_p99", "tpot")]
    return [with_interval(shown.interval("latency")) + doubted, *delays,
            f"{shown.interval('evictions').mean:,.0f}"]


def _verdict(finished: Finished) -> str:
    remark = ", overflows" if finished.overflows else ", no thresholds" if finished.measured is None else ""
    return f"[{VERDICT_COLOURS.get(finished.verdict, 'yellow')}]{finished.verdict}{remark}[/]"


def capacity_answer(found: LargestRate, plan: Plan, precision: float) -> dict[str, Any]:
    """The body of `capacity --json`."""
    capacity, targets = found.capacity, found.targets
    bound = targets.bounds[0] if len(targets.bounds) == 1 and targets.goodput is None else None
    return {"policy": found.policy, "used": found.used, "horizon": plan.horizon, "replications": plan.replications,
            "seed": plan.seed, "precision": precision,
            "bound": None if bound is None else {"measure": bound.measure, "seconds": bound.seconds},
            "targets": targets.to_dict(), "binds": capacity.binds or None,
            "low": capacity.low, "high": capacity.high, "reason": capacity.reason, "fluid_limit": found.fluid_limit,
            "design_limit": found.design_limit, "probes": [_probe(each) for each in capacity.probes]}


def _probe(probe: Probe) -> dict[str, Any]:
    return {"rate": probe.rate, "answer": probe.answer, "reason": probe.reason, "score": probe.score,
            "measured": probe.measured and answers.interval(probe.measured), "horizon": probe.horizon,
            "held": [each.to_dict() for each in probe.held], "doubt": probe.doubt or None}


def show_capacity(deployment: Deployment, found: LargestRate, plan: Plan) -> None:
    """The report of `fluidwait capacity`."""
    title(f"Capacity with {found.policy}", f"{deployment.source}: {plan.replications} replications of {plan.horizon:g} "
                                           f"s and longer, seed {plan.seed}")
    columns = found.targets.names
    heads = [f"{name} s" if name in DELAYS else name for name in columns]
    table = new_table("requests/s", *heads, *([] if heads else ["score"]), "horizon s", "")
    for each in found.capacity.probes:
        measured = {held.name: held for held in each.held}
        table.add_row(f"{each.rate:.4g}", *(_interval(measured.get(name)) for name in columns),
                      *([] if heads else [optional(each.score)]), optional(each.horizon), each.answer)
    console.print(table)
    if any(each.doubt for each in found.capacity.probes):
        console.print(f"[dim]{DOUBTED}: too short a run, or too heavy a tail, to trust the interval[/dim]")
    say(found.capacity.low is not None, found.capacity.reason)
    if found.capacity.binds:
        console.print(f"what binds: {found.capacity.binds}")
    if found.used != found.policy:
        console.print(f"{found.policy} uses {found.used} there")
    console.print(f"fluid limit {found.fluid_limit:.4g} requests/s" + (
        "" if found.design_limit is None else f"; thresholds fit up to {optional(found.design_limit)}"))


def _interval(held: Held | None) -> str:
    if held is None:
        return ""
    if math.isnan(held.measured.mean):
        return "-"
    low, high, mark = held.measured.low, held.measured.high, DOUBTED if held.doubt else ""
    return f"{low:.4g} .. {high:.4g}{mark}" if held.name in DELAYS else f"{low:.2%} .. {high:.2%}{mark}"
