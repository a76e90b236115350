"""What simulations measured, for people: one policy with its intervals, several side by side."""

from __future__ import annotations

import math

from rich.markup import escape
from rich.table import Table

from fluidwait.reports.console import brief, console, new_table, optional, title, with_interval
from fluidwait.reports.energy import measured_line
from fluidwait.reports.wording import DOUBTED, doubts
from fluidwait.study.advice import Advice, name_of_trial
from fluidwait.study.outcomes import Comparison
from verification import Difference, Interval, Verification
from verification.experiments.targets.bounds import MET, MISSED, UNSURE, Held
from verification.statistics.intervals import LEVEL
from verification.statistics.precision import Precision

QUANTITIES_IN_WORDS = {"latency": "latency", "ttft": "TTFT", "tpot": "TPOT", "itl": "ITL"}
ANSWER_COLOURS = {MET: "green", MISSED: "red", UNSURE: "yellow"}
_DOUBT = "; too short a run to trust them: take a longer horizon or more replications"


def evidence(found: Verification) -> str:
    """One sentence on the drift of the backlog, beside the verdict, and the types it knows nothing of."""
    drift = found.verdict.drift
    silent = found.verdict.evidence.unjudged
    kinds = f"{silent} type{'s' * (silent > 1)}"
    return (f"drift: the requests in the system change by {change(drift)} a second in the second half of "
            f"{found.verdict.horizon:g} s" + (f"; of {kinds} too few requests came to say anything" if silent else ""))


def show_measured(found: Verification) -> None:
    """What a policy did; for a single replication with intervals from inside it."""
    inside = found.inside
    console.print(_delays(found))
    console.print(f"busy {found.busy_share.mean:.1%}, KV peak {found.kv_peak:,}, "
                  f"evictions {found.evictions.mean:,.0f} a run")
    if found.energy is not None:
        console.print(f"energy {measured_line(found)}")
    for held in found.targets:
        console.print(f"[{ANSWER_COLOURS[held.answer]}]{escape(target(held))}[/]")
    if inside is not None:
        console.print("± from batch means inside the single replication" + ("" if inside.valid else _DOUBT))
    for sentence in doubts(found):
        console.print(escape(sentence))
    if found.precision is not None:
        console.print(_reached(found.precision, found.replications))
    if found.unfinished or found.rejected:
        console.print(f"{found.unfinished} requests of the measured windows did not finish (their delay counts as at "
                      f"least their age); {found.rejected} were rejected on arrival")


def target(held: Held) -> str:
    """A target, what was measured of it, and whether that meets it."""
    return f"target {held.target.text}: {held.text}, {held.answer}" + (DOUBTED if held.doubt else "")


def _delays(found: Verification) -> Table:
    """Every statistic of the delays, seconds; with intervals for the means and the 99th percentiles."""
    table = new_table("seconds", "mean", "p50", "p90", "p95", "p99")
    for quantity, name in QUANTITIES_IN_WORDS.items():
        own = getattr(found.inside, quantity, None)
        mean = marked(found, quantity) if own is None else with_interval(own.interval)
        middle = [_at_least(found, f"{quantity}_{each}") + optional(found.delays[f"{quantity}_{each}"].mean)
                  for each in ("p50", "p90", "p95")]
        last = f"{quantity}_p99"
        table.add_row(name, _at_least(found, quantity) + mean, *middle, _at_least(found, last) + marked(found, last))
    return table


def _at_least(found: Verification, measure: str) -> str:
    return "≥ " if measure in found.at_least else ""


def show_beside(found: Comparison) -> None:
    """The policies in one table, each with its difference to the chosen one."""
    table = new_table("policy", "tokens/s", "latency s", "difference s", "p99 s", "TTFT s", "KV peak", "evictions")
    for outcome in found.outcomes:
        measured = outcome.found
        if measured is not None:
            gap = None if outcome is found.chosen else found.against(outcome, "latency")
            table.add_row(outcome.label, marked(measured, "throughput"), marked(measured, "latency"), _gap(gap),
                          _p99(measured), marked(measured, "ttft"), f"{measured.kv_peak:,}",
                          f"{measured.evictions.mean:,.0f}")
    if not table.rows:
        return
    console.print()
    title("Side by side", f"the same arrivals; ± is the half-width of a {LEVEL:.0%} interval over replications")
    console.print(table)
    if any(outcome.found is not None and outcome.found.doubts for outcome in found.outcomes):
        console.print(f"[dim]{DOUBTED}: an interval that may not hold; the policy's own report says why[/dim]")
    if len(table.rows) > 1 and found.chosen.found is not None and found.chosen.replications > 1:
        console.print(f"[dim]difference: mean latency less that of {found.chosen.label}, replication by replication; "
                      "in brackets where it may be chance[/dim]")


def show_trials(advice: Advice) -> None:
    """The short trials in one table: what to do first."""
    table = new_table("tried", "tokens/s", "latency s", "p99 s", "TTFT s", "evictions/h")
    for trial in advice.worth_showing:
        name = name_of_trial(trial, advice.trials)
        table.add_row(f"[bold]{escape(name)}[/bold]" if trial is advice.best else escape(name),
                      *(with_interval(each) for each in (trial.throughput, trial.latency, trial.latency_p99, trial.ttft,
                                                         trial.evictions_per_hour)))
    console.print(table)


def show_outlook(outlook: dict[float, Advice]) -> None:
    """What the advice would be at other shares of the edge: where thresholds begin to pay."""
    if not outlook:
        return
    table = new_table("of the edge", "use", "latency s", "p99 s", "engine as it comes", "p99 s", "evictions/h")
    for share, advice in outlook.items():
        best, engine = advice.best, advice.trials.engine
        table.add_row(f"{share:.0%}", escape(name_of_trial(best, advice.trials)), with_interval(best.latency),
                      with_interval(best.latency_p99), with_interval(engine.latency), with_interval(engine.latency_p99),
                      with_interval(engine.evictions_per_hour))
    console.print("\nnearer to the edge, or further from it")
    console.print(table)


def change(interval: Interval | Difference) -> str:
    """A difference with its sign and the half-width of its interval."""
    if math.isnan(interval.mean):
        return "-"
    half = interval.high - interval.mean
    return f"{interval.mean:+,.3g}" + (f" ±{brief(half)}" if math.isfinite(half) else "")


def _gap(gap: Difference | None) -> str:
    if gap is None:
        return ""
    return change(gap) if gap.significant or math.isnan(gap.low) else f"({change(gap)})"


def marked(found: Verification, measure: str) -> str:
    """A measure with its interval, and the mark of one that may not hold."""
    return with_interval(found.interval(measure)) + (DOUBTED if measure in found.doubted else "")


def _p99(found: Verification) -> str:
    return ("≥ " if found.latency_p99_at_least else "") + f"{optional(found.latency_p99.mean)}"


def _reached(precision: Precision, replications: int) -> str:
    known = "are not known" if math.isinf(precision.found) else f"are known to {precision.found:.2%}"
    return (f"precision {precision.asked:g} {'reached' if precision.reached else 'not reached'}: mean latency and "
            f"throughput {known} with {replications:,} replications")
