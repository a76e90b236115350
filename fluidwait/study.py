"""One deployment examined: its design, its policies simulated, the answer yes or no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fluid import Equilibrium
from fluid.errors import real, whole
from fluidwait import answers
from fluidwait.deployment import Deployment
from fluidwait.progress import working
from thresholds import WaitDesign, wait
from verification import Greedy, Verification, verify
from verification.simulate import Policy

MOST_REQUESTS = 2e7  # per replication: beyond it an overloaded replica is not simulated, the answer is known


@dataclass(frozen=True, eq=False)
class Outcome:
    """A policy simulated, or, where the mathematics alone says unstable, the reason why not."""

    policy: str
    horizon: float
    replications: int
    seed: int
    found: Verification | None
    reason: str

    @property
    def yes(self) -> bool:
        """Stable, and every check agrees."""
        return self.found is not None and self.found.verified

    def answer(self) -> dict[str, Any]:
        """The object of `verify --json`."""
        if self.found is None:
            return answers.verdict_without_simulation(self.policy, self.reason, self.replications, self.horizon,
                                                      self.seed)
        return answers.verify_answer(self.policy, self.found)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The whole report: equilibrium and WAIT design, WAIT verified, greedy on the same arrivals."""

    design: WaitDesign
    wait: Outcome
    greedy: Outcome

    @property
    def equilibrium(self) -> Equilibrium:
        """The fluid equilibrium."""
        return self.design.equilibrium

    @property
    def yes(self) -> bool:
        """Stable, feasible and verified."""
        return self.equilibrium.stable and self.design.feasible and self.wait.yes

    def answer(self) -> dict[str, Any]:
        """The body of `run --json`."""
        return {"answer": self.yes, "solve": answers.solve_answer(self.equilibrium),
                "thresholds": answers.thresholds_answer(self.design), "verify": self.wait.answer(),
                "greedy": self.greedy.answer()}


def compare(deployment: Deployment, horizon: float | None, replications: int, seed: int) -> Comparison:
    """Design WAIT for a deployment and simulate it beside greedy, on the same arrivals."""
    outcomes = [examine(deployment, policy, horizon, replications, seed) for policy in ("wait", "greedy")]
    return Comparison(wait(deployment.workload, deployment.replica), *outcomes)


def examine(deployment: Deployment, policy: str, horizon: float | None, replications: int, seed: int) -> Outcome:
    """Simulate "wait" (as designed for the deployment) or "greedy"."""
    horizon = real("--horizon", deployment.horizon if horizon is None else horizon, unit="seconds")
    replications = whole("--replications", replications, unit="replications", most=1_000_000)
    seed = whole("--seed", seed, unit="seeds", least=0)
    design = wait(deployment.workload, deployment.replica)
    hopeless = not design.equilibrium.stable and deployment.workload.rate * horizon > MOST_REQUESTS
    found = None
    if not hopeless and (policy == "greedy" or design.thresholds):
        rule: Policy = Greedy() if policy == "greedy" else design
        with working(f"simulating {policy}") as progress:
            found = verify(rule, deployment.workload, deployment.replica, horizon=horizon,
                           replications=replications, seed=seed, progress=progress)
    return Outcome(policy, horizon, replications, seed, found, design.equilibrium.reason)
