"""What is measured of a run inside a window of time: rates, delays, inventories.

Rates count what completes inside the window. Delays belong to the requests that arrive inside it; where one of those is
unfinished at the end it enters with its age (the delay is at least that) and is counted in `unfinished`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fluid.arrays import Floats
from fluid.power import Power
from verification.run import Run, Timeline
from verification.statistics.batch_means import BATCHES, BatchMeans, batch_means, of_batches

PATH_POINTS = 1000


class Window(NamedTuple):
    """The time from `start` to `end`, seconds; delays are of requests that arrive until `last_arrival`."""

    start: float
    end: float
    last_arrival: float

    def split(self, parts: int) -> list[Window]:
        """Cut the window into equal parts, for batch means inside one run."""
        edges = np.linspace(self.start, self.last_arrival, parts + 1)
        return [Window(a, b, b) for a, b in pairwise(edges.tolist())]


def in_system(run: Run) -> Floats:
    """Requests in the system at 1,000 equally spaced moments: shape (1000,)."""
    moments = np.linspace(0.0, run.end_time, PATH_POINTS, endpoint=False)
    done = np.sort(run.finished[np.isfinite(run.finished)], kind="stable")  # nearly in order already
    gone = np.searchsorted(done, moments, side="right")
    return (np.searchsorted(run.arrivals.times, moments, side="right") - gone).astype(np.float64)


def drift(run: Run) -> float:
    """Growth of the requests in the system over the second half of the run: the least-squares slope, requests/s."""
    path = in_system(run)[PATH_POINTS // 2:]
    moments = np.arange(len(path)) - (len(path) - 1) / 2
    step = run.end_time / PATH_POINTS
    return float(moments @ path / (moments @ moments * step)) if step > 0 else 0.0


def window_after(run: Run, warm_up: float) -> Window:
    """The window that starts after the warm-up and takes arrivals until all but the slowest can have finished."""
    start = warm_up * run.end_time
    slowest = np.nanmax(run.latency) if run.completed else math.inf
    return Window(start, run.end_time, max(run.end_time - slowest, 0.5 * (start + run.end_time)))


def throughput(run: Run, window: Window) -> float:
    """Output tokens of the requests completed in the window per second."""
    done = (run.finished > window.start) & (run.finished <= window.end)
    return float(run.output_tokens[done].sum() / (window.end - window.start))


def rates(run: Run, window: Window, parts: int) -> Floats:
    """Output tokens of the requests completed in each of so many equal parts of the window, per second: (parts,)."""
    edges = np.linspace(window.start, window.end, parts + 1)
    place = np.searchsorted(edges, run.finished) - 1  # in the part (a, b]; NaN beyond the last
    inside = (place >= 0) & (place < parts)
    tokens = np.bincount(place[inside], run.output_tokens[inside], minlength=parts)
    found: Floats = tokens / (edges[1] - edges[0])
    return found


class Joules(NamedTuple):
    """Energy of an output token of the requests completed, J, and what of it evictions wasted; NaN where not known."""

    per_token: float
    lost: float


def joules(run: Run, window: Window, power: Power | None, overhead: float) -> Joules:
    """The energy of the window by the output tokens completed in it, and of the whole run what evictions wasted.

    `overhead` is the fixed part of an iteration, seconds. Wasted is lost time at full power: what would not have been
    spent, had the same iterations run without that work.
    """
    timeline, made = run.timeline, throughput(run, window) * (window.end - window.start)
    if power is None or timeline is None or made == 0:
        return Joules(math.nan, math.nan)
    rows = slice(*np.searchsorted(timeline.start, [window.start, window.end]))
    spent = np.minimum(timeline.end[rows], window.end) - timeline.start[rows]
    busy = float(spent.sum())
    used = power.joules(window.end - window.start, busy, min(overhead * len(spent), busy))
    lost = math.nan if run.lost_time is None else power.busy * run.lost_time / (run.throughput * run.end_time)
    return Joules(used / made, lost)


def delays_of(run: Run, window: Window) -> tuple[Floats, Floats]:
    """Latency and TTFT of each request that arrives in the window, in order; of those not over yet their age."""
    part = slice(*np.searchsorted(run.arrivals.times, [window.start, window.last_arrival]))
    fits = run.fits[part]
    age = run.end_time - run.arrivals.times[part][fits]
    latency, ttft = (np.where(np.isnan(each[part][fits]), age, each[part][fits]) for each in (run.latency, run.ttft))
    return latency, ttft


def lengths_of(run: Run, window: Window) -> Floats:
    """Output tokens of each request that arrives in the window, in order."""
    part = slice(*np.searchsorted(run.arrivals.times, [window.start, window.last_arrival]))
    return run.output_tokens[part][run.fits[part]].astype(np.float64)


def busy_iteration(timeline: Timeline, window: Window) -> float:
    """Mean duration of the iterations that start in the window, seconds."""
    rows = slice(*np.searchsorted(timeline.start, [window.start, window.end]))
    return float(timeline.duration[rows].mean()) if rows.stop > rows.start else math.nan


def entering(run: Run, timeline: Timeline, j: int, window: Window) -> float:
    """Type-j prompts that enter an iteration on average: with every resident in every batch, the prompts per stage."""
    entered = run.admitted[run.arrivals.types == j]
    first, last = np.searchsorted(timeline.start, [window.start, window.end])
    if last == first:
        return math.nan
    return float(np.count_nonzero((entered >= window.start) & (entered < window.end)) / (last - first))


def resident(run: Run, timeline: Timeline, j: int, window: Window) -> float:
    """Mean over time of the type-j prompts in each stage after the first, in the batch or paused.

    Their time from the end of stage 0 to completion that falls in the window, over S - 1 stages and the length of the
    window; NaN for a single stage.
    """
    stages = run.profile.stages[j]
    chosen = (run.arrivals.types == j) & np.isfinite(run.admitted)
    if stages < 2:
        return math.nan
    admitted = run.admitted[chosen]
    prefilled = timeline.end[np.searchsorted(timeline.start, admitted)]
    left = np.where(np.isnan(run.finished[chosen]), window.end, run.finished[chosen])
    inside = np.minimum(left, window.end) - np.maximum(prefilled, window.start)
    return float(np.maximum(inside, 0.0).sum() / ((stages - 1) * (window.end - window.start)))


@dataclass(frozen=True)
class Inside:
    """Batch means of a single run after its warm-up: throughput in output tokens/s, delays in seconds."""

    throughput: BatchMeans
    latency: BatchMeans
    ttft: BatchMeans

    @property
    def valid(self) -> bool:
        """Whether all of them can be trusted."""
        return self.throughput.valid and self.latency.valid and self.ttft.valid


def inside(run: Run, window: Window) -> Inside | None:
    """Return the batch means of a run inside a window; None where it holds fewer than two requests a batch."""
    latency, ttft = delays_of(run, window)
    if len(latency) < 2 * BATCHES:
        return None
    return Inside(of_batches(rates(run, window, BATCHES)), batch_means(latency), batch_means(ttft))
