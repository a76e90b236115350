r"""What a second of arrivals asks of the iterations: prefills in pieces of given sizes, and the rest.

A prefill stage is a piece of q prompt tokens that one batch takes whole. Pieces are put into G groups by size; of group
k are known its least size q_k, the tokens of its pieces per second, and the least KV read, KV held and sequences that
come with each of its tokens. What is left of each sum, above all the decode stages, is placed freely:

    KV read per second  =  sum_k read_k tokens_k  +  read,      KV held and sequences likewise,      decodes

So nothing is lost of any sum; only where the rest may be executed is free, which makes the bound weaker, never wrong.
A sequence reads at most the KV that it holds and that of its cached prefix, `prefix` at most.
With at most `MOST_GROUPS` sizes each has a group of its own. Source: derived here; mathematics, section 10.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fluid.arrays import Floats, Ints, bounded
from fluid.stages import StageProfile

MOST_GROUPS = 12


@dataclass(frozen=True, eq=False)
class Demand:
    """Per second: prefill tokens by group with what comes with a token, and the rest; made by `demand_of`.

    `sizes` q_k (tokens, rising), `tokens` (tokens/s), `read_each`, `held_each` (KV tokens) and `sequences_each` per
    prefill token have shape (G,); `read`, `held` (KV tokens times iterations), `sequences` and `decodes` are the rest;
    `prefix` (KV tokens) is the most that a sequence reads beyond what it holds; `iterations` the least number of
    iterations per second that is known already.
    """

    sizes: Floats
    tokens: Floats
    read_each: Floats
    held_each: Floats
    sequences_each: Floats
    read: float
    held: float
    sequences: float
    decodes: float
    prefix: float
    iterations: float

    def scaled(self, factor: float) -> Demand:
        """What comes in a second at `factor` times the rates; what comes with a token stays."""
        with np.errstate(over="ignore"):
            read, held, sequences, decodes, iterations = bounded(factor * np.array(
                [self.read, self.held, self.sequences, self.decodes, self.iterations])).tolist()
            tokens = bounded(factor * self.tokens)
        return replace(self, tokens=tokens, read=read, held=held, sequences=sequences, decodes=decodes,
                       iterations=iterations)


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Prefill pieces of every type: size, KV read and held (tokens), and how many come in a second."""

    size: Floats
    read: Floats
    held: Floats
    rate: Floats


def demand_of(profile: StageProfile, rates: Floats, iterations: float) -> Demand:
    """Return what requests at these rates (requests/s, shape (J,)) ask, at least `iterations` per second among it."""
    pieces = _pieces(profile, rates)
    sizes, group = _grouped(pieces.size)
    tokens = np.bincount(group, pieces.rate * pieces.size, len(sizes)).astype(np.float64)
    read_each, held_each = (_least(group, values / pieces.size, len(sizes)) for values in (pieces.read, pieces.held))
    most = np.zeros(len(sizes))
    np.maximum.at(most, group, pieces.size)
    sequences = 1.0 / most
    sums = [float(rates @ values) for values in (profile.kv_read, profile.kv_work, profile.stages)]
    bound = [float(tokens @ values) for values in (read_each, held_each, sequences)]
    read, held, rest = (max(0.0, total - part) for total, part in zip(sums, bound, strict=True))
    longest = profile.prefix.max()
    prefix = float(profile.layout.read(longest) / profile.layout.unit) if longest else 0.0
    decodes = float(rates @ profile.decode)
    return Demand(sizes, tokens, read_each, held_each, sequences, read, held, rest, decodes, prefix, iterations)


def _pieces(profile: StageProfile, rates: Floats) -> _Pieces:
    """Full chunks, each with the KV of the first one, and last pieces."""
    some = np.flatnonzero(profile.prefill_stages > 0)
    more = some[profile.prefill_stages[some] > 1]
    last = profile.prompt[some] - profile.chunk[some] * (profile.prefill_stages[some] - 1)
    size = np.concatenate([last, profile.chunk[more]])
    context = np.concatenate([profile.prompt[some], profile.chunk[more]])
    layout, before = profile.layout, profile.prefix[np.concatenate([some, more])]
    rate = np.concatenate([rates[some], rates[more] * (profile.prefill_stages[more] - 1)])
    return _Pieces(size.astype(np.float64), layout.read(before + context) / layout.unit,
                   layout.held(context) / layout.unit, rate)


def _grouped(size: Floats) -> tuple[Floats, Ints]:
    """The least size of each group, and the group of each piece."""
    distinct = np.unique(size)
    if len(distinct) > MOST_GROUPS:
        cuts = np.geomspace(distinct[0], distinct[-1], MOST_GROUPS + 1)[:-1]
        distinct = distinct[np.unique(np.searchsorted(distinct, cuts))]
    return distinct, np.searchsorted(distinct, size, side="right") - 1


def _least(group: Ints, values: Floats, groups: int) -> Floats:
    least = np.full(groups, np.inf)
    np.minimum.at(least, group, values)
    return least
