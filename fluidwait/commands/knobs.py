"""The command that says which flags to give an engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fluid.errors import whole
from fluidwait.deployment.deployment import deployment_of
from fluidwait.deployment.read_targets import Asked, asked_targets
from fluidwait.deployment.trace_keys import Flags, TraceKeys
from fluidwait.reports import answers
from fluidwait.reports.console import give, say
from fluidwait.reports.knobs import knobs_answer, show_knobs
from fluidwait.study.batch import refuse_batch
from fluidwait.study.knobs.search import knobs, usual_plan, without_caps
from fluidwait.study.outcomes import Plan


def knobs_command(file: Path | None, keys: Flags, asked: Asked, horizon: float | None, replications: int, seed: int,
                  json: bool) -> bool:
    """Find the flags of vLLM for a workload and targets; whether the best setting is stable and misses none."""
    targets = asked_targets(asked)
    whole("--replications", replications, unit="replications", least=2)  # intervals decide
    deployment = deployment_of(file, TraceKeys.of_flags(keys))
    refuse_batch(deployment, "knobs")
    deployment = deployment if targets is None else replace(deployment, targets=targets)
    equilibrium = without_caps(deployment)
    if equilibrium.limit is not None:
        reason = f"no flags help: {equilibrium.reason}"
        give({**answers.provenance("knobs", deployment), "answer": False, "reason": reason}, json,
             lambda: say(False, reason))
        return False
    plan = usual_plan(deployment, Plan.checked(deployment, horizon, replications, seed), horizon)
    found = knobs(deployment, plan)
    answer = {**answers.provenance("knobs", deployment), **knobs_answer(found)}
    give(answer, json, lambda: show_knobs(found))
    return found.yes
