r"""What a run leaves behind, class by class: how many waited over time, how many were inside, what work was drawn.

The classes of a workload are all requests together, each type (of up to `MOST_TYPES`), and of many types those whose KV
work lies within a factor of two, so that requests of which each is a type of its own are judged beside their like. For
class c and run r, with a(i), s(i), e(i) when request i arrives, is admitted and finishes, [x, y) a part of the horizon,

    outside_c(x, y) = sum_{i in c} |[a(i), s(i)) and [x, y)| / (y - x)       mean number waiting, over both halves
    inside_c(x, y)  = sum_{i in c} |[a(i), e(i)) and [x, y)| / (y - x)       mean number in the system, over quarters

Both are exact sums over requests. Of a request that was evicted s(i) is its last admission, so its whole time until
then counts as waiting. Requests that can never fit are rejected and count nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fluid import StageProfile
from fluid.arrays import Floats, Ints
from verification.experiments import measures
from verification.run import Run

MOST_TYPES = 2000  # judged one by one; of more, groups of like work
FEW_TYPES = 20  # up to so many, no groups
PARTS = 32  # in which arrivals are counted
LARGEST = 10  # requests, whose work is kept apart


class Works(NamedTuple):
    """The work of the requests drawn in one unit: its sum, that of its squares, the ten largest."""

    total: float
    squares: float
    largest: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Ledger:
    """Counts of one run by class, arrays of shape (C,), (2, C) and (4, C); the first class is all requests.

    Classes 1 to `kinds` are types; `by_group` counts arrivals by octave of KV work, `blocks` in 32 parts of the
    horizon; `works` is the work of the
    arrivals as KV work, as stages and as tokens computed: a replica may run out of memory, of sequences or of time.
    `life` is the seconds that the longest-lived request drawn spends in iterations of mean length.
    """

    arrived: Floats
    waiting: Floats
    outside: Floats
    inside: Floats
    by_group: Floats
    blocks: Floats
    works: tuple[Works, ...]
    life: float
    kinds: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ledger) and all(
            np.array_equal(getattr(self, each.name), getattr(other, each.name)) for each in fields(self)[:-3]) and (
                self.works, self.life, self.kinds) == (other.works, other.life, other.kinds)

    __hash__ = None  # type: ignore[assignment]


class Backlog(NamedTuple):
    """What one run leaves behind: the requests that wait outside at its end, their `drift` before it (requests/s), the
    iterations that held more than the replica has, `overflows`, and all of it by class.
    """

    unserved: int
    drift: float
    overflows: int = 0
    ledger: Ledger | None = None


def backlog_of(run: Run) -> Backlog:
    """What a run leaves behind."""
    return Backlog(run.unserved, measures.drift(run), run.overflows, ledger_of(run))


def ledger_of(run: Run) -> Ledger | None:
    """The ledger of a run; None of one that ends at its start."""
    end = run.end_time
    if end <= 0:
        return None
    types, start = run.arrivals.types[run.fits], run.arrivals.times[run.fits]
    admitted, finished = (np.where(np.isnan(each), end, each)[run.fits] for each in (run.admitted, run.finished))
    groups = group_of(run.profile)
    halves, quarters = np.linspace(0.0, end, 3), np.linspace(0.0, end, 5)

    def by_class(weights: Floats | None = None) -> Floats:
        return _classes(np.bincount(types, weights, minlength=len(groups)).astype(np.float64), groups)

    return Ledger(by_class(), by_class(np.isnan(run.admitted[run.fits]).astype(np.float64)),
                  np.stack([by_class(part) for part in _overlaps(start, admitted, halves)]),
                  np.stack([by_class(part) for part in _overlaps(start, finished, quarters)]),
                  np.bincount(groups, np.bincount(types, minlength=len(groups))).astype(np.float64),
                  np.histogram(start, PARTS, (0.0, end))[0].astype(np.float64), _works(run.profile, types),
                  _longest(run.profile, types) * run.busy_time / max(run.iterations, 1), _kinds(len(groups)))


def group_of(profile: StageProfile) -> Ints:
    """The octave of the KV work of each type, counted from the least: shape (J,)."""
    octaves: Ints = np.log2(np.maximum(profile.kv_work, 1)).astype(np.int64)
    groups: Ints = octaves - octaves.min()
    return groups


def class_names(profile: StageProfile, names: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What the classes are called in a sentence, in the order of a ledger."""
    groups, kinds = group_of(profile), len(profile.stages)
    called = names if len(names) == kinds else [str(j) for j in range(kinds)]
    least = int(np.floor(np.log2(max(float(profile.kv_work.min()), 1))))
    return ("all requests", *(f'type "{name}"' for name in called[:_kinds(kinds)]),
            *(f"requests of {2**(least + g):,} to {2**(least + g + 1):,} KV token-iterations"
              for g in range(int(groups.max()) + 1) if kinds > FEW_TYPES))


def _kinds(types: int) -> int:
    """How many types are judged one by one."""
    return types if 1 < types <= MOST_TYPES else 0


def _classes(by_type: Floats, groups: Ints) -> Floats:
    """Sums over all types, by type, by group: shape (C,)."""
    kinds = len(by_type)
    return np.concatenate([[by_type.sum()], by_type[:_kinds(kinds)],
                           np.bincount(groups, by_type) if kinds > FEW_TYPES else []])


def _overlaps(start: Floats, end: Floats, edges: Floats) -> list[Floats]:
    """How long each interval lies in each part, over the length of the part."""
    return [np.maximum(np.minimum(end, high) - np.maximum(start, low), 0.0) / (high - low)
            for low, high in pairwise(edges.tolist())]


def _works(profile: StageProfile, types: Ints) -> tuple[Works, ...]:
    """The work drawn in each unit."""
    drawn = np.bincount(types, minlength=len(profile.stages))
    return tuple(_drawn(drawn, unit.astype(np.float64)) for unit in (profile.kv_work, profile.stages, profile.tokens))


def _drawn(drawn: Ints, work: Floats) -> Works:
    order = np.argsort(-work, kind="stable")
    order = order[drawn[order] > 0][:LARGEST]
    return Works(float(drawn @ work), float(drawn @ work**2), tuple(np.repeat(work[order], drawn[order])[:LARGEST]))


def _longest(profile: StageProfile, types: Ints) -> float:
    """The most stages of a request that was drawn."""
    return float(profile.stages[types].max(initial=0))
