"""A prompt drawn at random from a mix: the KV tokens it holds at each age, with what probability.

A prompt's age is the number of iterations since it entered; residents never pause, so age and stage are the same. Of
the workload's types only the length pairs count (prompt tokens, stages). Moment generating functions, worst cases and
survival functions by age are what the bounds of `thresholds.paced_wait.tail_bounds` are made of.

**In step.** After their prefills prompts grow by a token an iteration, in a cache of blocks by a block every b of them.
Length pairs that end their prefills at the same age, and fill their blocks at the same ages, grow in step: they differ
by a constant, so that one suffix sum over S of exp(theta constant) gives the mean of exp(theta KV) over all of them at
every age. For whole prefill without blocks all pairs are in step. Source: model.md section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from fluid import StageProfile
from fluid.arrays import Floats, Ints
from fluid.stages import whole_blocks


class _InStep(NamedTuple):
    """Length pairs that grow in step: at ages a >= `prefilled` each holds `lift` + b ceil((a - phase)/b) tokens.

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

    Per kind: `base` l - K + 1 and `prefill_stages` K; per pair: `kind`, `stages` S and `probability`. At age a a prompt
    holds q (a + 1) tokens if a < K - 1 and base + a from there on, at most the attention window z, rounded up to blocks
    of b.
    """

    base: Ints
    prefill_stages: Ints
    kind: Ints
    stages: Ints
    probability: Floats
    chunk: int
    block: int
    attention_window: int

    @classmethod
    def of(cls, profile: StageProfile, rates: Floats) -> LengthMix:
        """The mix of a workload's types, each as likely as its rate; equal length pairs are put together."""
        prompts, first, kind = np.unique(profile.prompt, return_index=True, return_inverse=True)
        pairs, which = np.unique(profile.stages * prompts.size + kind, return_inverse=True)
        share = np.bincount(which, rates / rates.max())
        prefill = profile.prefill_stages[first]
        return cls(prompts - prefill + 1, prefill, pairs % prompts.size, pairs // prompts.size, share / share.sum(),
                   int(profile.chunk.max()), profile.block, profile.window)

    @property
    def ages(self) -> int:
        """A, the most stages a prompt lasts."""
        return int(self.stages[-1])

    @cached_property
    def peak(self) -> int:
        """The most KV tokens a prompt ever holds."""
        return int(self._rounded(self.base[self.kind] + self.stages - 1).max())

    def held(self, age: int) -> Ints:
        """KV tokens a prompt of each kind holds at an age, were it to last that long: shape (kinds,)."""
        early = self.chunk * (age + 1)
        return self._rounded(np.where(age < self.prefill_stages - 1, early, self.base + age))

    def log_mgf(self, theta: float, window: int = 1) -> Floats:
        """ln E exp(theta y(a)) for a = -(k - 1)..A - 1, k = `window`; O(length pairs + groups in step x ages) time.

        A prompt is over (y = 0), in its prefill, growing, or at its attention window z, which it then holds to its end.
        """
        end = np.arange(self.ages + window - 1)  # a + k - 1: the age whose KV counts
        total: Floats = np.cumsum(np.bincount(self.stages, self.probability), dtype=np.float64)[
            np.maximum(end - window + 1, 0)]
        for group in self._groups:
            for ages, term in self._terms(group, theta, end, window):
                total[ages] += term
        return np.log(np.maximum(total, 1.0))

    def _terms(self, group: _InStep, theta: float, end: Ints, window: int) -> Iterator[tuple[slice, Floats]]:
        """What the pairs of a group, not over yet, add to E exp(theta y): growing, full, and in their prefills."""
        prefilled, phase, lift, stages, probability = group
        before, after = slice(None, prefilled), slice(prefilled, None)
        full = int(self._rounded(np.array(self.attention_window)))
        over = stages + window - 1
        fills = np.clip(self.attention_window - (lift - phase), prefilled, over)
        # whoever grows has lift <= full and grown <= full: the minima only keep the exponentials of the others finite
        weight = probability * np.exp(theta * np.minimum(lift, full))
        growing = suffix_sums(np.bincount(fills, weight, end.size + 1))[1:]
        grown = np.minimum(whole_blocks(end[after] - phase, self.block), full)
        yield after, growing[after] * np.exp(theta * grown)
        if np.any(fills < over):
            steady = _shares(fills, probability, end.size) - _shares(over, probability, end.size)
            yield after, steady[after] * np.exp(theta * full)
        yield before, probability.sum() * np.exp(theta * self._rounded(self.chunk * (end[before] + 1)))

    def worst(self, window: int = 1) -> Floats:
        """ess sup y(a), tokens, for a = -(k - 1)..A - 1: the limit of log_mgf / theta as theta grows."""
        longest = np.zeros(self.base.size, dtype=np.int64)
        longest[self.kind] = self.stages  # sorted: the last one written is the longest
        return np.array([self.held(end)[longest > max(end - window + 1, 0)].max()
                         for end in range(self.ages + window - 1)], dtype=np.float64)

    def block_survival(self, g: int, start: int, cell: int, window: int = 1) -> Iterator[Floats]:
        """P(X_b > h (c - 1)) over c = 0, 1.., h = `cell` tokens, oldest block first; blocks start at `start` + g Z."""
        bounds, alive = np.searchsorted(self.stages, np.arange(self.ages + 2)), np.zeros(self.base.size)
        highest = np.zeros(-(-(self.peak + window + self.block) // cell) + 1)
        for end in range(self.ages + window - 2, -1, -1):
            if end >= window - 1:
                last = slice(bounds[end - window + 2], bounds[end - window + 3])
                alive += np.bincount(self.kind[last], self.probability[last], alive.size)
            some = np.flatnonzero(alive)
            cells = -(-self.held(end)[some] // cell)
            highest = np.maximum(highest, suffix_sums(np.bincount(cells, alive[some], highest.size)))
            if (end - start) % g == 0 or end == 0:
                yield highest
                highest = np.zeros(highest.size)

    def _rounded(self, tokens: Ints) -> Ints:
        """Tokens held of so many: at most the window, in whole blocks."""
        return whole_blocks(np.minimum(tokens, self.attention_window), self.block)

    @cached_property
    def _groups(self) -> list[_InStep]:
        """The length pairs, put together where they grow in step."""
        prefilled, phase = np.maximum(self.prefill_stages - 1, 0), -self.base % self.block
        _, first, group = np.unique(prefilled * self.block + phase, return_index=True, return_inverse=True)
        pairs = [np.flatnonzero(group[self.kind] == i) for i in range(first.size)]
        return [_InStep(int(prefilled[j]), int(phase[j]), (self.base + phase)[self.kind[p]], self.stages[p],
                        self.probability[p])
                for j, p in zip(first, pairs, strict=True)]


def _shares(ages: Ints, probability: Floats, size: int) -> Floats:
    """The probability of an age of at most 0, 1.., size - 1, each rounded up to 2^-50: differences are exact."""
    up = np.ceil(probability * 2.0**50)
    return np.cumsum(np.bincount(ages, up, size)[:size]) / 2.0**50


def suffix_sums(values: Floats | Ints) -> Floats:
    return np.cumsum(values[::-1], dtype=np.float64)[::-1]
