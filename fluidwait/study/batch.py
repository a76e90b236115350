"""A deployment whose requests are all there at time 0: how long policies take over them."""

from __future__ import annotations

from fluid.errors import FluidwaitError
from fluidwait.deployment.deployment import Deployment
from fluidwait.deployment.policy_names import AUTO, BASELINES
from fluidwait.progress import working
from fluidwait.study.advice import ENGINE
from fluidwait.study.designs import choose
from fluidwait.study.outcomes import Plan, baseline
from thresholds import name_of
from verification import Makespan, makespan
from verification.policies import Policy
from verification.traffic.batch import Batch
from verification.traffic.processes import is_closed


def is_batch(deployment: Deployment) -> bool:
    """Whether all requests are there at time 0."""
    return isinstance(deployment.mix.traffic, Batch)


def refuse_batch(deployment: Deployment, command: str) -> None:
    """Raise FluidwaitError where a command asks about rates, and a batch has none."""
    if is_batch(deployment):
        raise FluidwaitError(f"{deployment.source}: workload.arrivals must not be a batch for {command}: requests that "
                             "are all there at time 0 have no rate; run and verify tell their makespan")


def refuse_closed(deployment: Deployment, command: str) -> None:
    """Raise FluidwaitError where a command looks for the largest rate, and users send what they are answered."""
    if is_closed(deployment.mix.traffic):
        raise FluidwaitError(f"{deployment.source}: workload must be open traffic for {command}: a closed loop is "
                             "stable at any load; solve tells how many users saturate the replica")


def makespans(deployment: Deployment, names: tuple[str, ...], plan: Plan) -> list[Makespan]:
    """The makespans of policies by name on the same requests, the shortest first; those without thresholds left out."""
    found = [_makespan(deployment, policy, plan) for policy in _policies(deployment, names)]
    return sorted(found, key=lambda each: (not each.done, float(each.seconds.mean())))


def _policies(deployment: Deployment, names: tuple[str, ...]) -> list[Policy]:
    """The policies of the names, each once; "auto" is the engine as it comes and every feasible design."""
    policies: dict[str, Policy] = {}
    for name in dict.fromkeys(each for asked in names for each in ((ENGINE, AUTO) if asked == AUTO else (asked,))):
        if name in BASELINES:
            policies[name] = baseline(name, deployment.replica)
            continue
        choice = choose(deployment, name)
        for design in choice.candidates:
            if design.exists and (design.feasible or name != AUTO):
                policies[name_of(design)] = design
    return list(policies.values())


def _makespan(deployment: Deployment, policy: Policy, plan: Plan) -> Makespan:
    batch = deployment.mix.traffic
    assert isinstance(batch, Batch)  # asked before
    with working(f"simulating {getattr(policy, 'name', 'a policy')}") as progress:
        return makespan(policy, deployment.workload, deployment.replica, batch.requests, seed=plan.seed,
                        replications=plan.replications, workers=plan.workers, predictor=deployment.predictor,
                        progress=progress)
