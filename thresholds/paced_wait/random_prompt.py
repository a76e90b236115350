"""A prompt drawn at random from a mix: the KV tokens it holds at each age, with what probability.

A prompt's age is the number of iterations since it entered; residents never pause, so age and stage are the same. Of
the workload's types only the length pairs count (prompt tokens, stages). Moment generating functions, worst cases and
survival functions by age are what the bounds of `thresholds.paced_wait.tail_bounds` are made of. KV is counted in units
(tokens, where all layers are alike: `fluid.replica.KVLayout`), so that it is a whole number; theta is per unit.

**In step.** After their prefills prompts grow by a token an iteration, in a cache of blocks by a block every b of them.
Length pairs that end their prefills at the same age, and fill their blocks at the same ages, grow in step: they differ
by a constant, so that one suffix sum over S of exp(theta constant) gives the mean of exp(theta KV) over all of them at
every age. For whole prefill without blocks all pairs are in step.

**Windows.** A prompt of context x > z holds a_w ceil_b(z) units in the layers with an attention window, and goes on
growing by a_g a token in the others, still in step. Where a_g = 0 those with a full window are a difference of two
sums of probabilities, rounded to 2^-50 so that it is exact; else a sum over intervals of ages [full, over) in which
nothing cancels (`interval_sums`).

**Steps.** Long lives are looked at in steps of r iterations: index i stands for the ages a_i = i r - (k + r - 2) up to
a_i + r - 1. Over k iterations none of them holds more than one of age a_i over k + r - 1, so a window that much wider,
looked at at every r-th age, bounds them all; time and memory then grow with A/r. Source: mathematics, section
4.6; mixed layers and steps derived here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from fluid import StageProfile
from fluid.arrays import Floats, Ints
from fluid.replica import KVLayout, whole_blocks


class _InStep(NamedTuple):
    """Length pairs that grow in step: `lift` + b ceil((a - phase)/b) tokens in blocks each at ages a >= `prefilled`.

    `prefilled` is the age of the last prefill stage; `lift` (tokens), `stages` S and `probability` are per pair.
    """

    prefilled: int
    phase: int
    lift: Ints
    stages: Ints
    probability: Floats


@dataclass(frozen=True, eq=False)
class LengthMix:
    """A random prompt: pairs (kind, S) with probabilities, sorted by S; a kind is a prompt length l.

    Per kind: `base` l - K + 1 and `prefill_stages` K; per pair: `kind`, `stages` S and `probability`. At age a the
    context of a prompt is q (a + 1) tokens if a < K - 1 and base + a from there on; `layout` says what it holds.
    """

    base: Ints
    prefill_stages: Ints
    kind: Ints
    stages: Ints
    probability: Floats
    chunk: int
    layout: KVLayout
    step: int = 1

    @classmethod
    def of(cls, profile: StageProfile, rates: Floats, most_steps: int | None = None) -> LengthMix:
        """The mix of a workload's types, each as likely as its rate; equal length pairs are put together.

        The least step is taken with which no life has more than `most_steps`; one iteration where that is None.
        """
        prompts, first, kind = np.unique(profile.prompt, return_index=True, return_inverse=True)
        pairs, which = np.unique(profile.stages * prompts.size + kind, return_inverse=True)
        share = np.bincount(which, rates / rates.max())
        prefill = profile.prefill_stages[first]
        return cls(prompts - prefill + 1, prefill, pairs % prompts.size, pairs // prompts.size, share / share.sum(),
                   int(profile.chunk.max()), profile.layout,
                   -(-int(profile.stages.max()) // most_steps) if most_steps else 1)

    @property
    def ages(self) -> int:
        """A, the most stages a prompt lasts."""
        return int(self.stages[-1])

    @property
    def steps(self) -> int:
        """The steps of r iterations that A iterations take."""
        return -(-self.ages // self.step)

    @cached_property
    def peak(self) -> int:
        """The most KV a prompt ever holds, units."""
        return int(self.layout.held(self.base[self.kind] + self.stages - 1).max())

    def reach(self, window: int) -> int:
        """More KV than a prompt could hold `window` iterations past its end, units."""
        return self.peak + self.layout.unit * (window + self.step - 1 + self.layout.block)

    def held(self, age: int) -> Ints:
        """KV a prompt of each kind holds at an age, were it to last that long: shape (kinds,), units."""
        early = self.chunk * (age + 1)
        return self.layout.held(np.where(age < self.prefill_stages - 1, early, self.base + age))

    def log_mgf(self, theta: float, window: int = 1) -> Floats:
        """ln E exp(theta y(a_i)) from a_0 to A - 1, k = `window`; O(length pairs + groups in step x steps) time.

        A prompt is over (y = 0), in its prefill, growing, or at its attention window z, which it then holds to its end,
        while it goes on growing in the layers without one.
        """
        end, lived = self._looks(window)
        total: Floats = np.cumsum(np.bincount(self.stages, self.probability), dtype=np.float64)[lived]
        for group in self._groups:
            for looks, term in self._terms(group, theta, end, window + self.step - 1):
                total[looks] += term
        return np.log(np.maximum(total, 1.0))

    def _looks(self, window: int) -> tuple[Ints, Ints]:
        """a_i + k + r - 2, the ages whose KV counts, and what a prompt must outlive to hold it, max(a_i, 0)."""
        wide = window + self.step - 1
        end = np.arange(0, self.ages + wide - 1, self.step)
        return end, np.maximum(end - wide + 1, 0)

    def _terms(self, group: _InStep, theta: float, end: Ints, window: int) -> Iterator[tuple[slice, Floats]]:
        """What the pairs of a group, not over yet, add to E exp(theta y): growing, full, and in their prefills."""
        prefilled, phase, lift, stages, probability = group
        layout, first = self.layout, -(-prefilled // self.step)
        before, after = slice(None, first), slice(first, None)
        full, state = int(whole_blocks(np.array(layout.window), layout.block)), layout.unit * layout.state
        over = stages + window - 1
        fills = np.clip(layout.window - (lift - phase), prefilled, over)
        fills, over = -(-fills // self.step), -(-over // self.step)
        # whoever grows has lift <= full and grown <= full: the minima only keep the exponentials of the others finite
        weight = probability * np.exp(theta * (layout.unit * np.minimum(lift, full)))
        growing = suffix_sums(np.bincount(fills, weight, end.size + 1))[1:]
        grown = whole_blocks(end[after] - phase, layout.block)
        yield after, growing[after] * np.exp(theta * (layout.unit * np.minimum(grown, full) + state))
        if np.any(fills < over):
            windowed = layout.windowed * full + state
            if layout.everywhere:
                weight = probability * np.exp(theta * (layout.everywhere * lift))
                some = interval_sums(fills, over, weight, end.size)[after]
                yield after, some * np.exp(theta * (windowed + layout.everywhere * grown))
            else:
                some = (_shares(fills, probability, end.size) - _shares(over, probability, end.size))[after]
                yield after, some * np.exp(theta * windowed)
        yield before, probability.sum() * np.exp(theta * layout.held(self.chunk * (end[before] + 1)))

    def worst(self, window: int = 1) -> Floats:
        """ess sup y(a_i), units, from a_0 to A - 1: the limit of log_mgf / theta as theta grows."""
        longest = np.zeros(self.base.size, dtype=np.int64)
        longest[self.kind] = self.stages  # sorted: the last one written is the longest
        looks = zip(*self._looks(window), strict=True)
        return np.array([self.held(end)[longest > lived].max() for end, lived in looks], dtype=np.float64)

    def block_survival(self, g: int, start: int, cell: int, window: int = 1) -> Iterator[Floats]:
        """P(X_b > h (c - 1)) over c = 0, 1.., h = `cell` units, oldest block first; blocks of g steps from `start`."""
        ends, lived = self._looks(window)
        known, alive = self.stages.size, np.zeros(self.base.size)
        highest = np.zeros(-(-self.reach(window) // cell) + 1)
        for i in range(ends.size - 1, -1, -1):
            more = slice(np.searchsorted(self.stages, lived[i], side="right"), known)
            alive += np.bincount(self.kind[more], self.probability[more], alive.size)
            known, some = more.start, np.flatnonzero(alive)
            cells = -(-self.held(ends[i])[some] // cell)
            highest = np.maximum(highest, suffix_sums(np.bincount(cells, alive[some], highest.size)))
            if (i - start) % g == 0 or i == 0:
                yield highest
                highest = np.zeros(highest.size)

    @cached_property
    def _groups(self) -> list[_InStep]:
        """The length pairs, put together where they grow in step."""
        prefilled, phase = np.maximum(self.prefill_stages - 1, 0), -self.base % self.layout.block
        _, first, group = np.unique(prefilled * self.layout.block + phase, return_index=True, return_inverse=True)
        pairs = [np.flatnonzero(group[self.kind] == i) for i in range(first.size)]
        return [_InStep(int(prefilled[j]), int(phase[j]), (self.base + phase)[self.kind[p]], self.stages[p],
                        self.probability[p])
                for j, p in zip(first, pairs, strict=True)]


def _shares(ages: Ints, probability: Floats, size: int) -> Floats:
    """The probability of an age of at most 0, 1.., size - 1, each rounded up to 2^-50: differences are exact."""
    up = np.ceil(probability * 2.0**50)
    return np.cumsum(np.bincount(ages, up, size)[:size]) / 2.0**50


def interval_sums(start: Ints, end: Ints, weight: Floats, size: int) -> Floats:
    """For each age 0..size - 1 the sum of the weights whose interval [start, end) it lies in, by additions only.

    Intervals are cut into halves, quarters, .. of all ages (a segment tree); an age gets the sums of all it lies in.
    """
    leaves = 1 << max(size - 1, 1).bit_length()
    low, high, sums = start + leaves, end + leaves, np.zeros(2 * leaves)
    while np.any(low < high):
        for bound, step in ((low, 1), (high, -1)):
            odd = (low < high) & (bound % 2 == 1)
            sums += np.bincount(bound[odd] + min(step, 0), weight[odd], sums.size)
            bound[odd] += step
        low, high = low // 2, high // 2
    width = 1
    while width < leaves:
        sums[2 * width: 4 * width] += np.repeat(sums[width: 2 * width], 2)
        width *= 2
    return sums[leaves: leaves + size]


def suffix_sums(values: Floats | Ints) -> Floats:
    return np.cumsum(values[::-1], dtype=np.float64)[::-1]
