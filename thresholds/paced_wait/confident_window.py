r"""Windows for few rows: those whose overflow probability is promised with confidence over the requests behind the law.

The bounds of `thresholds.paced_wait.tail_bounds` hold for the law P that lengths are drawn from. A trace of m rows is
not that law: of 100 rows none need be among the longest hundredth. Let the rows be m independent draws from an unknown
P of requests of at most L tokens. Chernoff's bound for a window (N, g), blocks b of g ages and k iterations a term is

    ln P(overflow) <= ln(g n/k) - theta C + N G(P),    G(P) = sum_b ln E_P phi_b,   phi_b = max_{a in b} exp(theta y(a))

(the mean of the largest in place of the largest mean: a little more). G is concave in P, and for every u_b > 0

    ln E phi_b <= ln u_b - 1 + E phi_b/u_b    so    G(P) <= E_P F,   F(x) = sum_b (ln u_b - 1 + phi_b(x)/u_b)

with equality at u_b = E phi_b: one mean of one bounded number says everything, at all ages at once. F grows with both
lengths, so it is at most M, its largest value among requests of L tokens. `thresholds.paced_wait.mean_bound` bounds
E_P F by g* with confidence 1 - alpha, and N = floor((theta C - ln(g n/k) + ln delta)/g*) keeps the promise:

    P( P(KV > C within the horizon) <= delta ) >= 1 - alpha        outer: over the rows, inner: over the traffic

for every law P of requests of at most L tokens. Nothing in F may depend on the rows it is bounded with: one in thirty,
by a fixed shuffle, chooses g, k, theta, u and the stake, for the law of those with a share ln(1/alpha)/m of requests of
L tokens; the others bound E F.

**The price** is mostly that share: no statistics of m rows rules it out, and one request of L tokens has the KV work of
hundreds of short ones. `benchmarks/few_rows.py` compares it with what is carried if the law of the rows with just that
share were known to be the true one. L and the staircase that covers all such requests: `thresholds.rows`.
Source: derived here; mathematics, section 12.4; concave functionals by their tangents, the ball of laws in
`thresholds.paced_wait.mean_bound`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fluid.arrays import Floats
from thresholds.paced_wait.block_scores import block_means, scores
from thresholds.paced_wait.mean_bound import best_stake, upper_mean
from thresholds.paced_wait.overflow import OverflowBound, OverflowProblem
from thresholds.paced_wait.random_prompt import LengthMix
from thresholds.paced_wait.tail_bounds import WIDEST, BlockChernoff
from thresholds.rows import Rows

MOST_BLOCKS = 4096
THETAS = 2.0 ** np.linspace(-1.5, 1.5, 7)


def confident_window(rows: Rows, problem: OverflowProblem) -> tuple[int, int, OverflowBound]:
    """Return the largest window (N, g) that is found to keep a problem's promise with the confidence of the rows."""
    return _Choice(rows, problem).window


