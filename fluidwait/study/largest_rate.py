"""The largest rate of a deployment's mix that a policy sustains, beside what the mathematics allows.

Thresholds are designed anew at every rate; where they do not fit, the rate is not sustained. `auto` chooses anew, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from fluid import solve
from fluidwait.deployment.deployment import Deployment
from fluidwait.deployment.policy_names import BASELINES
from fluidwait.progress import counting, quiet
from fluidwait.study.designs import choose
from fluidwait.study.outcomes import Plan, baseline
from thresholds import name_of
from verification import Capacity, Effort, Targets
from verification.experiments.capacity import guess, probe
from verification.experiments.rate_search import Probe, search
from verification.policies import Policy
from verification.traffic.processes import Scheduled


@dataclass(frozen=True)
class LargestRate:
    """What a search found for a policy; rates in requests/s.

    `fluid_limit` is that of every policy, `design_limit` the largest rate at which thresholds fit (None: without), and
    `used` what "auto" chose at the rate found.
    """

    policy: str
    used: str
    targets: Targets
    capacity: Capacity
    fluid_limit: float
    design_limit: float | None


def largest_rate(deployment: Deployment, policy: str, plan: Plan, targets: Targets,
                 precision: float) -> LargestRate:
    """Search for the largest rate that the policy of a name sustains."""
    effort = Effort(plan.horizon, plan.replications, plan.seed, plan.workers)

    def ask(rate: float) -> Probe:
        there = deployment.at(rate)
        made, _ = _policy(there, policy)
        return probe(rate, made, there.workload, there.replica, targets, effort, there.traffic)

    with counting("searching") as progress, quiet():
        fluid, design = _limits(deployment, policy)
        edge = fluid if design is None or isinstance(deployment.mix.traffic, Scheduled) else min(fluid, design)
        found = search(ask, edge, precision, targets, progress,
                       guess(deployment.workload, deployment.replica, targets))
        used = policy if found.low is None else _policy(deployment.at(found.low), policy)[1]
    return LargestRate(policy, used, targets, found, fluid, design)


def _limits(deployment: Deployment, policy: str) -> tuple[float, float | None]:
    """The fluid limit, and the largest rate at which a design of that name fits, as rates of the mix."""
    rate = deployment.workload.rate
    fluid = rate * solve(deployment.workload, deployment.replica).max_rate_scale
    if policy in BASELINES:
        return fluid, None
    return fluid, rate * max(each.max_rate_scale for each in choose(deployment, policy).candidates)


def _policy(deployment: Deployment, policy: str) -> tuple[Policy | None, str]:
    """The policy of a name at a deployment's rates, None where its thresholds do not fit, and its name."""
    if policy in BASELINES:
        return baseline(policy, deployment.replica), policy
    design = choose(deployment, policy).design
    return (design if design.feasible else None), name_of(design)
