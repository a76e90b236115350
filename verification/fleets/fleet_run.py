"""One simulated path of a fleet: who went where, and the runs of all replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fluid import Workload
from fluid.arrays import Floats, Ints
from fluid.tables import Tabular, duration, figure
from verification.fleets.fleet import Fleet
from verification.run import Run
from verification.traffic.arrivals import Arrivals


@dataclass(frozen=True, eq=False)
class FleetRun(Tabular):
    """The `runs` of the replicas, and the replica to which each request went, `where` (N,); as a table, the replicas.

    `merged` is all of it as one run, in which every measure of a run can be taken.
    """

    fleet: Fleet
    workload: Workload
    arrivals: Arrivals
    where: Ints
    runs: tuple[Run, ...]

    def __repr__(self) -> str:
        return f"FleetRun({self.caption()})"

    def columns(self) -> dict[str, Sequence[object] | Floats | Ints]:
        """The replicas: kind, requests, completions, evictions, how full and how busy they were."""
        names = [self.fleet.kinds[k].name for k in self.fleet.kind_of]
        return {"replica": list(range(len(self.runs))), "kind": names,
                "requests": [len(run.arrivals) for run in self.runs],
                "finished": [run.completed for run in self.runs], "evictions": [run.evictions for run in self.runs],
                "KV peak": [run.kv_peak / run.kv_capacity for run in self.runs],
                "busy": [run.busy_share for run in self.runs]}

    def caption(self) -> str:
        """How many requests finished, and what that took."""
        run = self.merged
        return (f"{run.completed:,} of {len(self.arrivals):,} requests finished by {len(self.runs):,} replicas in "
                f"{duration(run.end_time)}, {figure(run.throughput)} tokens/s, {run.evictions:,} evictions")

    @cached_property
    def merged(self) -> Run:
        """All requests in order of arrival as one run.

        Iterations, evictions and overflows are sums over the replicas, `busy_time` is the mean, `kv_peak` of the
        largest cache the highest share that any cache was filled to; stages are those of the first kind.
        """
        runs, end = self.runs, max(run.end_time for run in self.runs)
        most = max(run.kv_capacity for run in runs)
        admitted, first_token, finished = (self._merge([getattr(run, name) for run in runs])
                                           for name in ("admitted", "first_token", "finished"))
        return Run(self.arrivals, runs[0].profile, most, admitted, first_token, finished,
                   iterations=sum(run.iterations for run in runs), evictions=sum(run.evictions for run in runs),
                   overflows=sum(run.overflows for run in runs),
                   kv_peak=round(most * max(run.kv_peak / run.kv_capacity for run in runs)),
                   busy_time=float(np.mean([run.busy_time for run in runs])), end_time=end)

    def _merge(self, values: list[Floats]) -> Floats:
        """Values by replica, each in the order of its arrivals, in the order of all arrivals."""
        merged = np.empty(len(self.where))
        merged[np.argsort(self.where, kind="stable")] = np.concatenate(values)
        return merged
