"""The report of `fluidwait run` on one screen: the answer, the edge, what to set, what that gains, where more is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from fluidwait.deployment.deployment import EMBEDDED, Deployment
from fluidwait.reports.burstiness import arrivals_said
from fluidwait.reports.console import console, new_table, say, title, with_interval
from fluidwait.reports.energy import compared_lines
from fluidwait.reports.simulation import ANSWER_COLOURS, change, marked, target
from fluidwait.reports.wording import DOUBTED, doubts, proved, reason_of, window_names
from fluidwait.study.advice import Advice, name_of_trial
from fluidwait.study.burstiness import Burstiness
from fluidwait.study.outcomes import Comparison
from thresholds import PacedDesign, UnknownPacedDesign, WaitDesign, reachable
from verification.experiments.checks import AGREES, DIFFERS, TOO_FEW
from verification.experiments.stability import STABLE

MOST_LANES = 6  # windows or thresholds that are said one by one
MEASURES = ("throughput", "latency", "latency_p99")
IN_WORDS = {AGREES: "agree", DIFFERS: "differ", TOO_FEW: "rest on too few runs to tell"}


def show_first_screen(deployment: Deployment, found: Comparison, answer: str, bursts: Burstiness | None,
                      out: Path | None) -> None:
    """What a reader needs first; `answer` is the sentence behind yes or no."""
    title("Answer", "yes" if found.yes else "no")
    say(found.yes, answer)
    console.print()
    facts = Table.grid(padding=(0, 2))
    for name, text in (("edge", _edge(found)), ("set", _setting(deployment, found)), ("checks", _checked(found)),
                       ("arrivals", "" if bursts is None else arrivals_said(bursts))):
        if text:
            facts.add_row(name, escape(text))
    console.print(facts)
    for held in found.chosen.found.targets if found.chosen.found is not None else ():
        console.print(f"[{ANSWER_COLOURS[held.answer]}]{escape(target(held))}[/]")
    _show_gain(found)
    for line in compared_lines(deployment, found):
        console.print(escape(line))
    _show_outlook(found.outlook)
    more = ["every number: --verbose or --json"]
    more += [f"written to {out}"] if out is not None else ["figures and the policy: --out FOLDER"]
    console.print(f"[dim]{escape('; '.join(more))}[/dim]")


def _edge(found: Comparison) -> str:
    """How far the mix can grow."""
    equilibrium = found.equilibrium
    if equilibrium.limit == "length":
        return ""
    reach = reachable(equilibrium)
    known = proved(equilibrium, reach).removeprefix("proved: ")
    if reach.scale < 1:  # nothing that the simulation does not say better
        known = known.partition("known; ")[2] or known
    if equilibrium.limit is not None:
        return f"{equilibrium.max_rate_scale:.4g} of these rates; {known}"
    return f"{reason_of(equilibrium).partition('; ')[2]}; {known}"


def _setting(deployment: Deployment, found: Comparison) -> str:
    """What to give the engine, and the command that writes it."""
    if found.advice is None or not found.yes:
        return ""
    if found.advice.leave:
        return "nothing: vLLM as it comes"
    if not found.advice.thresholds:
        return f"vllm serve MODEL {found.advice.flags}"
    design = found.used
    file = "" if deployment.source == EMBEDDED else f" {deployment.source}"
    if isinstance(design, PacedDesign | UnknownPacedDesign):
        lanes = zip(window_names(design), design.entries, design.iterations, strict=True)
        words = [f"at most {n} {name} in any {g} iterations" for name, n, g in lanes]
        return f"{_few(words)}: fluidwait thresholds{file} --install vllm --out FOLDER"
    if isinstance(design, WaitDesign):
        names = design.equilibrium.workload.names
        return _few([f"n = {n} for {name}" for name, n in zip(names, design.thresholds, strict=True)])
    return found.used.label


def _few(words: list[str]) -> str:
    more = len(words) - MOST_LANES
    return ", ".join(words[:MOST_LANES]) + (f" and {more} more" if more > 0 else "")


def _checked(found: Comparison) -> str:
    """How many predictions were held against the simulation, and what became of them."""
    if found.chosen.found is None:
        return ""
    counts = Counter(check.answer for check in found.chosen.found.checks)
    parts = [f"{counts[answer]} {words}" for answer, words in IN_WORDS.items() if counts[answer]]
    plan = found.chosen.plan
    return (f"{found.chosen.replications} simulations of {plan.horizon:g} s each: of {counts.total()} predictions "
            f"{', '.join(parts)}")


def _show_gain(found: Comparison) -> None:
    """What is chosen and the engine as it comes on the same arrivals, and the difference."""
    ours = found.chosen.found
    if ours is None:
        return
    pair = [found.chosen, *([found.engine] if found.engine is not found.chosen else [])]
    same = "same users" if ours.verdict.closed else "same arrivals"
    table = new_table(same, "tokens/s", "latency s", "p99 s", "evictions", "")
    for outcome in pair:
        each = outcome.found
        if each is not None:
            name = outcome.label + (" as it comes" if outcome is found.engine else "")
            table.add_row(escape(name), *(marked(each, measure) for measure in MEASURES),
                          f"{each.evictions.mean:,.0f} a run",
                          "stable" if each.verdict.answer == STABLE else f"[red]{each.verdict.answer}[/red]")
    if len(pair) == 2 and found.engine.found is not None and found.chosen.replications > 1:
        gaps = [found.against(found.engine, measure) for measure in MEASURES]
        table.add_row("[dim]difference[/dim]", *("" if gap is None else change(gap) for gap in gaps), "", "")
    console.print()
    console.print(table)
    if ours.doubts or (found.engine.found is not None and found.engine.found.doubts):
        console.print(f"[dim]± 95% over runs; {DOUBTED}: may not hold, {escape(_why(found))}[/dim]")


def _why(found: Comparison) -> str:
    """Why the first of the doubted intervals is."""
    for outcome in (found.chosen, found.engine):
        for sentence in doubts(outcome.found) if outcome.found is not None else []:
            return sentence.partition("may not hold: ")[2]
    return ""


def _show_outlook(outlook: dict[float, Advice]) -> None:
    """What is best at other shares of the edge."""
    if not outlook:
        return
    table = new_table("of the edge", "use", "latency s", "engine as it comes", "evictions/h")
    for share, advice in outlook.items():
        best, engine = advice.best, advice.trials.engine
        table.add_row(f"{share:.0%}", escape(name_of_trial(best, advice.trials)), with_interval(best.latency),
                      with_interval(engine.latency), f"{engine.evictions_per_hour.mean:,.0f}")
    console.print()
    console.print(table)
