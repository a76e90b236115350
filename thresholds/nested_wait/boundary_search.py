r"""Where to cut decode progress for nested WAIT: boundaries and thresholds by shortest paths.

A cut is a stage where one segment may end and the next begin; a design is a path through layers of cuts with
thresholds (`thresholds.nested_wait.shortest_paths`).

**Real thresholds.** Let nu(r) be the threshold of the last design as a function of the cut: ln nu interpolated in
ln S. Layers of cuts r, each with the one threshold nu(r), and the multiplier of the last design, m = sum_k n_k (a_k +
b_k)/d0, give boundaries no worse than the last ones; their ratios are optimised, and so on. A stationary point is
one of the joint problem: at an optimum the memory does not change to first order with the thresholds.

**Whole thresholds.** The start is the real optimum with its best whole thresholds, or the best path through a coarse
grid: layers of all pairs of a few cuts and of thresholds 1..G, made once for every L. From there, in turns: the best
path through the five cuts around each boundary with thresholds n_k - 1..n_k + 1, and the exact search for the
thresholds of those boundaries, on ever finer cuts. Each step keeps the better design.

**Which cuts.** Only stages at which prompts end matter (`thresholds.nested_wait.segments`), and there may be 4,096 of
them. Searches begin with at most a few dozen, spread evenly over the stages and over the prompts that end. Source:
mathematics, section 5.8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from fluid.arrays import Floats, Ints
from thresholds.nested_wait.candidates import Candidate, best_chain, cheaper, memory
from thresholds.nested_wait.real_optimum import multiplier, real_thresholds
from thresholds.nested_wait.segments import DecodeSegments, UnknownLengths, equal_widths, quantiles
from thresholds.nested_wait.shortest_paths import Edges, Layer, ShortestPaths

FINE, COARSE = 96, 32  # sizes of the spread of cuts with which searches for real and for whole thresholds begin
MOST_COUNT = 24  # G, the largest threshold in the coarse grid
MOST_MOVED = 8  # segments: in longer designs boundaries are not moved one by one
HARDLY = 1.2  # times as much memory as another design needs: to refine it hardly helps
HURRY = 1e6  # a multiplier so large, over the memory for d0, that hardly anything but time counts
_ZERO = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class BoundarySearch:
    """The search for the boundaries of one workload; `grid` is made once and serves every number of segments."""

    lengths: UnknownLengths

    @cached_property
    def grid(self) -> tuple[Layer, Layer]:
        """The nodes of the first layer (stage 0) and of all later ones (coarse cuts), with thresholds 1..G."""
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
        """At most 2 `size` of the stages at which prompts end, evenly spread over stages and prompts; the last is o."""
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

    def improved(self, start: DecodeSegments) -> tuple[DecodeSegments, Floats] | None:
        """Boundaries moved, with the best real thresholds, until that saves no more memory; None if none drift.

        Every round is a shortest path over cuts with the last thresholds: the module's "Real thresholds".
        """
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

    def _next(self, segments: DecodeSegments, counts: Floats, cuts: Ints) -> tuple[DecodeSegments, Floats] | None:
        cuts = np.concatenate([[0], cuts[:-1]])
        layer = Layer(cuts, self._interpolated(segments, counts, cuts))
        steps = [Edges.between(self.lengths, layer, layer)] * (counts.size - 1)
        paths = ShortestPaths.over([*steps, Edges.between(self.lengths, layer, self.end)],
                                   multiplier(segments, counts), segments.allowance)
        if not np.isfinite(paths.lengths[0]):
            return None
        path = paths.path(0)
        found = DecodeSegments(self.lengths, np.append(cuts[path[1:]], self.lengths.longest))
        thresholds = real_thresholds(found)
        return None if thresholds is None else (found, thresholds)

    def _interpolated(self, segments: DecodeSegments, counts: Floats, cuts: Ints) -> Floats:
        """nu(r) at the cuts: ln n_k against ln S(r_{k-1}), beyond the last at the mean slope."""
        at, known = np.log(self.lengths.beyond(cuts)), np.log(self.lengths.beyond(segments.starts))
        logs = np.log(counts)
        slope = (logs[-1] - logs[0]) / (known[-1] - known[0]) if counts.size > 1 else 0.5
        inside = np.interp(-at, -known, logs)
        return np.exp(np.where(at < known[-1], logs[-1] + slope * (at - known[-1]), inside))

    def best(self, count: int, known: float = np.inf, enough: float = 0.0) -> Candidate | None:
        """The best design of `count` segments that is found; None if none drifts.

        It is not refined where that will hardly bring it below `known` tokens, or where it needs no more than `enough`,
        which if given is all that is asked for.
        """
        real = self.real(count)
        design = real and best_chain(real[0])
        if real is None or design is None or real[1][0] <= MOST_COUNT:
            design = cheaper(self.on_grid(count, HARDLY * known), design)
        near = HARDLY * (enough or known)
        return design if design is None or not enough < design.required < near else self.refined(design, enough)

    def real(self, count: int) -> tuple[DecodeSegments, Floats] | None:
        """Boundaries and real thresholds of least memory, from equal widths or quantiles on; None if neither drift."""
        for rule in (equal_widths, quantiles):
            cuts = rule(self.lengths, count)
            unused = np.setdiff1d(self.lengths.ends, cuts)
            more = np.linspace(0, unused.size - 1, max(count - cuts.size, 0)).round().astype(np.int64)
            found = self.improved(DecodeSegments(self.lengths, np.union1d(cuts, unused[more])))
            if found is not None:
                return found
        return None

    def on_grid(self, count: int, most: float = np.inf) -> Candidate | None:
        """The best design of `count` segments over a coarse grid; None if none there drifts in `most` tokens."""
        if count + 4 > MOST_COUNT:
            spread = self.spread(max(COARSE, count))[:-1]
            tops = range(count, 0, -1)
            return self._path(*self._layered([(spread if n < count else _ZERO, [n, n + 1, n + 2]) for n in tops]), most)
        first, grid = self.grid
        if count == 1:
            return self._path([first, self.end], [Edges.between(self.lengths, first, self.end)], most)
        start, inner, last = self.grid_edges
        return self._path([first, *[grid] * (count - 1), self.end], [start, *[inner] * (count - 2), last], most)

    def refined(self, design: Candidate, enough: float = 0.0) -> Candidate:
        """Move boundaries and thresholds together while that needs less memory, or may come down to `enough`.

        Steps are halved, and shorter ones save no more than longer ones did.
        """
        step, before = max(1, self.lengths.ends.size // (2 * COARSE)), design.required
        while design.required > enough:
            better = self._around(design, step)
            gain = 0.0 if better is None else 1.0 - better.required / design.required
            design = cheaper(design, better) or design
            if gain < 1e-4:
                if step == 1 or (enough and 2.0 * design.required - before > enough):
                    break
                step, before = step // 2, design.required
        return design

    def moved(self, design: Candidate) -> Candidate:
        """Move single boundaries to cuts nearby, with their best whole thresholds, while that needs less memory.

        That closes part of the duality gap, which shortest paths cannot.
        """
        best, last = design, None
        while best is not last and best.counts.size <= MOST_MOVED:
            last = best
            for k, cuts in enumerate(self.near(last.segments.boundaries, 1)):
                for cut in cuts[cuts < self.lengths.longest].tolist():
                    boundaries = np.unique(np.append(np.delete(best.segments.boundaries, k), cut))
                    if boundaries.size == best.counts.size:
                        best = cheaper(best, best_chain(DecodeSegments(self.lengths, boundaries))) or best
        return best

    def _layered(self, nodes: Sequence[tuple[Ints, Sequence[int]]]) -> tuple[list[Layer], list[Edges]]:
        """Layers of all pairs of the cuts and thresholds given for each segment, and the edges between them."""
        layers = []
        for cuts, counts in nodes:
            place, inner = np.meshgrid(cuts, np.array(counts, dtype=np.float64))
            layers.append(Layer(place.ravel(), inner.ravel()))
        layers.append(self.end)
        return layers, [Edges.between(self.lengths, *pair) for pair in pairwise(layers)]

    def _around(self, design: Candidate, step: int) -> Candidate | None:
        cuts = [_ZERO, *self.near(design.segments.boundaries, step)]
        counts = [range(max(n - 1, 1), n + 2) for n in design.counts.tolist()]
        return self._path(*self._layered(list(zip(cuts, counts, strict=True))), known=design)

    def _path(self, layers: list[Layer], edges: list[Edges], most: float = np.inf,
              known: Candidate | None = None) -> Candidate | None:
        """The best design on the layers: bisect the multiplier of drift until the shortest path just drifts.

        On the way the paths from every first node are looked at. The best one that drifts and the last one that does
        not get their best whole thresholds, which closes most of the duality gap. Where not even the path of least time
        over budget drifts, none does, and where a price, which is the least memory of all that drift, is above `most`
        tokens, none of these will do: there is nothing to bisect.
        """
        low, high, price = 0.0, np.inf, 0.0
        best: Candidate | None = None
        late: Candidate | None = None
        for _ in range(12):
            designs = [*self._at(layers, edges, price)]
            if not designs or designs[0].priced(price) > most:
                return None
            best = min([*filter(Candidate.drifts, designs), *filter(None, [best])], key=memory, default=None)
            if designs[0].drifts():
                high = price
            else:
                low, late = price, designs[0]
            if high == 0.0:
                break
            guess = (known or designs[0]).required / float(designs[0].segments.overheads.max())
            if price == 0.0 and not (fastest := next(self._at(layers, edges, HURRY * guess))).drifts():
                late = fastest
                break
            price = 0.5 * (low + high) if np.isfinite(high) else max(4.0 * low, 0.5 * guess)
        best = best and best_chain(best.segments, best)
        return cheaper(best, late and best_chain(late.segments))

    def _at(self, layers: list[Layer], edges: list[Edges], price: float) -> Iterator[Candidate]:
        """The shortest path at one multiplier, the same for every piece, then of other first nodes those that drift."""
        pieces = self.lengths.replica.iteration_time.overheads.size
        paths = ShortestPaths.over(edges, np.full(pieces, price / pieces), self.lengths.allowance(len(edges)))
        ranks = paths.lengths - price / self.lengths.rates[0] * layers[0].counts
        firsts = np.argsort(ranks, kind="stable")[: np.isfinite(ranks).sum()].tolist()
        for first in firsts:
            nodes = list(zip(layers, paths.path(first), strict=False))
            cuts = np.array([*(layer.cuts[i] for layer, i in nodes[1:]), self.lengths.longest])
            counts = np.array([layer.counts[i] for layer, i in nodes])
            segments = DecodeSegments(self.lengths, cuts)
            if first is not firsts[0] and not segments.drifts(counts):
                continue
            yield Candidate(segments, counts.astype(np.int64), segments.required(counts))
