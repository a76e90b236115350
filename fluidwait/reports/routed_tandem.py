"""Simulated pools, for people and for programs: by router, and beside the same replicas colocated."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from fluidwait.reports import answers
from fluidwait.reports.console import console, new_table, say, with_interval
from fluidwait.reports.simulation import ANSWER_COLOURS, target
from fluidwait.study.routed_tandem import SimulatedApart
from verification.experiments.targets.names import DELAYS
from verification.fleets import FleetTrial, TandemTrial


def simulated_apart_answer(found: SimulatedApart | None) -> dict[str, Any]:
    """What is said of it in `plan --json`."""
    if found is None:
        return {"simulated": None}
    return {"simulated": {"answer": found.yes, **vars(found.how), "horizon": found.horizon,
                          "left_out": list(found.left_out),
                          "routers": [{"rule": each.tandem.routers[0].rule, **_measured(each),
                                       "busy": dict(zip(("prefill", "decode"), each.busy.tolist(), strict=True)),
                                       "in_transfer": each.in_transfer, "waiting": each.waiting}
                                      for each in found.trials],
                          "colocated": _measured(found.together)}}


def _measured(trial: TandemTrial | FleetTrial) -> dict[str, Any]:
    return {"verdict": trial.verdict.answer, "reason": trial.verdict.reason,
            "throughput": answers.interval(trial.throughput),
            **{name: answers.interval(trial.delays[name]) for name in DELAYS if not name.startswith("itl")},
            "evictions_per_hour": answers.interval(trial.evictions_per_hour),
            "targets": [each.to_dict() for each in trial.targets]}


def show_simulated_apart(found: SimulatedApart | None) -> None:
    """The table of routers, the same replicas colocated, and what no cache held."""
    if found is None:
        return
    own = found.trials[0]
    console.print(escape(f"\nsimulated, {found.how.policy} where requests are decoded: {found.how.replications} x "
                         f"{found.horizon:,.0f} s on the same arrivals"))
    table = new_table("router", "", "latency s", "TTFT s", "TTFT p99", "TPOT s", "TPOT p99", "evicted/h")
    for each in found.trials:
        _row(table, f"apart, {each.tandem.routers[0].rule}", each)
    _row(table, "colocated, shortest-queue", found.together)
    console.print(table)
    kinds = own.tandem.kinds
    sent, kept = (min(each.replica.kv_capacity for each in kinds if each.part and each.part.role == role)
                  for role in ("prefill", "decode"))
    console.print(f"at most {own.in_transfer / sent:.1%} of a prefill cache was in transfer or waited for it, and "
                  f"{own.waiting / kept:.1%} of a decode cache waited outside")
    say(found.yes, f"{'the plan holds' if found.yes else 'the plan does not hold'} with the shortest queue: "
                   f"{own.verdict.reason}")
    if found.left_out:
        console.print(f"[dim]{', '.join(found.left_out)} of pools is not simulated[/dim]")
    for held in own.targets:
        console.print(f"[{ANSWER_COLOURS[held.answer]}]{escape(target(held))}[/]")


def _row(table: Any, name: str, trial: TandemTrial | FleetTrial) -> None:
    measures = (trial.delays[each] for each in ("ttft", "ttft_p99", "tpot", "tpot_p99"))
    table.add_row(name, trial.verdict.answer, with_interval(trial.latency), *map(with_interval, measures),
                  f"{trial.evictions_per_hour.mean:,.0f}")
