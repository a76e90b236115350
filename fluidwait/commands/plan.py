"""The command that plans a fleet."""

from __future__ import annotations

from pathlib import Path

from fluid.errors import FluidwaitError, InputError, whole
from fluidwait.deployment.deployment import Deployment, deployment_of
from fluidwait.deployment.trace_keys import Flags, TraceKeys
from fluidwait.reports import answers
from fluidwait.reports.console import give
from fluidwait.reports.plan import plan_answer, show_plan
from fluidwait.reports.robust import robust_answer, show_robust
from fluidwait.reports.routed_fleet import show_simulated, simulated_answer
from fluidwait.reports.routed_tandem import show_simulated_apart, simulated_apart_answer
from fluidwait.reports.tandem import show_apart, tandem_answer
from fluidwait.study.batch import refuse_batch, refuse_closed
from fluidwait.study.fleet import demanded, planned
from fluidwait.study.possible import Possible, asked_of, plan_of_possible
from fluidwait.study.routed_fleet import HowToSimulate, simulated
from fluidwait.study.routed_tandem import simulated_apart
from fluidwait.study.tandem import planned_apart, robust_pools

MOST_HEADROOM, MOST_SPARE = 100.0, 100


def plan_command(file: Path | None, keys: Flags, headroom: float, spare: int, tails: bool, possible: Flags,
                 simulate: Flags, json: bool) -> bool:
    """Plan a fleet for the demand and for rates that may be others, and simulate it, where those are asked for.

    Returns whether the plan holds: there is a fleet, the one that is there, if any, carries the demand, there is one
    for all rates asked for, and it is stable simulated.
    """
    if not 0 <= headroom <= MOST_HEADROOM:
        raise InputError("--headroom", 'a share from 0, as "10%" or "0.1"', headroom)
    whole("--spare", spare, unit="replicas", least=0, most=MOST_SPARE)
    if simulate["policy"] is None and simulate["horizon"] is not None:
        raise InputError("--horizon", "given beside --simulate, whose runs are so long", simulate["horizon"])
    how = None if simulate["policy"] is None else HowToSimulate(**simulate)
    deployment = deployment_of(file, TraceKeys.of_flags(keys))
    refuse_batch(deployment, "plan")
    refuse_closed(deployment, "plan")
    if any(each.kind.part for each in deployment.fleet):
        if tails:
            raise FluidwaitError("--tails is for kinds without roles; with them ask --simulate vllm-v1")
        return _apart(deployment, headroom, spare, asked_of(deployment, demanded(deployment), **possible), how, json)
    found = planned(deployment, headroom, spare, tails)
    rates = asked_of(deployment, found.workload, **possible)
    robust = plan_of_possible(found.plan, rates)
    routed = None if how is None else simulated(found, how)

    def show() -> None:
        show_plan(found)
        show_robust(robust, rates)
        show_simulated(routed)

    give({**answers.provenance("plan", deployment), **plan_answer(found), **robust_answer(robust, rates),
          **simulated_answer(routed)}, json, show)
    return found.yes and (robust is None or robust.counts is not None) and (routed is None or routed.yes)


def _apart(deployment: Deployment, headroom: float, spare: int, possible: Possible | None, how: HowToSimulate | None,
           json: bool) -> bool:
    """Plan pools that prefill and decode apart; each of them for all rates that are possible."""
    found = planned_apart(deployment, demanded(deployment), headroom, spare)
    robust = robust_pools(found, possible)
    routed = None if how is None else simulated_apart(found, how)

    def show() -> None:
        show_apart(found)
        for pool in robust.values():
            show_robust(pool, possible)
        show_simulated_apart(routed)

    both = {role: robust_answer(pool, possible)["robust"] for role, pool in robust.items()}
    give({**answers.provenance("plan", deployment), **tandem_answer(found), "robust": both or None,
          **simulated_apart_answer(routed)}, json, show)
    carried = all(pool.counts is not None for pool in robust.values())
    return found.yes and carried and (routed is None or routed.yes)
