"""What flags cost and gain, for people and for programs, and the lines to paste."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from fluidwait.reports import answers
from fluidwait.reports.console import console, new_table, optional, say, title, with_interval
from fluidwait.reports.simulation import ANSWER_COLOURS, target
from fluidwait.study.knobs.search import Knobs
from fluidwait.study.knobs.setting import Setting
from verification import Replay
from verification.experiments.targets.bounds import MET, MISSED, UNSURE
from verification.experiments.targets.names import DELAYS
from verification.experiments.trials import Trial

SHOWN = ("ttft_p99", "tpot_p99", "itl_p99")
SHORT = {"--max-num-seqs": "{} seqs", "--max-num-batched-tokens": "{} tokens", "--watermark": "watermark {:.0%}",
         "--gpu-memory-utilization": "memory {:.0%}"}
REPLAYED = "the trace's own moments: intervals say how much depends on where a run begins, nothing of other days"
NOTE = ("simulated is vLLM's scheduler (policy vllm-v1); SGLang's differs: it also keeps room for coming tokens "
        "(--schedule-conservativeness)")


def knobs_answer(found: Knobs) -> dict[str, Any]:
    """The body of `knobs --json`."""
    own, best = found.own, found.best
    return {"answer": found.yes, "horizon": found.horizon, "replications": found.replications,
            "seed": found.verified.seed - 1, "rate": found.deployment.rate,
            "targets": found.deployment.targets.to_dict(),
            "recommended": vars(best), "changes": best.changes(own), "vllm": best.vllm(_gpus(found)),
            "sglang": _sglang(found), "edge": found.edge(best), "edge_as_it_comes": found.edge(own),
            "verified": found.verified.to_dict(),
            "settings": [_setting(found, setting, trial) for setting, trial in found.tried.items()],
            "more_memory": [_setting(found, setting, trial) for setting, trial in found.more_memory.items()]}


def _setting(found: Knobs, setting: Setting, trial: Trial) -> dict[str, Any]:
    return {**vars(setting), "kv_capacity": setting.replica(found.deployment).kv_capacity,
            "throughput": answers.interval(trial.throughput),
            **{name: answers.interval(trial.delays[name]) for name in DELAYS},
            "evictions_per_hour": answers.interval(trial.evictions_per_hour),
            "targets": [each.to_dict() for each in trial.targets]}


def show_knobs(found: Knobs) -> None:
    """The report of `fluidwait knobs`."""
    deployment = found.deployment
    title("Knobs of vLLM V1", f"{deployment.source} at {deployment.rate:.4g} requests/s: each setting "
                              f"{found.replications} x {found.horizon:,.0f} s on the same arrivals")
    _table(found)
    if isinstance(deployment.mix.traffic, Replay):
        console.print(f"[dim]{REPLAYED}[/dim]")
    console.print()
    changes = found.best.changes(found.own)
    say(found.yes, "leave the flags as they are" if not changes else
        "set " + " ".join(f"{flag} {value:g}" for flag, value in changes.items()))
    verified = found.verified
    console.print(f"on other arrivals: {verified.verdict.answer}, latency {with_interval(verified.latency)} s, "
                  f"TTFT p99 {with_interval(verified.interval('ttft_p99'))} s, "
                  f"TPOT p99 {with_interval(verified.interval('tpot_p99'))} s, "
                  f"{verified.evictions.mean:,.0f} preemptions a run")
    for held in verified.targets:
        console.print(f"[{ANSWER_COLOURS[held.answer]}]{escape(target(held))}[/]")
    console.print(f"edge {found.edge(found.best):.4g} requests/s with these flags, {found.edge(found.own):.4g} as it "
                  "comes (fluid limit, an upper bound)\n")
    if not found.yes:
        console.print("what flags cannot do, windows may: fluidwait run; fewer requests a second always: fluidwait "
                      "capacity\n")
    for line in (found.best.vllm(_gpus(found)), _sglang(found)):
        console.print(f"    {escape(line)}", soft_wrap=True)
    console.print(f"[dim]{escape(NOTE)}[/dim]")


def _table(found: Knobs) -> None:
    asked = bool(found.deployment.targets)
    table = new_table("setting", "latency s", "TTFT p99", "TPOT p99", "ITL p99", "evicted/h",
                      "target" if asked else "")
    rows = {**found.tried, **found.more_memory}
    for setting, trial in rows.items():
        name = _name(setting, found.own)
        table.add_row(f"[bold]{name}[/bold]" if setting == found.best else name, with_interval(trial.latency),
                      *(optional(trial.delays[each].mean) for each in SHOWN),
                      f"{trial.evictions_per_hour.mean:,.0f}", _met(trial))
    console.print(table)


def _name(setting: Setting, own: Setting) -> str:
    changes = setting.changes(own)
    words = [SHORT[flag].format(value) for flag, value in changes.items()]
    return ", ".join(words) or "as it comes"


def _met(trial: Trial) -> str:
    """The worst answer of the targets."""
    answered = [each.answer for each in trial.targets]
    worst = next((each for each in (MISSED, UNSURE, MET) if each in answered), "")
    return f"[{ANSWER_COLOURS[worst]}]{'?' if worst == UNSURE else worst}[/]" if worst else ""


def _gpus(found: Knobs) -> int:
    placed = found.deployment.placement
    return 1 if placed is None else placed.tensor_parallel


def _sglang(found: Knobs) -> str:
    capacity = found.best.replica(found.deployment).kv_capacity + found.deployment.mix.reserved
    return found.best.sglang(capacity, _gpus(found))
