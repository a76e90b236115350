r"""Designs of nested WAIT as paths: nodes, edges and their prices, and the shortest one.

A design is a path through L layers and an end: its node in layer k says that segment k begins after stage r_{k-1} with
threshold n_k. The edge from (r, n) to (r', n') costs

    n a(r, r') + m n c(r, r') + buffer(r', n'; n, S(r')/S(r))            finite only if S(r')/S(r) < n'/n < 1

with a and c the KV and the time of the stages r + 1..r' and m a multiplier of the drift condition, whose other terms
m (d0 - n_1/Lambda) go to the first layer; no buffer at the end. A shortest path minimises memory plus m times the time
over budget: with m = 0, or with the m at which the path just drifts, it is the best design over the layers' nodes, up
to the duality gap. Source: mathematics, section 5.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fluid.arrays import Floats, Ints
from thresholds.nested_wait.decay_rate import roots
from thresholds.nested_wait.segments import UnknownLengths, above, buffer


class Layer(NamedTuple):
    """Nodes: a segment that begins after stage `cuts` with threshold `counts`, each of shape (S,)."""

    cuts: Ints
    counts: Floats


@dataclass(frozen=True, eq=False)
class Edges:
    """The possible edges from one layer to the next (or to the end, the largest number of stages), E of them.

    `tails` and `heads` are the nodes they join, `tails` in increasing order; `size` is the number of nodes they may
    come from.
    """

    size: int
    tails: Ints
    heads: Ints
    held: Floats
    time: Floats
    waiting: Floats
    joining: Floats
    counts: Floats
    inverse: Floats

    @classmethod
    def between(cls, lengths: UnknownLengths, before: Layer, after: Layer) -> Edges:
        """Price every pair of nodes that drift allows."""
        left = [lengths.beyond(layer.cuts) for layer in (before, after)]
        final = after.cuts == lengths.longest
        p = left[1][None, :] / np.where(left[0] > 0.0, left[0], 1.0)[:, None]
        n, following = before.counts[:, None], after.counts[None, :]
        drifting = (p < 1.0) & (following < n) & above(following, n, p)
        i, j = np.nonzero((before.cuts[:, None] < after.cuts[None, :]) & (drifting | final))
        stages = lengths.stages(before.cuts[i], after.cuts[j])
        waiting, joining = (np.where(final, 0.0, price)[j] for price in lengths.waiting(after.cuts))
        counts, queued = after.counts[j], ~final[j]
        inverse = np.zeros(i.size)
        inverse[queued] = 1.0 / roots(counts[queued] / before.counts[i[queued]], p[i[queued], j[queued]])
        weight = before.counts[i]
        return cls(before.cuts.size, i, j, weight * stages.kv_work,
                   weight * stages.time_work(lengths.replica.iteration_time), waiting, joining, counts, inverse)

    def prices(self, price: Floats, allowance: float) -> Floats:
        """Memory plus multiplier times time of every edge."""
        queues = buffer(self.waiting, self.joining, self.counts, allowance * self.inverse)
        prices: Floats = self.held + price @ self.time + queues
        return prices

    def relax(self, rest: Floats, prices: Floats) -> Floats:
        """Least price from every node to the end, given that from the next layer on; infinite where no edge leads."""
        before = np.full(self.size, np.inf)
        if self.tails.size:
            first = np.flatnonzero(np.diff(self.tails, prepend=-1))
            before[self.tails[first]] = np.minimum.reduceat(prices + rest[self.heads], first)
        return before

    def head_of(self, node: int, rest: Floats, prices: Floats) -> int:
        """The node to which the cheapest way from `node` leads."""
        out = slice(*np.searchsorted(self.tails, [node, node + 1]))
        return int(self.heads[out][np.argmin(prices[out] + rest[self.heads[out]])])


@dataclass(frozen=True, eq=False)
class ShortestPaths:
    """Shortest paths from every node of layer 1 to the end, a single node: edges[k] lead from layer k to the next."""

    edges: Sequence[Edges]
    prices: Sequence[Floats]
    rests: Sequence[Floats]

    @classmethod
    def over(cls, edges: Sequence[Edges], price: Floats, allowance: float) -> ShortestPaths:
        """Find them at this multiplier; edges that occur several times are priced once."""
        different = {id(each): each for each in edges}
        known = {key: each.prices(price, allowance) for key, each in different.items()}
        prices = [known[id(each)] for each in edges]
        rests = [np.zeros(1)]
        for step, paid in zip(edges[::-1], prices[::-1], strict=True):
            rests.append(step.relax(rests[-1], paid))
        return cls(edges, prices, rests[::-1])

    @property
    def lengths(self) -> Floats:
        """Prices of the shortest paths, infinite where there is none."""
        return self.rests[0]

    def path(self, node: int) -> list[int]:
        """The nodes of the shortest path from `node`, without the end."""
        path = [node]
        for step, paid, rest in zip(self.edges[:-1], self.prices[:-1], self.rests[1:-1], strict=True):
            path.append(step.head_of(path[-1], rest, paid))
        return path
