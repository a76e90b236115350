"""A prompt drawn at random from a mix: the KV tokens it holds at each age, with what probability.

Types are put together by length pairs; a prompt's age is the iterations since it entered, its stage where residents are
never paused. Moment generating functions, worst cases and survival functions by age are what the bounds of
`thresholds.paced_wait.tail_bounds` are made of. Source: model.md section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fluid import StageProfile
from fluid.arrays import Floats, Ints
from fluid.stages import whole_blocks


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
        """ln E exp(theta y(a)) for a = -(k - 1)..A - 1, k = `window`; O(pairs + strands x ages) time.

        Suffix sums over S of exp(theta lift) serve every age at once: one strand for whole prefill without blocks. With
        an attention window they run over the ages until it is full; from then on the prompt holds z until it ends.
        """
        end = np.arange(self.ages + window - 1)
        age, full = np.maximum(end - window + 1, 0), int(self._rounded(np.array(self.attention_window)))
        total: Floats = np.cumsum(np.bincount(self.stages, self.probability), dtype=np.float64)[age]
        for cut, rest, lift, stages, probability in self._strands:
            over = stages + window - 1
            fills = np.clip(self.attention_window - (lift - rest), cut, over)
            weight = probability * np.exp(theta * np.minimum(lift, full))
            growing = suffix_sums(np.bincount(fills, weight, end.size + 1))[1:]
            grown = np.minimum(whole_blocks(end[cut:] - rest, self.block), full)
            total[cut:] += growing[cut:] * np.exp(theta * grown)
            if np.any(fills < over):
                steady = _shares(fills, probability, end.size) - _shares(over, probability, end.size)
                total[cut:] += steady[cut:] * np.exp(theta * full)
            total[:cut] += probability.sum() * np.exp(theta * self._rounded(self.chunk * (end[:cut] + 1)))
        return np.log(np.maximum(total, 1.0))

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
    def _strands(self) -> list[tuple[int, int, Ints, Ints, Floats]]:
        """(cut, rest, lift, S, probability) of pairs that hold lift + b ceil((a - rest)/b) tokens at ages a >= cut."""
        cut, rest = np.maximum(self.prefill_stages - 1, 0), -self.base % self.block
        _, first, strand = np.unique(cut * self.block + rest, return_index=True, return_inverse=True)
        pairs = [np.flatnonzero(strand[self.kind] == i) for i in range(first.size)]
        return [(int(cut[j]), int(rest[j]), (self.base + rest)[self.kind[p]], self.stages[p], self.probability[p])
                for j, p in zip(first, pairs, strict=True)]


def _shares(ages: Ints, probability: Floats, size: int) -> Floats:
    """The probability of an age of at most 0, 1.., size - 1, each rounded up to 2^-50: differences are exact."""
    up = np.ceil(probability * 2.0**50)
    return np.cumsum(np.bincount(ages, up, size)[:size]) / 2.0**50


def suffix_sums(values: Floats | Ints) -> Floats:
    return np.cumsum(values[::-1], dtype=np.float64)[::-1]
