"""One deployment examined: its design, its policies simulated on the same arrivals, the answer yes or no."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fluid import Equilibrium, Replica, solve
from fluid.errors import InputError, real, whole
from fluidwait.deployment.deployment import Deployment
from fluidwait.deployment.policy_names import BASELINES, GREEDY
from fluidwait.progress import working
from thresholds import Choice, Design, auto, name_of, nested, paced, wait
from verification import Difference, Verification, paired, verify
from verification.policies import Policy
from verification.rules import rule_named

NOTICEABLE = 0.01  # on the same arrivals even a difference of a millionth can be sure
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
                precision: float | None = None) -> Plan:
        """The plan of a command, its numbers checked; raises InputError naming the flag."""
        if precision is not None and not 0 < precision < 1:
            raise InputError("--precision", 'a share above 0 and below 1, as "2%" or "0.02"', precision)
        return cls(_whole_periods(deployment, horizon),
                   whole("--replications", replications, unit="replications", most=1_000_000),
                   whole("--seed", seed, unit="seeds", least=0, most=2**128), precision=precision)


def _whole_periods(deployment: Deployment, horizon: float | None) -> float:
    """The horizon of a flag, or that of the file; with rates that change, so many whole periods of them."""
    seconds = real("--horizon", deployment.horizon if horizon is None else horizon, unit="seconds")
    if not deployment.mix.windows:
        return seconds
    period = deployment.mix.windows[-1].end
    periods = max(1, math.ceil(seconds / period * (1 - 1e-9)))
    if horizon is not None and not math.isclose(seconds, periods * period, rel_tol=1e-9):
        raise InputError("--horizon", f"a multiple of the {period:g} seconds in which the rates repeat", horizon)
    return periods * period


@dataclass(frozen=True, eq=False)
class Outcome:
    """A policy simulated, or, where the mathematics alone says unstable, the reason why not."""

    policy: str
    plan: Plan
    found: Verification | None
    reason: str

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
    """The whole report: the design to use, and it, its rivals and greedy simulated on the same arrivals.

    `overload` names the windows of time whose rates do not fit, if any: then the answer is no.
    """

    choice: Choice
    outcomes: tuple[Outcome, ...]
    overload: str = ""

    @property
    def design(self) -> Design:
        """The design to use."""
        return self.choice.design

    @property
    def equilibrium(self) -> Equilibrium:
        """The fluid equilibrium."""
        return self.design.equilibrium

    @property
    def chosen(self) -> Outcome:
        """The design to use, simulated."""
        return self.outcomes[0]

    @property
    def greedy(self) -> Outcome:
        """Greedy admission on the same arrivals."""
        return self.outcomes[-1]

    def against(self, outcome: Outcome, measure: str) -> Difference | None:
        """What an outcome measured less what the chosen one did on the same arrivals, where both were simulated."""
        ours, theirs = self.chosen.found, outcome.found
        return None if ours is None or theirs is None else paired(ours, theirs, measure)

    @property
    def overtaken_by(self) -> str | None:
        """The candidate that was surely faster than the chosen one, by more than 1%, on the same arrivals, if any."""
        for rival in self.outcomes[1:-1]:
            gap = self.against(rival, "latency")
            if gap and rival.yes and rival.found and gap.high < -NOTICEABLE * rival.found.latency.mean:
                return rival.policy
        return None

    @property
    def yes(self) -> bool:
        """Stable, feasible and verified."""
        return self.equilibrium.stable and not self.overload and self.design.feasible and self.chosen.yes


def choose(deployment: Deployment, policy: str) -> Choice:
    """Design the policy of a name, or the best one for "auto".

    Predicted lengths promise nothing: "auto" treats them as unknown. Policies by type that are asked for by name are
    designed for the mix as it is seen on arrival.
    """
    workload, replica = deployment.workload, deployment.replica
    horizon, chance = deployment.horizon, deployment.overflow_probability
    predicted = deployment.predictor is not None
    if policy == "auto":
        lengths = "unknown" if predicted else deployment.lengths
        choice = auto(workload, replica, lengths=lengths, horizon=horizon, overflow_probability=chance)
        why = "paced for the mix, because predicted output lengths may be wrong"
        return replace(choice, why=why) if predicted else choice
    design: Design
    if policy == "wait":
        design = wait(deployment.seen, replica)
    elif policy == "paced":
        lengths = "known" if predicted else deployment.lengths
        design = paced(deployment.seen, replica, lengths=lengths, horizon=horizon, overflow_probability=chance)
    else:
        with working("designing nested WAIT") as progress:
            design = nested(workload, replica, horizon=horizon, overflow_probability=chance, progress=progress)
    return Choice(design, f"{policy}, as asked for{_reservation(deployment, design)}", (design,))


def _reservation(deployment: Deployment, design: Design) -> str:
    """What the bound of a policy by type is worth where lengths are only predicted, in words."""
    if deployment.predictor is None or not design.by_type:
        return ""
    share = deployment.taken_for_shorter
    if share == 0:
        return ", for the mix as it is seen: no request is ever taken for a shorter one, so its bound holds"
    return (f", for the mix as it is seen: its bound on memory would hold if no request outlived those it is taken "
            f"for, but {share:.2g} of all do")


def compare(deployment: Deployment, plan: Plan) -> Comparison:
    """Choose a policy and simulate it beside the other feasible candidates and greedy admission.

    A precision is asked of the chosen one; the others get as many replications, so that all see the same arrivals.
    """
    choice = choose(deployment, "auto")
    rivals = [design for design in choice.candidates if design is not choice.design and design.feasible]
    chosen = examine_design(deployment, choice.design, plan)
    alike = replace(plan, replications=chosen.replications, precision=None)
    outcomes = [chosen, *(examine_design(deployment, design, alike) for design in rivals)]
    return Comparison(choice, (*outcomes, examine(deployment, GREEDY, alike)), deployment.mix.overload)


def examine(deployment: Deployment, policy: str, plan: Plan) -> Outcome:
    """Simulate the policy of a name, designed for the deployment's rates where it has thresholds."""
    if policy in BASELINES:
        workload, replica = deployment.workload, deployment.replica
        return _examine(deployment, baseline(policy, replica), policy, solve(workload, replica), plan)
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
                           traffic=deployment.traffic, seed=plan.seed, workers=plan.workers, progress=progress)
    return Outcome(name, plan, found, equilibrium.reason)


def hopeless(equilibrium: Equilibrium, plan: Plan) -> bool:
    """Whether a replica is overloaded by more requests than are worth simulating: the answer is known."""
    return not equilibrium.stable and equilibrium.workload.rate * plan.horizon > MOST_REQUESTS