@dataclass(frozen=True, eq=False)
class _Choice:
    """What the rows that choose make of a problem."""

    rows: Rows
    problem: OverflowProblem

    @cached_property
    def window(self) -> tuple[int, int, OverflowBound]:
        g, k, theta, start = self.blocks
        score = max((_Score.of(self, g, k, factor * theta, start) for factor in THETAS),
                    key=lambda each: each.entries(each.expected, self._log_share(g, k)))
        mean, log_share = score.bound(), self._log_share(g, k)
        entries = math.floor(min(score.entries(mean, log_share), self.problem.rate * g * (1 + 1e-12)))
        if entries * self.alone[1] < g:
            return self.alone
        log_tail = entries * mean - score.theta * self.problem.capacity
        level = float(entries * mean - log_share) / score.theta / self.problem.mix.layout.unit
        chance = math.exp(min(0.0, log_tail + math.log(self.problem.probability) - log_share))
        return entries, g, OverflowBound("block Chernoff", k, chance, level)

    @property
    def alone(self) -> tuple[int, int, OverflowBound]:
        """One prompt at a time, which always fits."""
        profile, layout = self.rows.profile, self.problem.mix.layout
        stages = int(profile.stages.max())
        most = min(float(layout.tokens(layout.held(profile.prompt + profile.decode)).max()),
                   self.problem.capacity / layout.unit)
        return 1, stages, OverflowBound("one prompt at a time", 1, 0.0, most)

    @cached_property
    def mix(self) -> LengthMix:
        """The law of the rows that choose, with the share of longest requests that the others cannot rule out."""
        size = self.rows.counts.size
        chosen = np.flatnonzero(self.rows.split[0])
        work = self.rows.profile.kv_units[size:]
        used = np.append(chosen, size + int(np.argmax(work)))
        weights = np.append((1 - self.share) * self.rows.split[0][chosen] / self.rows.split[0].sum(), self.share)
        return LengthMix.of(self.rows.some(used), weights, MOST_BLOCKS)

    @property
    def share(self) -> float:
        """ln(1/alpha)/m, below 1."""
        return min(0.5, -math.log1p(-self.rows.evidence.confidence) / float(self.rows.split[1].sum()))

    @cached_property
    def blocks(self) -> tuple[int, int, float, int]:
        """g, k, theta and the first age of a block that carry most under that law, g in steps of its ages."""
        capacity, step = self.problem.capacity, self.mix.step
        every = BlockChernoff.of(self.mix, capacity)
        theta, _ = every.best(1, capacity, self._log_share(step, 1))
        chernoff = every.near(theta)
        while chernoff.window < WIDEST:
            wider = every.near(theta, 2 * chernoff.window)
            if self._entries(wider, 1) <= self._entries(chernoff, 1):
                break
            chernoff = wider
        best, steps = -math.inf, 1
        for width in _widths(self.mix.steps):
            entries = self._entries(chernoff, width)
            if (entries - 0.5) / width > best:  # half an entry is lost on average where N is rounded down
                best, steps = (entries - 0.5) / width, width
            elif entries / width < best:
                break
        theta, start = chernoff.best(steps, capacity, self._log_share(steps * step, chernoff.window))
        return steps * step, chernoff.window, theta, start * step

    def _entries(self, chernoff: BlockChernoff, steps: int) -> float:
        return chernoff.most_entries(steps, self.problem.capacity,
                                     self._log_share(steps * self.mix.step, chernoff.window))

    def _log_share(self, g: int, k: int) -> float:
        """ln(delta k/(g n)): the shortest conceivable prompt lasts one stage."""
        return math.log(self.problem.probability) - math.log(math.ceil(g * self.problem.iterations / k))


@dataclass(frozen=True, eq=False)
class _Score:
    """One bounded number F, its largest value, and the stake with which its mean is bounded."""

    rows: Rows
    capacity: float
    theta: float
    constant: float
    values: Floats
    most: float
    stake: float
    expected: float

    @classmethod
    def of(cls, choice: _Choice, g: int, k: int, theta: float, start: int) -> _Score:
        rows, size = choice.rows, choice.rows.counts.size
        weights = np.zeros(rows.profile.stages.size)
        weights[:size] = (1 - choice.share) * rows.split[0] / rows.split[0].sum()
        weights[size + int(np.argmax(rows.profile.kv_units[size:]))] = choice.share
        means = 1.0 + block_means(rows.profile, weights, theta, g, k, start)
        values = scores(rows.profile, 1.0 / means, theta, g, k, start)
        constant = float(np.sum(np.log(means) - 1.0 + 1.0 / means))
        found = rows.split[0] > 0
        stake, bound = best_stake(values[:size][found], rows.split[0][found].astype(np.float64), float(values.max()),
                                  int(rows.split[1].sum()), rows.evidence.confidence)
        return cls(rows, choice.problem.capacity, theta, constant, values, float(values.max()), stake, constant + bound)

    def bound(self) -> float:
        """g*, from the rows that bound."""
        counts = self.rows.split[1]
        found = counts > 0
        return self.constant + upper_mean(self.values[: counts.size][found], counts[found].astype(np.float64),
                                          self.most, self.stake, self.rows.evidence.confidence)

    def entries(self, mean: float, log_share: float) -> float:
        """The most entries that a bound on E F allows."""
        return max(0.0, self.theta * self.capacity + log_share) / mean


def _widths(most: int) -> list[int]:
    """Widths of a block to try, in steps: whole numbers a fifth apart."""
    tries = np.arange(math.ceil(math.log(most) / math.log(1.2)) + 1)
    widths: list[int] = np.unique(np.minimum(np.rint(1.2**tries), most).astype(np.int64)).tolist()
    return widths
