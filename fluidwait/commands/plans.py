"""The command that plans many fleets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import typer

from fluid.errors import InputError, real, whole
from fluidwait.commands.options import number, share, whole_number
from fluidwait.commands.plan import MOST_HEADROOM, MOST_SPARE
from fluidwait.deployment.deployment import Deployment, deployment_of
from fluidwait.deployment.policy_names import known
from fluidwait.deployment.trace_keys import Flags, TraceKeys
from fluidwait.reports import answers
from fluidwait.reports.console import give, write
from fluidwait.reports.plans import as_csv, plans_answer, show_plans
from fluidwait.study.batch import refuse_batch, refuse_closed
from fluidwait.study.grid import rates_of
from fluidwait.study.plans import PlanGrid, complete
from fluidwait.study.sweep import Workers

Value = TypeVar("Value", int, float)


def plans_command(file: Path | None, keys: Flags, rates: str, headrooms: str, spares: str, prices: str,
                  out: Path | None, jobs: int | None, dask: str | None, json: bool) -> None:
    """Plan a fleet for every rate, head-room, spare and price."""
    workers, deployment = Workers.checked(jobs, dask), deployment_of(file, TraceKeys.of_flags(keys))
    refuse_batch(deployment, "plans")
    refuse_closed(deployment, "plans")
    grid = _grid(deployment, rates, headrooms, spares, prices)
    rows = complete(deployment, grid, workers, out)
    answer = {**answers.provenance("plans", deployment), **plans_answer(rows)}
    if out is not None:
        write(out, answer, {"plans.csv": as_csv(rows)})
    give(answer, json, lambda: show_plans(deployment, rows, out))


def _grid(deployment: Deployment, rates: str, headrooms: str, spares: str, prices: str) -> PlanGrid:
    shares = _listed("--headrooms", headrooms, share)
    if not all(0 <= each <= MOST_HEADROOM for each in shares):
        raise InputError("--headrooms", 'shares from 0, as "0,10%"', headrooms)
    losses = tuple(whole("--spares", each, unit="replicas", least=0, most=MOST_SPARE)
                   for each in _listed("--spares", spares, whole_number))
    wanted = rates_of(rates) if rates else (deployment.rate,)
    if not prices:
        return PlanGrid(wanted, shares, losses)
    name, sign, numbers = prices.partition("=")
    if not sign or not deployment.fleet:
        raise InputError("--prices", 'of a [[fleet.kind]], as "big=3,4"', prices)
    known("--prices", name.strip(), tuple(each.kind.name for each in deployment.fleet))
    asked = tuple(real("--prices", each) for each in _listed("--prices", numbers, number))
    return PlanGrid(wanted, shares, losses, name.strip(), asked)


def _listed(flag: str, text: str, read: Callable[[str], Value]) -> tuple[Value, ...]:
    """Values with commas between, sorted and there once; raises InputError, naming the flag, for what is none."""
    try:
        return tuple(sorted({read(each.strip()) for each in text.split(",")}))
    except typer.BadParameter as error:
        raise InputError(flag, str(error).removeprefix("must be ").partition(" (got")[0], text) from None
