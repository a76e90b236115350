"""What to do: leave the engine as it is, give it flags, or install thresholds; decided by a short trial of them all."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fluid import solve
from fluidwait.deployment.deployment import Deployment
from fluidwait.deployment.policy_names import AUTO
from fluidwait.progress import working
from fluidwait.study.designs import choose
from thresholds import Choice, LookAheadPolicy, PacedPolicy
from thresholds.paced_wait.known import MOST_WINDOWS
from verification import Trial, Trials, VllmV1, try_out
from verification.experiments.trials import flags, usual_horizon
from verification.policies import Policy

ENGINE = VllmV1.name
SHARES = (0.8, 0.9, 0.95, 0.98)  # of the largest rate of a mix: where an outlook is taken
OUTLOOK = 0.25  # of the horizon of a trial


@dataclass(frozen=True)
class Advice:
    """The trials of a deployment, vLLM V1 as it comes first, and what follows from them."""

    trials: Trials

    @property
    def best(self) -> Trial:
        """The policy to use."""
        return self.trials.best

    @property
    def leave(self) -> bool:
        """Whether the engine is best left as it is."""
        return self.best is self.trials.engine

    @property
    def thresholds(self) -> bool:
        """Whether thresholds are worth installing."""
        return not isinstance(self.best.policy, VllmV1)

    @property
    def why(self) -> str:
        """One sentence: what to do, and what it gains on the same arrivals."""
        if self.leave:
            return f"leave the engine as it is: {ENGINE} has {_delays(self.best)}{self._others}"
        what = "install the thresholds"
        if isinstance(self.best.policy, PacedPolicy):
            what = "install the windows"
        elif isinstance(self.best.policy, LookAheadPolicy):
            what = f"admit by {self.best.policy.label}"
        elif not self.thresholds:
            what = f"no thresholds, but start the engine with {self.flags}"
        return (f"{what}: {_delays(self.best)}, the engine as it comes {_delays(self.trials.engine)} "
                f"over {self.trials.horizon:,.0f} s")

    @property
    def worth_showing(self) -> tuple[Trial, ...]:
        """The engine as it comes, with each watermark, with the best budget if another is better, and the designs."""
        own = self.trials.engine.policy
        best_flags = min((trial for trial in self.trials.all if isinstance(trial.policy, VllmV1)),
                         key=self.trials.regret)

        def shown(trial: Trial) -> bool:
            policy = trial.policy
            same = isinstance(policy, VllmV1) and isinstance(own, VllmV1) and (
                policy.max_num_batched_tokens == own.max_num_batched_tokens)
            return same or not isinstance(policy, VllmV1) or trial in (best_flags, self.best)

        return tuple(trial for trial in self.trials.all if shown(trial))

    @property
    def flags(self) -> str:
        """What to add to the engine's command line; nothing where the engine is left as it is or gets thresholds."""
        return flags(self.best.policy, self.trials.engine.policy)

    @property
    def _others(self) -> str:
        designs = [trial for trial in self.trials.all if not isinstance(trial.policy, VllmV1)]
        return "".join(f", {name_of_trial(trial, self.trials)} {_delays(trial)}" for trial in designs)


def advise(deployment: Deployment, choice: Choice, seed: int = 0, workers: int = -1,
           part: float = 1.0) -> Advice | None:
    """Try the engine and the feasible designs of a choice; None where the mathematics alone says unstable.

    `part` of the usual horizon of a trial.
    """
    equilibrium = choice.design.equilibrium
    if equilibrium.limit is not None or deployment.mix.overload:
        return None
    designs: list[Policy] = [design for design in choice.candidates if design.feasible]
    horizon = deployment.mix.windows[-1].end if deployment.mix.windows else part * usual_horizon(equilibrium)
    with working("trying the engine and the thresholds") as progress:
        return Advice(try_out(designs, deployment.workload, deployment.replica, horizon=horizon,
                              traffic=deployment.traffic, seed=seed, workers=workers, progress=progress))


def outlook(deployment: Deployment, seed: int = 0, workers: int = -1) -> dict[float, Advice]:
    """The advice at other shares of the largest rate that the mix has: where thresholds begin to pay.

    Nothing for rates that change, and for more types than windows are made for one by one: that takes too long.
    """
    edge = solve(deployment.workload, deployment.replica).max_rate_scale
    if deployment.mix.windows or len(deployment.workload) > MOST_WINDOWS or not 0 < edge < math.inf:
        return {}
    found = {}
    for share in SHARES:
        there = deployment.at(share * edge * deployment.workload.rate)
        advice = advise(there, choose(there, AUTO), seed, workers, OUTLOOK)
        if advice is not None:
            found[share] = advice
    return found


def name_of_trial(trial: Trial, trials: Trials) -> str:
    """A policy in a few words: of the engine what is not as it comes."""
    policy, own = trial.policy, trials.engine.policy
    if not (isinstance(policy, VllmV1) and isinstance(own, VllmV1)):
        return str(getattr(policy, "name", type(policy).__name__))
    changes = []
    if policy.max_num_batched_tokens != own.max_num_batched_tokens:
        changes.append(f"{policy.max_num_batched_tokens} tokens")
    if policy.watermark != own.watermark:
        changes.append(f"watermark {policy.watermark:.0%}")
    return " ".join([ENGINE, ", ".join(changes)]).strip()


def _delays(trial: Trial) -> str:
    return f"latency {trial.latency.mean:.3g} s, p99 {trial.latency_p99.mean:.3g} s"
