r"""The pace of continuous batching: the mean iteration and what a prompt adds to it, for one line and for several.

A line is one piece i of the iteration time, which is the largest of them; KV, P and size are the KV tokens, prompt
tokens and sequences of a batch. Residents are in every batch, so with n_j = lambda_j Delta prompts in each stage of
type j on average

    Delta = E max_i [ d0_i + d1_i KV + d2_i P + d3_i size ]

One line: the mean of the line, Delta*. Of several the largest is not always the same one: a batch without a prefill
may be bound by memory and one with a prefill by arithmetic, so that Delta > Delta*, and the prefill shows though the
line of Delta* knows nothing of it. KV and size change slowly and stay at their means; the prompt tokens P of an
iteration are those of k chunks, k Poisson with mean Delta sum_j lambda_j K_j, taken as one of random size and k - 1 of
the mean size.
Then f(P) = max_i [..] gives, with y_j the tokens of a first chunk and the probabilities pi_i that line i binds,

    x_j = E f(P + y_j) - E f(P)                                         time an entry adds to its iteration
    c_j = x_j (chunks) + (sum_i pi_i d1_i) kv_j + (sum_i pi_i d3_i) S_j        time a prompt adds over its life

which for one line are d2 y_j and the time work. The root Delta exists where rho < 1, since P/Delta settles at its mean
as Delta grows. An approximation, derived here; `tests/thresholds/test_several_lines.py` measures it. See mathematics,
section 11.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln

from fluid import Equilibrium
from fluid.arrays import Floats

SIZES = 64  # chunk sizes told apart
MOST_CHUNKS = 1e5  # in an iteration: beyond, their number stays at its mean


class Pace(NamedTuple):
    """The mean `iteration` (s) and what prompts add to iterations.

    Per type, shape (J,), in seconds: `entry` x_j, what its first prefill stage adds, and `work` c_j, what it adds over
    its life. `per_kv_token` and `per_sequence` (s) are the coefficients of the lines that bind, on average.
    """

    iteration: float
    entry: Floats
    work: Floats
    per_kv_token: float
    per_sequence: float


def pace_of(equilibrium: Equilibrium) -> Pace | None:
    """Return the pace of continuous batching at the workload's rates; None where rho >= 1."""
    if equilibrium.iteration_time is None:
        return None
    profile, lines = equilibrium.profile, equilibrium.replica.iteration_time.coefficients
    batches = _Batches.of(equilibrium)
    first = np.minimum(profile.chunk, profile.prefilled).astype(np.float64)
    if len(np.unique(lines, axis=0)) == 1:
        iteration, share, entry = equilibrium.iteration_time, np.eye(len(lines))[0], lines[0, 2] * first
    else:
        iteration = batches.iteration(equilibrium.iteration_time)
        share, entry = batches.binding(iteration), batches.added(iteration, first)
    _, per_kv_token, _, per_sequence = (share @ lines).tolist()
    chunks = profile.prefilled / np.maximum(first, 1.0)
    work = entry * chunks + per_kv_token * profile.kv_read + per_sequence * profile.stages
    return Pace(iteration, entry, work, per_kv_token, per_sequence)


@dataclass(frozen=True, eq=False)
class _Batches:
    """What batches hold, per second of iteration time: KV tokens read, prefill chunks, sequences.

    `sizes` are the sizes of chunks (tokens), `shares` the part of all chunks that has each of them.
    """

    lines: Floats
    read: float
    chunks: float
    sequences: float
    sizes: Floats
    shares: Floats

    @classmethod
    def of(cls, equilibrium: Equilibrium) -> _Batches:
        profile, rates = equilibrium.profile, equilibrium.workload.rates
        chunks = rates * profile.prefill_stages
        size = profile.prefilled / np.maximum(profile.prefill_stages, 1)
        total = float(chunks.sum())
        order = np.argsort(size)
        share = chunks[order] / total if total else np.full(len(rates), 1 / len(rates))
        cell = np.minimum((np.cumsum(share) * SIZES).astype(np.int64), SIZES - 1)
        sums = np.stack([np.bincount(cell, weight) for weight in (share, share * size[order])]).astype(np.float64)
        shares, tokens = sums[:, sums[0] > 0]
        return cls(equilibrium.replica.iteration_time.coefficients, float(rates @ profile.kv_read), total,
                   float(rates @ profile.stages), tokens / shares, shares)

    def iteration(self, least: float) -> float:
        """The root of Delta = E f(P), which is at least Delta*."""
        def beyond(delta: float) -> float:
            values, chance = self._values(delta)
            return float((values.max(axis=-1) * chance).sum()) - delta

        if beyond(least) <= 0.0:
            return least
        high = 2.0 * least
        while beyond(high) > 0.0:
            high *= 2.0
        return float(brentq(beyond, least, high, xtol=1e-15 * least, rtol=1e-13))

    def binding(self, delta: float) -> Floats:
        """pi_i, the probability that line i is the largest: shape (pieces,)."""
        values, chance = self._values(delta)
        share = np.bincount(values.argmax(axis=-1).ravel(), chance.ravel(), len(self.lines))
        return share.astype(np.float64)

    def added(self, delta: float, tokens: Floats) -> Floats:
        """x_j = E f(P + y_j) - E f(P), chunks of the mean size, y_j = `tokens`: shape (J,)."""
        counts, chance = self._chunks(delta)
        rest = counts * float(self.sizes @ self.shares)
        different, which = np.unique(tokens, return_inverse=True)
        alone = (self._lines_at(delta, rest).max(axis=-1) * chance).sum()
        longer = np.array([(self._lines_at(delta, rest + more).max(axis=-1) * chance).sum() for more in different])
        added: Floats = (longer - alone)[which]
        return added

    def _values(self, delta: float) -> tuple[Floats, Floats]:
        """Every line at every number of chunks and size of one, shape (counts, sizes, pieces), and its probability."""
        counts, chance = self._chunks(delta)
        mean = float(self.sizes @ self.shares)
        tokens = np.where(counts[:, None] > 0, self.sizes + (counts[:, None] - 1) * mean, 0.0)
        return self._lines_at(delta, tokens), chance[:, None] * self.shares

    def _lines_at(self, delta: float, tokens: Floats) -> Floats:
        d0, d1, d2, d3 = self.lines.T
        times: Floats = d0 + delta * (d1 * self.read + d3 * self.sequences) + d2 * tokens[..., None]
        return times

    def _chunks(self, delta: float) -> tuple[Floats, Floats]:
        """Numbers of chunks in an iteration and their Poisson probabilities."""
        mean = delta * self.chunks
        if mean == 0.0 or mean > MOST_CHUNKS:
            return np.array([mean]), np.ones(1)
        reach = 8 * np.sqrt(mean) + 20
        counts = np.arange(max(0.0, np.floor(mean - reach)), np.ceil(mean + reach))
        chance = np.exp(counts * np.log(mean) - mean - gammaln(counts + 1))
        return counts, chance / chance.sum()
