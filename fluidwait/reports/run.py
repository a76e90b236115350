"""Reports for people: tables and sentences on standard output."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from rich.markup import escape

from fluid import Equilibrium
from fluidwait.deployment.deployment import Deployment
from fluidwait.reports.burstiness import arrivals_said
from fluidwait.reports.console import (
    console,
    largest,
    new_table,
    number,
    optional,
    print_table,
    say,
    seconds,
    table_of_sentences,
    title,
)
from fluidwait.reports.energy import compared_lines, predicted_lines
from fluidwait.reports.first_screen import show_first_screen
from fluidwait.reports.installation import flags
from fluidwait.reports.simulation import evidence, show_beside, show_measured, show_outlook, show_trials
from fluidwait.reports.wording import growth, memory, predicted, proved, reason_of, window_names, worth
from fluidwait.reports.workload import in_few_types, show_origin, show_shares, show_timing, show_windows
from fluidwait.study.advice import Advice
from fluidwait.study.burstiness import Burstiness
from fluidwait.study.outcomes import Comparison, Outcome
from fluidwait.study.plugin import INSTALLED
from thresholds import (
    Choice,
    Design,
    Dispersion,
    LookAheadDesign,
    NestedDesign,
    PacedDesign,
    PacedPolicy,
    UnknownPacedDesign,
    WaitDesign,
    reachable,
)
from verification import Check
from verification.experiments.checks import AGREES, DIFFERS, TOO_FEW
from verification.experiments.stability import STABLE

_COLOURS = {AGREES: "green", DIFFERS: "red", TOO_FEW: "yellow"}


def show_run(deployment: Deployment, found: Comparison, bursts: Burstiness | None, out: Path | None,
             verbose: bool = False) -> None:
    """The report of `fluidwait run`: one screen, or with `verbose` everything."""
    if not verbose:
        show_first_screen(deployment, found, conclusion(found), bursts, out)
        return
    show_equilibrium(deployment, found.equilibrium)
    console.print()
    show_design(found.choice, deployment.dispersion)
    if found.advice is not None:
        console.print()
        title("Advice", found.advice.why)
        show_trials(found.advice)
        show_outlook(found.outlook)
    for outcome in found.outcomes:
        console.print()
        show_outcome(outcome, bursts if outcome is found.chosen else None)
    show_beside(found)
    for line in compared_lines(deployment, found):
        console.print(escape(line))
    console.print(f"\n[bold]Answer: {'yes' if found.yes else 'no'}.[/bold] {escape(conclusion(found))}")
    if out is not None:
        console.print(f"Written to {escape(str(out))}: report.json, policy.json, batch and kv as PNG and SVG.")


def show_equilibrium(deployment: Deployment, equilibrium: Equilibrium) -> None:
    """The report of `fluidwait solve`."""
    title("Fluid equilibrium", deployment.source)
    show_origin(deployment.mix)
    show_windows(deployment.mix)
    if deployment.mix.closed is None:
        say(equilibrium.stable and not equilibrium.reason.startswith("impossible"), reason_of(equilibrium))
    else:
        say(True, "stable, as every closed loop is; of open traffic at this rate:")
        console.print(escape(reason_of(equilibrium)))
    console.print(f"load {equilibrium.load:.4g}, iteration time {seconds(equilibrium.iteration_time)}, "
                  f"{optional(equilibrium.sequences)} sequences in a batch, offered {equilibrium.throughput:,.4g} "
                  "output tokens/s")
    if equilibrium.limit != "length":
        console.print(escape(proved(equilibrium, reachable(equilibrium))))
        console.print(f"[dim]{escape(worth(equilibrium))}[/dim]")
    show_timing(deployment)
    _show_types(in_few_types(deployment.mix, equilibrium))
    show_shares(equilibrium)
    for line in predicted_lines(deployment, equilibrium):
        console.print(line)


def _show_types(equilibrium: Equilibrium) -> None:
    table = new_table("type", "prompt+output", "requests/s", "per stage n*", "KV tokens", "KV work")
    workload = equilibrium.workload
    for j in largest(equilibrium.profile.kv_work * (workload.rates / workload.rates.max())):
        table.add_row(escape(workload.names[j]), f"{workload.prompt_tokens[j]}+{workload.output_tokens[j]}",
                      f"{workload.rates[j]:.4g}", number(equilibrium.inventory, j), number(equilibrium.kv_tokens, j),
                      f"{equilibrium.profile.kv_work[j]:,.0f}")
    print_table(table, len(workload))


def show_thresholds(deployment: Deployment, choice: Choice, advice: Advice | None) -> None:
    """The report of `fluidwait thresholds`."""
    show_origin(deployment.mix)
    show_windows(deployment.mix)
    if advice is not None:
        title("Advice", advice.why)
        show_trials(advice)
        console.print()
    show_design(choice, deployment.dispersion, install=True)


def show_design(choice: Choice, dispersion: Dispersion, install: bool = False) -> None:
    """A design: which policy, what to set, its memory, its delay, growth, installation."""
    design = choice.design
    title("Thresholds", choice.why)
    say(design.feasible, design.reason)
    if not design.exists:
        return
    console.print(escape(memory(design)))
    delay = predicted(design, dispersion)
    if delay is not None and math.isfinite(delay.latency):
        ttft = "" if dispersion.index > 1 else f", TTFT {seconds(delay.ttft)}{_within(delay.ttft_accuracy)}"
        console.print(f"expected latency {seconds(delay.latency)}{_within(delay.latency_accuracy)}{ttft}, "
                      f"TPOT {seconds(delay.tpot)}")
    console.print(escape(growth(design)))
    match design:
        case WaitDesign():
            _show_wait(design)
        case NestedDesign():
            _show_nested(design)
        case LookAheadDesign():
            _show_look_ahead(design)
        case _:
            _show_paced(design)
    if install and design.feasible:
        _show_installation(design)


def _show_wait(design: WaitDesign) -> None:
    workload = design.equilibrium.workload
    table = new_table("serve when so many wait", "threshold n", "slack", "least stable", "KV tokens")
    for j in largest(np.array(design.thresholds) * design.equilibrium.profile.kv_work):
        table.add_row(escape(workload.names[j]), str(design.thresholds[j]), number(design.slack, j),
                      str(design.stable_thresholds[j]) if design.stable_thresholds else "-",
                      f"{design.thresholds[j] * design.equilibrium.profile.kv_work[j]:,.0f}")
    print_table(table, len(workload))
    kept = "nothing is evicted" if design.feasible else "more KV than the replica has"
    delays = "bounded delays" if design.drains else "delays that grow with the square root of time"
    least = "" if design.stable_kv_required is None else (
        f" Least stable ({design.stable_kv_required:,} KV tokens): stable, slower.")
    console.print(f"threshold: {kept}, {delays}.{least}")


def _show_paced(design: PacedDesign | UnknownPacedDesign) -> None:
    table = new_table("admit at most", "entries N", "in iterations g", "per iteration", "")
    for name, entries, iterations in zip(window_names(design), design.entries, design.iterations, strict=True):
        table.add_row(escape(name), str(entries), str(iterations), f"{entries / iterations:.4g}",
                      "as full cohorts" if design.gate else "")
    console.print(table)
    if isinstance(design, UnknownPacedDesign) and design.theorem is not None and design.tight is not None:
        for label, bound in (("theorem", design.theorem), ("tight", design.tight)):
            console.print(f"{label}: {bound.guarantee}; {bound.kv_required:,.0f} tokens would do")


def _show_nested(design: NestedDesign) -> None:
    table = new_table("segment", "stages", "threshold n", "continue", "theta", "buffer tokens")
    for k, segment in enumerate(design.segments, 1):
        table.add_row(str(k), f"{segment.start}..{segment.end}", str(segment.threshold),
                      *(optional(value) for value in (segment.continuation, segment.theta, segment.buffer_tokens)))
    console.print(table)


def _show_look_ahead(design: LookAheadDesign) -> None:
    table = new_table("iterations ahead", "chance of overflow in each")
    ends = [str(end - 1) for end in design.points[1:]]
    for begin, end, chance in zip(design.points, [*ends, ""], design.log_chances, strict=True):
        table.add_row(f"{begin}..{end}", f"{math.exp(chance):.2g}")
    console.print(table)
    kinds = "class" if len(design.prompts) == 1 else "classes"
    console.print(f"lives by age in {len(design.prompts)} {kinds} of prompt lengths, {len(design.thetas)} thetas from "
                  f"{design.thetas[0]:.2g} to {design.thetas[-1]:.2g} per KV token")


def _show_installation(design: Design) -> None:
    if isinstance(design, LookAheadDesign):
        console.print("Installation: no engine has a setting for it, and --install does not write it yet.")
        return
    if isinstance(design, NestedDesign):
        console.print("Installation: nested WAIT pauses residents between iterations; no engine setting comes near it.")
        return
    table = table_of_sentences("flag of vLLM", "guarantees", "costs")
    for flag in flags(design.equilibrium, design):
        table.add_row(*flag)
    console.print("[bold]Installation[/bold] without code:")
    console.print(table)
    console.print("SGLang calls them --max-running-requests, --chunked-prefill-size and --mem-fraction-static.")
    if isinstance(design, PacedPolicy):
        console.print("With code, as proved: --install vllm --out FOLDER writes these windows as a scheduler class, "
                      "--install gateway as a gateway.")


def show_plugin(path: Path) -> None:
    """How to start a server with the file of `fluidwait thresholds --install vllm`."""
    console.print(f"wrote {escape(str(path))}", soft_wrap=True)
    if path.name != INSTALLED["vllm"]:
        return
    console.print("start the server with one of")
    for options in ("--no-async-scheduling --scheduler-cls paced_scheduler.PacedScheduler",
                    "--async-scheduling --scheduler-cls paced_scheduler.AsyncPacedScheduler"):
        console.print(f"    PYTHONPATH={escape(str(path.parent))} vllm serve MODEL {options}", soft_wrap=True)


def show_outcome(outcome: Outcome, bursts: Burstiness | None = None) -> None:
    """The report of `fluidwait verify`."""
    plan = outcome.plan
    title(f"Simulation of {outcome.label}",
           f"{outcome.replications} replications of {plan.horizon:g} s, seed {plan.seed}")
    if outcome.found is None:
        say(False, f"not simulated: {outcome.reason}")
        return
    found = outcome.found
    say(found.verdict.answer == STABLE, found.verdict.reason)
    console.print(evidence(found))
    table = new_table("prediction", "predicted", "claim", "measured", "interval", "")
    for check in found.checks:
        table.add_row(escape(check.name), _digits(check.predicted), _claim(check), _digits(check.measured),
                      _range(check), f"[{_COLOURS[check.answer]}]{check.answer}[/]")
    console.print(table)
    wide = sum(check.answer == TOO_FEW for check in found.checks)
    if wide:
        console.print(f"{wide} of {len(found.checks)} intervals are too wide to find a wrong prediction out: more "
                      "replications or a longer horizon")
    show_measured(found)
    if bursts is not None:
        console.print(escape(f"arrivals: {arrivals_said(bursts)}"))


def conclusion(found: Comparison) -> str:
    """The sentence behind yes or no: what to do, and how the engine does without."""
    if found.equilibrium.limit is not None:
        return found.design.reason
    if found.overload:
        return f"{found.overload}.{_engine_beside(found)}"
    if found.chosen.found is not None and found.chosen.found.verdict.answer != STABLE:
        return f"{found.chosen.found.verdict.reason}.{_engine_beside(found)}"
    if not found.chosen.yes:
        return f"{_differing(found)}.{_engine_beside(found)}"
    return _how(found)


def _differing(found: Comparison) -> str:
    """The first prediction that differs."""
    checks = found.chosen.found.checks if found.chosen.found is not None else ()
    for check in checks:
        if check.answer == DIFFERS:
            return (f"A prediction differs from what was simulated: {check.name} {_digits(check.predicted)}, "
                    f"measured {_digits(check.measured)}")
    return "Not verified"


def _how(found: Comparison) -> str:
    """How the replica carries the mix, and what that gains or costs."""
    faster = f" {found.overtaken_by} was faster here, against the trial." if found.overtaken_by else ""
    edge = f"fluid limit, an upper bound, {found.equilibrium.max_rate_scale:.3g} of these rates"
    if found.advice is None or found.advice.thresholds:
        return (f"The replica carries this mix with {found.used.label}, up to {found.used.max_rate_scale:.3g} of "
                f"these rates ({edge}).{faster}{_engine_beside(found)}")
    if found.advice.leave:
        return f"Leave the engine as it is: it carries this mix ({edge}), and thresholds would gain nothing.{faster}"
    return f"The engine carries this mix with {found.advice.flags} ({edge}).{faster}{_engine_beside(found)}"


def _engine_beside(found: Comparison) -> str:
    """What vLLM V1 as it comes did on the same arrivals."""
    ours, engine = found.chosen.found, found.engine.found
    if ours is None or engine is None or found.engine is found.chosen:
        return ""
    lost = 1 - engine.throughput.mean / ours.throughput.mean
    if engine.verdict.answer != STABLE and lost > 0.005:
        return f" vLLM V1 as it comes is {engine.verdict.answer} and completes {lost:.0%} less."
    return (f" vLLM V1 as it comes carries it too: latency {seconds(engine.latency.mean)} against "
            f"{seconds(ours.latency.mean)}, {engine.evictions.mean:,.0f} evictions a run."
            if engine.verdict.answer == STABLE else f" vLLM V1 as it comes is {engine.verdict.answer}.")


def _within(accuracy: float | None) -> str:
    """What an expected delay claims of itself."""
    if accuracy is None:
        return " (so near the edge or a cap: at least; it can be several times as long)"
    return f" (±{accuracy:.0%})" if accuracy else ""


def _claim(check: Check) -> str:
    """What the prediction says of itself."""
    if check.low is None or check.high is None:
        return "bound"
    return f"±{check.accuracy:.0%}" if check.accuracy else "exact"


def _range(check: Check) -> str:
    if {check.low, check.high} <= {None, check.measured}:
        return ""
    low = "" if check.low is None else _digits(check.low)
    high = "" if check.high is None else _digits(check.high)
    return f"{low} .. {high}"


def _digits(value: float) -> str:
    """Four digits, or whole thousands with commas."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"
