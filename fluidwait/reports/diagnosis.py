"""The report of `fluidwait diagnose`, and its JSON."""

from __future__ import annotations

import math
from typing import Any

from rich.markup import escape

from fluidwait.reports.console import console, new_table, optional, say, seconds, title
from verification.experiments.stability import UNSTABLE
from verification.measured.diagnosis import Diagnosis
from verification.measured.forecast import Forecast

IN_WORDS = {"ttft": "TTFT", "tpot": "TPOT", "latency": "latency"}


def diagnosis_answer(found: Diagnosis, model: Forecast | None) -> dict[str, Any]:
    """The object of `fluidwait diagnose --json`."""
    run, verdict, little = found.run, found.verdict, found.little
    return {"verdict": found.answer, "reason": found.reason, "score": None if verdict is None else verdict.score,
            "waiting": None if verdict is None else verdict.backlog.mean,
            "drift": None if verdict is None else verdict.drift.mean,
            "format": run.format, "requests": len(run), "failed": run.failed, "skipped": run.skipped,
            "unknown": run.unknown, "horizon": found.horizon, "rate": found.rate, "sustained_rate": found.sustained,
            "throughput": found.throughput, "ttft": found.ttft._asdict(), "tpot": found.tpot._asdict(),
            "latency": found.latency._asdict(), "time": found.spent._asdict(),
            "little": None if little is None else {**little._asdict(), "product": little.product,
                                                   "agrees": little.agrees},
            "model": None if model is None else _model(model),
            "read_as": None if run.read_as is None else run.read_as._asdict(),
            "notes": [*([run.closed] if run.closed else []), *run.notes]}


def _model(model: Forecast) -> dict[str, Any]:
    balance = model.equilibrium
    return {"compared": [{**each._asdict(), "ratio": each.ratio} for each in model.compared],
            "stable": None if balance is None else balance.stable, "load": None if balance is None else balance.load,
            "iteration_time": None if balance is None else balance.iteration_time,
            "max_rate_scale": None if balance is None else balance.max_rate_scale,
            "evictions": model.evictions, "rejected": model.rejected}


def show_diagnosis(found: Diagnosis, model: Forecast | None) -> None:
    """The report of `fluidwait diagnose`."""
    run = found.run
    title("Diagnosis", f"{run.source}, format {run.format}")
    if found.answer == UNSTABLE or found.stable:
        say(found.stable, found.reason)
    else:
        console.print(f"[yellow]{escape(found.reason)}[/yellow]")
    offered = "" if math.isnan(found.rate) else f"offered {found.rate:.4g} requests/s over {seconds(found.horizon)}, "
    console.print(f"{len(run):,} requests: {offered}sustained {found.sustained:.4g} requests/s and "
                  f"{found.throughput:,.4g} output tokens/s")
    for count, what in ((run.failed, "failed"), (run.skipped, "cannot be used"), (run.unknown, "have no end")):
        if count:
            console.print(f"{count:,} requests {what} and were left out")
    if run.read_as is not None:
        console.print(escape(f"read: {run.read_as}"))
    for note in run.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}")
    _show_delays(found)
    _show_time(found)
    _show_little(found)
    if model is not None:
        _show_model(model)


def _show_delays(found: Diagnosis) -> None:
    table = new_table("measured", "mean", "median", "90%", "99%")
    for key, name in IN_WORDS.items():
        table.add_row(name, *(seconds(each) for each in getattr(found, key)))
    console.print(table)


def _show_time(found: Diagnosis) -> None:
    parts = found.spent._asdict()
    whole = sum(parts.values())
    if not whole > 0:
        return
    shares = ", ".join(f"{name} {seconds(part)} ({part / whole:.1%})" for name, part in parts.items())
    console.print(f"a request spends {shares}; prefill is what the fastest prompts of its length take")


def _show_little(found: Diagnosis) -> None:
    little = found.little
    if little is None:
        return
    end = {None: "the run is too short beside its latencies to compare them", True: "they agree",
           False: "they do not agree: the system is not stationary, or the times of the file do not belong together"}
    console.print(f"Little's law: {little.number:.4g} in the system on average, {little.rate:.4g} requests/s x "
                  f"{seconds(little.latency)} = {little.product:.4g}; {end[little.agrees]}")


def _show_model(model: Forecast) -> None:
    table = new_table("against the deployment", "measured", "predicted", "ratio")
    for each in model.compared:
        show = seconds if each.name != "throughput" else optional
        name = each.name if each.name != "throughput" else "output tokens/s"
        table.add_row(name.replace("_", " "), show(each.measured), show(each.predicted), optional(each.ratio))
    console.print(table)
    console.print("[dim]predicted: the same requests at the same moments, under vLLM V1 as it comes, on its replica[/]")
    if model.equilibrium is not None:
        console.print(f"the fluid model: {'stable' if model.equilibrium.stable else 'overloaded'} at this rate, up to "
                      f"{model.equilibrium.max_rate_scale:.4g} of it")
    if model.rejected:
        console.print(f"[red]{model.rejected:,} of the requests do not fit its KV cache[/red]")
