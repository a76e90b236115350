"""The policies that the command line knows by name, and where each may be used."""

from __future__ import annotations

from fluid.errors import FluidwaitError, one_of
from fluidwait.deployment.deployment import Deployment
from verification.rules import RULES

AUTO = "auto"
DESIGNED = tuple(rule.name for rule in RULES if rule.made is None)  # thresholds, designed for the rates
BASELINES = tuple(rule.name for rule in RULES if rule.made)  # no thresholds: the same whatever the rates
WATERMARKED = tuple(rule.name for rule in RULES if hasattr(rule.policy, "watermark"))
POLICIES = (AUTO, *DESIGNED, *BASELINES)


def known(flag: str, policy: str, allowed: tuple[str, ...] = POLICIES) -> str:
    """The name of a policy, checked; raises an error naming the flag."""
    return one_of(flag, policy, allowed)


def visible(flag: str, policy: str, deployment: Deployment) -> None:
    """Refuse a policy that must see more on arrival than the deployment shows."""
    if deployment.lengths == "unknown" and (policy == "wait" or _reads_lengths(policy, deployment)):
        raise FluidwaitError(
            f'{deployment.source}: workload.lengths must be "known" for {flag} {policy} (got "unknown")')


def _reads_lengths(policy: str, deployment: Deployment) -> bool:
    """Whether a policy without thresholds looks at the lengths of requests."""
    return any(rule.made(deployment.replica).by_type for rule in RULES if rule.made and rule.name == policy)
