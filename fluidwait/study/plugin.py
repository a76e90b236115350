"""The windows of a design as a scheduler class of vLLM, in one file, or as a gateway before any engine.

vLLM takes a scheduler of one's own (`--scheduler-cls`). Ours overrides `schedule` alone: before each step it lowers the
cap on running requests that the engine's scheduler reads to those that run, those that were preempted, and those that
the windows let start. Everything else stays the engine's. A window by prompt length holds the requests of a closed one
back while the engine looks at its queue; a request that waits for something else (a grammar, its KV) takes a place, and
those that wait for nothing go first in the step after. Not modelled: KV that connectors load before a request starts.

An engine sees prompts, not types. Where types differ by prompt a window is for a range of prompt lengths: a request
counts with the type of the shortest prompt that is no shorter than its own. Where they do not, or the design has one
window already, there is one for the mix, designed for unknown lengths. Under async scheduling a request holds its
blocks for one iteration more, so those windows are designed for outputs of one token more.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fluid import Workload
from fluid.errors import FluidwaitError
from fluid.files.written import write_files
from fluid.traces.trace import Trace
from fluidwait import __version__
from fluidwait.deployment.deployment import Deployment
from fluidwait.study.designs import choose
from thresholds import PacedDesign, UnknownPacedDesign, paced
from thresholds.paced_wait.design import AnyPacedDesign

TESTED = "0.11, 0.12, 0.13, 0.17, 0.20, 0.25, 0.29 and 0.33"
INSTALLED = {"vllm": "paced_scheduler.py", "gateway": "gateway.py"}


class Row(NamedTuple):
    """At most `entries` requests of this many prompt tokens and more start in any `iterations` iterations."""

    from_tokens: int
    entries: int
    iterations: int


def plugin(deployment: Deployment) -> str:
    """The text of the scheduler class; raises FluidwaitError where windows that carry the load do not fit."""
    windows = design_by_prompt(deployment, deployment.workload)
    longer = design_by_prompt(deployment, _one_token_more(deployment.workload))
    return _filled("paced_scheduler.txt", deployment, TESTED=TESTED, PROMISE=promise(deployment, windows),
                   WINDOWS=_table(rows(windows)), ASYNC_WINDOWS=_table(rows(longer)))


def gateway(deployment: Deployment, design: AnyPacedDesign) -> str:
    """The text of a gateway with the windows of a design, by the names of the types."""
    names = deployment.workload.names if len(design.entries) > 1 else ("all",)
    pairs = zip(names, design.entries, design.iterations, strict=True)
    return _filled("gateway.txt", deployment, GATES=", ".join(f"{name!r}: Window({n}, {g})" for name, n, g in pairs))


def _filled(template: str, deployment: Deployment, **parts: str) -> str:
    text = files("fluidwait").joinpath(template).read_text(encoding="utf-8")
    for name, value in {"VERSION": __version__, "SOURCE": repr(deployment.source)[1:-1], **parts}.items():
        text = text.replace(f"@{name}@", value)
    return text


def written(deployment: Deployment, what: str, folder: Path) -> Path:
    """Write one of `INSTALLED` into a folder, made if need be; raises FluidwaitError where it cannot be."""
    path = folder / INSTALLED[what]
    if what == "vllm":
        text = plugin(deployment)
    else:
        design = choose(deployment, "paced").design
        assert isinstance(design, PacedDesign | UnknownPacedDesign)
        _refuse_infeasible(deployment, design)
        text = gateway(deployment, design)
    write_files(folder, {path.name: text})
    return path


def design_by_prompt(deployment: Deployment, workload: Workload) -> AnyPacedDesign:
    """The windows that can be told apart by prompt length; raises FluidwaitError where they do not fit."""
    prompts, replica = workload.prompt_tokens, deployment.replica
    more = int((workload.output_tokens - deployment.workload.output_tokens).max())
    if more and replica.max_model_len is not None:
        replica = replace(replica, max_model_len=replica.max_model_len + more)
    known = deployment.lengths == "known" and deployment.predictor is None
    design = paced(workload, replica) if known and len(np.unique(prompts)) == len(prompts) else None
    if design is None or len(design.entries) == 1 < len(workload):
        design = paced(workload, replica, lengths="unknown", horizon=deployment.horizon,
                       overflow_probability=deployment.overflow_probability,
                       rows=_longer(deployment.mix.trace, more), confidence=deployment.confidence)
    _refuse_infeasible(deployment, design)
    return design


def _refuse_infeasible(deployment: Deployment, design: AnyPacedDesign) -> None:
    if not design.feasible:
        raise FluidwaitError(f"{deployment.source}: there are no windows to install: {design.reason}")


def rows(design: AnyPacedDesign) -> list[Row]:
    """A window for each range of prompt lengths, ascending."""
    if len(design.entries) == 1:
        return [Row(0, design.entries[0], design.iterations[0])]
    prompts = design.equilibrium.workload.prompt_tokens
    order = np.argsort(prompts)
    starts = [0, *(int(tokens) + 1 for tokens in prompts[order][:-1])]
    return [Row(start, design.entries[j], design.iterations[j]) for start, j in zip(starts, order, strict=True)]


def promise(deployment: Deployment, design: AnyPacedDesign) -> str:
    """What the windows guarantee, in one line for the file."""
    held = f"at most {design.kv_required:,.0f} of {design.kv_capacity:,} KV tokens"
    if isinstance(design, UnknownPacedDesign) and design.in_order:
        return f"Requests of this trace, in its order, hold {held}; of other traffic nothing is promised."
    if design.overflow_probability == 0:
        return f"Requests of these types hold {held}, whatever arrives: nothing is preempted."
    evidence = design.evidence if isinstance(design, UnknownPacedDesign) else None
    return (f"Requests of this mix hold {held} for {deployment.horizon:g} s, but with probability "
            f"{deployment.overflow_probability:g}{'' if evidence is None else f', {evidence}'}.")


def _longer(trace: Trace | None, more: int) -> Trace | None:
    """The trace behind a deployment, its outputs so many tokens longer."""
    return replace(trace, output_tokens=trace.output_tokens + more) if trace is not None and more else trace


def _one_token_more(workload: Workload) -> Workload:
    return Workload.from_arrays(workload.prompt_tokens, workload.output_tokens + 1, workload.rates,
                                cached_prefix=workload.cached_prefix)


def _table(windows: list[Row]) -> str:
    inside = "".join(f"\n    {tuple(row)}," for row in windows)
    return f"({tuple(windows[0])},)" if len(windows) == 1 else f"({inside}\n)"
