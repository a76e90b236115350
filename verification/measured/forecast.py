"""How far a model is from what was measured: the same requests at the same moments, on a replica in the simulator.

The measured requests are replayed, each at its own moment, under vLLM V1 as it comes, on the replica of a deployment;
so what differs is the replica's times and memory, the engine's rule, and what lies between client and engine. Beside it
stands what the fluid model says of these lengths at this rate: its equilibrium, and how far the rate can grow.

    ratio = measured / predicted,      of TTFT, TPOT and latency (mean, 99th percentile) and output tokens/s until the
                                       last arrival
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fluid import Equilibrium, solve
from fluid.replica import Replica
from verification.measured.diagnosis import Diagnosis, spread
from verification.rules.vllm_v1 import as_it_comes
from verification.simulation import simulate
from verification.traffic.arrivals import Arrivals

DELAYS = ("ttft", "tpot", "latency")
SPREADS = ("mean", "p99")


class Compared(NamedTuple):
    """A quantity (seconds, tokens/s) as measured and as predicted."""

    name: str
    measured: float
    predicted: float

    @property
    def ratio(self) -> float:
        """measured / predicted; NaN where one is not known."""
        return self.measured / self.predicted if self.predicted else math.nan


@dataclass(frozen=True)
class Forecast:
    """What a model says of the measured requests; `equilibrium` is that at their rate, None where none was offered."""

    compared: tuple[Compared, ...]
    equilibrium: Equilibrium | None
    evictions: int
    rejected: int


def forecast(found: Diagnosis, replica: Replica) -> Forecast:
    """Return what the replica is predicted to do with the measured requests; raises InputError where it serves none."""
    run, trace = found.run, found.run.trace
    offered = found.rate if math.isfinite(found.rate) and found.rate > 0 else None
    workload = trace.workload(offered or 1.0)
    path = simulate(as_it_comes(replica), workload, replica, arrivals=Arrivals(run.arrivals, trace.types))
    pairs = []
    for name, delays in zip(DELAYS, (path.ttft, path.time_between_tokens, path.latency), strict=True):
        measured, predicted = getattr(found, name), spread(delays)
        pairs += [Compared(f"{name}_{each}", getattr(measured, each), getattr(predicted, each)) for each in SPREADS]
    until = found.horizon if found.verdict is not None else float(np.nanmax(path.finished, initial=0.0))
    done = path.finished <= until
    tokens = float(path.output_tokens[done].sum() / until) if until > 0 else math.nan
    pairs.append(Compared("throughput", found.throughput, tokens))
    return Forecast(tuple(pairs), solve(workload, replica) if offered else None, path.evictions, path.rejected)
