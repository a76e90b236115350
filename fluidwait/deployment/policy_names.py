"""The policies that the command line knows by name, and where each may be used.

The names are those of `verification.rules.RULES`, in its order; they are written out, so that `--help` and completion
need not load the simulator, and a test holds them against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluid.errors import FluidwaitError, one_of

if TYPE_CHECKING:
    from fluidwait.deployment.deployment import Deployment

AUTO = "auto"
DESIGNED = ("wait", "paced", "look-ahead", "nested")  # thresholds, designed for the rates
BASELINES = ("vllm-v1", "greedy", "vllm-v0", "sarathi", "mc-sf", "mc-benchmark", "protected", "clearing", "a-min",
             "sorted-f")  # no thresholds: the same whatever the rates
POLICIES = (AUTO, *DESIGNED, *BASELINES)
ROUTABLE = ("vllm-v1", "vllm-v0", "sarathi", "greedy", "paced")  # on replicas to which a router sends requests


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
    from verification.rules import rule_named

    made = rule_named(policy).made if policy in BASELINES else None
    return made is not None and made(deployment.replica).by_type
