"""A simulated fleet, for people and for programs: what each router makes of it."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from fluidwait.reports import answers
from fluidwait.reports.console import console, new_table, say, with_interval
from fluidwait.reports.simulation import ANSWER_COLOURS, target
from fluidwait.study.routed_fleet import Simulated
from verification.experiments.targets.names import DELAYS
from verification.fleets import FleetTrial


def simulated_answer(found: Simulated[FleetTrial] | None) -> dict[str, Any]:
    """What is said of it in `plan --json`."""
    if found is None:
        return {"simulated": None}
    return {"simulated": {"answer": found.yes, **vars(found.how), "horizon": found.horizon,
                          "left_out": list(found.left_out),
                          "routers": [_router(each) for each in found.trials]}}


def _router(trial: FleetTrial) -> dict[str, Any]:
    return {"rule": trial.router.rule, "as_planned": trial.router.shares is not None,
            "verdict": trial.verdict.answer, "reason": trial.verdict.reason,
            "throughput": answers.interval(trial.throughput),
            **{name: answers.interval(trial.delays[name]) for name in DELAYS if not name.startswith("itl")},
            "evictions_per_hour": answers.interval(trial.evictions_per_hour),
            "busy": dict(zip((each.name for each in trial.fleet.kinds), trial.busy.tolist(), strict=True)),
            "targets": [each.to_dict() for each in trial.targets]}


def show_simulated(found: Simulated[FleetTrial] | None) -> None:
    """The table of routers, and what it says of the plan."""
    if found is None:
        return
    own = found.trials[0]
    console.print()
    console.print(escape(f"simulated, {found.how.policy} on every replica: {found.how.replications} x "
                         f"{found.horizon:,.0f} s on the same arrivals"))
    table = new_table("router", "", "latency s", "TTFT p99", "TPOT p99", "tokens/s", "evicted/h")
    several = len(own.fleet.kinds) > 1
    for each in found.trials:
        planned = ", as planned" if each.router.shares is not None else ", any kind" if several else ""
        table.add_row(f"{each.router.rule}{planned}", each.verdict.answer, with_interval(each.latency),
                      with_interval(each.delays["ttft_p99"]), with_interval(each.delays["tpot_p99"]),
                      f"{each.throughput.mean:,.0f}", f"{each.evictions_per_hour.mean:,.0f}")
    console.print(table)
    say(found.yes, f"{'the plan holds' if found.yes else 'the plan does not hold'} with the shortest queue"
                   f"{' of the planned kind' if several else ''}: {own.verdict.reason}")
    if found.left_out:
        console.print(f"[dim]{', '.join(found.left_out)} of a fleet is not simulated: ask fluidwait verify of one of "
                      "its replicas[/dim]")
    for held in own.targets:
        console.print(f"[{ANSWER_COLOURS[held.answer]}]{escape(target(held))}[/]")
    console.print()
