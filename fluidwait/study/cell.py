"""A finished cell of a sweep: what the replications of one policy at one rate say, as a row that a file can keep.

Its numbers are those of `fluidwait verify` at that rate. A cell holds no wall-clock time, and NaN (the ends of an
interval where one value cannot tell) is nothing in a file (`verification.store.table`).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fluid.errors import FluidwaitError
from fluidwait.deployment.deployment import Deployment
from fluidwait.progress import quiet
from fluidwait.study.fingerprint import program
from fluidwait.study.grid import Cell
from fluidwait.study.outcomes import Outcome, Plan, examine
from verification import Interval, Verification
from verification.experiments.stability import STABLE, UNSTABLE
from verification.experiments.targets.names import DELAYS
from verification.experiments.verification import ENERGY
from verification.store.table import Value

KEPT_INTERVALS = (*DELAYS, "throughput", "evictions", *ENERGY)
ENDS = ("", "_low", "_high")
DOUBTED = "; intervals not to be trusted: "


class Kept(NamedTuple):
    """What a simulated cell measured: 95% intervals of KEPT_INTERVALS (seconds, output tokens/s, evictions a run,
    joules an output token, NaN where they are not known), and the verdict's evidence.
    """

    intervals: tuple[Interval, ...]
    kv_peak: int
    overflow_runs: int
    score: float
    verdict_horizon: float

    def interval(self, name: str) -> Interval:
        """The interval of one of KEPT_INTERVALS."""
        return self.intervals[KEPT_INTERVALS.index(name)]

    @classmethod
    def of(cls, found: Verification) -> Kept:
        """The part of a verification that a cell keeps."""
        return cls(tuple(found.interval(name) for name in KEPT_INTERVALS), found.kv_peak, found.overflow_runs,
                   found.verdict.score, found.verdict.horizon)


@dataclass(frozen=True)
class Finished:
    """A cell with its verdict and the sentence behind it; `measured` is None where there was nothing to simulate."""

    cell: Cell
    verdict: str
    reason: str
    measured: Kept | None

    @classmethod
    def of(cls, cell: Cell, outcome: Outcome) -> Finished:
        """The cell of an outcome."""
        found = outcome.found
        if found is None:
            return cls(cell, UNSTABLE, outcome.reason, None)
        return cls(cell, found.verdict.answer, _with_doubts(found), Kept.of(found))

    @property
    def doubted(self) -> list[str]:
        """The measures whose intervals cannot be trusted: rows keep them at the end of the reason."""
        return [] if DOUBTED not in self.reason else self.reason.split(DOUBTED)[1].split(", ")

    @property
    def stable(self) -> bool:
        """Whether the verdict is stable."""
        return self.verdict == STABLE

    @property
    def energy(self) -> float | None:
        """Joules of an output token; None where they are not known."""
        joules = math.nan if self.measured is None else self.measured.interval("joules").mean
        return None if math.isnan(joules) else joules

    @property
    def overflows(self) -> bool:
        """Whether a policy that never evicts held more than there is, in some replication."""
        return self.measured is not None and self.measured.overflow_runs > 0


def _with_doubts(found: Verification) -> str:
    return found.verdict.reason + (DOUBTED + ", ".join(sorted(found.doubted)) if found.doubted else "")


Stream = Generator[Finished, None, None]  # cells in the order in which they are finished


def finish(deployment: Deployment, cell: Cell, plan: Plan, computing: str = "") -> Finished:
    """Simulate one cell; where `computing` names a program, by that program only."""
    if computing not in ("", program()):
        raise FluidwaitError(f"a worker computes with {program()}; this command with {computing}")
    with quiet():
        return Finished.of(cell, examine(deployment.at(cell.rate), cell.policy, plan))


COLUMNS = ("rate", "policy", "seed", "replications", "horizon", "verdict", "reason",
           *(name + end for name in KEPT_INTERVALS for end in ENDS), "kv_peak", "overflow_runs", "score",
           "verdict_horizon")


def row_of(finished: Finished, plan: Plan) -> tuple[Value, ...]:
    """The values of a finished cell in the order of COLUMNS; a seed beyond 64 bits is text."""
    seed = plan.seed if plan.seed < 2**63 else str(plan.seed)
    head = (*finished.cell, seed, plan.replications, plan.horizon, finished.verdict, finished.reason)
    if finished.measured is None:
        return (*head, *[None] * (len(COLUMNS) - len(head)))
    measured = finished.measured
    ends = (value for interval in measured.intervals for value in interval)
    return (*head, *ends, measured.kv_peak, measured.overflow_runs, measured.score, measured.verdict_horizon)


def cell_of(row: Sequence[Any]) -> Finished:
    """The finished cell of a row that was kept: what `row_of` was given."""
    values = dict(zip(COLUMNS, row, strict=True))
    measured = None
    if values["verdict_horizon"] is not None:
        intervals = tuple(Interval(*(_read(values[name + end]) for end in ENDS)) for name in KEPT_INTERVALS)
        measured = Kept(intervals, *(values[name] for name in Kept._fields[1:]))
    return Finished(Cell(values["rate"], values["policy"]), values["verdict"], values["reason"], measured)


def _read(value: float | None) -> float:
    return math.nan if value is None else value
