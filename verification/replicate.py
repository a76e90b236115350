"""Independent replications of one simulation, on several processor cores.

Replication r of seed s has its own random stream, so the result is the same however many workers there are. The
compiled loop releases the interpreter, so threads are enough and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from joblib import Parallel, delayed

from fluid import Replica, Workload
from fluid.errors import InputError, real, whole
from verification.run import Run
from verification.simulate import Policy, simulate
from verification.traffic import POISSON, Traffic

MOST_KEPT = 250_000_000  # some 10 GB
Progress = Callable[[int, int], None]


def most_kept(rate: float, replica: Replica, horizon: float, replications: int) -> float:
    """Return how many requests and iterations replications keep in memory at most, on average; `rate` in requests/s."""
    return replications * horizon * (rate + 1 / float(replica.iteration_time.overheads.max()))


def within_memory(rate: float, replica: Replica, horizon: float, replications: int) -> float:
    """Return `most_kept`; raises InputError where that is more than memory holds."""
    kept = most_kept(rate, replica, horizon, replications)
    if kept > MOST_KEPT:
        requirement = f"short enough for {MOST_KEPT:.0e} requests and iterations in all replications"
        raise InputError("horizon", requirement, horizon, f"{replications} replications, {kept:.2g} of them")
    return kept


def replicate(policy: Policy, workload: Workload, replica: Replica, *, horizon: float, replications: int,
              traffic: Traffic = POISSON, seed: int = 0, workers: int = -1, record: bool = True,
              progress: Progress | None = None) -> list[Run]:
    """Simulate independent replications over [0, horizon) seconds, in order; with `record` each has its timeline.

    `workers` is the number of threads (-1: one per core); `progress` is called with (done, all) after each.
    """
    replications = whole("replications", replications, unit="replications", most=1_000_000)
    horizon = real("horizon", horizon, unit="seconds")
    within_memory(workload.rate * traffic.factor(), replica, horizon, replications)
    jobs = (delayed(simulate)(policy, workload, replica, horizon=horizon, traffic=traffic, seed=seed, replication=r,
                              record=record)
            for r in range(replications))
    runs: Iterator[Run] = Parallel(n_jobs=workers, backend="threading", return_as="generator")(jobs)
    finished = []
    for run in runs:
        finished.append(run)
        if progress:
            progress(len(finished), replications)
    return finished
