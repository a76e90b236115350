"""What a simulation leaves behind: the times of every request, a few counts, and on demand the timeline.

A run is a value. Everything here is computed from it when asked; the simulator keeps only what cannot be recomputed.
A request that did not finish has NaN, is counted in `unfinished`, and is never left out in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluid import StageProfile
from fluid.arrays import Floats, Ints, over_gaps
from fluid.tables import Tabular, duration, figure, plain
from verification.traffic.arrivals import Arrivals


@dataclass(frozen=True, eq=False)
class Timeline:
    """One row per iteration, each array of shape (iterations,).

    `start` and `end` in seconds, `kv` the tokens all residents hold (rounded up to whole ones where windowed and global
    layers mix), `batch` the sequences in the batch, `served` the number of segments that decode: under nested WAIT
    those in the batch, else 1, or 0 where only prefills run.
    """

    start: Floats
    end: Floats
    kv: Ints
    batch: Ints
    served: Ints

    def __repr__(self) -> str:
        return f"Timeline({len(self.start):,} iterations)"

    @property
    def duration(self) -> Floats:
        """How long each iteration takes, seconds."""
        return self.end - self.start


@dataclass(frozen=True, eq=False)
class Gaps:
    """Gaps between tokens, those alike in one row, in the order in which they end; each array of shape (rows,).

    `end` is when the later token is made, `seconds` the time since the one before, `count` how many there are
    (`verification.token_gaps`).
    """

    end: Floats
    seconds: Floats
    count: Ints

    def __repr__(self) -> str:
        return f"Gaps({self.count.sum():,} between tokens, {len(self.end):,} rows)"


@dataclass(frozen=True, eq=False)
class Run(Tabular):
    """One simulated path; as a table, a row for each request.

    Arrays have shape (N,), one entry per request in order of arrival, NaN until it happens.
    `admitted` (start of the prefill), `first_token` and `finished` are seconds from the start of the run. Of a request
    that was evicted `admitted` is that of its last admission, `first_token` of its last pass under "restart", of its
    first token ever under "recompute". `kv_peak` is the most KV held in an iteration, whole tokens, `overflows` counts
    the iterations that held more than C or had more sequences in the batch than the cap, `end_time` is the horizon or,
    with explicit arrivals, the last completion. `timeline` and `gaps` (between tokens) are there if the run was
    recorded, and `lost_time`, the seconds of iterations that evictions wasted, where it is known besides
    (`verification.lost_work`).
    """

    arrivals: Arrivals
    profile: StageProfile
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
    gaps: Gaps | None = None
    lost_time: float | None = None

    def __repr__(self) -> str:
        return f"Run({self.caption()})"

    def columns(self) -> dict[str, Sequence[object] | Floats | Ints]:
        """The requests: arrival, type, lengths, what happened when, latency and TTFT; NaN until it happens."""
        types = self.arrivals.types
        return {"arrival, s": self.arrivals.times, "type": types, "prompt tokens": self.profile.prompt[types],
                "output tokens": self.output_tokens, "admitted, s": self.admitted, "first token, s": self.first_token,
                "finished, s": self.finished, "latency, s": self.latency, "TTFT, s": self.ttft}

    def caption(self) -> str:
        """How many requests finished, and what that took."""
        mean = f", mean latency {duration(_mean(self.latency))}" if self.completed else ""
        return (f"{self.completed:,} of {len(self.arrivals):,} requests finished in {duration(self.end_time)}{mean}, "
                f"{figure(self.throughput)} tokens/s, {self.evictions:,} evictions, KV peak {self.kv_peak:,} of "
                f"{self.kv_capacity:,}")

    def to_dict(self) -> dict[str, Any]:
        """Return counts, rates and the means over the requests that finished (None without any), in plain values."""
        names = ("completed", "unfinished", "rejected", "iterations", "evictions", "overflows", "kv_peak",
                 "kv_capacity", "busy_share", "end_time", "throughput")
        return plain({"requests": len(self.arrivals),  # type: ignore[no-any-return]
                      **{name: getattr(self, name) for name in names},
                      **{name: _mean(getattr(self, name)) for name in ("latency", "ttft", "time_between_tokens")}})

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
        return over_gaps(self.finished - self.first_token, self.output_tokens)

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


def _mean(delays: Floats) -> float:
    """The mean of those that are known; NaN where none is."""
    known = delays[np.isfinite(delays)]
    return float(known.mean()) if known.size else float("nan")
