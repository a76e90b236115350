r"""Settings tried one flag at a time on the same arrivals, the best values together, and one of them verified.

From the engine as it comes each flag alone is moved over its values:

    max_num_seqs              1.15, 1.5, 2, 3 and 4 times the mean batch of the fluid model at this rate, in eights (a
                              smaller cap cannot carry it), floor(C/P) (never preempts), the default of the engine
    max_num_batched_tokens    256 to 16,384 in powers of two, no fewer than the mean tokens of an iteration
    watermark                 1, 2, 5 and 10%, at the best of the above, where requests are preempted
    gpu_memory_utilization    0.85 to 0.95, at the best of all, as a table only: more cache is never worse in the model

The best values of the first two are tried together. **The best setting**: with targets, among those that meet all
(their intervals lie below), else among those whose worst target is within 5% of the least strained (measured over
allowed); without, among those of regret at most 1 (`verification.experiments.trials`). Of these the one that changes
the fewest flags, then the one with the least regret. Choosing the best of many makes it look better than it is: so it
is simulated anew on other arrivals, with a verdict, and these numbers are the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from fluid import Equilibrium, solve
from fluidwait.deployment.deployment import Deployment
from fluidwait.progress import working
from fluidwait.study.knobs.setting import Setting
from fluidwait.study.outcomes import Plan
from verification import Verification, verify
from verification.experiments.replications import Experiment
from verification.experiments.targets.bounds import MET
from verification.experiments.trials import Trial, Trials, tried_out, usual_horizon

ABOVE_MEAN = (1.15, 1.5, 2.0, 3.0, 4.0)
EIGHT = 8
BUDGETS = tuple(2**k for k in range(8, 15))
WATERMARKS = (0.01, 0.02, 0.05, 0.1)
FRACTIONS = (0.85, 0.9, 0.92, 0.95)
NEARLY = 1.05
Tried = dict[Setting, Trial]


@dataclass(frozen=True, eq=False)
class Knobs:
    """The settings tried, in order, the engine as it comes first; the best, and it verified on other arrivals.

    `more_memory` are settings that only give the engine another share of the memory. `horizon` and `replications` are
    those of a trial.
    """

    deployment: Deployment
    tried: Tried
    more_memory: Tried
    best: Setting
    verified: Verification
    horizon: float
    replications: int

    @property
    def own(self) -> Setting:
        """The engine as it comes."""
        return next(iter(self.tried))

    @property
    def yes(self) -> bool:
        """Whether the best setting is stable and misses no target on other arrivals."""
        return self.verified.verified

    def edge(self, setting: Setting) -> float:
        """The largest rate that the fluid model carries with a setting, requests/s."""
        found = solve(self.deployment.workload, setting.replica(self.deployment))
        return found.max_rate_scale * self.deployment.workload.rate


def knobs(deployment: Deployment, plan: Plan) -> Knobs:
    """Try settings, take the best, and verify it on other arrivals."""
    equilibrium = without_caps(deployment)
    own, horizon = Setting.of(deployment), plan.horizon
    tried: Tried = {}
    with working("trying flags") as progress:
        def look(settings: Iterable[Setting], into: Tried) -> None:
            for setting in settings:
                if setting not in into and setting.possible:
                    there = setting.replica(deployment)
                    experiment = Experiment(setting.policy, deployment.workload, there, horizon, deployment.traffic,
                                            plan.seed, plan.workers)
                    into[setting] = tried_out(experiment, plan.replications, deployment.targets, True, progress)

        look([own], tried)
        capped = [replace(own, max_num_seqs=each) for each in caps(equilibrium, own)]
        look(capped, tried)
        budgets = [replace(own, max_num_batched_tokens=each) for each in budgets_of(equilibrium, own)]
        look(budgets, tried)
        look([_together(own, capped, budgets, tried)], tried)
        here = choose(tried)
        if tried[here].evictions_per_hour.mean > 0:
            look((replace(here, watermark=each) for each in WATERMARKS), tried)
        best, more = choose(tried), Tried()
        if best.memory_fraction is not None:
            look((replace(best, memory_fraction=each) for each in FRACTIONS if each != best.memory_fraction), more)
    with working("verifying the best") as progress:
        verified = verify(best.policy, deployment.workload, best.replica(deployment), horizon=horizon,
                          replications=max(plan.replications, 2), traffic=deployment.traffic,
                          targets=deployment.targets, seed=plan.seed + 1, workers=plan.workers, progress=progress)
    return Knobs(deployment, tried, more, best, verified, horizon, plan.replications)


def without_caps(deployment: Deployment) -> Equilibrium:
    """The balance of the fluid model without caps on sequences and tokens, which flags can lift."""
    return solve(deployment.workload, replace(deployment.replica, max_num_seqs=None, max_num_batched_tokens=None))


def caps(equilibrium: Equilibrium, own: Setting) -> list[int]:
    """The caps on sequences that are tried, in order; none below the mean batch, nor above what ever fits."""
    mean, capacity = equilibrium.sequences or 1.0, equilibrium.kv_capacity
    safe, most = (capacity // int(each) for each in (equilibrium.profile.peak.max(),
                                                     equilibrium.workload.prompt_tokens.min()))
    wanted = {EIGHT * math.ceil(factor * mean / EIGHT) for factor in ABOVE_MEAN} | {safe}
    return sorted(each for each in wanted if mean < each <= max(most, 1) and each != own.max_num_seqs)


def budgets_of(equilibrium: Equilibrium, own: Setting) -> list[int]:
    """The budgets of tokens that are tried, in order."""
    return [each for each in BUDGETS if each > (equilibrium.tokens or 0.0) and each != own.max_num_batched_tokens]


def _together(own: Setting, capped: list[Setting], budgets: list[Setting], tried: Tried) -> Setting:
    """The best cap and the best budget in one setting."""
    def best(settings: list[Setting]) -> Setting:
        return choose({each: tried[each] for each in [own, *settings] if each in tried})

    return replace(best(budgets), max_num_seqs=best(capped).max_num_seqs)


def choose(tried: Tried) -> Setting:
    """The best setting; the module says which that is."""
    own = next(iter(tried))
    trials = Trials(tuple(tried.values()))
    regret = {setting: trials.regret(trial) for setting, trial in tried.items()}
    good = _good(tried, regret)
    return min(good, key=lambda setting: (len(setting.changes(own)), regret[setting]))


def _good(tried: Tried, regret: dict[Setting, float]) -> list[Setting]:
    if not all(trial.targets for trial in tried.values()):
        return _least(regret, lambda least: max(1.0, NEARLY * least))
    met = [each for each, trial in tried.items() if all(held.answer == MET for held in trial.targets)]
    strains = {setting: trial.targets[0].strain for setting, trial in tried.items()}
    return met or _least(strains, lambda least: NEARLY * least)


def _least(values: dict[Setting, float], enough: Callable[[float], float]) -> list[Setting]:
    known = {setting: value for setting, value in values.items() if not math.isnan(value)}
    limit = enough(min(known.values(), default=math.inf))
    return [setting for setting, value in known.items() if value <= limit] or list(values)


def usual_plan(deployment: Deployment, plan: Plan, horizon: float | None) -> Plan:
    """The plan of the trials: their usual length unless another is asked for."""
    return plan if horizon is not None else replace(plan, horizon=usual_horizon(
        solve(deployment.workload, deployment.replica)))
