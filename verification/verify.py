"""Predictions held against measurement: does the simulated system do what the mathematics says?

Every prediction comes with the accuracy it claims: 0 for a theorem, more for an approximation. It agrees when it lies
in the interval of the measurement, widened by that accuracy. The intervals of the checks hold together: with k of them
each is taken at level 1 - 0.01/k (Bonferroni), so a correct model is called wrong in at most one of a hundred reports.
A bound agrees when the measured interval does not lie wholly on its wrong side. Steady-state delays are claimed only
for horizons of at least 20 of them: a shorter run, started empty, never gets there.

    every policy   throughput = sum_j lambda_j R_j,   KV peak <= C
    WAIT           KV peak <= M^pi,   residents per stage = n_j over time,   latency, TTFT by `thresholds.predict`
                   iteration time when busy = Delta(n) for one type; for several, between Delta* (work is conserved:
                   E[tau] >= a_i + rho_i E[tau]) and Delta(n) (every type in every batch)
    paced, greedy  iteration time when busy = Delta*,   prompts per stage of a batch = lambda_j Delta*    (fluid: 5%)
    paced          KV peak <= the bound of the windows,   latency by `thresholds.predict`       (approximation: 15%)
    nested         iteration time when busy >= Delta*
    designs with a probability of overflow delta   share of runs that overflow <= delta    (binomial, Clopper-Pearson)

Source: model.md sections 2, 3, 9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fluid import Equilibrium, Replica, Workload, solve
from thresholds import NestedWaitPolicy, PacedPolicy, Prediction, WaitPolicy, kv_bound, predict
from verification import measures
from verification.estimators import Interval, least_probability, t_interval, warm_up
from verification.measures import Window
from verification.replicate import Progress, replicate
from verification.run import Run, Timeline
from verification.simulate import Policy
from verification.verdict import STABLE, Verdict, judge, settle

FAMILY_ERROR = 0.01
ROUNDING = 1e-9
FLUID_ACCURACY = 0.05
LATENCY_ACCURACY, TTFT_ACCURACY = 0.15, 0.4  # of the approximations: several types, paced WAIT
SETTLED = 20  # latencies a run must last before steady-state delays are claimed
BATCHES = 10
MOST_TYPES_CHECKED = 20


@dataclass(frozen=True)
class Check:
    """One prediction beside its measurement; it agrees when `low` <= predicted <= `high` (None: no limit)."""

    name: str
    predicted: float
    measured: float
    low: float | None
    high: float | None

    @property
    def agrees(self) -> bool:
        """Whether the prediction lies in the interval."""
        above = self.low is None or self.low <= self.predicted
        return bool(above and (self.high is None or self.predicted <= self.high))


@dataclass(frozen=True, eq=False)
class Verification:
    """What replications of a policy say; made by `verify`. Intervals are 95%, over replications.

    `warm_up` is the share of each run that was deleted; delays are in seconds, `throughput` in output tokens/s.
    """

    policy: Policy
    horizon: float
    replications: int
    seed: int
    warm_up: float
    verdict: Verdict
    checks: tuple[Check, ...]
    throughput: Interval
    latency: Interval
    latency_p99: Interval
    ttft: Interval
    evictions: Interval
    iteration_time: Interval
    busy_share: Interval
    kv_peak: int
    overflow_runs: int
    unfinished: int
    rejected: int
    runs: tuple[Run, ...]

    @property
    def agrees(self) -> bool:
        """Whether every check agrees."""
        return all(check.agrees for check in self.checks)

    @property
    def verified(self) -> bool:
        """The answer is yes: stable, and every check agrees."""
        return self.verdict.answer == STABLE and self.agrees


def verify(policy: Policy, workload: Workload, replica: Replica, *, horizon: float = 3600.0, replications: int = 10,
           seed: int = 0, workers: int = -1, progress: Progress | None = None) -> Verification:
    """Simulate replications of a policy and hold the predictions of the fluid model against them.

    `horizon` in seconds. Raises InputError as `simulate` does.
    """
    def replications_over(seconds: float) -> list[Run]:
        return replicate(policy, workload, replica, horizon=seconds, replications=replications, seed=seed,
                         workers=workers, progress=progress)

    runs = replications_over(horizon)
    share = warm_up([measures.in_system(run) for run in runs])
    study = _Study(solve(workload, replica), policy, runs, [measures.window_after(run, share) for run in runs])
    delays = [measures.delays(run, window) for run, window in zip(runs, study.windows, strict=True)]
    return Verification(
        policy, horizon, replications, seed, share,
        settle(judge(runs, workload.rate), lambda seconds: judge(replications_over(seconds), workload.rate)),
        study.checks(),
        throughput=study.over_runs(measures.throughput),
        latency=t_interval([d.latency for d in delays]),
        latency_p99=t_interval([d.latency_p99 for d in delays]),
        ttft=t_interval([d.ttft for d in delays]),
        evictions=t_interval([run.evictions for run in runs]),
        iteration_time=study.over_runs(_iteration_time),
        busy_share=t_interval([run.busy_share for run in runs]),
        kv_peak=max(run.kv_peak for run in runs),
        overflow_runs=sum(run.overflows > 0 for run in runs),
        unfinished=sum(d.unfinished for d in delays),
        rejected=sum(run.rejected for run in runs),
        runs=tuple(runs),
    )


Measure = Callable[[Run, Window], float]
Inventory = Callable[[Run, Timeline, int, Window], float]
Claim = Callable[[float], Check]  # of the level of its interval


@dataclass(frozen=True, eq=False)
class _Study:
    """Replications with their windows, and the checks that their policy calls for."""

    equilibrium: Equilibrium
    policy: Policy
    runs: Sequence[Run]
    windows: Sequence[Window]

    def over_runs(self, measure: Measure, level: float = 0.95) -> Interval:
        return t_interval([measure(run, window) for run, window in zip(self.runs, self.windows, strict=True)], level)

    def interval(self, measure: Measure, level: float) -> Interval:
        """Over replications; inside a single run, over batches of its window."""
        if len(self.runs) > 1:
            return self.over_runs(measure, level)
        return t_interval([measure(self.runs[0], part) for part in self.windows[0].split(BATCHES)], level)

    def checks(self) -> tuple[Check, ...]:
        claims = [*self._everywhere(), *self._of_policy()]
        level = 1 - FAMILY_ERROR / max(len(claims), 1)
        return (*(claim(level) for claim in claims), *self._certain())

    def _everywhere(self) -> Iterator[Claim]:
        yield partial(self._equal, "throughput", self.equilibrium.throughput, measures.throughput, 0.0)

    def _of_policy(self) -> Iterator[Claim]:
        if self.equilibrium.iteration_time is None or self.equilibrium.inventory is None:
            return
        shortest = self.equilibrium.iteration_time
        if isinstance(self.policy, WaitPolicy):
            yield from self._of_wait(self.policy, shortest)
        elif isinstance(self.policy, NestedWaitPolicy):
            yield partial(self._at_least, "iteration_time at least", shortest, _iteration_time)
        else:
            yield partial(self._equal, "iteration_time", shortest, _iteration_time, FLUID_ACCURACY)
            yield from self._inventories(self.equilibrium.inventory, measures.entering, FLUID_ACCURACY)
            if isinstance(self.policy, PacedPolicy):
                predicted = predict(self.policy, self.equilibrium.workload, self.equilibrium.replica)
                yield from self._delays(predicted, {"latency": LATENCY_ACCURACY})

    def _of_wait(self, policy: WaitPolicy, shortest: float) -> Iterator[Claim]:
        workload, replica = self.equilibrium.workload, self.equilibrium.replica
        counts = np.array(policy.thresholds, dtype=np.float64)
        work = self.equilibrium.profile.time_work(replica.iteration_time) @ counts
        longest = float(np.max(replica.iteration_time.overheads + work))
        if len(workload) == 1:
            yield partial(self._equal, "iteration_time", longest, _iteration_time, 0.0)
        else:
            yield partial(self._at_least, "iteration_time at least", shortest, _iteration_time)
            yield partial(self._at_most, "iteration_time at most", longest, _iteration_time)
        yield from self._inventories(counts, measures.resident, 0.0)
        yield from self._delays(predict(policy, workload, replica),
                                {"latency": LATENCY_ACCURACY, "ttft": TTFT_ACCURACY})

    def _delays(self, predicted: Prediction, accuracies: dict[str, float]) -> Iterator[Claim]:
        settled = SETTLED * predicted.latency <= self.runs[0].end_time
        for name, accuracy in accuracies.items():
            value = float(getattr(predicted, name))
            if settled:
                yield partial(self._equal, name, value, partial(_delay, name), 0.0 if predicted.exact else accuracy)

    def _inventories(self, predicted: np.ndarray, measure: Inventory, accuracy: float) -> Iterator[Claim]:
        names = self.equilibrium.workload.names
        for j in range(min(len(names), MOST_TYPES_CHECKED)):
            if self.equilibrium.profile.stages[j] > 1:
                yield partial(self._equal, f"inventory {names[j]}", float(predicted[j]),
                              partial(_inventory, measure, j), accuracy)

    def _certain(self) -> Iterator[Check]:
        peak = max(run.kv_peak for run in self.runs)
        bound = kv_bound(self.policy, self.equilibrium)
        if bound is not None:
            yield Check("kv_peak at most", bound, peak, peak, None)
        chance = getattr(self.policy, "overflow_probability", None)
        if chance:
            overflows = sum(run.overflows > 0 for run in self.runs)
            yield Check("overflow probability at most", chance, overflows / len(self.runs),
                        least_probability(overflows, len(self.runs), 1 - FAMILY_ERROR), None)
        else:
            yield Check("kv_capacity at least", self.equilibrium.kv_capacity, peak, peak, None)

    def _equal(self, name: str, predicted: float, measure: Measure, accuracy: float, level: float) -> Check:
        found = self.interval(measure, level)
        slack = (accuracy + ROUNDING) * max(abs(predicted), abs(found.mean))
        return Check(name, predicted, found.mean, found.low - slack, found.high + slack)

    def _at_least(self, name: str, bound: float, measure: Measure, level: float) -> Check:
        found = self.interval(measure, level)
        return Check(name, bound, found.mean, None, found.high + ROUNDING * bound)

    def _at_most(self, name: str, bound: float, measure: Measure, level: float) -> Check:
        found = self.interval(measure, level)
        return Check(name, bound, found.mean, found.low - ROUNDING * bound, None)


def _timeline(run: Run) -> Timeline:
    if run.timeline is None:
        raise ValueError("the run was made without record=True")
    return run.timeline


def _iteration_time(run: Run, window: Window) -> float:
    return measures.busy_iteration(_timeline(run), window)


def _delay(name: str, run: Run, window: Window) -> float:
    return float(getattr(measures.delays(run, window), name))


def _inventory(measure: Inventory, j: int, run: Run, window: Window) -> float:
    return measure(run, _timeline(run), j, window)
