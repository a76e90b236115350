"""Targets of a planned fleet: what they limit, and what is predicted at each kind's share of the demand."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from fluidwait.reports.console import console, new_table, seconds
from fluidwait.study.fleet import Planned
from fluidwait.study.fleet_targets import on_one, predicted


def targets_answer(found: Planned) -> dict[str, Any] | None:
    """What `plan --json` says of targets, None where there are none."""
    within, asked = found.within, found.deployment.targets
    if within is None or not asked:
        return None
    return {"asked": asked.to_dict(), "kinds": [_on_kind(found, k) for k in range(len(within.kinds))],
            "slow": list(within.slow), "left": list(within.left),
            "tails": [{"kind": each.name, "low": each.low, "high": each.high, "edge": each.edge,
                       "settled": each.settled}
                      for each in within.tails]}


def _on_kind(found: Planned, k: int) -> dict[str, Any]:
    kind, plan = found.plan.kinds[k], found.plan
    here, delays = on_one(plan, k, 1 / (1 + plan.headroom)), predicted(plan, k)
    return {"name": kind.name, "tpot": kind.tpot, "use": kind.use,
            "iteration_time": here and here.iteration_time,
            "ttft": delays and delays.ttft, "latency": delays and delays.latency}


def show_targets(found: Planned) -> None:
    """A row for each kind of which there are replicas, and what is left to simulation."""
    answer, plan = targets_answer(found), found.plan
    if answer is None or plan.counts is None:
        return
    console.print(escape(f"within {found.deployment.targets.text}, by the fluid limit and predictions:"))
    table = new_table("kind", "used up to", "between tokens", "TTFT", "latency")
    for k, each in enumerate(answer["kinds"]):
        if plan.counts[k] > 0:
            table.add_row(escape(each["name"]), f"{each['use']:.1%}",
                          *(seconds(each[name]) for name in ("iteration_time", "ttft", "latency")))
    console.print(table)
    if answer["slow"]:
        console.print(escape(f"left out, at no load within it: {', '.join(answer['slow'])}"))
    for each in answer["tails"]:
        low = "no load" if each["low"] is None else f"{each['low']:.4g} requests/s"
        since = "" if each["settled"] else "; now sent another mix"
        console.print(escape(f"simulated, vLLM V1 on one {each['kind']} keeps all of it at {low}, not at "
                             f"{each['high']:.4g} (edge {each['edge']:.4g}){since}"))
    if answer["left"]:
        console.print(escape(f"not planned for, --tails simulates a replica of each kind: {'; '.join(answer['left'])}"))
    console.print()
