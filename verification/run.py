"""What a simulation leaves behind: the times of every request, a few counts, and on demand the timeline.

A run is a value. Everything here is computed from it when asked; the simulator keeps only what cannot be recomputed.
A request that did not finish has NaN, is counted in `unfinished`, and is never left out in silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fluid import StageProfile
from fluid.arrays import Floats, Ints
from verification.traffic.arrivals import Arrivals


@dataclass(frozen=True, eq=False)
class Timeline:
    """One row per iteration, each array of shape (iterations,).

    `start` and `end` in seconds, `kv` the tokens all residents hold (rounded up to whole ones where windowed and global
    layers mix), `batch` the sequences in the batch.
    """

    start: Floats
    end: Floats
    kv: Ints
    batch: Ints

    @property
    def duration(self) -> Floats:
        """How long each iteration takes, seconds."""
        return self.end - self.start


@dataclass(frozen=True, eq=False)
class Run:
    """One simulated path. Arrays have shape (N,), one entry per request in order of arrival, NaN until it happens.

    `admitted` (start of the prefill), `first_token` and `finished` are seconds from the start of the run. Of a request
    that was evicted `admitted` is that of its last admission, `first_token` of its last pass under "restart", of its
    first token ever under "recompute". `kv_peak` is the most KV held in an iteration, whole tokens, `overflows` counts
    the iterations that held more than C or had more sequences in the batch than the cap, `end_time` is the horizon or,
    with explicit arrivals, the last completion.
    """

    arrivals: Arrivals
    profile: StageProfile = field(repr=False)
    kv_capacity: int
    admitted: Floats
    first_token: Floats
    finished: Floats
    iterations: int
    evictions: int
    overflows: int
    kv_peak: int
    busy_time: float
    end_time: float
    timeline: Timeline | None = None

    @cached_property
    def latency(self) -> Floats:
        """Completion minus arrival, seconds."""
        return self.finished - self.arrivals.times

    @cached_property
    def ttft(self) -> Floats:
        """First token minus arrival, seconds."""
        return self.first_token - self.arrivals.times

    @cached_property
    def time_between_tokens(self) -> Floats:
        """(completion - first token) / (R - 1), seconds; NaN for a single output token."""
        gaps = (self.output_tokens - 1).astype(np.float64)
        between: Floats = np.full(gaps.shape, np.nan)
        return np.divide(self.finished - self.first_token, gaps, out=between, where=gaps > 0)

    @property
    def output_tokens(self) -> Ints:
        """R of each request, tokens."""
        tokens: Ints = self.profile.output[self.arrivals.types]
        return tokens

    @cached_property
    def fits(self) -> NDArray[np.bool_]:
        """Whether each request can be served at all; the others are rejected on arrival."""
        can = self.profile.peak <= self.kv_capacity
        return can[self.arrivals.types]

    @cached_property
    def rejected(self) -> int:
        """Requests that could never be served."""
        return len(self.arrivals) - int(np.count_nonzero(self.fits))

    @cached_property
    def completed(self) -> int:
        """Requests that finished."""
        return int(np.count_nonzero(np.isfinite(self.finished)))

    @property
    def unfinished(self) -> int:
        """Requests that arrived, were not rejected, and did not finish."""
        return len(self.arrivals) - self.rejected - self.completed

    @cached_property
    def unserved(self) -> int:
        """Requests waiting outside the GPU at the end."""
        return len(self.arrivals) - self.rejected - int(np.count_nonzero(np.isfinite(self.admitted)))

    @cached_property
    def throughput(self) -> float:
        """Output tokens of completed requests per second: tokens lost to evictions do not count."""
        done = np.isfinite(self.finished)
        return float(self.output_tokens[done].sum() / self.end_time) if self.end_time > 0 else 0.0

    @property
    def busy_share(self) -> float:
        """Share of the time an iteration is running."""
        return self.busy_time / self.end_time if self.end_time > 0 else 0.0
