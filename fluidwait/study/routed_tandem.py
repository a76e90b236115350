"""Planned pools simulated: prefill and decode replicas behind routers, and the same replicas colocated beside them.

Types go to kinds as the plan says. Prefill replicas run the engine as it comes, decode replicas the policy that is
asked for; windows are designed for a decode replica at its share of the rates. The fleet beside has the replicas of
both pools, each serving whole requests as the engine comes, behind the shortest queue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fluid import solve
from fluid.errors import FluidwaitError
from fluid.planning import FleetPlan
from fluidwait.progress import working
from fluidwait.study.routed_fleet import PACED, RULES, HowToSimulate, Simulated, asked_of_fleets, left_out
from fluidwait.study.tandem import PlannedApart
from thresholds import paced
from verification.experiments.trials import REQUESTS, many_lives
from verification.fleets import Fleet, FleetTrial, Router, Tandem, TandemTrial, try_fleet, try_tandem
from verification.fleets.router import SHORTEST_QUEUE
from verification.policies import Policy
from verification.rules import rule_named
from verification.traffic.processes import POISSON, Traffic


@dataclass(frozen=True)
class SimulatedApart(Simulated[TandemTrial]):
    """The trials of planned pools by router, the shortest queue first, and of the same replicas `together`."""

    together: FleetTrial


def simulated_apart(found: PlannedApart, how: HowToSimulate) -> SimulatedApart | None:
    """Simulate the pools of a plan; None where it found none."""
    plan, deployment = found.plan, found.deployment
    if found.same is None:
        return None
    traffic: Traffic = POISSON if deployment.mix.windows else deployment.traffic
    rate = found.workload.rate
    horizon = how.seconds(rate, max(REQUESTS / rate, _lives(plan.decode)))
    targets = asked_of_fleets(deployment)
    policies = [_decoding(how.policy, found, k) for k in range(len(plan.decode.kinds))]
    fleet = Fleet.of(found.same.kinds, found.same.counts)
    with working("simulating the pools") as progress:
        trials = [try_tandem(Tandem.planned(plan, (None, policies), rule), found.workload, horizon=horizon,
                             replications=how.replications, traffic=traffic, targets=targets, seed=how.seed,
                             progress=progress) for rule in RULES]
        together = try_fleet(fleet, Router(SHORTEST_QUEUE), found.workload, horizon=horizon,
                             replications=how.replications, traffic=traffic, targets=targets, seed=how.seed,
                             progress=progress)
    return SimulatedApart(how, horizon, tuple(trials), left_out(deployment), together)


def _decoding(name: str, found: PlannedApart, k: int) -> Policy:
    """The policy of each decode replica of a kind."""
    pool = found.plan.decode
    kind = pool.kinds[k]
    if name != PACED or pool.rates is None or not pool.rates[k].any():
        rule = rule_named("vllm-v1" if name == PACED else name)
        assert rule.made is not None
        return rule.made(kind.seen(pool.workload)[1])
    design = paced(*kind.seen(found.share(k)), lengths="unknown", horizon=found.deployment.horizon,
                   overflow_probability=found.deployment.overflow_probability)
    if not design.feasible:
        raise FluidwaitError(f'{found.deployment.source}: no windows carry what a replica of "{kind.name}" is sent; '
                             "--headroom 20% leaves room for them")
    return design


def _lives(pool: FleetPlan) -> float:
    """Seconds in which a decode replica goes through 60 lives of a request; 0 where none is sent any."""
    if pool.counts is None or pool.rates is None:
        return 0.0
    lives = [many_lives(solve(*kind.seen(pool.workload.scaled(float(rates.sum() / n / pool.workload.rate)))))
             for kind, rates, n in zip(pool.kinds, pool.rates, pool.counts, strict=True) if n > 0 and rates.any()]
    return float(np.max(lives, initial=0.0))
