"""The report of a batch of requests that are all there at time 0: the makespans of policies."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from fluidwait.deployment.deployment import Deployment
from fluidwait.reports.console import console, new_table, say, title, with_interval
from fluidwait.reports.workload import show_origin
from verification import Makespan


def show_makespans(deployment: Deployment, found: list[Makespan]) -> None:
    """A table, the shortest makespan first."""
    title("Batch", deployment.source)
    show_origin(deployment.mix)
    if not found:
        say(False, "no policy has thresholds that fit")
        return
    best = found[0]
    say(best.done, f"{_name(best)} is done with {best.requests:,} requests in {best.seconds.mean():,.4g} s, "
                   f"{best.ratio:.3g} times what nobody can beat" if best.done else
        f"{_name(best)} leaves {int(best.unfinished.sum()):,} requests unfinished")
    table = new_table("same requests", "makespan s", "tokens/s", "latency s", "evictions", "unfinished")
    for each in found:
        table.add_row(escape(_name(each)), *(with_interval(each.interval(name)) for name in
                                             ("seconds", "throughput", "latency")),
                      f"{each.evictions.mean():,.0f} a run", f"{int(each.unfinished.sum()):,}")
    console.print(table)
    console.print(f"[dim]at least {best.least.mean():,.4g} s, whoever schedules; ± 95% over "
                  f"{len(best.seconds)} replications, which differ in the types drawn[/dim]")


def makespans_answer(found: list[Makespan]) -> dict[str, Any]:
    """The object of `--json`: of the shortest, and of all of them."""
    best = found[0].to_dict() if found else {"policy": None}
    return {**best, "answer": bool(found) and found[0].done, "makespans": [each.to_dict() for each in found]}


def _name(found: Makespan) -> str:
    return str(getattr(found.policy, "name", type(found.policy).__name__))
