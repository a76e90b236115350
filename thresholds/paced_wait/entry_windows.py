r"""Entry windows: at most N prompts enter in any g consecutive iterations, and the most KV they can then hold.

Residents never pause, so a prompt that entered a iterations ago holds kv_a, its KV at stage a. Cut the ages 0..S-1 into
consecutive blocks of g iterations, the oldest ending at age S - 1: at most N residents have an age in each block.

**One type.** kv does not decrease with age, so each block holds at most N times its oldest age:

    KV <= N sum_{b >= 0} kv_{S-1-b g}               whole prefill: N sum_{b=0}^{floor(o/g)} (l + o - b g)

attained by N entries together every g iterations. Windows of different types are independent and can be aligned at one
iteration, so for several types the sum of these bounds is attained too: it is the exact maximum over all phases. In the
same way at most N ceil(S/g) are resident: all of them are in every batch.

**A mix behind one window.** With m_a the largest KV that any type holds at age a (0 where none lives so long), for
every offset of the blocks

    KV <= N sum_blocks max_{a in block} m_a,       at most N ceil(max S / g) residents

**Excess over the fluid.** At rate N/g the fluid holds (N/g) w = (N/g) sum_a kv_a. Each block's oldest age exceeds its
mean by at most the growth over the block, so for whole prefill the bound exceeds the fluid by N o/2 to
N (2 l + o)/2: small N wastes least, and with N = 1 or 2 a rational N/g near the target rate decides g.
Source: mathematics, section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fluid import Replica, StageProfile
from fluid.arrays import TOLERANCE, Floats, Ints

MOST_TRIED = 24  # numerators and denominators tried for the rational N/g
MOST_ENTRIES = 2**40


@dataclass(frozen=True, eq=False)
class EntryWindow:
    """One type, or a whole mix, behind a window: `held` is a prompt's KV by age, shape (S,); `work` its sum, tokens.

    For a mix `held` is the envelope m_a, and `work` the mean KV work of a prompt. `monotone`: KV never falls with age.
    KV by age and the bound are in units of `fluid.replica.KVLayout`, `unit` to a token.
    """

    held: Ints
    work: float
    monotone: bool
    unit: int = 1

    @classmethod
    def of_type(cls, profile: StageProfile, j: int) -> EntryWindow:
        """The window of one prompt type."""
        return cls(profile.units_held(j), float(profile.kv_work[j]), True, profile.layout.unit)

    @classmethod
    def of_mix(cls, profile: StageProfile, rates: Floats) -> EntryWindow:
        """One window for the whole mix, types in proportion to their rates."""
        return cls(profile.most_by_age, float(profile.kv_work @ (rates / rates.sum())), False, profile.layout.unit)

    def kv_bound(self, entries: int, iterations: int) -> int:
        """The most KV, in units, that residents can hold with at most N entries in any g iterations."""
        g = min(iterations, len(self.held))
        if g not in self._of_one:
            self._of_one[g] = (int(self.held[::-1][::g].sum()) if self.monotone else
                               min(self._blocks(g, offset) for offset in self._offsets(g)))
        return entries * self._of_one[g]

    def least(self, rate: float, replica: Replica) -> tuple[int, int]:
        """The pair (N, g) that admits `rate` prompts per iteration and takes the least share of C or B, the scarcer.

        Without a cap B that is the pair of least KV bound.
        """
        costs = ((self.kv_bound(*pair), pair) for pair in set(_pairs(rate, len(self.held))))
        if replica.max_num_seqs is None:
            return min(costs)[1]
        capacity, cap, life = self.unit * replica.kv_capacity, replica.max_num_seqs, len(self.held)
        return min((max(kv / capacity, residents(*pair, life) / cap), kv, pair) for kv, pair in costs)[2]

    @cached_property
    def _of_one(self) -> dict[int, int]:
        """The bound with one entry, for the g that were asked for."""
        return {}

    def _offsets(self, iterations: int) -> range:
        step = max(1, min(iterations, len(self.held)) // MOST_TRIED)
        return range(0, min(iterations, len(self.held)), step)

    def _blocks(self, iterations: int, offset: int) -> int:
        starts = np.arange(offset, len(self.held), iterations)
        starts = np.union1d([0], starts)
        return int(np.maximum.reduceat(self.held, starts).sum())

    @cached_property
    def largest(self) -> int:
        """The most KV one prompt ever holds, units."""
        return int(self.held.max())


def residents(entries: int, iterations: int, life: int) -> int:
    """The most residents there can be with at most N entries in any g iterations, each for S: N ceil(S/g)."""
    return entries * -(-life // iterations)


def _pairs(rate: float, stages: int) -> Iterator[tuple[int, int]]:
    """Rationals N/g >= rate with a small numerator or a small denominator."""
    small = np.arange(1, MOST_TRIED + 1)
    slow = np.minimum(np.floor(small / rate * (1 + TOLERANCE)), 4 * stages * small).astype(np.int64)
    yield from ((n, g) for n, g in enumerate(slow.tolist(), start=1) if g >= 1)
    exact = small * rate
    fast = np.maximum(1.0, np.ceil(exact - TOLERANCE * np.maximum(1.0, exact)))
    yield from ((int(n), g) for g, n in enumerate(fast.tolist(), start=1) if n <= MOST_ENTRIES or g == 1)
