"""The policies that the command line knows by name, and where each may be used."""

from __future__ import annotations

from fluid.errors import FluidwaitError, one_of
from fluidwait.deployment.deployment import Deployment
from verification.rules import RULES

AUTO = "auto"
DESIGNED = tuple(rule.name for rule in RULES if rule.made is None)  # thresholds, designed for the rates
BASELINES = tuple(rule.name for rule in RULES if rule.made)  # no thresholds: the same whatever the rates
POLICIES = (AUTO, *DESIGNED, *BASELINES)
LATER = ("mc-sf",)  # known by name, but not to this version


def known(flag: str, policy: str, allowed: tuple[str, ...] = POLICIES) -> str:
    """The name of a policy, checked; raises an error naming the flag."""
    if policy in LATER:
        raise FluidwaitError(f'{flag} "{policy}" comes with a later version; today: {", ".join(allowed)}')
    return one_of(flag, policy, allowed)


def visible(flag: str, policy: str, deployment: Deployment) -> None:
    """Refuse a policy that must see more on arrival than the deployment shows."""
    if policy == "wait" and deployment.lengths == "unknown":
        raise FluidwaitError(f'{deployment.source}: workload.lengths must be "known" for {flag} wait (got "unknown")')
