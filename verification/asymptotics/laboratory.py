"""The replications of a heavy-traffic experiment as they come, kept in a file as soon as they are finished.

A row is one replication at one point; what decides it besides (policy, workload, replica, seed, program) is the
question of the file, so that an experiment with more points or more replications goes on where a shorter one ended.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fluid import Replica, Workload
from fluid.arrays import Floats
from fluid.progress import Progress
from thresholds.policies import ThresholdPolicy, to_json
from verification.asymptotics.observed import MEASURES, Observed, Point, observe
from verification.asymptotics.scaling import scaled
from verification.experiments.machine import threads
from verification.experiments.replications import within_memory
from verification.policies import Policy
from verification.simulation import simulate
from verification.store.program import program
from verification.store.question import Digest, Question
from verification.store.store import Store, opened
from verification.store.table import Table

FILE = "scaling.sqlite"
TABLE = Table("replications", (("zeta", "REAL"), ("horizon", "REAL"), ("replication", "INTEGER"),
                               *((measure, "REAL") for measure in MEASURES)), ("zeta", "horizon", "replication"))
FORM = "replications 1"  # of a row: to be raised when what its columns mean changes
Keep = Callable[[tuple[Point, int], Observed], None]
AT_ONCE = 1.0  # seconds whose replications are written together


@dataclass(eq=False)
class Laboratory:
    """A policy on a system, at points, with one seed; `found` are the replications so far."""

    policy: Policy
    workload: Workload
    replica: Replica
    points: tuple[Point, ...]
    seed: int
    workers: int = -1
    store: Store | None = None
    found: dict[tuple[Point, int], Observed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for point in self.points:
            within_memory(self.workload.rate, self.replica, point.size, 1)

    @contextmanager
    def kept(self, folder: Path | None) -> Iterator[None]:
        """Keep what is finished in a file of this folder while the context lasts, and begin with what is there."""
        with nullcontext() if folder is None else self._opened(folder) as self.store:
            rows: list[Any] = [] if self.store is None else self.store.rows
            self.found |= {(Point(*row[:2]), row[2]): Observed(*row[3:]) for row in rows}
            yield

    def _opened(self, folder: Path) -> AbstractContextManager[Store]:
        question = Question.of(policy=_meant(self.policy), system=_meaning(self.workload, self.replica),
                               seed=str(self.seed), program=program(FORM))
        return opened(Path(folder), FILE, question, TABLE, _warn)

    def values(self, replications: int, progress: Progress | None = None) -> Floats:
        """What so many replications at each point say, shape (points, replications, measures); missing ones are run."""
        missing = [(point, r) for point in self.points[::-1] for r in range(replications)
                   if (point, r) not in self.found]
        with self._writing() as keep, self._running(missing) as stream:
            for done, (each, observed) in enumerate(zip(missing, stream, strict=True), 1):
                keep(each, observed)
                if progress:
                    progress(done, len(missing))
        return np.array([[self.found[point, r] for r in range(replications)] for point in self.points])

    @contextmanager
    def _running(self, missing: list[tuple[Point, int]]) -> Iterator[Iterator[Observed]]:
        """Replications in threads, handed over in order; when the work ends early those not yet begun are let go."""
        pool = ThreadPoolExecutor(threads(self.workers))
        try:
            yield pool.map(lambda each: self._one(*each), missing)
        finally:
            pool.shutdown(cancel_futures=True)

    def _one(self, point: Point, replication: int) -> Observed:
        workload, replica = scaled(self.workload, self.replica, point.zeta)
        run = simulate(self.policy, workload, replica, horizon=point.horizon, seed=point.seed(self.seed),
                       replication=replication)
        return observe(run, workload, point.zeta)

    @contextmanager
    def _writing(self) -> Iterator[Keep]:
        """Keep each replication, on disk with those of the same second; all of them whatever ends the work."""
        waiting: list[tuple[Point, int]] = []
        written = time.monotonic()

        def write() -> None:
            nonlocal written
            if self.store is not None and waiting:
                self.store.add((*point, r, *self.found[point, r]) for point, r in waiting)
            waiting.clear()
            written = time.monotonic()

        def keep(each: tuple[Point, int], observed: Observed) -> None:
            self.found[each] = observed
            waiting.append(each)
            if time.monotonic() - written > AT_ONCE:
                write()

        try:
            yield keep
        finally:
            write()


def _meant(policy: Policy) -> str:
    """Every number of a policy: of a design its `repr` shows some."""
    return json.dumps(to_json(policy)) if isinstance(policy, ThresholdPolicy) else repr(policy)


def _meaning(workload: Workload, replica: Replica) -> Digest:
    """The digest of a system."""
    arrays = (workload.prompt_tokens, workload.output_tokens, workload.cached_prefix, workload.rates)
    return Digest.of(arrays, repr(replica))


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=2)
