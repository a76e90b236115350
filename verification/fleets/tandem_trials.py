"""Tandems tried out: are both pools stable, and what delays do requests have from arrival to completion.

Judged as a fleet is (`verification.fleets.trials`): who waits is whoever has not been admitted to his last station.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fluid import Workload
from fluid.arrays import Floats
from fluid.errors import real
from fluid.progress import Progress
from verification.experiments.evidence.ledger import class_names
from verification.experiments.replications import MOST_KEPT, checked
from verification.experiments.stability import Verdict
from verification.experiments.targets.bounds import NO_TARGETS, Held, Targets
from verification.fleets.tandem import Tandem, simulate_tandem
from verification.fleets.tandem_run import TandemRun
from verification.fleets.trials import Judged, judged
from verification.statistics.intervals import Interval
from verification.traffic.processes import POISSON, Traffic


@dataclass(frozen=True, eq=False)
class TandemTrial(Judged):
    """What a tandem did: a verdict, 95% intervals over replications, how `busy` its replicas were, first and second.

    Stations finish what has arrived, and that work counts as busy time too, up to all of it. `in_transfer` and
    `waiting` are the most KV tokens that no cache held (`TandemRun`), on any path.
    """

    tandem: Tandem
    verdict: Verdict
    throughput: Interval
    delays: Mapping[str, Interval]
    evictions_per_hour: Interval
    targets: tuple[Held, ...]
    busy: Floats
    in_transfer: float
    waiting: float

    def __repr__(self) -> str:
        return f"TandemTrial({self.tandem!r}: {self.verdict.answer}, latency {self.latency.mean:.4g} s)"


def try_tandem(tandem: Tandem, workload: Workload, *, horizon: float, replications: int = 5, traffic: Traffic = POISSON,
               targets: Targets = NO_TARGETS, seed: int = 0, progress: Progress | None = None) -> TandemTrial:
    """Simulate replications of a tandem over [0, horizon) seconds, and judge them.

    Where they cannot decide the horizon is doubled, up to three times. Raises InputError as `simulate_tandem` does.

    >>> from fluid import IterationTime, PromptType, Replica
    >>> from fluid.planning import Kind, Part, Transfer
    >>> gpu, link = Replica(400_000, IterationTime(0.008, 5e-8, 4e-5), first_token="prefill"), Transfer(2e10, 1e5)
    >>> kinds = [[Kind(role, gpu, part=Part(role, link))] for role in ("prefill", "decode")]
    >>> try_tandem(Tandem.of(*kinds, ([1], [1])), Workload([PromptType(512, 20, 10.0)]), horizon=60.0).verdict.answer
    'stable'
    """
    seconds, count = real("horizon", horizon, unit="seconds"), checked(replications)

    def run(replication: int, until: float) -> TandemRun:
        return simulate_tandem(tandem, workload, horizon=until, traffic=traffic, seed=seed, replication=replication)

    longest = MOST_KEPT / (count * workload.rate * traffic.factor() * (len(tandem.prefill) + len(tandem.decode)))
    names = class_names(replace(tandem.decoding_kinds[0], part=None).profile(workload), workload.names)
    verdict, measured, kept = judged(run, _kept, names, workload, seconds, count, targets, longest, progress)
    each = np.array(kept)
    throughput, delays, evictions, held = measured
    return TandemTrial(tandem, verdict, throughput, delays, evictions, held, each[:, :2].mean(axis=0),
                       float(each[:, 2].max()), float(each[:, 3].max()))


def _kept(run: TandemRun) -> tuple[float, float, float, float]:
    """How busy the two fleets were by the horizon, and the tokens that no cache held."""
    first, second = (float(np.mean([min(each.busy_time / run.end_time, 1.0) for each in part.runs]))
                     for part in (run.first, run.second))
    return first, second, run.in_transfer, run.waiting
