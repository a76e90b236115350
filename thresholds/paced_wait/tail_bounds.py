r"""Safety buffers: how likely a paced window lets the KV cache overflow when output lengths are unknown.

**Setting.** In any g consecutive iterations at most N prompts enter; residents are never paused, so a prompt's stage is
its age, the iterations since it entered. A prompt that lasts S stages holds x(a) = kv(a) 1{S > a} tokens at age
a = 0..A - 1, kv nondecreasing. Prompts are independent draws from one distribution; whether and when a prompt enters
may depend on everything but its own length. Cut the ages into consecutive blocks of g, at any fixed offset.

**Domination.** Let X_b be independent of everything with P(X_b > v) = max_{a in b} P(x(a) > v). At a fixed iteration

    E f(KV) <= E f(sum_b sum_{i=1}^N X_{b,i})         for every nondecreasing f >= 0

Proof. The prompts whose ages lie in block b entered within g consecutive iterations, so they are at most N: give b N
slots. Take prompts in order of entry and put h(r, s) = E f(s + sum of X over the slots r still free). Given the past,
the next prompt has a known age a, in a block b with a free slot, and its length is independent of the past, so
E h(r - b, s + x(a)) <= E h(r - b, s + X_b) = h(r, s): a supermartingale. It starts at the right side; at the end
dropping the free slots (X >= 0, f nondecreasing) leaves f(KV). With f = exp(theta .) only E exp(theta x(a)) <=
max_{a in b} E exp(theta x(a)) is used, so there the smaller number may stand:

    ln P(KV > C) <= -theta C + N sum_b max_{a in b} ln E exp(theta x(a))        every theta > 0        (Chernoff)

As theta -> infinity this is the worst case: KV <= N sum_b max_{a in b} ess sup x(a), with certainty.

**Windows.** While k iterations pass, a prompt of age a at the first holds at most y(a) = kv(a + k - 1)
1{S > max(a, 0)}; ages -(k - 1)..-1 enter meanwhile. With y for x both bounds hold for P(KV > C anywhere in the window),
and a union over a horizon has k times fewer terms: KV rises only by growth and entries between two looks.

**Convolution.** Round X_b up to cells of h tokens, tilt its law by exp(theta h c), multiply the transforms of length
L: q(s) is the law of the tilted sum modulo L, M the product of the moment generating functions. With c = floor(C/h) + 1

    P(KV > C) <= M^N sum_{j=0}^{L-1} q((c + j) mod L) exp(-theta h (c + j))

exact but for the sums < c or >= c + L that the modulus folds in; they get at least the weight they should, so it is a
bound for every L, h and theta. The tilt makes rounding errors relative to Chernoff's bound: 1e-14 of that is added for
each factor. For g = 1 and h = 1, X_b = x(a): the exact tail of N entries in every iteration. Source: mathematics,
sections 4.6 and 4.7, for Chernoff's block bound; the rest is derived here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft
from scipy.ndimage import maximum_filter1d

from fluid.arrays import Floats
from thresholds.paced_wait.random_prompt import LengthMix

LARGEST_EXPONENT = 600.0  # exp(600) = 1e260: sums of exponentials stay finite without scaling
THETAS_PER_OCTAVE = 10
WIDEST = 64  # iterations in a window
MOST_CELLS = 2**16  # of the span of a convolution, before it is rounded up to a power of two
TRANSFORM_ROUNDING = 1e-14  # of each factor of the transform, relative to Chernoff's bound


def block_sums(values: Floats, g: int) -> Floats:
    """sum_b max_{a in b} of values (..., ages) >= 0, blocks starting at ages s + g Z: shape (..., g), s = 0..g - 1."""
    ages = values.shape[-1]
    padded = np.zeros((*values.shape[:-1], g * (-(-ages // g) + 2)))
    padded[..., g:g + ages] = values
    highest = maximum_filter1d(padded, g, axis=-1, mode="constant")
    sums = highest.reshape(*values.shape[:-1], -1, g).sum(axis=-2)
    return np.roll(sums, -(g // 2), axis=-1)  # the filter centres its windows


@dataclass(frozen=True, eq=False)
class BlockChernoff:
    """The block Chernoff bound over windows of k iterations, on a grid of theta (each is a bound) and in the limit.

    KV, its levels among them, is in units of `mix` throughout.
    """

    mix: LengthMix
    thetas: Floats
    window: int = 1

    @classmethod
    def of(cls, mix: LengthMix, capacity: float) -> BlockChernoff:
        """A grid of fixed ratio down to 1/C, below which no theta helps; a larger C only adds to it."""
        top = LARGEST_EXPONENT / mix.reach(WIDEST)
        steps = np.arange(max(0.0, np.log2(top * capacity)) * THETAS_PER_OCTAVE + 1)
        return cls(mix, top / 2.0 ** (steps / THETAS_PER_OCTAVE))

    def near(self, theta: float, window: int = 1) -> BlockChernoff:
        """The part of the grid from theta/2 to 4 theta."""
        return BlockChernoff(self.mix, self.thetas[np.abs(np.log2(self.thetas / theta) - 0.5) <= 1.5], window)

    @cached_property
    def log_mgfs(self) -> Floats:
        """ln E exp(theta y(a)): shape (thetas, ages)."""
        return np.array([self.mix.log_mgf(theta, self.window) for theta in self.thetas])

    @cached_property
    def _worst(self) -> Floats:
        return self.mix.worst(self.window)

    def log_tail(self, entries: int, g: int, level: float) -> float:
        """ln of the bound on P(KV > level) in one window; -inf where it cannot happen."""
        if entries * block_sums(self._worst, g).min() <= level:
            return -np.inf
        return min(0.0, float((entries * block_sums(self.log_mgfs, g).min(axis=-1) - self.thetas * level).min()))

    def level(self, entries: int, g: int, log_tail: float) -> float:
        """The least level whose bound is `log_tail`, units."""
        levels = (entries * block_sums(self.log_mgfs, g).min(axis=-1) - log_tail) / self.thetas
        return float(min(levels.min(), entries * block_sums(self._worst, g).min()))

    def most_entries(self, g: int, level: float, log_tail: float) -> float:
        """The largest real N whose bound at `level` is at most exp(log_tail)."""
        rooms = (self.thetas * level + log_tail) / block_sums(self.log_mgfs, g).min(axis=-1)
        return float(max(rooms.max(), level / block_sums(self._worst, g).min()))

    def best(self, g: int, level: float, log_tail: float) -> tuple[float, int]:
        """The theta, and the first age of a block, that allow the most entries."""
        rooms = (self.thetas * level + log_tail)[:, None] / block_sums(self.log_mgfs, g)
        i, start = np.unravel_index(np.argmax(rooms), rooms.shape)
        return float(self.thetas[i]), int(start)


@dataclass(frozen=True, eq=False)
class Convolution:
    """One slot in every block, tilted by theta: the transform of its sum in cells of h units, and ln M."""

    spectrum: NDArray[np.complex128]
    log_mgf: float
    blocks: int
    theta: float
    cell: int
    cells: int

    @classmethod
    def of(cls, chernoff: BlockChernoff, g: int, theta: float, start: int, capacity: float) -> Convolution:
        """Convolve the blocks of g ages that start at index `start` + g Z; any theta and start give a bound."""
        mix, window = chernoff.mix, chernoff.window
        most = mix.reach(window)
        span = 5 * np.sqrt(max(capacity, most) * most)  # some ten standard deviations of the KV, above any X_b
        cell = int(np.ceil(span / MOST_CELLS))
        cells = 2 ** int(np.ceil(np.log2(span / cell)))
        spectrum, log_mgf, blocks = np.ones(cells // 2 + 1, dtype=np.complex128), 0.0, 0
        for survival in mix.block_survival(g, start, cell, window):
            mass = -np.diff(survival, append=0.0)
            mass[0] = 1.0 - survival[1]
            tilted = mass * np.exp(theta * cell * np.arange(mass.size))
            spectrum *= rfft(tilted / tilted.sum(), cells)
            log_mgf, blocks = log_mgf + float(np.log(tilted.sum())), blocks + 1
        return cls(spectrum, log_mgf, blocks, theta, cell, cells)

    def tail(self, entries: int) -> Callable[[float], float]:
        """The map from a level to ln of the bound on P(KV > level) in one window, N = `entries` slots a block."""
        law = np.maximum(irfft(self.spectrum ** entries, self.cells), 0.0)
        weights = np.exp(-self.theta * self.cell * np.arange(self.cells))

        def log_tail(level: float) -> float:
            first = int(level // self.cell) + 1
            share = float(np.roll(law, -(first % self.cells)) @ weights) + TRANSFORM_ROUNDING * entries * self.blocks
            return min(0.0, entries * self.log_mgf - self.theta * self.cell * first + float(np.log(share)))

        return log_tail
