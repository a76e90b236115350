"""A policy verified: replications, a verdict, predictions held against measurement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fluid import Replica, Workload
from fluid.arrays import Floats
from fluid.errors import InputError
from fluid.progress import Progress
from fluid.tables import Tabular, duration, figure, plain
from verification.experiments.checks import Check, Study, inventory_of
from verification.experiments.evidence.ledger import backlog_of
from verification.experiments.evidence.pieces import Doubt, doubts_of, undrawn
from verification.experiments.measures import Inside, inside
from verification.experiments.replications import (
    MOST_KEPT,
    Experiment,
    checked,
    most_kept,
    told,
    within_memory,
)
from verification.experiments.stability import STABLE, Verdict, settle, weigh
from verification.experiments.summary import PILOT, Measured, Summary, measure, summarise
from verification.experiments.targets.bounds import MISSED, NO_TARGETS, Held, Targets
from verification.experiments.targets.delays import OverReplications
from verification.experiments.targets.names import DELAYS
from verification.policies import Policy
from verification.run import Run
from verification.statistics.batch_means import BatchMeans
from verification.statistics.intervals import UNKNOWN, Interval, positive_interval
from verification.statistics.precision import LEAST, Precision, hopeless, more, relative
from verification.traffic.processes import POISSON, Traffic, is_closed, may_be_short, steady_dispersion, users_of

MEASURES = ("throughput", *DELAYS, "evictions", "iteration_time", "busy_share")
COUNTS = ("kv_peak", "overflow_runs", "unfinished", "rejected", "warm_up", "latency_p99_at_least")
ENERGY = ("joules", "lost_joules")
SOUGHT = ("latency", "throughput")  # what a precision is asked of
PARTS = 10  # of a single replication, for the intervals of its checks


@dataclass(frozen=True, eq=False)
class Verification(OverReplications, Tabular):
    """What replications of a policy say; made by `verify`. Intervals are 95%, over replications; the table is `checks`.

    `warm_up` is the share of each run that was deleted; delays are in seconds, `throughput` in output tokens/s;
    `joules` are those of an output token, `lost_joules` what evictions wasted of them (NaN where that is not known).
    `delays` holds every statistic of them by name (`verification.experiments.targets.delays`), of which requests that
    did not finish may make those in `at_least` larger; `targets` what was asked of them, what binds first. `inside`
    holds intervals from inside a single replication, `precision` what was asked for and found. `summaries` is what is
    kept of each replication, `runs` the first of them, whole. `doubts` says which intervals cannot be trusted, and why.
    """

    policy: Policy
    horizon: float
    replications: int
    seed: int
    warm_up: float
    verdict: Verdict
    checks: tuple[Check, ...]
    throughput: Interval
    delays: Mapping[str, Interval]
    evictions: Interval
    iteration_time: Interval
    busy_share: Interval
    kv_peak: int
    overflow_runs: int
    unfinished: int
    rejected: int
    at_least: frozenset[str]
    inside: Inside | None
    doubts: tuple[Doubt, ...]
    precision: Precision | None
    summaries: tuple[Summary, ...]
    runs: tuple[Run, ...]
    targets: tuple[Held, ...] = ()
    joules: Interval = UNKNOWN
    lost_joules: Interval = UNKNOWN

    def __repr__(self) -> str:
        wrong, latency = sum(not each.agrees for each in self.checks), self.latency
        checks = f"{wrong} of {len(self.checks)} checks differ" if wrong else "no check differs"
        return (f"Verification({_named(self.policy)}: {self.verdict.answer}, {checks}, {self.replications:,} x "
                f"{duration(self.horizon)}, latency {duration(latency.mean)} [{figure(latency.low)}, "
                f"{figure(latency.high)}], {figure(self.throughput.mean)} tokens/s)")

    def to_dict(self) -> dict[str, Any]:
        """Return what it says in plain values, under the names of `fluidwait verify --json`."""
        evidence = self.verdict.evidence
        return plain({  # type: ignore[no-any-return]
            "policy": _named(self.policy), "replications": self.replications, "horizon": self.horizon,
            "seed": self.seed, "verdict": self.verdict.answer, "reason": self.verdict.reason, "agrees": self.agrees,
            "checks": [_told(check) for check in self.checks],
            **{name: self.interval(name)._asdict() for name in MEASURES},
            "energy": self.energy and {name: each._asdict() for name, each in self.energy.items()},
            **{name: getattr(self, name) for name in COUNTS}, "at_least": sorted(self.at_least),
            "targets": [each.to_dict() for each in self.targets],
            "score": self.verdict.score, "verdict_horizon": self.verdict.horizon,
            "drift": self.verdict.drift._asdict(), "falls_behind": evidence.behind,
            "types_unjudged": evidence.unjudged, "doubts": [each._asdict() for each in self.doubts],
            "doubted": sorted(self.doubted),
            "precision": self.precision and {**asdict(self.precision), "reached": self.precision.reached},
            "batch_means": self.inside and {name: _means(each) for name, each in vars(self.inside).items()}})

    def columns(self) -> dict[str, Sequence[object]]:
        """The predictions beside what was measured."""
        return {"check": [each.name for each in self.checks],
                **{field: [getattr(each, field) for each in self.checks]
                   for field in ("predicted", "measured", "low", "high", "accuracy", "answer")}}

    def caption(self) -> str:
        """The verdict."""
        return self.verdict.reason

    @property
    def latency_p99_at_least(self) -> bool:
        """Whether requests that did not finish may make that percentile larger."""
        return "latency_p99" in self.at_least

    def interval(self, measure: str) -> Interval:
        """The 95% interval of one of `MEASURES` over replications."""
        found: Interval = self.delays[measure] if measure in self.delays else getattr(self, measure)
        return found

    @property
    def energy(self) -> dict[str, Interval] | None:
        """The intervals of `ENERGY`; None where the power is not known."""
        return None if math.isnan(self.joules.mean) else {name: getattr(self, name) for name in ENERGY}

    @property
    def agrees(self) -> bool:
        """Whether no check differs."""
        return all(check.agrees for check in self.checks)

    @property
    def doubted(self) -> frozenset[str]:
        """The measures whose intervals cannot be trusted."""
        return frozenset(each.measure for each in self.doubts)

    @property
    def verified(self) -> bool:
        """The answer is yes: stable, no check differs, and no target is missed."""
        missed = any(each.answer == MISSED for each in self.targets)
        return self.verdict.answer == STABLE and self.agrees and not missed

    def values(self, measure: str) -> Floats:
        """What each replication measured of one of `MEASURES`, in order: shape (replications,)."""
        return values(self.summaries, measure)


def _named(policy: Policy) -> str:
    return str(getattr(policy, "name", type(policy).__name__))


def _told(check: Check) -> dict[str, Any]:
    names = ("name", "predicted", "measured", "low", "high", "accuracy", "agrees", "answer")
    return {name: getattr(check, name) for name in names}


def _means(means: BatchMeans) -> dict[str, Any]:
    return {**means.interval._asdict(), "valid": means.valid, "doubt": means.doubt or None}


def verify(policy: Policy, workload: Workload, replica: Replica, *, horizon: float = 3600.0, replications: int = 10,
           precision: float | None = None, traffic: Traffic = POISSON, targets: Targets = NO_TARGETS, seed: int = 0,
           workers: int = -1, progress: Progress | None = None) -> Verification:
    """Simulate replications of a policy and hold the predictions of the fluid model against them.

    `horizon` in seconds. With a relative `precision` (0.02: 2%) replications are added until mean latency and
    throughput are known so well, 5 at least and 1,000 at most (`verification.statistics.precision`). Steady-state
    predictions are held against Poisson traffic and bursts only; what holds on every path, or with a probability,
    against any. A closed loop is always stable; the rates of its workload are proportions, its throughput is held
    against that of the fluid model. `targets` are held against the delays. Raises InputError as `simulate` does.
    """
    if precision is not None and not 0 < precision < 1:
        raise InputError("precision", "a share above 0 and below 1", precision)
    start = checked(replications) if precision is None else max(checked(replications), LEAST)
    users = users_of(traffic)
    if users is not None:
        workload = users.balance(workload, replica).equilibrium.workload
    experiment = Experiment(policy, workload, replica, horizon, traffic, seed, workers)
    within_memory(experiment.rate, replica, experiment.horizon, min(start, PILOT))
    found = _Replications(experiment, start, targets, progress)
    if precision is not None:
        found.grow_to(precision)
    return _verification(found, precision, _verdict(found, start, progress))


class _Replications:
    """Replications as they come: the first of them whole, of each what was measured after a common warm-up."""

    def __init__(self, experiment: Experiment, start: int, targets: Targets,
                 progress: Progress | None) -> None:
        self.experiment, self.start, self.targets, self.progress = experiment, start, targets, progress
        self.inventory = inventory_of(experiment.policy)
        pilot = told(experiment.each(range(min(start, PILOT)), lambda run: run, record=True), progress, 0, start)
        self.first, self.warm_up = pilot[0], experiment.warm_up(pilot)
        self.summaries = [self._summary(run) for run in pilot]
        del pilot
        self.add(start)

    def _summary(self, run: Run) -> Summary:
        return summarise(run, self.warm_up, self.inventory, self.start, self.targets, self.experiment.replica)

    def add(self, to: int) -> None:
        """Simulate those that are missing until there are so many."""
        have = len(self.summaries)
        if to > have:
            self.summaries += told(self.experiment.each(range(have, to), self._summary, record=True),
                                   self.progress, have, to)

    def grow_to(self, precision: float) -> None:
        """Simulate more until the precision is reached or hopeless."""
        while relative(self.sought) > precision and not hopeless(self.sought, len(self.summaries)):
            self.add(more(len(self.summaries)))

    @property
    def sought(self) -> list[Interval]:
        return [positive_interval(self.values(name)) for name in SOUGHT]

    def values(self, measure: str) -> Floats:
        """One measure of each replication."""
        return values(self.summaries, measure)

    def parts(self) -> list[Measured]:
        """A single replication in parts, so that there is something to compare."""
        if len(self.summaries) > 1:
            return []
        return [measure(self.first, part, self.inventory) for part in self.summaries[0].window.split(PARTS)]


def values(summaries: list[Summary] | tuple[Summary, ...], measure: str) -> Floats:
    """One measure of each replication: shape (replications,)."""
    return np.array([each.of(measure) for each in summaries], dtype=np.float64)


def _verdict(found: _Replications, replications: int, progress: Progress | None) -> Verdict:
    """The verdict of the replications, or where they cannot decide, of so many over longer horizons."""
    experiment = found.experiment

    def again(seconds: float) -> Verdict:
        longer = replace(experiment, horizon=seconds)
        backlogs = told(longer.each(range(replications), backlog_of, record=False), progress, 0, replications)
        return weigh(backlogs, seconds, experiment.classes)

    if is_closed(experiment.traffic):
        first = weigh([each.backlog for each in found.summaries], experiment.horizon, experiment.classes)
        return replace(first, answer=STABLE, closed=True)
    longest = MOST_KEPT / most_kept(experiment.rate, experiment.replica, 1.0, min(replications, PILOT))
    first = weigh([each.backlog for each in found.summaries], experiment.horizon, experiment.classes)
    return settle(first, again, longest, experiment.lap)


def _doubts(found: _Replications) -> tuple[Doubt, ...]:
    """Which intervals cannot be trusted: of the pieces of the runs, of what was never drawn."""
    experiment = found.experiment
    ledgers = [each.backlog.ledger for each in found.summaries if each.backlog.ledger is not None]
    rates = experiment.workload.rates
    tails = np.column_stack([found.values("latency_p99"), found.values("ttft_p99")])
    return (doubts_of([each.pieces for each in found.summaries], tails)
            + undrawn(experiment.equilibrium.profile, rates, ledgers))


def _verification(found: _Replications, precision: float | None, verdict: Verdict) -> Verification:
    experiment, summaries = found.experiment, tuple(found.summaries)
    users = users_of(experiment.traffic)
    study = Study(experiment.equilibrium, experiment.policy, summaries, found.parts(),
                  certain=not (experiment.policy.by_type and may_be_short(experiment.traffic)),
                  loop=None if users is None else users.balance(experiment.workload, experiment.replica))
    doubts = _doubts(found)
    return Verification(
        experiment.policy, experiment.horizon, len(summaries), experiment.seed, found.warm_up, verdict,
        study.checks(steady_dispersion(experiment.traffic, experiment.policy.by_type, experiment.workload.rate)),
        **{name: positive_interval(values(summaries, name), unit=study.unit(name)) for name in MEASURES
           if name not in DELAYS},
        **{name: positive_interval(values(summaries, name)) for name in ENERGY},
        delays={name: positive_interval(values(summaries, name)) for name in DELAYS},
        kv_peak=max(each.kv_peak for each in summaries),
        overflow_runs=sum(each.overflows > 0 for each in summaries),
        unfinished=sum(each.delays.unfinished for each in summaries),
        rejected=sum(each.rejected for each in summaries),
        at_least=frozenset[str]().union(*(each.delays.at_least for each in summaries)),
        inside=inside(found.first, summaries[0].window) if len(summaries) == 1 else None,
        doubts=doubts,
        precision=None if precision is None else Precision(precision, relative(found.sought)),
        summaries=summaries,
        runs=(found.first,),
        targets=found.targets.held([each.delays for each in summaries], [each.good for each in summaries], doubts),
    )
