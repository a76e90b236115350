"""The command that plans a fleet."""

from __future__ import annotations

from pathlib import Path

from fluid.errors import InputError, whole
from fluidwait.deployment.deployment import deployment_of
from fluidwait.deployment.trace_keys import Flags, TraceKeys
from fluidwait.reports import answers
from fluidwait.reports.console import give
from fluidwait.reports.plan import plan_answer, show_plan
from fluidwait.study.batch import refuse_batch, refuse_closed
from fluidwait.study.fleet import planned

MOST_HEADROOM, MOST_SPARE = 100.0, 100


def plan_command(file: Path | None, keys: Flags, headroom: float, spare: int, json: bool) -> bool:
    """Plan a fleet for the demand; whether there is one, and the fleet that is there, if any, carries it."""
    if not 0 <= headroom <= MOST_HEADROOM:
        raise InputError("--headroom", 'a share from 0, as "10%" or "0.1"', headroom)
    whole("--spare", spare, unit="replicas", least=0, most=MOST_SPARE)
    deployment = deployment_of(file, TraceKeys.of_flags(keys))
    refuse_batch(deployment, "plan")
    refuse_closed(deployment, "plan")
    found = planned(deployment, headroom, spare)
    give({**answers.provenance("plan", deployment), **plan_answer(found)}, json, lambda: show_plan(found))
    return found.yes
