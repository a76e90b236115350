"""Independent replications of one simulation, on several processor cores.

Replication r of seed s has its own random stream, so the result is the same however many workers there are. The
compiled loop releases the interpreter, so threads are enough and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from fluid import Equilibrium, Replica, Workload
from fluid.errors import InputError, real, whole
from fluid.progress import Progress
from thresholds.guarantees import equilibrium_of
from verification.experiments import measures
from verification.experiments.evidence.ledger import class_names
from verification.experiments.machine import room, threads
from verification.experiments.threads import in_order
from verification.policies import Policy
from verification.run import Run
from verification.simulation import simulate
from verification.statistics.intervals import warm_up
from verification.traffic.processes import POISSON, Traffic, replayed

MOST_KEPT = 250_000_000  # requests and iterations, on a machine of any size
Kept = TypeVar("Kept")


def most_kept(rate: float, replica: Replica, horizon: float, replications: int) -> float:
    """Return how many requests and iterations replications keep in memory at most, on average; `rate` in requests/s."""
    return replications * horizon * (rate + 1 / float(replica.iteration_time.overheads.max()))


def within_memory(rate: float, replica: Replica, horizon: float, replications: int) -> float:
    """Return `most_kept`; raises InputError where that is more than memory holds."""
    kept, (most, limit) = most_kept(rate, replica, horizon, replications), room(MOST_KEPT)
    if kept > most:
        requirement = f"short enough for {most:.2g} requests and iterations in all replications ({limit})"
        raise InputError("horizon", requirement, horizon, f"{replications} replications, {kept:.2g} of them")
    return kept


@dataclass(frozen=True, eq=False)
class Experiment:
    """A simulation to repeat over [0, horizon) seconds; `workers` is the number of threads (-1: one per core)."""

    policy: Policy
    workload: Workload
    replica: Replica
    horizon: float
    traffic: Traffic = POISSON
    seed: int = 0
    workers: int = -1

    def __post_init__(self) -> None:
        object.__setattr__(self, "horizon", real("horizon", self.horizon, unit="seconds"))

    @property
    def rate(self) -> float:
        """Mean total arrival rate, requests/s."""
        return self.workload.rate * self.traffic.factor()

    @cached_property
    def equilibrium(self) -> Equilibrium:
        """That of the workload on the replica."""
        return equilibrium_of(self.policy, self.workload, self.replica)

    @property
    def classes(self) -> tuple[str, ...]:
        """What the classes of requests are called that a verdict judges."""
        return class_names(self.equilibrium.profile, self.workload.names)

    @property
    def lap(self) -> float:
        """Seconds in which a replay goes through its trace once; 0 where requests are drawn."""
        trace = replayed(self.traffic)
        return 0.0 if trace is None else trace.lap(self.workload)

    def warm_up(self, runs: list[Run]) -> float:
        """The share of each run to delete: read off the mean path of these, of a replay the fixed one."""
        paths = [measures.in_system(run) for run in runs]
        return warm_up(paths[:1] if replayed(self.traffic) else paths)

    def each(self, replications: range, keep: Callable[[Run], Kept], record: bool) -> Iterator[Kept]:
        """Simulate replications, in order, and hand over what `keep` keeps of each; the run itself is let go.

        With `record` the runs have their timelines. No more are at work at a time than memory holds.
        """
        def one(replication: int) -> Kept:
            return keep(simulate(self.policy, self.workload, self.replica, horizon=self.horizon, traffic=self.traffic,
                                 seed=self.seed, replication=replication, record=record))

        fit = room(MOST_KEPT).items / most_kept(self.rate, self.replica, self.horizon, 1)
        return in_order(one, replications, min(threads(self.workers), max(1, int(fit))))


def replicate(policy: Policy, workload: Workload, replica: Replica, *, horizon: float, replications: int,
              traffic: Traffic = POISSON, seed: int = 0, workers: int = -1, record: bool = True,
              progress: Progress | None = None) -> list[Run]:
    """Simulate independent replications over [0, horizon) seconds, in order; with `record` each has its timeline.

    `workers` is the number of threads (-1: one per core); `progress` is called with (done, all) after each. All runs
    are kept; `verify` keeps only what it measures.
    """
    replications = checked(replications)
    experiment = Experiment(policy, workload, replica, horizon, traffic, seed, workers)
    within_memory(experiment.rate, replica, experiment.horizon, replications)
    return told(experiment.each(range(replications), lambda run: run, record), progress, 0, replications)


def checked(replications: int) -> int:
    """The number of replications, if it can be used."""
    return whole("replications", replications, unit="replications", most=1_000_000)


def told(found: Iterator[Kept], progress: Progress | None, before: int, of: int) -> list[Kept]:
    """The list of what is found, `progress` told after each, `before` of them counted already."""
    collected = []
    for each in found:
        collected.append(each)
        if progress:
            progress(before + len(collected), of)
    return collected
