"""Prefill and decode apart for a deployment: the cheapest pools, the edge, and the same replicas colocated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fluid.arrays import Floats
from fluid.errors import InputError
from fluid.planning import (
    Carried,
    FleetPlan,
    Kind,
    Pace,
    RobustPlan,
    TandemCarried,
    TandemPlan,
    colocated,
    most_demand,
    most_tandem,
    pace,
    plan_fleet,
    plan_tandem,
)
from fluid.planning.kinds import counts_of, rows_of
from fluid.planning.parts import DECODE, PREFILL, moved
from fluid.planning.whole_fleet import CARRIES, FEASIBLE, INFEASIBLE, OPTIMAL, without
from fluid.workload import Workload
from fluidwait.deployment.deployment import Deployment
from fluidwait.study.possible import Possible, plan_of_possible
from thresholds import Design, WaitDesign, paced, wait
from verification.experiments.targets.names import base

GAPS = ("tpot", "itl")


@dataclass(frozen=True)
class Balance:
    """Means over the requests of pools in balance, without queues: seconds of a prefill and of a transfer, the
    `prefill` and `decode` iterations by kind, and shares of a cache that transfers hold, of a link that is taken.
    """

    prefill_seconds: float
    transfer_seconds: float
    prefill: tuple[Pace, ...]
    decode: tuple[Pace, ...]
    held: dict[str, float]
    link: dict[str, float]


@dataclass(frozen=True, eq=False)
class PlannedApart:
    """The `plan` for the demand of a deployment, in which what is there is kept, and `edge`, what it carries.

    `there` is what is there already carries, with `left` of it where replicas are lost (None and 0 where nothing is);
    `together` the cheapest fleet of the same kinds colocated, and `same` what the replicas of the plan carry so.
    """

    deployment: Deployment
    workload: Workload
    plan: TandemPlan
    together: FleetPlan
    edge: TandemCarried | None = None
    same: Carried | None = None
    there: TandemCarried | None = None
    left: float = 0.0

    @property
    def carries(self) -> bool:
        """Whether what is there carries the demand, with head-room and without what is spare."""
        return self.left >= (1 + self.plan.prefill.headroom) * CARRIES

    @property
    def yes(self) -> bool:
        """The answer of the command."""
        return self.plan.feasible and (self.there is None or self.carries)

    @property
    def left_open(self) -> tuple[str, ...]:
        """The targets that a plan of pools does not see: all but those on the time between tokens."""
        targets = self.deployment.targets
        return (*(each.text for each in targets.bounds if base(each.measure) not in GAPS),
                *((targets.goodput.text,) if targets.goodput else ()))

    @property
    def pools(self) -> dict[str, FleetPlan]:
        """The plans by role."""
        return {PREFILL: self.plan.prefill, DECODE: self.plan.decode}

    @property
    def status(self) -> str:
        """The worse of those of the two pools."""
        order = (OPTIMAL, FEASIBLE, INFEASIBLE)
        return max((each.status for each in self.pools.values()), key=order.index)

    @cached_property
    def losses(self) -> dict[str, float]:
        """By kind of which there are replicas, the share of the demand that is carried without one of them."""
        factor = 0.0 if self.edge is None else self.edge.factor
        return {each.name: min(pool.losing(k).factor, factor) for pool in self.pools.values() if pool.counts is not None
                for k, each in enumerate(pool.kinds) if pool.counts[k] > 0}

    @cached_property
    def balance(self) -> Balance:
        """What the pools are like at the demand as it is."""
        paces, held, link = {}, {}, {}
        for role, pool in self.pools.items():
            profiles = [each.profile(pool.workload) for each in pool.kinds]
            shares = _of_one(pool)
            paces[role] = tuple(map(pace, [pool.workload] * len(shares), pool.kinds, shares))
            for kind, profile, rates in zip(pool.kinds, profiles, shares, strict=True):
                if kind.part is not None:
                    held[kind.name] = float(kind.part.held(profile) @ rates) / kind.replica.kv_capacity
                    link[kind.name] = float(kind.region(profile).half_spaces[-1] @ rates)
        return Balance(self._prefill_seconds(paces[PREFILL]), self._transfer_seconds(), paces[PREFILL], paces[DECODE],
                       held, link)

    def _prefill_seconds(self, paces: tuple[Pace, ...]) -> float:
        """K Delta_P, the mean over the requests."""
        pool = self.plan.prefill
        stages = [each.profile(pool.workload).stages for each in pool.kinds]
        return float(sum(each.iteration_time * (rates @ own)
                         for each, rates, own in zip(paces, _rates(pool), stages, strict=True) if rates.any())
                     ) / pool.workload.rate

    def _transfer_seconds(self) -> float:
        """T_j, the mean over the requests that are decoded."""
        pool = self.plan.decode
        seconds = [each.part.transfer.seconds(moved(each.profile(pool.workload))) for each in pool.kinds if each.part]
        return float(sum(rates @ own for rates, own in zip(_rates(pool), seconds, strict=True))) / pool.workload.rate

    @cached_property
    def colocated(self) -> tuple[tuple[str, Pace], ...]:
        """The iterations of the same replicas colocated, by kind; none where they do not carry the demand."""
        if self.same is None or self.same.factor < CARRIES:
            return ()
        rates = self.same.rates / self.same.factor
        return tuple((each.name, pace(self.workload, each, rates[k] / self.same.counts[k]))
                     for k, each in enumerate(self.same.kinds) if rates[k].any())

    @cached_property
    def designs(self) -> tuple[tuple[str, WaitDesign, Design], ...]:
        """WAIT and windows of a decode replica at its share of the rates, by kind."""
        pool, target = self.plan.decode, self.deployment
        found = []
        for k, kind in enumerate(pool.kinds):
            own = pool.share(k)
            if own is not None:
                share, replica = kind.seen(own)
                windows = paced(share, replica, lengths="known" if target.lengths == "known" else "unknown",
                                horizon=target.horizon, overflow_probability=target.overflow_probability,
                                rows=target.mix.trace, confidence=target.confidence)
                found.append((kind.name, wait(share, replica), windows))
        return tuple(found)


def planned_apart(deployment: Deployment, workload: Workload, headroom: float, spare: int) -> PlannedApart:
    """Plan pools for a demand: the kinds of a deployment with roles."""
    kinds = [each.kind for each in deployment.fleet]
    prefill, decode = ([each for each in kinds if each.part and each.part.role == role] for role in (PREFILL, DECODE))
    gaps = [each.seconds for each in deployment.targets.bounds if base(each.measure) in GAPS]
    decode = _paced(decode, gaps)
    plan = plan_tandem(workload, prefill, decode, headroom, spare=spare)
    together = plan_fleet(workload, _distinct(_paced(colocated(kinds), gaps)), headroom, spare=spare)
    found = PlannedApart(deployment, workload, plan, together)
    if plan.prefill.counts is not None and plan.decode.counts is not None:
        edge = most_tandem(workload, prefill, decode, plan.prefill.counts, plan.decode.counts)
        counts = [*plan.prefill.counts, *plan.decode.counts]
        fleet = [replace(each, count=int(n), most=None)
                 for each, n in zip(_paced(colocated([*prefill, *decode]), gaps), counts, strict=True) if n > 0]
        alike = _distinct(fleet)
        same = most_demand(workload, alike, counts_of(alike))
        found = PlannedApart(deployment, workload, plan, together, edge, same)
    if not counts_of(kinds).any():
        return found
    there = most_tandem(workload, prefill, decode, counts_of(prefill), counts_of(decode))
    return PlannedApart(deployment, workload, plan, together, found.edge, found.same, there, _left(there, spare))


def _paced(kinds: list[Kind], gaps: list[float]) -> list[Kind]:
    """The kinds within the smallest bound on the time between tokens, if there is one."""
    return [replace(each, tpot=min(gaps)) for each in kinds] if gaps else kinds


def _distinct(kinds: list[Kind]) -> list[Kind]:
    """The kinds, of those that are the same replica at the same price, without a most, one under all their names."""
    found = list[Kind]()
    for each in kinds:
        alike = [i for i, other in enumerate(found) if each.most is None and each == replace(
            other, name=each.name, count=each.count)]
        if alike:
            other = found[alike[0]]
            found[alike[0]] = replace(other, name=f"{other.name}/{each.name}", count=other.count + each.count)
        else:
            found.append(each)
    return found


def robust_pools(found: PlannedApart, possible: Possible | None) -> dict[str, RobustPlan]:
    """Each pool for all rates that are possible: as pools share nothing else, both carry every one of them.

    Empty where nothing was asked; raises InputError where some types end at their prefill, whose rates the decode pool
    does not see.
    """
    if possible is None:
        return {}
    if found.plan.decode.workload is not found.workload:
        raise InputError("--rates-within", "asked where all types are decoded", "output_tokens = 1")
    plans = {role: plan_of_possible(pool, possible) for role, pool in found.pools.items()}
    return {role: plan for role, plan in plans.items() if plan is not None}


def _left(there: TandemCarried, spare: int) -> float:
    """What is carried where any `spare` replicas of one kind are lost: nothing where a pool has none."""
    return min(there.factor, *(each.factor for pool in (there.prefill, there.decode) for each in without(
        pool.workload, pool.kinds, rows_of(pool.workload, pool.kinds), pool.counts, spare)))


def _rates(pool: FleetPlan) -> Floats:
    """The rates sent to each kind, zeros where there is no plan."""
    return np.zeros((len(pool.kinds), len(pool.workload))) if pool.rates is None else pool.rates


def _of_one(pool: FleetPlan) -> Floats:
    """The rates of one replica of each kind, zeros where there is none."""
    counts = np.ones(len(pool.kinds)) if pool.counts is None else np.maximum(pool.counts, 1.0)
    rates: Floats = _rates(pool) / counts[:, None]
    return rates
