"""One simulated path of a tandem: what happened to each request, and what no cache held in between.

The simulator frees the KV of a prompt when its prefill ends, and takes it in when a decode replica admits it; in
between it is nobody's. `in_transfer` is the most that was on the link of one prefill replica, or waited for it, and
`waiting` the most that stood before one decode replica: what caches, or a host's memory, would have to hold beside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fluid import Workload
from fluid.arrays import Floats, Ints
from fluid.planning.parts import moved
from fluid.tables import Tabular, duration, figure
from verification.fleets.fleet_run import FleetRun
from verification.run import Run
from verification.traffic.arrivals import Arrivals

if TYPE_CHECKING:
    from verification.fleets.tandem import Tandem


@dataclass(frozen=True, eq=False)
class TandemRun(Tabular):
    """One path of a tandem; as a table, a row for each request.

    Arrays have shape (N,), in order of arrival, NaN until it happens: `prefilled` F, `received` E + t0 (NaN of those
    that need no decode), `admitted` to the cache of the decode replica, `first_token`, `finished`, in seconds;
    `prefilled_by` and `decoded_by` the replicas, -1 where none did. `first` and `second` are the runs of the fleets,
    alone.
    """

    tandem: Tandem
    workload: Workload
    arrivals: Arrivals
    prefilled: Floats
    received: Floats
    admitted: Floats
    first_token: Floats
    finished: Floats
    decoded_by: Ints
    first: FleetRun
    second: FleetRun
    end_time: float

    @classmethod
    def of(cls, tandem: Tandem, workload: Workload, first: FleetRun, received: Floats, there: Any) -> TandemRun:
        """The path of two fleets: `there` has the requests that came to the second, and its run."""
        requests, second = there
        prefilled, count = first.merged.finished, len(first.arrivals)
        admitted, decoded_by = np.full(count, np.nan), np.full(count, -1)
        finished = np.where(np.isnan(received), prefilled, np.nan)
        admitted[requests], finished[requests] = second.merged.admitted, second.merged.finished
        decoded_by[requests] = second.where
        first_token = prefilled if tandem.first_in_prefill else np.full(count, np.nan)
        if not tandem.first_in_prefill:
            first_token[requests] = second.merged.first_token
        ends = finished[np.isfinite(finished)]
        return cls(tandem, workload, first.arrivals, prefilled, received, admitted, first_token, finished, decoded_by,
                   first, second, float(ends.max()) if ends.size else 0.0)

    def until(self, horizon: float) -> TandemRun:
        """The path without what happens after a horizon (s)."""
        prefilled, received, admitted, first_token, finished = (
            np.where(each <= horizon, each, np.nan)
            for each in (self.prefilled, self.received, self.admitted, self.first_token, self.finished))
        return replace(self, prefilled=prefilled, received=received, admitted=admitted, first_token=first_token,
                       finished=finished, end_time=horizon)

    def __repr__(self) -> str:
        return f"TandemRun({self.caption()})"

    def columns(self) -> dict[str, Sequence[object] | Floats | Ints]:
        """The requests: when what happened, by whom, latency and TTFT."""
        return {"arrival, s": self.arrivals.times, "type": self.arrivals.types, "prefilled by": self.prefilled_by,
                "prefilled, s": self.prefilled, "decoded by": self.decoded_by, "received, s": self.received,
                "first token, s": self.first_token, "finished, s": self.finished, "latency, s": self.latency,
                "TTFT, s": self.ttft}

    def caption(self) -> str:
        """How many requests finished, and what that took."""
        return (f"{self.completed:,} of {len(self.arrivals):,} requests finished in {duration(self.end_time)}, "
                f"{figure(self.merged.throughput)} tokens/s, {self.merged.evictions:,} evictions")

    @property
    def prefilled_by(self) -> Ints:
        """The replica that prefilled each request, or was to."""
        return self.first.where

    @property
    def latency(self) -> Floats:
        """Completion minus arrival, seconds."""
        return self.merged.latency

    @property
    def ttft(self) -> Floats:
        """First token minus arrival, seconds."""
        return self.merged.ttft

    @property
    def time_between_tokens(self) -> Floats:
        """(completion - first token) / (R - 1), seconds: with the transfer in it where prefills make first tokens."""
        return self.merged.time_between_tokens

    @property
    def completed(self) -> int:
        """Requests that finished."""
        return self.merged.completed

    @cached_property
    def merged(self) -> Run:
        """All requests from arrival to completion as one run, in which every measure of a run can be taken.

        A request is admitted with its admission to a decode replica, if it needs one. Iterations, evictions and
        overflows are sums over both fleets, stages those of the first kind that decodes, for whole requests; `kv_peak`
        of the largest cache is the highest share that any was filled to, `busy_time` the mean over all replicas.
        """
        parts = (self.first.merged, self.second.merged)
        kind = self.tandem.decoding_kinds[0]
        most = max(part.kv_capacity for part in parts)
        admitted = np.where(np.isnan(self.received) & np.isfinite(self.prefilled), parts[0].admitted, self.admitted)
        replicas = [*self.first.runs, *self.second.runs]
        return Run(self.arrivals, replace(kind, part=None).profile(self.workload), most, admitted, self.first_token,
                   self.finished, iterations=sum(part.iterations for part in parts),
                   evictions=sum(part.evictions for part in parts), overflows=sum(part.overflows for part in parts),
                   kv_peak=round(most * max(part.kv_peak / part.kv_capacity for part in parts)),
                   busy_time=float(np.mean([run.busy_time for run in replicas])), end_time=self.end_time)

    @cached_property
    def kv_moved(self) -> Floats:
        """x, the KV tokens of each request's prompt, on the replica that prefilled it."""
        tokens = np.array([moved(each) for each in self.tandem.prefill.profiles(self.first.workload)])
        found: Floats = tokens[self.tandem.prefill.kind_of[self.prefilled_by], self.arrivals.types]
        return found

    @property
    def in_transfer(self) -> float:
        """The most KV tokens of one prefill replica that were on its link or waited for it."""
        goes_on = self.decoded_by >= 0
        return max(_most(self.kv_moved[mine], self.prefilled[mine], self.received[mine])
                   for mine in ((self.prefilled_by == i) & goes_on for i in range(len(self.tandem.prefill))))

    @property
    def waiting(self) -> float:
        """The most KV tokens that waited before one decode replica."""
        return max(_most(self.kv_moved[mine], self.received[mine], self.admitted[mine])
                   for mine in (self.decoded_by == i for i in range(len(self.tandem.decode))))


def _most(tokens: Floats, start: Floats, end: Floats) -> float:
    """The most tokens held at once, each from its start (never, where that is NaN) to its end (for ever)."""
    begun = np.isfinite(start)
    if not begun.any():
        return 0.0
    last = np.where(np.isfinite(end[begun]), end[begun], math.inf)
    moments, changes = np.concatenate([last, start[begun]]), np.concatenate([-tokens[begun], tokens[begun]])
    return float(np.cumsum(changes[np.argsort(moments, kind="stable")]).max())
