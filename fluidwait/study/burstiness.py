"""What the moments of a trace cost: a policy on the trace as it came, and on Poisson arrivals of the same rate.

Poisson arrivals are what formulas assume. A trace that comes in bursts waits longer: both are simulated, at the same
seed, and told side by side where they differ by more than their intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fluidwait.deployment.deployment import Deployment
from fluidwait.progress import working
from fluidwait.study.outcomes import NOTICEABLE, Outcome, Plan
from verification import Interval, Verification, verify
from verification.traffic.processes import POISSON, Poisson, Predicted, replayed

MOST_REPLICATIONS = 5  # of the simulation beside: its intervals need a few, and nothing else does
DELAYS = ("latency", "latency_p99", "ttft")


@dataclass(frozen=True, eq=False)
class Burstiness:
    """A replay verified, `laps` times through the trace in a run, and the same policy on Poisson arrivals."""

    replay: Verification
    poisson: Verification
    laps: float

    @property
    def differing(self) -> tuple[str, ...]:
        """The delays that differ by more than the intervals of both together, and by more than 1%."""
        return tuple(name for name in DELAYS if _apart(getattr(self.replay, name), getattr(self.poisson, name)))


def beside_poisson(deployment: Deployment, outcome: Outcome, plan: Plan) -> Burstiness | None:
    """Simulate an outcome's policy on Poisson arrivals too; None where nothing is replayed, or was simulated."""
    trace = replayed(deployment.traffic)
    if trace is None or outcome.found is None:
        return None
    with working("the same with Poisson arrivals") as progress:
        drawn = verify(outcome.found.policy, deployment.workload, deployment.replica, horizon=plan.horizon,
                       replications=min(outcome.replications, MOST_REPLICATIONS), traffic=_drawn(deployment),
                       seed=plan.seed, workers=plan.workers, progress=progress)
    return Burstiness(outcome.found, drawn, plan.horizon / trace.lap(deployment.workload))


def _drawn(deployment: Deployment) -> Poisson | Predicted:
    """Poisson arrivals, lengths predicted as the deployment says."""
    return POISSON if deployment.predictor is None else Predicted(deployment.predictor)


def _apart(one: Interval, other: Interval) -> bool:
    """Whether two means differ by more than both intervals together, root of the sum of squares."""
    low, high = sorted((one, other), key=lambda each: each.mean)
    apart = math.hypot(low.high - low.mean, high.mean - high.low)
    return math.isfinite(apart) and high.mean - low.mean > max(apart, NOTICEABLE * high.mean)
