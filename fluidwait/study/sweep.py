"""A sweep: every cell of a grid simulated, in parallel, each kept as soon as it is finished.

Cells run in threads: simulating one is compiled code and numpy, which release the interpreter (two threads took as long
as two processes), a trace of millions of requests is not copied, and Ctrl-C ends them at once. A Dask cluster runs the
same function (`fluidwait.study.dask`). A cell uses one core and its random streams are its own, so where and in which
order cells run changes nothing. The highest rates, which take longest, start first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from fluid import Equilibrium, solve
from fluid.errors import InputError, whole
from fluidwait.deployment.deployment import Deployment
from fluidwait.progress import counting
from fluidwait.study.cell import Finished, Stream, finish
from fluidwait.study.dask import finish_on_cluster
from fluidwait.study.grid import RATES, Cell, Grid
from fluidwait.study.outcomes import Plan, hopeless
from verification.experiments.machine import cores, room
from verification.experiments.replications import MOST_KEPT, within_memory
from verification.experiments.threads import as_finished

Keep = Callable[[Finished], None]


@dataclass(frozen=True)
class Workers:
    """Where cells run: in so many threads (one per core), or on the Dask cluster at an address."""

    jobs: int | None = None
    dask: str | None = None

    @classmethod
    def checked(cls, jobs: int | None, dask: str | None) -> Workers:
        """The workers of the flags --jobs and --dask."""
        if dask is not None and jobs is not None:
            raise InputError("--jobs", "left out where --dask is given: the cluster has its own", jobs)
        return cls(None if jobs is None else whole("--jobs", jobs, unit="cells at a time", most=4096), dask)

    def finish(self, deployment: Deployment, cells: Sequence[Cell], plan: Plan, kept: float) -> Stream:
        """Simulate cells and yield each when it is finished; `kept` is what one keeps in memory, at most."""
        alone = replace(plan, workers=1)
        if self.dask is not None:
            return finish_on_cluster(self.dask, deployment, cells, alone)
        jobs = self.jobs or cores()
        jobs = max(1, min(jobs, int(room(MOST_KEPT).items // kept))) if kept else jobs
        return _in_threads(deployment, cells, alone, jobs)


@dataclass(frozen=True)
class Sweep:
    """The finished cells of a grid in its order, and the fluid `equilibrium` of the mix."""

    grid: Grid
    plan: Plan
    finished: tuple[Finished, ...]
    equilibrium: Equilibrium

    @property
    def fluid_limit(self) -> float:
        """The total rate (requests/s) beyond which no policy is stable."""
        return self.equilibrium.workload.rate * self.equilibrium.max_rate_scale

    @property
    def limits(self) -> dict[str, float | None]:
        """For each policy the largest rate whose verdict is stable; None where there is none."""
        return {policy: max((each.cell.rate for each in self.of(policy) if each.stable), default=None)
                for policy in self.grid.policies}

    def of(self, policy: str) -> list[Finished]:
        """The cells of one policy, by rate."""
        return [each for each in self.finished if each.cell.policy == policy]


def most_kept_by_a_cell(deployment: Deployment, grid: Grid, plan: Plan) -> float:
    """The most requests and iterations one cell keeps in memory; raises InputError where that is too many.

    A cell that is overloaded beyond simulation keeps none.
    """
    most = 0.0
    for rate in grid.rates:
        here = _at(deployment, rate)
        if not hopeless(solve(here.workload, here.replica), plan):
            most = max(most, within_memory(here.rate, here.replica, plan.horizon, plan.replications))
    return most


def run_cells(deployment: Deployment, cells: list[Cell], plan: Plan, kept: float, workers: Workers, keep: Keep) -> None:
    """Simulate cells and hand over each when it is finished."""
    with counting("simulating cells") as progress, closing(workers.finish(deployment, cells[::-1], plan, kept)) as each:
        for done, finished in enumerate(each, 1):
            keep(finished)
            progress(done, len(cells))


def _in_threads(deployment: Deployment, cells: Sequence[Cell], plan: Plan, jobs: int) -> Stream:
    with closing(as_finished(lambda cell: finish(deployment, cell, plan), cells, jobs)) as stream:
        yield from (finished for _, finished in stream)


def _at(deployment: Deployment, rate: float) -> Deployment:
    try:
        return deployment.at(rate)
    except InputError as error:
        raise InputError(RATES.flag, f"rates at which every type has {error.requirement}", rate) from None
