"""Predictions held against measurement: does the simulated system do what the mathematics says?

Every prediction comes with the accuracy it claims: 0 for a theorem, more for an approximation. It differs when it lies
further from the interval of the measurement than that. The intervals of the checks hold together: with k of them each
is taken at level 1 - 0.01/k (Bonferroni), so a correct model is called wrong in at most one of a hundred reports. A
bound differs when the measured interval lies wholly on its wrong side. Where an end of the interval is more than a
quarter of the mean away from it, runs are too few, or too short, for a prediction that is wrong to be found out, and
nothing is said but that. Steady-state delays are claimed only for horizons of at least 20 of them: a shorter run,
started empty, never gets there. Throughput and the fluid limit are claimed only where a mean life passes before the
window of measurement begins or runs last 20 of them, the fluid limit only where the server is busy 99% of the time and
the iteration time is one line (the mean of the largest of several exceeds the largest of the means); a type, only where
some 30 of its requests are measured, and under WAIT once its stages fill.

    every policy   throughput = sum_j lambda_j R_j,   KV peak <= C
    closed loops   throughput <= min(N/(Z + R_0), edge);   where they do not saturate, that of the fluid model (5%)
    WAIT           KV peak <= M^pi,   residents per stage = n_j over time,   latency, TTFT, TPOT by `thresholds.predict`
                   iteration time when busy = Delta(n) for one type; for several, between Delta* (work is conserved:
                   E[tau] >= a_i + rho_i E[tau]) and Delta(n) (every type in every batch)
    paced, greedy  iteration time when busy = Delta*,   prompts per stage of a batch = lambda_j Delta*    (fluid: 5%)
    paced          KV peak <= the bound of the windows,   latency, TTFT, TPOT by `thresholds.predict` where it claims
    vLLM v0        iteration time when busy = Delta*    (fluid: 5%; its stages are not equally full: decodes pause)
    nested         iteration time when busy >= Delta*
    Sarathi        iteration time when busy >= Delta* of whole prefills (its chunks only add work)
    a cap on sequences   sequences in a batch <= what the policy can make, and <= the cap
    designs with a probability of overflow delta   share of runs that overflow <= delta    (binomial, Clopper-Pearson)

Source: mathematics, section 9.9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter, methodcaller

import numpy as np

from fluid import ClosedEquilibrium, Equilibrium, solve
from thresholds import (
    Dispersion,
    PacedPolicy,
    Prediction,
    WaitPolicy,
    batch_time,
    kv_bound,
    predict,
    sequence_bound,
)
from thresholds.delay.dispersion import POISSON_DISPERSION
from verification.experiments import measures
from verification.experiments.summary import MOST_TYPES_MEASURED, Inventory, Measured, Summary
from verification.policies import Policy, on_replica
from verification.rules import rule_of
from verification.rules.rule import Claim
from verification.statistics.intervals import Interval, least_probability, positive_interval

FAMILY_ERROR = 0.01
ROUNDING = 1e-9
FLUID_ACCURACY = 0.05
WIDE = 0.25  # of the mean: an end of an interval further away finds hardly anything out
SETTLED = 20  # latencies a run must last before steady-state delays are claimed
ENOUGH_REQUESTS, BUSY = 30, 0.99


AGREES, DIFFERS, TOO_FEW = "agrees", "differs", "too few runs"


@dataclass(frozen=True)
class Check:
    """One prediction beside its measurement, an interval from `low` to `high` (None: no limit, for a bound).

    `accuracy` is the relative error that the prediction claims of itself. `telling`: whether the interval is narrow
    enough for a wrong prediction to differ.
    """

    name: str
    predicted: float
    measured: float
    low: float | None
    high: float | None
    accuracy: float = 0.0
    telling: bool = True

    @property
    def agrees(self) -> bool:
        """Whether the prediction lies no further from the interval than it claims: nothing speaks against it."""
        slack = (self.accuracy + ROUNDING) * max(abs(self.predicted), abs(self.measured))
        above = self.low is None or self.low - slack <= self.predicted
        return bool(above and (self.high is None or self.predicted <= self.high + slack))

    @property
    def answer(self) -> str:
        """In words: "agrees", "differs", or "too few runs" where the interval is too wide to tell."""
        if not self.agrees:
            return DIFFERS
        return AGREES if self.telling else TOO_FEW


Measure = Callable[[Measured], float]
Test = Callable[[float], Check]  # of the level of its interval


@dataclass(frozen=True, eq=False)
class Study:
    """Replications, or the parts of a single one, and the checks that their policy calls for.

    `certain`: what the policy bounds on every path is bounded; not so where requests are taken for shorter ones. `loop`
    is the balance of a closed loop.
    """

    equilibrium: Equilibrium
    policy: Policy
    runs: Sequence[Summary]
    parts: Sequence[Measured] = ()
    certain: bool = True
    loop: ClosedEquilibrium | None = None

    def interval(self, measure: Measure, level: float, unit: float = 0.0) -> Interval:
        """Over replications; inside a single run, over its parts."""
        return positive_interval([measure(each) for each in self.parts or self.runs], level, unit)

    def unit(self, measure: str) -> float:
        """What one request, the shortest, adds to a throughput, or one eviction; 0 for what is not counted."""
        window = self.runs[0].window
        length = (window.end - window.start) / max(len(self.parts), 1)
        counts = {"throughput": float(self.equilibrium.workload.output_tokens.min()) / length, "evictions": 1.0}
        return counts.get(measure, 0.0)

    def checks(self, dispersion: Dispersion | None = POISSON_DISPERSION) -> tuple[Check, ...]:
        """Every prediction that applies; steady-state ones only where the arrivals are steady streams, and then those
        at their `dispersion`.

        What no run has measured, since nothing was served, is held against nothing.
        """
        tests = [] if dispersion is None else [*self._everywhere(), *self._of_policy(dispersion)]
        tests += self._of_loop()
        level = 1 - FAMILY_ERROR / max(len(tests), 1)
        found = (test(level) for test in tests)
        return (*(check for check in found if not math.isnan(check.measured)), *self._certain())

    def _seen(self, rate: float) -> bool:
        """Whether enough requests of that rate fall in the window for a mean to be normal."""
        window = self.runs[0].window
        return rate * (window.last_arrival - window.start) >= ENOUGH_REQUESTS

    def _fluid(self) -> bool:
        """Whether the server is busy enough, and the iteration time simple enough, for the fluid limit."""
        busy = min(run.busy_share for run in self.runs)
        return busy >= BUSY and len(set(self.equilibrium.replica.iteration_time.pieces)) == 1 and self._running()

    def _running(self) -> bool:
        """Whether a mean life passes before the window begins, so that what leaves is what came, or hardly counts."""
        life = (self.equilibrium.sequences or 0.0) / self.equilibrium.workload.rate
        return self.runs[0].window.start >= life or self.runs[0].end_time >= SETTLED * life

    def _filled(self, j: int, threshold: float) -> bool:
        """Whether every stage of type j under WAIT has filled by the start of the window."""
        needed = 1.5 * threshold * float(self.equilibrium.profile.stages[j])
        return float(self.equilibrium.workload.rates[j]) * self.runs[0].window.start >= needed

    def _everywhere(self) -> Iterator[Test]:
        if self._seen(self.equilibrium.workload.rate) and self._running():
            yield partial(self._equal, "throughput", self.equilibrium.throughput, attrgetter("throughput"), 0.0,
                          unit=self.unit("throughput"))

    def _of_loop(self) -> Iterator[Test]:
        """What a closed loop sends at most, and where it does not saturate the replica, what it sends."""
        if self.loop is None or not self._running():
            return
        workload = self.loop.equilibrium.workload
        tokens = float(workload.rates @ workload.output_tokens) / workload.rate
        yield partial(self._at_most, "throughput at most", self.loop.most * tokens, attrgetter("throughput"))
        if not self.loop.saturated and Claim.ITERATION_TIME in claims_of(self.policy):
            yield partial(self._equal, "throughput", self.loop.rate * tokens, attrgetter("throughput"), FLUID_ACCURACY)

    def _of_policy(self, dispersion: Dispersion) -> Iterator[Test]:
        if self.equilibrium.iteration_time is None or self.equilibrium.inventory is None:
            return
        shortest = self.equilibrium.iteration_time
        claims = claims_of(self.policy)
        if Claim.COHORTS in claims and isinstance(self.policy, WaitPolicy):
            yield from self._of_wait(self.policy, shortest, dispersion)
            return
        replica = on_replica(self.policy, self.equilibrium.replica)
        if replica != self.equilibrium.replica:  # the rule makes chunks of its own, which only add work
            shortest = solve(self.equilibrium.workload, replica).iteration_time or 0.0
        if self._running():
            yield partial(self._at_least, "iteration_time at least", shortest, busy_iteration)
        if self._fluid() and Claim.ITERATION_TIME in claims:
            yield partial(self._equal, "iteration_time", shortest, busy_iteration, FLUID_ACCURACY)
        if self._fluid() and Claim.INVENTORY in claims:
            yield from self._inventories(self.equilibrium.inventory, FLUID_ACCURACY)
        if Claim.LATENCY in claims and isinstance(self.policy, PacedPolicy):
            predicted = predict(self.policy, self.equilibrium.workload, self.equilibrium.replica, dispersion)
            yield from self._delays(predicted)

    def _of_wait(self, policy: WaitPolicy, shortest: float, dispersion: Dispersion) -> Iterator[Test]:
        counts = np.array(policy.thresholds, dtype=np.float64)
        longest = batch_time(self.equilibrium, counts)
        if len(self.equilibrium.workload) == 1 and self._filled(0, counts[0]):
            yield partial(self._equal, "iteration_time", longest, busy_iteration, 0.0)
        else:
            yield partial(self._at_least, "iteration_time at least", shortest, busy_iteration)
            yield partial(self._at_most, "iteration_time at most", longest, busy_iteration)
        yield from self._inventories(counts, 0.0)
        yield from self._delays(predict(policy, self.equilibrium.workload, self.equilibrium.replica, dispersion))

    def _delays(self, predicted: Prediction) -> Iterator[Test]:
        settled = (SETTLED * predicted.latency <= self.runs[0].end_time
                   and self._seen(self.equilibrium.workload.rate))
        claims = (("latency", predicted.latency_accuracy), ("ttft", predicted.ttft_accuracy),
                  ("tpot", predicted.latency_accuracy))
        for name, accuracy in claims:
            if settled and accuracy is not None:
                yield partial(self._equal, name, float(getattr(predicted, name)), methodcaller("of", name), accuracy)

    def _inventories(self, predicted: np.ndarray, accuracy: float) -> Iterator[Test]:
        names = self.equilibrium.workload.names
        for j in range(min(len(names), MOST_TYPES_MEASURED)):
            known = self._seen(float(self.equilibrium.workload.rates[j]))
            if Claim.COHORTS in claims_of(self.policy):
                known = known and self._filled(j, predicted[j])
            if self.equilibrium.profile.stages[j] > 1 and known:
                yield partial(self._equal, f"inventory {names[j]}", float(predicted[j]),
                              partial(_inventory, j), accuracy)

    def _certain(self) -> Iterator[Check]:
        peak = max(run.kv_peak for run in self.runs)
        bound = kv_bound(self.policy, self.equilibrium)
        if self.certain and bound is not None and bound <= self.equilibrium.kv_capacity:
            yield Check("kv_peak at most", bound, peak, peak, None)
        cap = self.equilibrium.replica.max_num_seqs
        if cap is not None:
            most = max(run.most_sequences for run in self.runs)
            possible = sequence_bound(self.policy, self.equilibrium)
            allowed = min(possible, cap) if self.certain and possible is not None else cap
            yield Check("sequences in a batch at most", allowed, most, most, None)
        rejected = max(run.rejected for run in self.runs)
        yield Check("requests rejected at most", 0, rejected, rejected, None)
        chance = getattr(self.policy, "overflow_probability", None)
        if chance:
            overflows = sum(run.overflows > 0 for run in self.runs)
            yield Check("overflow probability at most", chance, overflows / len(self.runs),
                        least_probability(overflows, len(self.runs), 1 - FAMILY_ERROR), None)
        else:
            yield Check("kv_capacity at least", self.equilibrium.kv_capacity, peak, peak, None)

    def _equal(self, name: str, predicted: float, measure: Measure, accuracy: float, level: float,
               unit: float = 0.0) -> Check:
        found = self.interval(measure, level, unit)
        return Check(name, predicted, *found, accuracy, telling(found))

    def _at_least(self, name: str, bound: float, measure: Measure, level: float) -> Check:
        found = self.interval(measure, level)
        return Check(name, bound, found.mean, None, found.high, telling=telling(found))

    def _at_most(self, name: str, bound: float, measure: Measure, level: float) -> Check:
        found = self.interval(measure, level)
        return Check(name, bound, found.mean, found.low, None, telling=telling(found))


def claims_of(policy: Policy) -> frozenset[Claim]:
    """The predictions that hold of a policy; of a rule of a user's own, those of continuous batching."""
    rule = rule_of(policy)
    return frozenset({Claim.ITERATION_TIME, Claim.INVENTORY}) if rule is None else rule.claims


def inventory_of(policy: Policy) -> Inventory:
    """How the prompts per stage are measured: under WAIT residents stand still, elsewhere all are in every batch."""
    return measures.resident if Claim.COHORTS in claims_of(policy) else measures.entering


def telling(found: Interval) -> bool:
    """Whether both ends of an interval are near its mean."""
    return bool(max(found.high - found.mean, found.mean - found.low) <= WIDE * abs(found.mean))


def busy_iteration(measured: Measured) -> float:
    return measured.iteration_time


def _inventory(j: int, measured: Measured) -> float:
    return measured.inventory[j]
