"""A design of nested WAIT that a search has found, and which of two is the better.

Of two for the same number of segments the better one needs less memory. Between numbers of segments a design that
respects the engine's cap on sequences comes before one that does not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.arrays import Ints, at_most
from thresholds.nested_wait.real_optimum import real_thresholds
from thresholds.nested_wait.segments import DecodeSegments
from thresholds.nested_wait.threshold_search import whole_thresholds


class Candidate(NamedTuple):
    """Segments, whole thresholds n_1..n_L for them, and the KV tokens that those need."""

    segments: DecodeSegments
    counts: Ints
    required: float

    def drifts(self) -> bool:
        """Whether the thresholds meet the drift conditions."""
        return self.segments.drifts(self.counts.astype(np.float64))

    def priced(self, price: float) -> float:
        """Memory and time over budget at a price a second, the mean over the pieces: below the memory if it drifts."""
        counts, segments = self.counts.astype(np.float64), self.segments
        time = float(np.mean(segments.overheads + segments.time @ counts))
        return self.required + price * (time - float(counts[0]) / segments.rate)


def best_chain(segments: DecodeSegments, known: Candidate | None = None) -> Candidate | None:
    """The best whole thresholds of these segments, at worst those `known`; None if none drift."""
    real = real_thresholds(segments)
    counts = None if real is None else whole_thresholds(segments, real)
    if counts is None:
        return known
    found = Candidate(segments, counts, segments.required(counts.astype(np.float64)))
    return known if known is not None and known.required <= found.required else found


def cheaper(one: Candidate | None, other: Candidate | None) -> Candidate | None:
    """The one that needs less memory; the first of two that need the same."""
    if one is None or other is None:
        return one or other
    return min(one, other, key=memory)


def memory(candidate: Candidate) -> float:
    """The KV tokens that its thresholds need."""
    return candidate.required


def places_suffice(candidate: Candidate) -> bool:
    """Whether a batch takes the sequences of a design; true where there is no cap."""
    segments = candidate.segments
    return at_most(segments.sequences(candidate.counts.astype(np.float64)), segments.lengths.replica.most_sequences)


def rank(candidate: Candidate) -> tuple[bool, float]:
    """Designs that respect the cap on sequences come first, then those that need less memory."""
    return not places_suffice(candidate), candidate.required
