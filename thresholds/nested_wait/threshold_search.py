r"""Whole thresholds for given segments: the best chain of whole numbers, by an exact search.

The problem is that of `thresholds.nested_wait.real_optimum` over whole n_1 > n_2 > ... > n_L, called a chain. Given
n_1, n_k = max(m_k, floor(p_k n_{k-1}) + 1) is the least chain, in every component, m_k being the least threshold from
which a chain can fall to the end: it decides which n_1 can drift, and bounds the others. A best-first search over
partial chains (n_1, ..., n_k) finds the optimum: a chain is ranked by its cost plus the larger of two lower bounds of
the rest, each a shortest path from the end,

    H_0 = least cost of the rest        H_m + m (time over budget so far),  H_m = least cost + m time of the rest

(Lagrange; m near the multiplier of the real optimum); chains that no rest can bring within the budget are dropped.
The first complete chain is the optimum. With dozens of segments there may be more partial chains than can be looked at:
after MOST_TAKEN of them the best one is followed to its end, and what comes out drifts, costs no more than a chain
already known and may not be the optimum. Every n_k ranges over all values that do not, by the base alone, need more
than a chain already known, but over WIDTH values around that chain at most. Source: mathematics, section 5.8.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import NamedTuple

import numpy as np

from fluid.arrays import TOLERANCE, Floats, Ints
from thresholds.nested_wait.real_optimum import MOST_FIRST, multiplier
from thresholds.nested_wait.segments import DecodeSegments, Flags, above, buffer

WIDTH = 96
MOST_TAKEN = 3_000  # partial chains, a fraction of a second
MOST_ROUNDED, MOST_LEAST = 48, 16  # chains tried before the search: rounded real optima, least chains


def whole_thresholds(segments: DecodeSegments, real: Floats) -> Ints | None:
    """Return the whole thresholds that need least memory and drift; None if none do with n_1 up to a few thousand.

    `real` are the real thresholds, which say where to look.
    """
    first = np.arange(1, max(MOST_FIRST, int(4 * real[0])) + 1)
    least = _chains(segments, first, segments.continuation)
    possible = _drifting(segments, least)
    if not possible.any():
        return None
    first, least = first[possible], least[:, possible]
    rounded = _chains(segments, first, np.concatenate([[1.0], real[1:] / real[:-1]]))
    tries = np.concatenate([rounded[:, _drifting(segments, rounded)][:, :MOST_ROUNDED], least[:, :MOST_LEAST]], axis=1)
    costs = segments.kv @ tries + segments.buffers(tries).sum(axis=0)
    best = int(np.argmin(costs))
    return _Search(segments, _ranges(segments, least, tries[:, best], costs[best]), real).best(tries[:, best])


def _floors(segments: DecodeSegments) -> list[float]:
    """The least n_k from which a chain can fall to the end: m_L = 1, m_{k-1} = max(m_k, floor(p_k/(1 - p_k)) + 1) + 1.

    floor(p n) + 1 < n holds from n > 1/(1 - p) on, which is n - 1 > p/(1 - p).
    """
    floors = [1.0]
    for p in segments.continuation[:0:-1].tolist():
        floors.append(max(floors[-1], np.floor(p / (1.0 - p) * (1 + 4 * TOLERANCE)) + 1.0) + 1.0)
    return floors[::-1]


def _chains(segments: DecodeSegments, first: Ints, ratios: Floats) -> Floats:
    """Chains from every n_1, shape (L, V): n_k = max(m_k, floor(q_k n_{k-1}) + 1), at most n_{k-1} - 1 where it may be.

    With ratios p the least chains.
    """
    rows = [first.astype(np.float64)]
    for p, q, floor in zip(segments.continuation[1:], ratios[1:], _floors(segments)[1:], strict=True):
        least = np.maximum(floor, np.floor(p * rows[-1] * (1 + 2 * TOLERANCE)) + 1.0)
        rows.append(np.maximum(least, np.minimum(np.floor(q * rows[-1]) + 1.0, rows[-1] - 1.0)))
    return np.array(rows)


def _drifting(segments: DecodeSegments, chains: Floats) -> Flags:
    """Which of the chains, shape (L, V), fall strictly and meet Lambda Delta(n) < n_1."""
    time = np.max(segments.overheads[:, None] + segments.time @ chains, axis=0)
    falling = np.all(chains[1:] < chains[:-1], axis=0)
    drifting: Flags = falling & (segments.rate * time < chains[0] * (1 - TOLERANCE))
    return drifting


def _ranges(segments: DecodeSegments, least: Floats, known: Floats, cost: float) -> list[Floats]:
    """The values every n_k may take in a chain whose base costs at most `cost`."""
    low = least[:, 0]
    spare = cost - segments.kv @ low
    ranges: list[Floats] = []
    for k, bottom in enumerate(low):
        top = bottom + np.floor(max(spare, 0.0) / segments.kv[k])
        top = min(top, ranges[-1][-1] - 1.0) if ranges else top
        bottom = max(bottom, min(known[k] - WIDTH // 2, top - WIDTH + 1))
        ranges.append(np.arange(bottom, max(min(top, bottom + WIDTH - 1), known[k]) + 1))
    return ranges


class _Begun(NamedTuple):
    """A chain begun, (n_1, ..., n_k). The queue takes the least `rank` first and of equal ranks the oldest.

    No two have the same `number`, so that what comes after it is never compared.
    """

    rank: float  # lower bound of the memory of every complete chain that begins so, tokens
    number: int  # in the order in which the search meets them
    cost: float  # base and buffers of n_1..n_k, tokens
    late: Floats  # iteration time of n_1..n_k less the budget n_1/Lambda, s, shape (pieces,)
    places: tuple[int, ...]  # of n_1..n_k in their ranges


@dataclass(frozen=True, eq=False)
class _Search:
    """Best-first search for the chain of least cost within the ranges, given the real optimum."""

    segments: DecodeSegments
    ranges: list[Floats]
    real: Floats

    def best(self, known: Floats) -> Ints:
        """Return the best chain, at worst the known one."""
        most, numbers = self.segments.required(known) * (1 + TOLERANCE), count()
        queue, taken = [_Begun(0.0, next(numbers), 0.0, self.segments.overheads, ())], 0
        while queue:
            begun, taken = heapq.heappop(queue), taken + 1
            if len(begun.places) == len(self.ranges):
                return np.array([int(values[i]) for values, i in zip(self.ranges, begun.places, strict=True)])
            if taken > MOST_TAKEN:
                queue.clear()  # from here on only what begins like this one
            for longer in self._longer(begun, most, numbers):
                heapq.heappush(queue, longer)
        return known.astype(np.int64)

    def _longer(self, begun: _Begun, most: float, numbers: Iterator[int]) -> Iterator[_Begun]:
        """The chain with every next threshold that the best rest can bring within the budget and `most` tokens."""
        _, _, spent, late, places = begun
        k = len(places)
        cost = spent + self.costs[k][places[-1] if places else 0]
        over = late[:, None] + self.times[k]
        rank = cost + np.maximum(self.cheapest[k], self.steered[k] + self.multiplier @ over)
        fits = np.all(over + self.quickest[k] < 0.0, axis=0) & (rank <= most)
        for i in np.flatnonzero(fits).tolist():
            yield _Begun(float(rank[i]), next(numbers), float(cost[i]), over[:, i], (*places, i))

    @cached_property
    def costs(self) -> list[Floats]:
        """Price of n_k after n_{k-1}, shape (values of n_{k-1}, values of n_k), infinite where drift forbids."""
        each = self.segments
        prices = [(each.kv[0] * self.ranges[0])[None, :]]
        for k in range(1, len(self.ranges)):
            before, counts = self.ranges[k - 1][:, None], self.ranges[k][None, :]
            allowed = (counts < before) & above(counts, before, each.continuation[k])
            tails = each.tails(np.where(allowed, counts / before, 0.0), each.continuation[k])
            waiting, joining = (price[k] for price in each.queue_prices)
            prices.append(each.kv[k] * counts + buffer(waiting, joining, counts, tails))
        return prices

    @cached_property
    def times(self) -> list[Floats]:
        """Iteration time of n_k, less that which n_1 allows: shape (pieces, values)."""
        each = self.segments
        times = [np.outer(each.time[:, k], counts) for k, counts in enumerate(self.ranges)]
        times[0] = times[0] - (1 - TOLERANCE) / each.rate * self.ranges[0]
        return times

    @cached_property
    def multiplier(self) -> Floats:
        """The multiplier m of the drift condition at the real optimum, tokens per second, shape (pieces,)."""
        return multiplier(self.segments, self.real)

    @cached_property
    def cheapest(self) -> list[Floats]:
        """H_0 after every value of n_k: the least cost of the rest."""
        return self._rest(0.0 * self.multiplier)

    @cached_property
    def steered(self) -> list[Floats]:
        """H_m after every value of n_k: the least cost of the rest and m times its time."""
        return self._rest(self.multiplier)

    @cached_property
    def quickest(self) -> list[Floats]:
        """The least time of the rest on every piece, after every value of n_k: shape (pieces, values)."""
        pieces = [self._rest(piece, 0.0) for piece in np.eye(self.multiplier.size)]
        return [np.array(each) for each in zip(*pieces, strict=True)]

    def _rest(self, multiplier: Floats, price: float = 1.0) -> list[Floats]:
        """Least price x cost + multiplier x time of the segments after k, for every value of n_k."""
        rests = [np.zeros(self.ranges[-1].size)]
        for cost, time in zip(self.costs[:0:-1], self.times[:0:-1], strict=True):
            paid = price * cost if price else np.where(np.isfinite(cost), 0.0, np.inf)
            step = paid + (multiplier @ time + rests[-1])[None, :]
            rests.append(step.min(axis=1))
        return rests[::-1]
