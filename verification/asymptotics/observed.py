r"""What one replication of a heavy-traffic experiment says, in service-normalised time.

Of a run over [0, T) at scale zeta, with U_j the type-j prompts that wait outside at its end,

    gap         sum_j R_j U_j / (T sum_j zeta lambda_j R_j)      share of the offered tokens that is not yet taken up
    wait        zeta x mean time from arrival to the prefill
    ttft        zeta x mean time from arrival to the first token
    latency     zeta x mean time from arrival to completion
    evictions   evictions over arrivals

The gap counts prompts that wait, never lambda T minus completions: those in flight are as many at every horizon, and
bend its slope to -0.8. Times are means over all arrivals; one that has not happened by T counts as what has passed of
it, so that no mean is of the lucky ones only: it is then the time average of the number waiting (of those without a
token, of those in the system) over the arrival rate. Types that are rejected on arrival are in none of these sums.
Source: [A, section 3]; mathematics, section 11.8.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from fluid import Workload
from fluid.arrays import Floats
from verification.run import Run

UNITS = {"wait": "s", "ttft": "s", "latency": "s"}


class Observed(NamedTuple):
    """The measures of one replication; times in service-normalised seconds."""

    gap: float
    wait: float
    ttft: float
    latency: float
    evictions: float


MEASURES = Observed._fields


class Point(NamedTuple):
    """A scale zeta and a horizon T (s)."""

    zeta: float
    horizon: float

    @property
    def size(self) -> float:
        """zeta T, seconds of service time."""
        return self.zeta * self.horizon

    def seed(self, seed: int) -> int:
        """The seed of this point's streams, whatever other points an experiment has."""
        text = f"{seed} {self.zeta!r} {self.horizon!r}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:15])


def observe(run: Run, workload: Workload, zeta: float) -> Observed:
    """What a run at scale `zeta` says; `workload` at the rates it was run with."""
    fits = run.fits
    arrived, tokens = run.arrivals.times[fits], run.output_tokens[fits]
    waiting = np.isnan(run.admitted[fits])
    served = run.profile.peak <= run.kv_capacity
    offered = run.end_time * float((workload.rates * workload.output_tokens)[served].sum())

    def mean(until: Floats) -> float:
        passed = np.where(np.isnan(until[fits]), run.end_time, until[fits]) - arrived
        return zeta * float(passed.mean()) if len(arrived) else 0.0

    gap = float(tokens[waiting].sum()) / offered if offered else 0.0
    return Observed(gap, mean(run.admitted), mean(run.first_token), mean(run.finished),
                    run.evictions / max(len(arrived), 1))
