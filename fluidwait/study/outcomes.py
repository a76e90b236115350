"""One deployment examined: its design, its policies simulated on the same arrivals, the answer yes or no.

`auto` is the best of what a short trial looked at (`fluidwait.study.advice`): the engine as it comes, the engine with
other flags, or the design that is predicted to be best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from fluid import Equilibrium, Replica, solve
from fluid.errors import InputError, one_of, share_meant, whole, within
from fluidwait.deployment.deployment import Deployment
from fluidwait.deployment.policy_names import AUTO, BASELINES
from fluidwait.progress import working
from fluidwait.study.advice import ENGINE, Advice, advise, name_of_trial, outlook
from fluidwait.study.designs import choose
from thresholds import Choice, Design, name_of
from verification import Difference, Verification, VllmV1, paired, verify
from verification.policies import Policy
from verification.rules import RULES, rule_named
from verification.statistics.intervals import WARM_UP_SHARE
from verification.traffic.processes import replayed

NOTICEABLE = 0.01  # on the same arrivals even a difference of a millionth can be sure
LEAST_PRECISION = 1e-4  # beyond it no number of replications is enough
SECONDS = (1e-9, 1e12)  # a horizon
WATERMARKED = tuple(rule.name for rule in RULES if hasattr(rule.policy, "watermark"))
MOST_IN_A_LAP = 200_000  # requests of a trace that every run goes through, if nobody says how long it lasts
MOST_REQUESTS = 2e7  # per replication: beyond it an overloaded replica is not simulated, the answer is known


@dataclass(frozen=True)
class Plan:
    """How to simulate: seconds, independent runs, seed, and where asked for, the relative precision to reach.

    `workers` threads (-1: one per core) change nothing but the time it takes.
    """

    horizon: float
    replications: int
    seed: int
    precision: float | None = None
    workers: int = -1

    @classmethod
    def checked(cls, deployment: Deployment, horizon: float | None, replications: int, seed: int,
                precision: float | None = None, lowest: float | None = None) -> Plan:
        """The plan of a command, its numbers checked; `lowest` is the least rate that is simulated (None: the mix's).

        Raises InputError naming the flag, also where hardly a request would arrive in all replications together.
        """
        if precision is not None and not LEAST_PRECISION <= precision < 1:
            raise InputError("--precision", f'a share from {LEAST_PRECISION:.2%} to below 1, as "2%" or "0.02"',
                             precision, guess=share_meant(precision))
        rate = deployment.workload.rate if lowest is None else lowest
        plan = cls(_whole_periods(deployment, horizon, rate),
                   whole("--replications", replications, unit="replications", most=1_000_000),
                   whole("--seed", seed, unit="seeds", least=0, most=2**128), precision=precision)
        refuse_without_requests(plan.horizon, rate, plan.replications)
        return plan


def refuse_without_requests(horizon: float, rate: float, replications: int) -> None:
    """Refuse a horizon in which hardly a request arrives in all replications together."""
    if horizon * rate * replications < 1:
        raise InputError("--horizon", f"{1 / (rate * replications):.3g} seconds at least, in which a request "
                                      f"arrives at {rate:g} requests/s", horizon)


def _whole_periods(deployment: Deployment, horizon: float | None, rate: float) -> float:
    """The horizon of a flag, or that of the file; with rates that change, so many whole periods of them.

    Without a flag a trace that is replayed is gone through once at least after the warm-up, unless it is very long.
    """
    seconds = within("--horizon", deployment.horizon if horizon is None else horizon, *SECONDS, unit="seconds")
    trace = replayed(deployment.traffic)
    if trace is not None and horizon is None and len(trace.trace) <= MOST_IN_A_LAP:
        seconds = max(seconds, len(trace.trace) / rate / (1 - WARM_UP_SHARE))
    if not deployment.mix.windows:
        return seconds
    period = deployment.mix.windows[-1].end
    periods = max(1, math.ceil(seconds / period * (1 - 1e-9)))
    if horizon is not None and not math.isclose(seconds, periods * period, rel_tol=1e-9):
        raise InputError("--horizon", f"a multiple of the {period:g} seconds in which the rates repeat", horizon)
    return periods * period


@dataclass(frozen=True, eq=False)
class Outcome:
    """A policy simulated, or, where the mathematics alone says unstable, the reason why not.

    `setting` are the flags that make it another policy than its name alone says.
    """

    policy: str
    plan: Plan
    found: Verification | None
    reason: str
    setting: str = ""

    @property
    def label(self) -> str:
        """The policy and its setting."""
        return f"{self.policy} {self.setting}".strip()

    @property
    def yes(self) -> bool:
        """Stable, and every check agrees."""
        return self.found is not None and self.found.verified

    @property
    def replications(self) -> int:
        """How many were simulated, or would have been."""
        return self.plan.replications if self.found is None else self.found.replications


@dataclass(frozen=True, eq=False)
class Comparison:
    """The whole report: what to use, and it, the engine as it comes and the designs on the same arrivals.

    `advice` is None, and the design is what to use, where the equilibrium does not exist. `overload` names the windows
    of time whose rates do not fit, if any: then the answer is no. `period` are the seconds in which rates that change
    repeat, 0 where they do not change.
    """

    choice: Choice
    advice: Advice | None
    outcomes: tuple[Outcome, ...]
    overload: str = ""
    outlook: dict[float, Advice] = field(default_factory=dict)
    period: float = 0.0

    @property
    def design(self) -> Design:
        """The best of the designs."""
        return self.choice.design

    @property
    def used(self) -> Design:
        """The design to use where one is: that of the advice, else the best."""
        best = None if self.advice is None else self.advice.best.policy
        return next((design for design in self.choice.candidates if design is best), self.design)

    @property
    def equilibrium(self) -> Equilibrium:
        """The fluid equilibrium."""
        return self.design.equilibrium

    @property
    def chosen(self) -> Outcome:
        """What to use, simulated."""
        return self.outcomes[0]

    @property
    def engine(self) -> Outcome:
        """vLLM V1 as it comes, on the same arrivals."""
        return next(outcome for outcome in self.outcomes if outcome.label == ENGINE)

    def against(self, outcome: Outcome, measure: str) -> Difference | None:
        """What an outcome measured less what the chosen one did on the same arrivals, where both were simulated."""
        ours, theirs = self.chosen.found, outcome.found
        return None if ours is None or theirs is None else paired(ours, theirs, measure)

    @property
    def overtaken_by(self) -> str | None:
        """The candidate that was surely faster than the chosen one, by more than 1%, on the same arrivals, if any."""
        for rival in self.outcomes[1:]:
            gap = self.against(rival, "latency")
            if gap and rival.yes and rival.found and gap.high < -NOTICEABLE * rival.found.latency.mean:
                return rival.label
        return None

    @property
    def yes(self) -> bool:
        """Stable, verified and, where it is thresholds that are used, feasible."""
        fits = self.design.feasible or (self.advice is not None and not self.advice.thresholds)
        return self.equilibrium.limit is None and not self.overload and fits and self.chosen.yes


def compare(deployment: Deployment, plan: Plan, against: tuple[str, ...] = ()) -> Comparison:
    """Choose what to use and simulate it beside the engine as it comes, the feasible designs, and policies `against`.

    A precision is asked of the chosen one; the others get as many replications, so that all see the same arrivals.
    """
    choice = choose(deployment, AUTO)
    advice = advise(deployment, choice, plan.seed, plan.workers)
    chosen = _examine_best(deployment, choice, advice, plan)
    alike = replace(plan, replications=chosen.replications, precision=None)
    names = [name for name in dict.fromkeys((ENGINE, *against)) if name != chosen.label]
    designs = [design for design in choice.candidates if name_of(design) != chosen.label
               and (design.feasible or design is choice.design)]
    outcomes = [chosen, *(examine(deployment, name, alike) for name in names),
                *(examine_design(deployment, design, alike) for design in designs)]
    return Comparison(choice, advice, tuple(outcomes), deployment.mix.overload,
                      outlook(deployment, plan.seed, plan.workers),
                      deployment.mix.windows[-1].end if deployment.mix.windows else 0.0)


def _examine_best(deployment: Deployment, choice: Choice, advice: Advice | None, plan: Plan) -> Outcome:
    """Simulate what the advice says, or the design where there is no advice."""
    if advice is None:
        return examine_design(deployment, choice.design, plan)
    best = advice.best.policy
    if not isinstance(best, VllmV1):
        design = next(each for each in choice.candidates if each is best)
        return examine_design(deployment, design, plan)
    found = _examine(deployment, best, ENGINE, choice.design.equilibrium, plan)
    return replace(found, setting=name_of_trial(advice.best, advice.trials).removeprefix(ENGINE).strip())


def examine(deployment: Deployment, policy: str, plan: Plan, watermark: float | None = None) -> Outcome:
    """Simulate the policy of a name, designed for the deployment's rates where it has thresholds.

    `watermark` takes the place of that of a rule that evicts; raises InputError where it has none.
    """
    if watermark is not None:
        one_of("--policy", policy, WATERMARKED, "beside --watermark")
    if policy == AUTO:
        choice = choose(deployment, policy)
        return _examine_best(deployment, choice, advise(deployment, choice, plan.seed, plan.workers), plan)
    if policy in BASELINES:
        workload, replica = deployment.workload, deployment.replica
        rule: Any = baseline(policy, replica)
        if watermark is None:
            return _examine(deployment, rule, policy, solve(workload, replica), plan)
        found = _examine(deployment, replace(rule, watermark=watermark), policy, solve(workload, replica), plan)
        return replace(found, setting=f"watermark {watermark:.3g}")
    return examine_design(deployment, choose(deployment, policy).design, plan)


def examine_design(deployment: Deployment, design: Design, plan: Plan) -> Outcome:
    """Simulate a design; where it has no thresholds there is nothing to simulate."""
    found = _examine(deployment, design if design.exists else None, name_of(design), design.equilibrium, plan)
    return found if design.exists else replace(found, reason=design.reason)


def baseline(policy: str, replica: Replica) -> Policy:
    """The policy of a name that needs no design, on a replica."""
    made = rule_named(policy).made
    assert made is not None  # of the names in BASELINES
    return made(replica)


def _examine(deployment: Deployment, rule: Policy | None, name: str, equilibrium: Equilibrium, plan: Plan) -> Outcome:
    found = None
    if rule is not None and not hopeless(equilibrium, plan):
        with working(f"simulating {name}") as progress:
            found = verify(rule, deployment.workload, deployment.replica, horizon=plan.horizon,
                           replications=plan.replications, precision=plan.precision,
                           traffic=deployment.traffic, targets=deployment.targets, seed=plan.seed,
                           workers=plan.workers, progress=progress)
    return Outcome(name, plan, found, equilibrium.reason)


def hopeless(equilibrium: Equilibrium, plan: Plan) -> bool:
    """Whether a replica is overloaded by more requests than are worth simulating: the answer is known."""
    return equilibrium.limit is not None and equilibrium.workload.rate * plan.horizon > MOST_REQUESTS
