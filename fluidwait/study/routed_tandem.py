"""Planned pools simulated: prefill and decode replicas behind routers, and the same replicas colocated beside them.

Types go to kinds as the plan says. Prefill replicas run the engine as it comes, decode replicas the policy that is
asked for; windows are designed for a decode replica at its share of the rates. The fleet beside has the replicas of
both pools, each serving whole requests as the engine comes, behind the shortest queue.
"""

from __future__ import annotations

from dataclasses import dataclass

from fluidwait.progress import working
from fluidwait.study.routed_fleet import (
    RULES,
    HowToSimulate,
    Simulated,
    asked_of_fleets,
    left_out,
    lives,
    policy_of,
    traffic_of,
)
from fluidwait.study.tandem import PlannedApart
from verification.experiments.trials import REQUESTS
from verification.fleets import Fleet, FleetTrial, Router, Tandem, TandemTrial, try_fleet, try_tandem
from verification.fleets.router import SHORTEST_QUEUE


@dataclass(frozen=True)
class SimulatedApart(Simulated[TandemTrial]):
    """The trials of planned pools by router, the shortest queue first, and of the same replicas `together`."""

    together: FleetTrial


def simulated_apart(found: PlannedApart, how: HowToSimulate) -> SimulatedApart | None:
    """Simulate the pools of a plan; None where it found none."""
    plan, deployment = found.plan, found.deployment
    if found.same is None:
        return None
    rate, decoding = found.workload.rate, range(len(plan.decode.kinds))
    horizon = how.seconds(rate, max(REQUESTS / rate, *(lives(plan.decode, k) for k in decoding)))
    targets, traffic = asked_of_fleets(deployment), traffic_of(deployment)
    policies = [policy_of(how.policy, plan.decode, k, deployment) for k in decoding]
    fleet = Fleet.of(found.same.kinds, found.same.counts)
    with working("simulating the pools") as progress:
        trials = [try_tandem(Tandem.planned(plan, (None, policies), rule), found.workload, horizon=horizon,
                             replications=how.replications, traffic=traffic, targets=targets, seed=how.seed,
                             progress=progress) for rule in RULES]
        together = try_fleet(fleet, Router(SHORTEST_QUEUE), found.workload, horizon=horizon,
                             replications=how.replications, traffic=traffic, targets=targets, seed=how.seed,
                             progress=progress)
    return SimulatedApart(how, horizon, tuple(trials), left_out(deployment), together)
