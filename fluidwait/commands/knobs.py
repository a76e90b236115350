"""The command that says which flags to give an engine."""

from __future__ import annotations

from dataclasses import replace

import typer

from fluid import FluidwaitError, solve
from fluid.errors import whole
from fluidwait.commands.options import File, Horizon, Json, Replications, Seed, Version
from fluidwait.commands.targets import with_targets
from fluidwait.deployment.deployment import deployment_of
from fluidwait.reports import answers
from fluidwait.reports.console import give
from fluidwait.reports.knobs import knobs_answer, show_knobs
from fluidwait.study.knobs.search import knobs, usual_plan
from fluidwait.study.outcomes import Plan
from verification import Targets


@with_targets
def knobs_command(targets: Targets | None, file: File = None, horizon: Horizon = None,
                  replications: Replications = 4, seed: Seed = 0, json: Json = False, version: Version = False) -> None:
    """Find the flags of vLLM for a workload and targets: what each setting costs and gains, and a line to paste."""
    whole("--replications", replications, unit="replications", least=2)  # intervals decide
    deployment = deployment_of(file)
    deployment = deployment if targets is None else replace(deployment, targets=targets)
    equilibrium = solve(deployment.workload, deployment.replica)
    if equilibrium.limit is not None:
        raise FluidwaitError(f"{deployment.source}: no flags help: {equilibrium.reason}")
    plan = usual_plan(deployment, Plan.checked(deployment, horizon, replications, seed), horizon)
    found = knobs(deployment, plan)
    answer = {**answers.provenance("knobs", deployment), **knobs_answer(found)}
    give(answer, json, lambda: show_knobs(found))
    if not found.yes:
        raise typer.Exit(1)
