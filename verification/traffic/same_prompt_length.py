"""Prompt types that look alike on arrival: those with equal prompt lengths, and which of them a prediction is nearest.

The rule and its exactness are in `verification.traffic.predicted_lengths`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fluid import Workload
from fluid.arrays import MOST_TOKENS, Floats, Ints

BLOCK = 2**20  # ordered pairs of types looked at together


@dataclass(frozen=True, eq=False)
class Lookalikes:
    """The types of a workload beside those with their prompt length: what a wrong prediction can mistake them for.

    By type, shape (J,): `group`, the number of its prompt length; `pair`, the number of its lengths (l, R), in that
    order; `share` of its group's rate; `order`, the types by group. By pair, shape (K,): the `first` type with these
    lengths; they are nearest to predictions from `low` on and below `high` (tokens).
    """

    workload: Workload
    group: Ints
    pair: Ints
    share: Floats
    first: Ints
    low: Floats
    high: Floats
    order: Ints

    @classmethod
    def of(cls, workload: Workload) -> Lookalikes:
        """Sort the types of a workload by their lengths.

        >>> alike = Lookalikes.of(Workload.from_arrays([10, 10, 20], [1, 4, 9], [1.0, 3.0, 5.0]))
        >>> alike.low.tolist(), alike.high.tolist()
        ([0.0, 2.0, 0.0], [2.0, inf, inf])
        """
        prompts = workload.prompt_tokens * (MOST_TOKENS + 1) + workload.cached_prefix  # what is seen on arrival
        group = np.unique(prompts, return_inverse=True)[1]
        keys = group * (MOST_TOKENS + 1) + workload.output_tokens
        _, first, pair = np.unique(keys, return_index=True, return_inverse=True)
        output = workload.output_tokens[first].astype(np.float64)
        edges, apart = np.sqrt(output[:-1] * output[1:]), np.diff(group[first]) > 0
        low, high = np.append(0.0, np.where(apart, 0.0, edges)), np.append(np.where(apart, np.inf, edges), np.inf)
        return cls(workload, group, pair, _shares(workload.rates, group), first, low, high,
                   np.argsort(group, kind="stable"))

    def nearest(self, types: Ints, predicted: Floats) -> Ints:
        """The type nearest in ratio to each predicted output length (tokens), shape (N,), by prompt length."""
        edges = _in_group(self.group[self.first], self.low)
        pair = np.searchsorted(edges, _in_group(self.group[types], predicted), side="right") - 1
        return np.where(pair == self.pair[types], types, self.first[pair])

    def anew(self, types: Ints, uniforms: Floats) -> Ints:
        """Types drawn in proportion to the rates among those with equal prompt lengths: group g owns [g, g + 1)."""
        edges = np.cumsum(self.share[self.order])
        place = np.searchsorted(edges, self.group[types] + uniforms, side="right")
        last = np.cumsum(self.sizes)
        kept = np.clip(place, (last - self.sizes)[self.group[types]], last[self.group[types]] - 1)  # sums are rounded
        return self.order[kept]

    @property
    def sizes(self) -> Ints:
        """Types of each group."""
        return np.bincount(self.group)

    def blocks(self) -> Iterator[tuple[Ints, Ints]]:
        """All ordered pairs of types with equal prompt lengths, some `BLOCK` of them at a time."""
        sizes = self.sizes
        start, row = np.cumsum(sizes) - sizes, sizes[self.group[self.order]]
        before = np.append(0, np.cumsum(row))
        begin = 0
        while begin < len(row):
            end = max(begin + 1, int(np.searchsorted(before, before[begin] + BLOCK, side="right")) - 1)
            own = np.repeat(self.order[begin:end], row[begin:end])
            place = np.arange(before[begin], before[end]) - np.repeat(before[begin:end], row[begin:end])
            yield own, self.order[start[self.group[own]] + place]
            begin = end


def _shares(rates: Floats, group: Ints) -> Floats:
    """Each type's share of the rate of its group."""
    largest = np.zeros(group.max() + 1)
    np.maximum.at(largest, group, rates)
    scaled = rates / largest[group]  # their sum cannot overflow
    return np.asarray(scaled / np.bincount(group, scaled)[group])


def _in_group(group: Ints, tokens: Floats) -> np.ndarray:
    """Keys that sort by group, then by tokens: numpy orders complex numbers by real part, then imaginary part."""
    keys = np.empty(len(group), dtype=np.complex128)
    keys.real, keys.imag = group, tokens
    return keys
