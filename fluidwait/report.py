"""Reports for people: tables and sentences on standard output."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fluid import Equilibrium
from fluidwait.deployment import Deployment
from fluidwait.study import Comparison, Outcome
from thresholds import WaitDesign, predict
from verification import Check, Interval, Verification
from verification.estimators import LEVEL
from verification.verdict import STABLE

MOST_ROWS = 20
console = Console(highlight=False)


def show_run(deployment: Deployment, found: Comparison, out: Path | None) -> None:
    """The whole report of `fluidwait run`."""
    show_equilibrium(deployment, found.equilibrium)
    console.print()
    show_design(found.design)
    for outcome in (found.wait, found.greedy):
        console.print()
        show_outcome(outcome)
    _show_beside(found)
    console.print(f"\n[bold]Answer: {'yes' if found.yes else 'no'}.[/bold] {_advice(found)}")
    if out is not None:
        console.print(f"Written to {escape(str(out))}: report.json, policy.json, batch and kv as PNG and SVG.")


def show_equilibrium(deployment: Deployment, equilibrium: Equilibrium) -> None:
    """The report of `fluidwait solve`."""
    _title("Fluid equilibrium", deployment.source)
    _say(equilibrium.stable, equilibrium.reason)
    console.print(f"load {equilibrium.load:.4g}, iteration time {_seconds(equilibrium.iteration_time)}, "
                  f"offered {equilibrium.throughput:,.4g} output tokens/s")
    table = _table("type", "prompt+output", "requests/s", "per stage n*", "KV tokens", "KV work")
    workload = equilibrium.workload
    for j in _largest(equilibrium.profile.kv_work * workload.rates):
        table.add_row(escape(workload.names[j]), f"{workload.prompt_tokens[j]}+{workload.output_tokens[j]}",
                      f"{workload.rates[j]:.4g}", _number(equilibrium.inventory, j), _number(equilibrium.kv_tokens, j),
                      f"{equilibrium.profile.kv_work[j]:,}")
    _print_table(table, len(workload))


def show_design(design: WaitDesign) -> None:
    """The report of `fluidwait thresholds`."""
    _title("WAIT thresholds", "prompts of a type that must wait before it is served, and that are served per stage")
    _say(design.feasible, design.reason)
    if not design.thresholds:
        return
    workload = design.equilibrium.workload
    predicted = predict(design, workload, design.equilibrium.replica)
    console.print(f"an iteration of every type takes {_seconds(design.iteration_time)}; "
                  f"expected latency {_seconds(predicted.latency)}, TTFT {_seconds(predicted.ttft)}"
                  + ("" if predicted.exact else " (approximations: a few percent, 40%)"))
    table = _table("type", "threshold n", "slack", "least stable", "KV tokens")
    for j in _largest(np.array(design.thresholds) * design.equilibrium.profile.kv_work):
        table.add_row(escape(workload.names[j]), str(design.thresholds[j]), _number(design.slack, j),
                      str(design.stable_thresholds[j]),
                      f"{design.thresholds[j] * int(design.equilibrium.profile.kv_work[j]):,}")
    _print_table(table, len(workload))
    console.print(f"threshold: nothing is evicted, bounded delays. Least stable ({design.stable_kv_required:,} KV "
                  "tokens): stable, slower.")


def show_outcome(outcome: Outcome) -> None:
    """The report of `fluidwait verify`."""
    _title(f"Simulation of {outcome.policy}", f"{outcome.replications} replications of {outcome.horizon:g} s, "
           f"seed {outcome.seed}")
    if outcome.found is None:
        _say(False, f"not simulated: {outcome.reason}")
        return
    found = outcome.found
    _say(found.verdict.answer == STABLE, found.verdict.reason)
    table = _table("prediction", "predicted", "measured", "interval", "")
    for check in found.checks:
        table.add_row(escape(check.name), f"{check.predicted:,.5g}", f"{check.measured:,.5g}", _range(check),
                      "[green]agrees[/green]" if check.agrees else "[red]differs[/red]")
    console.print(table)
    _show_measured(found)


def _show_measured(found: Verification) -> None:
    console.print(f"latency {_with_interval(found.latency)} s, 99% under {found.latency_p99.mean:.4g} s, TTFT "
                  f"{_with_interval(found.ttft)} s; busy {found.busy_share.mean:.1%}, KV peak {found.kv_peak:,}, "
                  f"evictions {found.evictions.mean:,.0f} a run")
    if found.unfinished or found.rejected:
        console.print(f"{found.unfinished} requests of the measured windows did not finish (their delay counts as at "
                      f"least their age); {found.rejected} were rejected on arrival")


def _show_beside(found: Comparison) -> None:
    """WAIT and greedy in one table."""
    if found.wait.found is None or found.greedy.found is None:
        return
    table = _table("policy", "tokens/s", "latency s", "p99 s", "TTFT s", "KV peak", "evictions")
    for outcome in (found.wait, found.greedy):
        measured = outcome.found
        if measured is not None:
            table.add_row(outcome.policy, _with_interval(measured.throughput), _with_interval(measured.latency),
                          f"{measured.latency_p99.mean:.4g}", _with_interval(measured.ttft), f"{measured.kv_peak:,}",
                          f"{measured.evictions.mean:,.0f}")
    console.print()
    _title("Side by side", f"the same arrivals; ± is the half-width of a {LEVEL:.0%} interval over replications")
    console.print(table)


def _advice(found: Comparison) -> str:
    if not found.equilibrium.stable:
        return escape(found.equilibrium.reason)
    if not found.design.feasible:
        return "The load fits, but whole thresholds do not: shorten outputs, split the mix or take more KV cache."
    if not found.wait.yes:
        return "A prediction differs from what was simulated: see the table."
    return (f"The replica carries this mix with WAIT, up to {found.design.max_rate_scale:.3g} of these rates "
            f"(fluid limit {found.equilibrium.max_rate_scale:.3g}).{_greedy_advice(found)}")


def _greedy_advice(found: Comparison) -> str:
    """WAIT costs delay: say so where greedy did as well without it."""
    waiting, greedy = found.wait.found, found.greedy.found
    if waiting is None or greedy is None or greedy.verdict.answer != STABLE:
        return ""
    if greedy.evictions.mean == 0 and greedy.latency.mean < waiting.latency.mean:
        return (" At this load greedy admission evicted nothing and was faster "
                f"({_seconds(greedy.latency.mean)} against {_seconds(waiting.latency.mean)}): WAIT buys its guarantee "
                "with delay, and pays near the edge.")
    return f" Greedy admission evicted {greedy.evictions.mean:,.0f} requests a run; WAIT none."


def _title(text: str, remark: str) -> None:
    console.print(f"[bold]{escape(text)}[/bold]  [dim]{escape(remark)}[/dim]")


def _say(good: bool, sentence: str) -> None:
    console.print(f"[{'green' if good else 'red'}]{escape(sentence)}[/]")


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 or not column else "right", overflow="fold")
    return table


def _print_table(table: Table, rows: int) -> None:
    console.print(table)
    if rows > MOST_ROWS:
        console.print(f"[dim]the {MOST_ROWS} largest of {rows:,} types; --json has them all[/dim]")


def _largest(weights: np.ndarray) -> list[int]:
    """The types to show, in order: all of them, or the ones with the largest weights."""
    chosen = np.argsort(-weights.astype(np.float64), kind="stable")[:MOST_ROWS]
    return sorted(chosen.tolist())


def _number(values: np.ndarray | None, j: int) -> str:
    return "-" if values is None else f"{values[j]:,.4g}"


def _seconds(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value * 1e3:.4g} ms" if value < 1 else f"{value:.4g} s"


def _with_interval(interval: Interval) -> str:
    half = interval.high - interval.mean
    return f"{interval.mean:,.4g}" + (f" ±{half:.2g}" if math.isfinite(half) else "")


def _range(check: Check) -> str:
    low = "" if check.low is None else f"{check.low:,.5g}"
    high = "" if check.high is None else f"{check.high:,.5g}"
    return f"{low} .. {high}"
