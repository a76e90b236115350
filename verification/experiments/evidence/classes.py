"""What the classes of requests say about stability: how the waiting of each grows, and whether too many wait.

The mathematics, and what a verdict makes of it, stands in `verification.experiments.stability`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluid.arrays import Floats
from verification.experiments.evidence.ledger import LARGEST, Ledger, Works
from verification.statistics.growth import (
    LONGEST_FILL,
    beyond_critical,
    chance_of_so_many,
    dispersion,
    growth_ratio,
    lower_bounds,
)

FAMILY_ERROR = 0.01
GROWTH_SHARE = 0.01  # of the arrivals: a growth that is surely larger is none of a stable system
MOST_WAITING = 0.2  # of sqrt(V T), and of the horizon as a mean wait
MOST_NAMED = 3
MAY_FALL_BEHIND = "may fall behind"


@dataclass(frozen=True)
class Evidence:
    """What the classes say of replications, and the scales of the score.

    `variance` is V (requests/s) and `rate` n/T of what was drawn, `firm` the least V T over the units of work, without
    the ten largest requests, `on_average` the requests waiting over the second half; `certain` and `possible` are
    sentences on the classes that surely fall behind, and that may, "" where there is none; `behind` names them. Of the
    types `unjudged` had too few requests to tell.
    """

    variance: float
    rate: float
    firm: float
    on_average: float
    certain: str
    possible: str
    behind: tuple[str, ...]
    unjudged: int


NOTHING = Evidence(math.nan, math.inf, math.inf, 0.0, "", "", (), 0)


def evidence_of(ledgers: Sequence[Ledger], horizon: float, names: Sequence[str]) -> Evidence:
    """Return what the ledgers of replications over `horizon` seconds say; `names` are those of their classes."""
    return _Classes(ledgers, horizon, names).evidence()


class _Classes:
    """The ledgers of R replications side by side, arrays of shape (R, C), (R, 2, C), (R, 4, C)."""

    def __init__(self, ledgers: Sequence[Ledger], horizon: float, names: Sequence[str]) -> None:
        self.horizon, self.replications, self.ledgers = horizon, len(ledgers), ledgers
        self.arrived, self.waiting, self.outside, self.inside = (
            np.stack([getattr(each, name) for each in ledgers]) for name in ("arrived", "waiting", "outside", "inside"))
        self.names = names if len(names) == self.arrived.shape[1] else [f"class {c}" for c in range(len(self.drawn))]
        self.kinds = ledgers[0].kinds
        self.fill = float(np.median([each.life for each in ledgers])) / horizon
        self.beyond = beyond_critical(self.replications)
        self.excess = dispersion([each.blocks for each in ledgers]) - 1

    @property
    def drawn(self) -> Floats:
        """Requests of each class in a replication, on average."""
        drawn: Floats = self.arrived.mean(axis=0)
        return drawn

    @property
    def own(self) -> Floats:
        """sqrt(I_c n_c): by how much the arrivals of each class fluctuate."""
        own: Floats = np.sqrt(self.drawn * (1 + self.excess * self.drawn / max(self.drawn[0], 1e-9)))
        return own

    def evidence(self) -> Evidence:
        """All of it."""
        variance, firm = self._variances()
        grows = self._grows()
        queue, inside = self._queue_grows(), self._inside_grows() & grows
        certain, excess = queue | inside, self._in_excess(firm)
        possible = (excess | grows) & ~certain
        return Evidence(variance / self.horizon, float(self.drawn[0]) / self.horizon, firm,
                        float(self.outside[:, 1, 0].mean()), self._sentence(certain, queue, "falls behind"),
                        self._sentence(possible, excess, MAY_FALL_BEHIND), self._called(certain | possible),
                        _count(~self._tellable(firm)[1:1 + self.kinds]))

    def _variances(self) -> tuple[float, float]:
        """V T of all KV work that was drawn, and the least over the units without ten requests, or a tenth of them."""
        count = float(self.arrived[:, 0].sum())
        units = list(zip(*(each.works for each in self.ledgers), strict=True))
        return self._variance(units[0], count, 0), min(self._variance(unit, count, LARGEST) for unit in units)

    def _variance(self, works: Sequence[Works], count: float, without: int) -> float:
        """V T of the work in one unit, without so many of the largest requests."""
        largest = np.sort(np.concatenate([each.largest for each in works]))[::-1][:min(without, int(count) // 10)]
        total = sum(each.total for each in works) - float(largest.sum())
        squares = sum(each.squares for each in works) - float(largest @ largest)
        count -= len(largest)
        return (squares * (count / total) ** 2 + self.excess * count) / self.replications if total > 0 else 0.0

    @property
    def _enough(self) -> NDArray[np.bool_]:
        """Classes so large that all of them waiting would be beyond what a critical queue leaves."""
        enough: NDArray[np.bool_] = self.drawn > self.beyond**2
        return enough

    def _beats_critical(self, first: Floats, second: Floats) -> NDArray[np.bool_]:
        """Whether means over the halves, (R, C), grow faster than those of a critical queue."""
        chance = FAMILY_ERROR / (2 * max(_count(self._enough), 1))
        faster: NDArray[np.bool_] = lower_bounds(second - growth_ratio(self.fill) * first, chance) > 0
        return faster & self._enough

    def _queue_grows(self) -> NDArray[np.bool_]:
        """Of which classes the waiting is beyond that of a critical queue, and grows faster than it."""
        waits: NDArray[np.bool_] = self.waiting.mean(axis=0) > self.beyond * self.own
        return waits & self._beats_critical(self.outside[:, 0], self.outside[:, 1])

    def _inside_grows(self) -> NDArray[np.bool_]:
        """Of which classes the number in the system does, where residents have gathered long ago."""
        faster = self._beats_critical(self.inside[:, :2].mean(axis=1), self.inside[:, 2:].mean(axis=1))
        return faster if self.fill <= LONGEST_FILL else np.zeros_like(faster)

    def _grows(self) -> NDArray[np.bool_]:
        """Of which classes the number in the system surely grows by more than 1% of the arrivals."""
        enough = self.drawn >= 1
        chance = FAMILY_ERROR / max(_count(enough), 1)
        growth = (self.inside[:, 3] - self.inside[:, 2]) - GROWTH_SHARE * self.arrived / 4
        grows: NDArray[np.bool_] = enough & (lower_bounds(growth, chance) > 0)
        return grows

    def _shares(self, firm: float) -> Floats:
        """p_c: the chance to wait at the end that is none too large."""
        n = np.maximum(self.drawn, 1e-9)
        common = n / max(self.drawn[0], 1e-9) * math.sqrt(firm)
        shares: Floats = np.minimum(MOST_WAITING, MOST_WAITING * np.maximum(self.own, common) / n)
        return shares

    def _in_excess(self, firm: float) -> NDArray[np.bool_]:
        """Of which classes, beside all requests, too many wait."""
        chances = chance_of_so_many(self.waiting.sum(axis=0), self.arrived.sum(axis=0), self._shares(firm))
        excess: NDArray[np.bool_] = chances < self._each
        excess[0] = False
        return excess

    @property
    def _each(self) -> float:
        """The level of each binomial test."""
        return FAMILY_ERROR / max(_count(self.drawn[1:]), 1)

    def _tellable(self, firm: float) -> NDArray[np.bool_]:
        """Of which classes enough were drawn for all of them waiting to tell."""
        all_waiting = self.arrived.sum(axis=0)
        tellable: NDArray[np.bool_] = chance_of_so_many(all_waiting, all_waiting, self._shares(firm)) < self._each
        return tellable

    def _called(self, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(name for name, here in zip(self.names, chosen, strict=True) if here)

    def _sentence(self, chosen: NDArray[np.bool_], waits: NDArray[np.bool_], does: str) -> str:
        """Which classes do so, the one most behind first: types where there are any, else groups, else all."""
        kinds = range(1, 1 + self.kinds)
        levels = (kinds, range(1 + self.kinds, len(chosen)), range(1))
        parts = next((level for level in levels if chosen[list(level)].any()), range(0))
        share = self.waiting.mean(axis=0) / np.maximum(self.drawn, 1e-9)
        found = sorted((c for c in parts if chosen[c]), key=lambda c: -share[c])
        more = len(found) - MOST_NAMED
        if does == MAY_FALL_BEHIND and not any(waits[c] for c in found):
            does = "they still gather, or fall behind"
        return "" if not found else (", ".join(self._of(c, bool(waits[c])) for c in found[:MOST_NAMED])
                                     + (f" and {more} more" if more > 0 else "") + f": {does}")

    def _of(self, c: int, waits: bool) -> str:
        """What happens to a class: how many of it wait, or by how much those in the system grow."""
        name = f"requests of {self.names[c]}" if 1 <= c <= self.kinds else self.names[c].removeprefix("all ")
        if waits:
            return f"of {self.drawn[c]:,.1f} {name} a run {self.waiting[:, c].mean():,.1f} wait"
        growth = float((self.inside[:, 3, c] - self.inside[:, 2, c]).mean()) / (self.horizon / 4)
        return f"of {self.drawn[c] / self.horizon:.3g} {name} a second {growth:.3g} stay in the system"


def _count(chosen: NDArray[Any]) -> int:
    """How many are true, or not 0."""
    return int(np.count_nonzero(chosen))
