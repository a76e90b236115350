"""A planned fleet simulated: its replicas behind routers, on the same arrivals.

Types go to kinds as the plan says, and in a fleet of several kinds also to whichever fits. The plan is verified by its
own routing with the shortest queue among the replicas of a kind; the other routers show what that is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from fluid import solve
from fluid.errors import FluidwaitError, whole, within
from fluid.planning import FleetPlan
from fluidwait.deployment.deployment import Deployment
from fluidwait.deployment.policy_names import ROUTABLE, known
from fluidwait.progress import working
from fluidwait.study.advice import ENGINE
from fluidwait.study.fleet import Planned
from fluidwait.study.outcomes import SECONDS, baseline, refuse_without_requests
from thresholds import paced
from verification.experiments.targets.bounds import Bound, Targets
from verification.experiments.trials import REQUESTS, many_lives
from verification.fleets import Fleet, FleetTrial, Router, try_fleet
from verification.fleets.router import LEAST_KV, RANDOM, ROUND_ROBIN, SHORTEST_QUEUE
from verification.fleets.trials import Judged
from verification.policies import Policy
from verification.traffic.processes import POISSON, Traffic

PACED = "paced"
RULES = (SHORTEST_QUEUE, LEAST_KV, ROUND_ROBIN, RANDOM)
Trial = TypeVar("Trial", bound=Judged)


@dataclass(frozen=True)
class Simulated(Generic[Trial]):
    """The trials of what was planned, its own router first, each over `horizon` seconds, and `how` they were made.

    Targets on gaps between tokens, which runs of fleets do not keep, are `left_out`, by name.
    """

    how: HowToSimulate
    horizon: float
    trials: tuple[Trial, ...]
    left_out: tuple[str, ...]

    @property
    def yes(self) -> bool:
        """Whether it is stable as it is planned, and misses no target."""
        return self.trials[0].holds


@dataclass(frozen=True)
class HowToSimulate:
    """The flags: under which policy, and for how long (None: as long as a trial of one replica), how often."""

    policy: str
    horizon: float | None
    replications: int
    seed: int

    def __post_init__(self) -> None:
        known("--simulate", self.policy, ROUTABLE)
        whole("--replications", self.replications, unit="replications", least=2, most=1000)  # intervals decide
        whole("--seed", self.seed, unit="seeds", least=0, most=2**128)
        if self.horizon is not None:
            within("--horizon", self.horizon, *SECONDS, unit="seconds")

    def seconds(self, rate: float, otherwise: float) -> float:
        """The horizon at a rate, `otherwise` where no flag says; raises InputError where hardly a request arrives."""
        if self.horizon is None:
            return otherwise
        refuse_without_requests(self.horizon, rate, self.replications)
        return self.horizon


def simulated(found: Planned, how: HowToSimulate) -> Simulated[FleetTrial] | None:
    """Simulate the fleet of a plan; None where it found none."""
    plan, deployment = found.plan, found.deployment
    if plan.counts is None or plan.rates is None:
        return None
    kinds = [k for k, n in enumerate(plan.counts) if n > 0]
    fleet = Fleet.of([plan.kinds[k] for k in kinds], plan.counts[kinds],
                     [policy_of(how.policy, plan, k, deployment) for k in kinds])
    rate = found.workload.rate
    horizon = how.seconds(rate, max(REQUESTS / rate, *(lives(plan, k) for k in kinds)))
    shares = plan.rates[kinds] if len(kinds) > 1 else None
    routers = [Router(rule, shares) for rule in RULES]
    if shares is not None:
        routers += [Router(rule) for rule in RULES]
    targets, traffic = asked_of_fleets(deployment), traffic_of(deployment)
    with working("simulating the fleet") as progress:
        trials = [try_fleet(fleet, router, found.workload, horizon=horizon, replications=how.replications,
                            traffic=traffic, targets=targets, seed=how.seed, progress=progress) for router in routers]
    return Simulated(how, horizon, tuple(trials), left_out(deployment))


def asked_of_fleets(deployment: Deployment) -> Targets:
    """The targets but for those on gaps between tokens."""
    bounds = tuple(each for each in deployment.targets.bounds if not _of_gaps(each))
    return Targets(bounds, deployment.targets.goodput)


def left_out(deployment: Deployment) -> tuple[str, ...]:
    """The names of those that are."""
    return tuple(each.measure for each in deployment.targets.bounds if _of_gaps(each))


def _of_gaps(bound: Bound) -> bool:
    return bound.measure.startswith("itl")


def traffic_of(deployment: Deployment) -> Traffic:
    """How requests come: where rates change, Poisson streams at those of the busiest window."""
    return POISSON if deployment.mix.windows else deployment.traffic


def lives(plan: FleetPlan, k: int) -> float:
    """Seconds in which a replica of a kind goes through 60 lives of a request; 0 where it is sent none."""
    own = plan.share(k)
    return 0.0 if own is None else many_lives(solve(*plan.kinds[k].seen(own)))


def policy_of(name: str, plan: FleetPlan, k: int, deployment: Deployment) -> Policy:
    """The policy of each replica of a kind: as it comes, or one window for the mix at its share of the rates."""
    kind, own = plan.kinds[k], plan.share(k)
    if name != PACED or own is None:  # where nobody is sent no window is needed
        return baseline(ENGINE if name == PACED else name, kind.seen(plan.workload)[1])
    design = paced(*kind.seen(own), lengths="unknown", horizon=deployment.horizon,
                   overflow_probability=deployment.overflow_probability)
    if not design.feasible:
        raise FluidwaitError(f'{deployment.source}: no windows carry what a replica of "{kind.name}" is sent; '
                             "--headroom 20% leaves room for them")
    return design
