"""Fleets tried out: is a routed fleet stable, and what delays does it have, over independent replications.

A fleet is judged as a replica is (`verification.experiments.stability`): by who waits outside all of its replicas at
the end, and how that grows, class by class. Delays are those of a trial (`verification.experiments.trials`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from fluid import Workload
from fluid.arrays import Floats
from fluid.errors import real
from fluid.progress import Progress
from verification.experiments.evidence.ledger import Backlog, backlog_of, class_names
from verification.experiments.replications import MOST_KEPT, checked, told
from verification.experiments.stability import STABLE, Verdict, settle, weigh
from verification.experiments.targets.bounds import MISSED, NO_TARGETS, Held, Targets
from verification.experiments.targets.delays import OverReplications
from verification.experiments.trials import Taken, over_replications, take
from verification.fleets.fleet import Fleet
from verification.fleets.fleet_run import FleetRun
from verification.fleets.router import Router
from verification.fleets.simulation import simulate_fleet
from verification.run import Run
from verification.statistics.intervals import Interval
from verification.traffic.processes import POISSON, Traffic


class Judged(OverReplications):
    """What has a verdict, and targets that were held against its delays."""

    verdict: Verdict
    targets: tuple[Held, ...]

    @property
    def holds(self) -> bool:
        """Whether it is stable, and misses no target."""
        return self.verdict.answer == STABLE and all(each.answer != MISSED for each in self.targets)


@dataclass(frozen=True, eq=False)
class FleetTrial(Judged):
    """What a fleet did behind a router: a verdict, 95% intervals over replications, `busy` (K,) by kind.

    `throughput` in output tokens/s, `delays` in seconds by name, `busy` the mean share of the time in which replicas of
    a kind run an iteration (NaN of a kind without replicas).
    """

    fleet: Fleet
    router: Router
    verdict: Verdict
    throughput: Interval
    delays: Mapping[str, Interval]
    evictions_per_hour: Interval
    targets: tuple[Held, ...]
    busy: Floats

    def __repr__(self) -> str:
        return f"FleetTrial({self.fleet!r}, {self.router!r}: {self.verdict.answer}, latency {self.latency.mean:.4g} s)"


def try_fleet(fleet: Fleet, router: Router, workload: Workload, *, horizon: float, replications: int = 5,
              traffic: Traffic = POISSON, targets: Targets = NO_TARGETS, seed: int = 0,
              progress: Progress | None = None) -> FleetTrial:
    """Simulate replications of a fleet behind a router over [0, horizon) seconds, and judge them.

    Where they cannot decide the horizon is doubled, up to three times. Raises InputError as `simulate_fleet` does.

    >>> from fluid import IterationTime, PromptType, Replica
    >>> from fluid.planning import Kind
    >>> fleet = Fleet.of([Kind("a100", Replica(137_000, IterationTime(0.0106, 4.013e-7)))], [2])
    >>> mix = Workload([PromptType(512, 20, 40.0)])
    >>> try_fleet(fleet, Router("round-robin"), mix, horizon=60.0).verdict.answer
    'stable'
    """
    seconds, count = real("horizon", horizon, unit="seconds"), checked(replications)

    def run(replication: int, until: float) -> FleetRun:
        return simulate_fleet(fleet, router, workload, horizon=until, traffic=traffic, seed=seed,
                              replication=replication)

    longest = MOST_KEPT / (count * workload.rate * traffic.factor() * len(fleet))
    names = class_names(fleet.profiles(workload)[0], workload.names)
    verdict, measured, runs = judged(run, _busy, names, workload, seconds, count, targets, longest, progress)
    throughput, delays, evictions, held = measured
    return FleetTrial(fleet, router, verdict, throughput, delays, evictions, held, np.mean(runs, axis=0))


class Merged(Protocol):
    """A path of several replicas that can be taken as one run."""

    @property
    def merged(self) -> Run:
        """That run."""


Path = TypeVar("Path", bound=Merged)
Kept = TypeVar("Kept")
Measured = tuple[Interval, Mapping[str, Interval], Interval, tuple[Held, ...]]


def judged(run: Callable[[int, float], Path], keep: Callable[[Path], Kept], names: tuple[str, ...], workload: Workload,
           seconds: float, count: int, targets: Targets, longest: float, progress: Progress | None,
           ) -> tuple[Verdict, Measured, tuple[Kept, ...]]:
    """The verdict on paths `run(replication, horizon)`, measures over them, and what to `keep` of each.

    `names` are those of the classes of requests. Where the paths cannot decide the horizon is doubled, up to three
    times, and up to `longest` seconds.
    """
    def again(longer: float) -> Verdict:
        backlogs = told((backlog_of(run(r, longer).merged) for r in range(count)), progress, 0, count)
        return weigh(backlogs, longer, names)

    def one(path: Path) -> tuple[Taken, Backlog, Kept]:
        return take(path.merged, targets), backlog_of(path.merged), keep(path)

    found = told((one(run(r, seconds)) for r in range(count)), progress, 0, count)
    taken, backlogs, kept = zip(*found, strict=True)
    verdict = settle(weigh(backlogs, seconds, names), again, longest)
    return verdict, over_replications(taken, workload, seconds, targets), kept


def _busy(run: FleetRun) -> Floats:
    """How busy each kind was; NaN where there is none."""
    shares = np.array([each.busy_share for each in run.runs])
    kinds, there = run.fleet.kind_of, np.array(run.fleet.counts)
    busy: Floats = np.bincount(kinds, shares, minlength=len(there)) / np.where(there > 0, there, np.nan)
    return busy
