r"""Where to cut decode progress for nested WAIT: boundaries and thresholds by shortest paths.

**Real thresholds.** Let nu(r) be the threshold of the last design as a function of the cut: ln nu interpolated in
ln S. Layers of cuts r, each with the one threshold nu(r), and the multiplier of the last design, m = sum_k n_k (a_k +
b_k)/d0, give boundaries no worse than the last ones; their ratios are optimised, and so on. A stationary point is
one of the joint problem: at an optimum the memory does not change to first order with the thresholds.

**Whole thresholds.** Layers of all pairs of a coarse set of cuts and of thresholds 1..G, once for every L; and, from
there or from the real optimum, layers of the five cuts around each boundary with thresholds n_k - 1..n_k + 1,
alternating with the exact chain search, on ever finer cuts. Each step keeps the better design.

Between two stages at which prompts end, cuts do not matter (`thresholds.nested_wait.segments`); there may still be
4,096. Searches begin with at most a few dozen, spread evenly over the stages and over the prompts that end. Source:
model.md section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fluid.arrays import Floats, Ints
from thresholds.nested_wait.segments import Lengths, Segments, equal_widths, quantiles
from thresholds.nested_wait.shortest_paths import Edges, Layer, ShortestPaths
from thresholds.nested_wait.threshold_search import multiplier, real_thresholds, whole_thresholds

FINE, COARSE, MOST_COUNT, MOST_MOVED = 96, 32, 24, 8
_ZERO = np.zeros(1, dtype=np.int64)


class Design(NamedTuple):
    """Segments, whole thresholds for them, and the tokens those need."""

    segments: Segments
    counts: Ints
    required: float

    def drifts(self) -> bool:
        """Whether the thresholds meet the drift conditions."""
        return self.segments.drifts(self.counts.astype(np.float64))


@dataclass(frozen=True, eq=False)
class Cuts:
    """The search for boundaries of one problem; `grid` is made once and serves every number of segments."""

    lengths: Lengths

    @cached_property
    def grid(self) -> tuple[Layer, Layer]:
        """The nodes of the first layer and of all later ones: coarse cuts, thresholds 1..G."""
        counts = np.arange(1.0, MOST_COUNT + 1)
        cuts, inner = np.meshgrid(self.spread(COARSE)[:-1], counts)
        return Layer(np.repeat(_ZERO, counts.size), counts), Layer(cuts.ravel(), inner.ravel())

    @cached_property
    def end(self) -> Layer:
        """The end of every path."""
        return Layer(np.array([self.lengths.longest]), np.zeros(1))

    @cached_property
    def grid_edges(self) -> tuple[Edges, Edges, Edges]:
        """From the first layer to the grid, within the grid, and to the end."""
        first, grid = self.grid
        steps = ((first, grid), (grid, grid), (grid, self.end))
        return tuple(Edges.between(self.lengths, *step) for step in steps)  # type: ignore[return-value]

    def spread(self, size: int) -> Ints:
        """At most 2 size stages at which prompts end, evenly spread over stages and over prompts; the last is o."""
        ends, left = self.lengths.ends, self.lengths.rates[1:] / self.lengths.rates[0]
        even = np.searchsorted(ends, np.linspace(1, ends[-1], size))
        by_prompts = np.searchsorted(-left, -np.linspace(1.0, 0.0, size))
        kept: Ints = ends[np.unique(np.concatenate([even, by_prompts]).clip(0, ends.size - 1))]
        return kept

    def near(self, boundaries: Ints, step: int) -> list[Ints]:
        """Five cuts around each boundary but the last, `step` apart among those at which prompts end."""
        ends = self.lengths.ends
        at = np.searchsorted(ends, boundaries[:-1])[:, None] + step * np.arange(-2, 3)
        return [np.unique(np.append(ends[row.clip(0, ends.size - 1)], cut))
                for row, cut in zip(at, boundaries, strict=False)]

    def improved(self, start: Segments) -> tuple[Segments, Floats] | None:
        """Improve boundaries by shortest paths over cuts with the last design's thresholds; None if none drift."""
        counts = real_thresholds(start)
        if counts is None:
            return None
        segments, step = start, max(1, self.lengths.ends.size // FINE)
        cuts = self.spread(FINE)
        while True:
            better = self._next(segments, counts, np.union1d(cuts, segments.boundaries))
            gain = 0.0 if better is None else segments.required(counts) - better[0].required(better[1])
            if better is not None and gain > 0.0:
                segments, counts = better
            if gain <= 1e-4 * segments.required(counts):
                if step == 1:
                    return segments, counts
                step //= 2
            cuts = np.concatenate([*self.near(segments.boundaries, step), segments.boundaries])

    def _next(self, segments: Segments, counts: Floats, cuts: Ints) -> tuple[Segments, Floats] | None:
        cuts = np.concatenate([[0], cuts[:-1]])
        layer = Layer(cuts, self._interpolated(segments, counts, cuts))
        steps = [Edges.between(self.lengths, layer, layer)] * (counts.size - 1)
        paths = ShortestPaths.over([*steps, Edges.between(self.lengths, layer, self.end)],
                                   multiplier(segments, counts), segments.allowance)
        if not np.isfinite(paths.lengths[0]):
            return None
        path = paths.path(0)
        found = Segments(self.lengths, np.append(cuts[path[1:]], self.lengths.longest))
        thresholds = real_thresholds(found)
        return None if thresholds is None else (found, thresholds)

    def _interpolated(self, segments: Segments, counts: Floats, cuts: Ints) -> Floats:
        """nu(r) at the cuts: ln n_k against ln S(r_{k-1}), beyond the last at the mean slope."""
        at, known = np.log(self.lengths.beyond(cuts)), np.log(self.lengths.beyond(segments.starts))
        logs = np.log(counts)
        slope = (logs[-1] - logs[0]) / (known[-1] - known[0]) if counts.size > 1 else 0.5
        inside = np.interp(-at, -known, logs)
        return np.exp(np.where(at < known[-1], logs[-1] + slope * (at - known[-1]), inside))

    def best(self, count: int, known: float = np.inf, enough: float = 0.0) -> Design | None:
        """The best design of `count` segments.

        Not polished where that will hardly bring it below `known` tokens, or where it needs no more than `enough`.
        """
        real = self.real(count)
        design = real and best_chain(real[0])
        if real is None or design is None or real[1][0] <= MOST_COUNT:
            design = _cheaper(self.on_grid(count), design)
        return design if design is None or not enough < design.required < 1.2 * known else self.refined(design)

    def real(self, count: int) -> tuple[Segments, Floats] | None:
        """Boundaries and real thresholds of least memory, from equal widths or quantiles on; None if neither drift."""
        for rule in (equal_widths, quantiles):
            cuts = rule(self.lengths, count)
            unused = np.setdiff1d(self.lengths.ends, cuts)
            more = np.linspace(0, unused.size - 1, max(count - cuts.size, 0)).round().astype(np.int64)
            found = self.improved(Segments(self.lengths, np.union1d(cuts, unused[more])))
            if found is not None:
                return found
        return None

    def on_grid(self, count: int) -> Design | None:
        """The best design of `count` segments over a coarse grid; None if none there drifts."""
        if count + 4 > MOST_COUNT:
            spread = self.spread(max(COARSE, count))[:-1]
            tops = range(count, 0, -1)
            return self._path(*self._layered([(spread if n < count else _ZERO, [n, n + 1, n + 2]) for n in tops]))
        first, grid = self.grid
        if count == 1:
            return self._path([first, self.end], [Edges.between(self.lengths, first, self.end)])
        start, inner, last = self.grid_edges
        return self._path([first, *[grid] * (count - 1), self.end], [start, *[inner] * (count - 2), last])

    def refined(self, design: Design) -> Design:
        """Move boundaries and thresholds together while that needs less memory."""
        step = max(1, self.lengths.ends.size // (2 * COARSE))
        while True:
            better = self._around(design, step)
            gain = 0.0 if better is None else 1.0 - better.required / design.required
            design = _cheaper(design, better) or design
            if gain < 1e-4:
                if step == 1:
                    return design
                step //= 2

    def moved(self, design: Design) -> Design:
        """Move single boundaries to cuts nearby, with the best chain each time: a gap that multipliers leave open."""
        best, last = design, None
        while best is not last and best.counts.size <= MOST_MOVED:
            last = best
            for k, cuts in enumerate(self.near(last.segments.boundaries, 1)):
                for cut in cuts[cuts < self.lengths.longest].tolist():
                    boundaries = np.unique(np.append(np.delete(best.segments.boundaries, k), cut))
                    if boundaries.size == best.counts.size:
                        best = _cheaper(best, best_chain(Segments(self.lengths, boundaries))) or best
        return best

    def _layered(self, nodes: Sequence[tuple[Ints, Sequence[int]]]) -> tuple[list[Layer], list[Edges]]:
        """Layers of all pairs of the cuts and thresholds given for each segment, and the edges between them."""
        layers = []
        for cuts, counts in nodes:
            place, inner = np.meshgrid(cuts, np.array(counts, dtype=np.float64))
            layers.append(Layer(place.ravel(), inner.ravel()))
        layers.append(self.end)
        return layers, [Edges.between(self.lengths, *pair) for pair in pairwise(layers)]

    def _around(self, design: Design, step: int) -> Design | None:
        cuts = [_ZERO, *self.near(design.segments.boundaries, step)]
        counts = [range(max(n - 1, 1), n + 2) for n in design.counts.tolist()]
        return self._path(*self._layered(list(zip(cuts, counts, strict=True))), design)

    def _path(self, layers: list[Layer], edges: list[Edges], known: Design | None = None) -> Design | None:
        """The best design on the layers: bisect the multiplier of drift until the shortest path just drifts.

        On the way the paths from every first node are looked at. The best one that drifts and the last one that does
        not get their best whole thresholds, which closes most of the duality gap.
        """
        low, high, price = 0.0, np.inf, 0.0
        best: Design | None = None
        late: Design | None = None
        for _ in range(12):
            designs = self._at(layers, edges, price)
            if not designs:
                return None
            best = min([*filter(Design.drifts, designs), *filter(None, [best])], key=_memory, default=None)
            if designs[0].drifts():
                high = price
            else:
                low, late = price, designs[0]
            if high == 0.0:
                break
            guess = (known or designs[0]).required / float(designs[0].segments.overheads.max())
            price = 0.5 * (low + high) if np.isfinite(high) else max(4.0 * low, 0.5 * guess)
        best = best and best_chain(best.segments, best)
        return _cheaper(best, late and best_chain(late.segments))

    def _at(self, layers: list[Layer], edges: list[Edges], price: float) -> list[Design]:
        """Shortest paths from every first node at one multiplier, the same for every piece; the shortest first."""
        pieces = self.lengths.replica.iteration_time.overheads.size
        paths = ShortestPaths.over(edges, np.full(pieces, price / pieces), self.lengths.allowance(len(edges)))
        ranks = paths.lengths - price / self.lengths.rates[0] * layers[0].counts
        designs = []
        for first in np.argsort(ranks, kind="stable")[: np.isfinite(ranks).sum()].tolist():
            nodes = list(zip(layers, paths.path(first), strict=False))
            cuts = np.array([*(layer.cuts[i] for layer, i in nodes[1:]), self.lengths.longest])
            counts = np.array([layer.counts[i] for layer, i in nodes])
            segments = Segments(self.lengths, cuts)
            designs.append(Design(segments, counts.astype(np.int64), segments.required(counts)))
        return designs


def best_chain(segments: Segments, known: Design | None = None) -> Design | None:
    """The best whole thresholds of these segments, at worst those known; None if none drift."""
    real = real_thresholds(segments)
    counts = None if real is None else whole_thresholds(segments, real)
    if counts is None:
        return known
    design = Design(segments, counts, segments.required(counts.astype(np.float64)))
    return known if known is not None and known.required <= design.required else design


def _cheaper(one: Design | None, other: Design | None) -> Design | None:
    if one is None or other is None:
        return one or other
    return min(one, other, key=_memory)


def _memory(design: Design) -> float:
    return design.required
