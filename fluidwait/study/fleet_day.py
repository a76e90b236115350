"""A fleet over a day of rates: the schedule, beside an autoscaler without a forecast and what is there all day."""

from __future__ import annotations

from dataclasses import dataclass

from fluid.planning import Kind
from fluid.planning.kinds import counts_of
from fluid.scheduling import Backlog, DayPlan, Reaction, backlog, plan_day, react
from fluid.varying_rates import Schedule
from fluidwait.deployment.deployment import Deployment
from verification.traffic.processes import Scheduled


@dataclass(frozen=True)
class Day:
    """The cheapest schedule, an autoscaler's day and what waits with the replicas that are there (None: none are)."""

    plan: DayPlan
    reaction: Reaction | None = None
    there: Backlog | None = None


def planned_day(deployment: Deployment, kinds: list[Kind], headroom: float, spare: int) -> Day | None:
    """The day of a deployment, None where its rates do not change; factor 1 is its busiest window."""
    traffic = deployment.mix.traffic
    if not isinstance(traffic, Scheduled):
        return None
    busiest, counts = float(traffic.schedule.factors.max()), counts_of(kinds)
    workload = deployment.workload.scaled(busiest)
    schedule = Schedule(traffic.schedule.durations, traffic.schedule.factors / busiest)
    plan = plan_day(workload, kinds, schedule, headroom, spare)
    there = backlog(workload, kinds, schedule, [0.0, schedule.period], [counts]) if counts.any() else None
    return Day(plan, react(workload, schedule, plan.peak) if plan.peak.feasible else None, there)
