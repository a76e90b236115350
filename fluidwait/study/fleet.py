"""A fleet for a deployment: the cheapest, beside the best of one kind, and what changes would take or bring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fluid.planning import Admission, Carried, FleetPlan, Kind, admit, most_demand, plan_fleet
from fluid.planning.kinds import counts_of, prices_of, rows_of
from fluid.planning.whole_fleet import CARRIES, INFEASIBLE, without
from fluid.workload import Workload
from fluidwait.deployment.deployment import Deployment
from fluidwait.deployment.read_fleet import FleetKind
from fluidwait.study.fleet_day import Day, planned_day
from fluidwait.study.fleet_tails import within_tails
from fluidwait.study.fleet_targets import Within, within_targets

GROWTHS = (0.1, 0.2, 0.5)
ADMITTED = ("requests", "tokens", "max-min", "proportional")


@dataclass(frozen=True)
class Planned:
    """The `plan` for the demand of a deployment on its `kinds`, in which what is there already is kept.

    `there` is what that carries with `left` of it where replicas are lost, `admissions` whom to admit where that is not
    the demand (None and empty where nothing is there); `single` the cheapest fleet of one kind, by name and cost;
    `day` when to order and release replicas where rates change;
    `within` how targets limit the kinds.
    """

    deployment: Deployment
    workload: Workload
    kinds: tuple[FleetKind, ...]
    plan: FleetPlan
    there: Carried | None = None
    left: float = 0.0
    admissions: tuple[Admission, ...] = ()
    single: tuple[str, int, float] | None = None
    day: Day | None = None
    within: Within | None = None

    @property
    def carries(self) -> bool:
        """Whether what is there carries the demand, with head-room and without what is spare."""
        return self.left >= (1 + self.plan.headroom) * CARRIES

    @property
    def yes(self) -> bool:
        """The answer of the command."""
        return self.plan.feasible and (self.there is None or self.carries)

    @cached_property
    def growth(self) -> tuple[FleetPlan, ...]:
        """The plans for more traffic, by `GROWTHS`, each of which keeps this fleet."""
        if self.plan.counts is None:
            return ()
        kinds = [replace(each, count=int(n)) for each, n in zip(self.plan.kinds, self.plan.counts, strict=True)]
        return tuple(plan_fleet(self.workload.scaled(1 + more), kinds, self.plan.headroom, spare=self.plan.spare)
                     for more in GROWTHS)

    @cached_property
    def losses(self) -> dict[str, float]:
        """By kind of which there are replicas, the share of the demand that the fleet carries without one of them."""
        counts = self.plan.counts
        if counts is None:
            return {}
        return {each.name: self.plan.losing(k).factor for k, each in enumerate(self.plan.kinds) if counts[k] > 0}


def planned(deployment: Deployment, headroom: float, spare: int, tails: bool = False) -> Planned:
    """Plan for the demand of a deployment: that of its busiest window where rates change.

    With `tails` all targets are held by simulating a replica of each kind (`fluidwait.study.fleet_tails`).
    """
    alone = Kind(_name(deployment), deployment.replica, deployment.price or 1.0)
    kinds = deployment.fleet or (FleetKind(alone, deployment.placement, deployment.electricity),)
    workload = demanded(deployment)
    within = within_targets(deployment.targets, workload, [each.kind for each in kinds], headroom, spare)
    if tails and not within.reason:
        within = within_tails(within, deployment.targets, workload, headroom, spare)
    fleet, named = list(within.kinds), {each.kind.name: each for each in kinds}
    kinds = tuple(replace(named[each.name], kind=each) for each in fleet)
    if within.reason:
        none = FleetPlan(workload, within.kinds, headroom, spare, INFEASIBLE, within.reason)
        return Planned(deployment, workload, kinds, none, within=within)
    plan = plan_fleet(workload, fleet, headroom, spare=spare)
    found = Planned(deployment, workload, kinds, plan, single=_single(workload, fleet, headroom, spare),
                    day=planned_day(deployment, fleet, headroom, spare), within=within)
    counts = counts_of(fleet)
    if not counts.any():
        return found
    there = most_demand(workload, fleet, counts)
    left = min(each.factor for each in without(workload, tuple(fleet), rows_of(workload, fleet), counts, spare))
    found = replace(found, there=there, left=left)
    if there.factor >= CARRIES:
        return found
    return replace(found, admissions=tuple(admit(workload, fleet, counts, objective) for objective in ADMITTED))


def demanded(deployment: Deployment) -> Workload:
    """The mix at its rates, or at those of its busiest window."""
    windows = [each.equilibrium.workload for each in deployment.mix.windows]
    return max(windows, key=lambda each: each.rate) if windows else deployment.workload


def _name(deployment: Deployment) -> str:
    placed = deployment.placement
    if placed is None:
        return "replica"
    gpus = placed.tensor_parallel
    return placed.gpu.name if gpus == 1 else f"group of {gpus} {placed.gpu.name}"


def _single(workload: Workload, kinds: list[Kind], headroom: float, spare: int) -> tuple[str, int, float] | None:
    """The cheapest fleet of one kind: n = ceil((1 + headroom) max_i h_i.lambda) + spare, beside nothing there is."""
    rows = rows_of(workload, kinds)
    needs = np.ceil((1 + headroom) * CARRIES * rows.fullest(np.where(rows.fits, workload.rates, 0.0))) + spare
    found = [(float(prices_of(kinds)[k] * needs[k]), k) for k, each in enumerate(kinds)
             if rows.fits[k].all() and (each.most is None or needs[k] <= each.most)]
    if not found:
        return None
    cost, k = min(found)
    return kinds[k].name, int(needs[k]), cost
