"""What a day asks of counts: that each piece carries its demand, by cuts that are found as they are needed.

n carries f (1 + headroom) lambda if and only if a.n >= f for every a, the slopes of prices of the rows divided by what
(1 + headroom) lambda costs at them (`fluid.planning.whole_fleet`). A cut found for one piece is kept for all, and asked
of a piece where its counts do not meet it: to look at the cuts that are there is a product of matrices, to find a new
one a linear program. With spare replicas a cut is met without those of the worst kind. Source: mathematics, section
20.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fluid.arrays import Bools, Floats
from fluid.planning.kinds import Kind, Rows
from fluid.planning.whole_fleet import CARRIES, bounds, without
from fluid.scheduling.program import Pieces, Program, least_counts, program
from fluid.workload import Workload

MET, NEAR = 1e-9, 1e-3  # a cut that lacks less is met; one with less room is asked at first


@dataclass(frozen=True, eq=False)
class Asked:
    """What a day asks: `demand` is that at factor 1, with head-room."""

    kinds: tuple[Kind, ...]
    rows: Rows
    demand: Workload
    pieces: Pieces
    spare: int
    only: Bools | None = None  # kinds of which there may be any, (K,)

    def slopes(self, prices: Floats) -> Floats:
        """The cuts of prices (C, R): a / sum_j lambda_j mu_j, shape (C, K)."""
        found = [self.rows.of_kinds(each) / float(np.sum(self.demand.rates * self.rows.worth(each)))
                 for each in prices]
        return np.array(found).reshape(-1, len(self.kinds))

    def program(self, slopes: Floats, asked: Bools) -> Program:
        """The program with these cuts, each in the pieces where it is asked; of one kind a least count is in their
        place."""
        least = least_counts(self.kinds, self.pieces)
        if len(self.kinds) == 1:
            need = float(self.rows.fullest(self.demand.rates[None, :])[0])
            least = np.maximum(least, np.ceil(need * self.pieces.factors * CARRIES) + self.spare)
        busiest = self.demand.scaled(float(self.pieces.factors.max()))
        upper = bounds(busiest, self.kinds, self.rows, self.spare)
        if self.only is not None:
            upper = np.where(self.only, upper, 0.0)
        return program(self.pieces, self.kinds, slopes, asked, least, upper, self.spare)

    def lacking(self, counts: Floats, spare: int) -> list[Floats]:
        """Prices that prove of counts (G, K) that they do not carry their piece; each of counts at its most demand."""
        most = dict[tuple[float, ...], float]()
        for n, f in zip(counts, self.pieces.factors, strict=True):
            key = tuple(np.round(n, 9))
            most[key] = max(most.get(key, 0.0), float(f))
        found = list[Floats]()
        for key, f in most.items():
            left = without(self.demand, self.kinds, self.rows, np.array(key), spare)
            found += [each.prices for each in left if each.factor < f * CARRIES]
        return found

    def broken(self, slopes: Floats, counts: Floats, spare: int) -> Bools:
        """Which cuts (C, K) counts (G, K) do not meet, without `spare` of the worst kind: (C, G)."""
        met = slopes @ counts.T
        if spare:
            met = met - np.max(slopes[:, None, :] * np.minimum(counts, spare)[None, :, :], axis=2)
        return met < self.pieces.factors * (1 - MET)


class Cuts:
    """The cuts found so far, and of which pieces they are asked."""

    def __init__(self, asked: Asked, first: Floats) -> None:
        self.asked, pieces = asked, len(asked.pieces.factors)
        self.prices = [] if len(asked.kinds) == 1 else [first]
        self.of, self._rows = np.ones((len(self.prices), pieces), dtype=bool), len(first)

    @property
    def array(self) -> Floats:
        """The prices (C, R)."""
        return np.array(self.prices).reshape(-1, self._rows)

    @property
    def program(self) -> Program:
        """The program with them."""
        return self.asked.program(self.asked.slopes(self.array), self.of)

    def binding(self, counts: Floats) -> None:
        """Ask of each piece those cuts only that counts (G, K) just meet, and each of nearly equal ones once."""
        if self.prices:
            slopes = self.asked.slopes(self.array)
            once = np.unique(np.round(slopes / slopes.max(), 6), axis=0, return_index=True)[1]
            kept = np.isin(np.arange(len(slopes)), once)
            self.of = self.of & (slopes @ counts.T / self.asked.pieces.factors <= 1 + NEAR) & kept[:, None]

    def grown(self, counts: Floats, spare: int) -> bool:
        """Whether counts (G, K) do not carry some piece: cuts that say so are then asked of it, new ones if need be."""
        if not self.prices:
            return False
        more = self.asked.broken(self.asked.slopes(self.array), counts, spare) & ~self.of
        if more.any():
            self.of = self.of | more
            return True
        new = self.asked.lacking(counts, spare)
        if new:
            self.prices += new
            broken = self.asked.broken(self.asked.slopes(np.array(new)), counts, spare)
            self.of = np.concatenate([self.of, broken])
        return bool(new)
