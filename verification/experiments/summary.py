"""What is kept of a replication once it is finished: what was measured of it, not its path.

A path is long: 8 bytes for each of five times and numbers of a request and four of an iteration, some 15 MB for an hour
of one GPU. So a run is measured as soon as it is finished, and let go. The one thing that must be known first is the
warm-up to delete, which MSER-5 reads off the mean path of at least 5 replications: the first `PILOT` of them are held
until then, and their warm-up is that of all others. What is kept is exact, and memory does not grow with the number of
replications.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fluid import Replica
from fluid.tables import duration, figure
from verification.experiments import measures
from verification.experiments.evidence.ledger import Backlog, backlog_of
from verification.experiments.evidence.pieces import Pieces, pieces_of
from verification.experiments.measures import Joules, Window
from verification.experiments.targets.bounds import NO_TARGETS, Targets
from verification.experiments.targets.delays import Delays, delays
from verification.experiments.targets.names import DELAYS
from verification.run import Run, Timeline

PILOT = 10
MOST_TYPES_MEASURED = 20
NOTHING = Joules(math.nan, math.nan)

Inventory = Callable[[Run, Timeline, int, Window], float]


@dataclass(frozen=True, eq=False)
class Measured:
    """What a run did inside a window (`verification.experiments.measures`).

    `delays` has every statistic of the delays, `good` the share of requests that meet a goodput (NaN where none is
    asked for), `inventory` prompts per stage of the first types.
    """

    throughput: float
    delays: Delays
    good: float
    iteration_time: float
    inventory: tuple[float, ...]

    def of(self, name: str) -> float:
        """What was measured, by the name of a delay or of a field."""
        return self.delays.of(name) if name in DELAYS else float(getattr(self, name))


@dataclass(frozen=True, eq=False)
class Summary(Measured):
    """A replication: measured inside `window`, its counts over the whole path.

    `joules` is the energy of an output token, `lost_joules` what evictions wasted of it; NaN where not known.
    """

    window: Window
    backlog: Backlog
    end_time: float
    busy_share: float
    kv_peak: int
    most_sequences: int
    evictions: int
    overflows: int
    rejected: int
    pieces: Pieces | None = None
    joules: float = math.nan
    lost_joules: float = math.nan

    def __repr__(self) -> str:
        return (f"Summary(latency {duration(self.of('latency'))}, {figure(self.throughput)} tokens/s, "
                f"{self.evictions:,} evictions, KV peak {self.kv_peak:,})")


def measure(run: Run, window: Window, inventory: Inventory, targets: Targets = NO_TARGETS) -> Measured:
    """Measure a run that was recorded inside a window."""
    timeline = recorded(run)
    kinds = range(min(len(run.profile.stages), MOST_TYPES_MEASURED))
    return Measured(measures.throughput(run, window), delays(run, window), targets.good(run, window),
                    measures.busy_iteration(timeline, window),
                    tuple(inventory(run, timeline, j, window) for j in kinds))


def summarise(run: Run, warm_up: float, inventory: Inventory, replications: int = PILOT,
              targets: Targets = NO_TARGETS, replica: Replica | None = None) -> Summary:
    """Measure a run that was recorded after `warm_up`, the share of it to delete; it is one of so many replications.

    With its `replica` energy is measured too, where its power is known.
    """
    window = measures.window_after(run, warm_up)
    used = NOTHING if replica is None else measures.joules(run, window, replica.power,
                                                           float(replica.iteration_time.overheads.min()))
    return Summary(**vars(measure(run, window, inventory, targets)), window=window, backlog=backlog_of(run),
                   end_time=run.end_time, busy_share=run.busy_share, kv_peak=run.kv_peak,
                   most_sequences=int(recorded(run).batch.max(initial=0)), evictions=run.evictions,
                   overflows=run.overflows, rejected=run.rejected, pieces=pieces_of(run, window, replications),
                   joules=used.per_token, lost_joules=used.lost)


def recorded(run: Run) -> Timeline:
    """The timeline of a run that has one."""
    if run.timeline is None:
        raise ValueError("the run was made without record=True")
    return run.timeline
