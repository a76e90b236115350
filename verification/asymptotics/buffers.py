"""The memory that a design of nested WAIT is seen to need: the peaks of KV over independent replications.

One value for each replication: the largest KV held in an iteration of the horizon, from an empty replica. What is
enough with probability 1 - delta is a quantile of their law, estimated by order statistics with an interval that holds
whatever the law (`verification.statistics.percentiles`). Where delta is below what the replications can see, the
interval has no upper end and the largest peak is all there is. What is proved: `thresholds.nested_wait.buffers`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fluid.arrays import Ints
from fluid.errors import InputError
from fluid.progress import Progress
from fluid.tables import Tabular
from thresholds import NestedDesign
from verification.experiments.replications import Experiment, checked, told
from verification.statistics.intervals import Interval, least_probability
from verification.statistics.percentiles import quantile_interval
from verification.traffic.processes import POISSON, Traffic


@dataclass(frozen=True, eq=False)
class NeededMemory(Tabular):
    """The peaks of a design's replications, shape (R,), tokens, over `horizon` seconds each."""

    design: NestedDesign = field(repr=False)
    horizon: float
    peaks: Ints

    @property
    def most(self) -> int:
        """The largest peak, tokens."""
        return int(self.peaks.max())

    @property
    def beyond_base(self) -> Ints:
        """Peaks less the design's base, tokens: negative where the base is never reached."""
        return self.peaks - int(self.design.kv_base or 0)

    def quantile(self, share: float) -> Interval:
        """The quantile of the peak with its 95% interval, tokens."""
        return quantile_interval(self.peaks, share)

    def overflow_at_least(self, level: float) -> float:
        """The Clopper-Pearson lower bound (95%) of the probability that a run holds more than `level` tokens."""
        return least_probability(int(np.count_nonzero(self.peaks > level)), self.peaks.size)

    def columns(self) -> dict[str, Ints]:
        """A row for each replication."""
        return {"replication": np.arange(self.peaks.size), "peak, tokens": self.peaks,
                "beyond the base, tokens": self.beyond_base}


def needed_memory(design: NestedDesign, *, replications: int, horizon: float | None = None,
                  traffic: Traffic = POISSON, seed: int = 0, workers: int = -1,
                  progress: Progress | None = None) -> NeededMemory:
    """Simulate a design on the workload it was made for and keep the peaks; `horizon` (s) is the design's by default.

    `workers` is the number of threads (-1: one per core), `progress` is called with (done, all) after each replication.
    Raises InputError where the design has no thresholds.

    >>> from fluid import IterationTime, PromptType, Workload, Replica
    >>> from thresholds import nested
    >>> mix = Workload.from_arrays([50, 50], [20, 100], [40.0, 20.0])
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.013e-7))
    >>> found = needed_memory(nested(mix, replica, boundaries=[20, 100]), replications=2, horizon=20.0)
    >>> found.most <= found.design.kv_required
    True
    """
    if not design.thresholds:
        raise InputError("design", "one with thresholds", design.reason, "needed_memory")
    workload, replica = design.equilibrium.workload, design.equilibrium.replica
    experiment = Experiment(design, workload, replica, design.horizon if horizon is None else horizon, traffic, seed,
                            workers)
    number = checked(replications)
    peaks = told(experiment.each(range(number), lambda run: run.kv_peak, False), progress, 0, number)
    return NeededMemory(design, experiment.horizon, np.array(peaks, dtype=np.int64))
