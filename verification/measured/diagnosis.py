"""A measured run diagnosed: does the server keep up, where does the time go, do the measurements agree.

**Stable?** The measured requests are one path of the system, from empty, over the horizon T up to the last arrival; on
it the verdict of `verification.experiments.stability` is given as on one replication of a simulation. Waiting is who
has not begun its prefill: s_i = a_i + ttft_i - p_i. Where all requests came at once, or each as another ended, no rate
was offered that the server could fall behind: the answer is "undecided", and what it sustained is told.

**Where the time goes.** Of a request's latency, prefill p_i, decode e_i - f_i, and the queue, which is the rest. Nobody
measures p_i from outside; taken is what a prompt of its length takes when nothing is in its way,

    p_i = min(ttft_i, a + b l_i),   a, b >= 0 fitted to the least ttft in each of ten groups of like l

so where every request waited, part of the waiting is called prefill.

**Little's law.** Over the window from 0.1 T to T, with N(t) the requests in the system, lambda the arrivals a second
and W the mean latency of those that arrive in it,

    mean of N(t)  against  lambda W

They agree where the system is stationary, but for those inside at the edges: where W is more than a fifth of the window
nothing is said. A gap of more than 10% says that it is not, or that the times of the file do not belong together.
Source: mathematics, section 9.8; Little, Operations Research 9 (1961).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fluid.arrays import Floats, Ints
from fluid.replica import Replica
from fluid.stages import stage_profile
from fluid.traces.measured import MeasuredRun
from fluid.traces.trace import LENGTHS_ONLY
from verification.experiments.checks import ENOUGH_REQUESTS
from verification.experiments.stability import STABLE, UNDECIDED, Verdict, judge
from verification.run import Run
from verification.traffic.arrivals import Arrivals

WARM_UP = 0.1  # of the horizon
GROUPS = 10
FEWEST = 20  # requests, in a group of like length
AGREES = 0.1  # of the larger of the two
LONGEST = 0.2  # of the window: a mean latency


class Spread(NamedTuple):
    """The mean and percentiles of a delay, seconds; NaN where none is known."""

    mean: float
    p50: float
    p90: float
    p99: float


class Spent(NamedTuple):
    """Mean seconds of a request in the queue, in prefill, in decode; NaN where the first token is not known."""

    queue: float
    prefill: float
    decode: float


class Little(NamedTuple):
    """Little's law in a window of so many seconds: mean number in the system, arrivals a second, mean latency (s)."""

    number: float
    rate: float
    latency: float
    window: float

    @property
    def product(self) -> float:
        """rate x latency, which the number should be."""
        return self.rate * self.latency

    @property
    def agrees(self) -> bool | None:
        """Whether they are within 10% of each other; None where the window is too short to tell."""
        if self.latency > LONGEST * self.window:
            return None
        return abs(self.number - self.product) <= AGREES * max(self.number, self.product)


@dataclass(frozen=True)
class Diagnosis:
    """What a measured run says. `horizon` is T in seconds; `rate` the requests/s offered, `sustained` those completed,
    `throughput` the output tokens/s of them, both over the run; `verdict` None where nothing can be judged.
    """

    run: MeasuredRun
    verdict: Verdict | None
    horizon: float
    rate: float
    sustained: float
    throughput: float
    ttft: Spread
    tpot: Spread
    latency: Spread
    spent: Spent
    little: Little | None

    @property
    def answer(self) -> str:
        """"stable", "unstable" or "undecided"."""
        return UNDECIDED if self.verdict is None or len(self.run) < ENOUGH_REQUESTS else self.verdict.answer

    @property
    def stable(self) -> bool:
        """Whether the server keeps up."""
        return self.answer == STABLE

    @property
    def reason(self) -> str:
        """One sentence with the evidence."""
        if self.run.closed:
            return f"undecided: {self.run.closed}"
        if self.verdict is None:
            return "undecided: all requests arrived at one moment"
        if len(self.run) < ENOUGH_REQUESTS:
            return f"undecided: {len(self.run)} requests are fewer than the {ENOUGH_REQUESTS} that a verdict takes"
        unseen = "" if np.isfinite(self.run.ttft).any() else "; without first tokens all count as waiting"
        return self.verdict.reason.replace("take a longer horizon", "measure for longer") + unseen


def diagnose(run: MeasuredRun) -> Diagnosis:
    """Return what a measured run says; see the module for each part.

    >>> arrivals = np.arange(0.0, 600.0, 0.5)
    >>> quick = MeasuredRun(arrivals, np.full(1200, 100), np.full(1200, 11), np.full(1200, 0.1), np.full(1200, 1.1))
    >>> found = diagnose(quick)
    >>> found.answer, round(found.rate, 2), round(found.tpot.mean, 3), round(found.little.number, 2)
    ('stable', 2.0, 0.1, 2.2)
    """
    horizon = float(run.arrivals[-1])
    ends = run.arrivals + run.latency
    last = max(float(ends.max()), run.duration or 0.0)
    judged = not run.closed and horizon > 0 and len(run) > 1
    return Diagnosis(run, judge([as_run(run, LENGTHS_ONLY)]) if judged else None, horizon,
                     (len(run) - 1) / horizon if judged else np.nan, *_served(run, ends, horizon if judged else last),
                     spread(run.ttft), spread(run.tpot), spread(run.latency), _spent(run),
                     _little(run, ends, horizon if judged else last) if len(run) > 1 and last > 0 else None)


def spread(delays: Floats) -> Spread:
    """Return the mean and percentiles of those that are known."""
    known = delays[np.isfinite(delays)]
    if not known.size:
        return Spread(*[np.nan] * 4)
    return Spread(float(known.mean()), *(float(each) for each in np.quantile(known, (0.5, 0.9, 0.99))))


def as_run(run: MeasuredRun, replica: Replica) -> Run:
    """Return the requests up to the last arrival, which is left out, as a path that a simulation could have made.

    The stages and KV work of a request are those on the replica.
    """
    until = float(run.arrivals[-1])
    before = run.arrivals < until
    trace = run.trace
    profile = stage_profile(trace.workload(1.0), replica)
    first = run.arrivals + np.where(np.isnan(run.ttft), run.latency, run.ttft)
    admitted, first, finished = (np.where(each > until, np.nan, each)[before] for each in (
        np.maximum(first - prefills(run), run.arrivals), first, run.arrivals + run.latency))
    pace = float(np.nanmean(run.tpot)) if np.isfinite(run.tpot).any() else 0.0
    iterations = int(min(until / pace, 2**53)) if pace > 0 else 1
    return Run(Arrivals.made(run.arrivals[before], trace.types[before]), profile, replica.kv_capacity, admitted, first,
               finished, iterations=max(iterations, 1), evictions=0, overflows=0, kv_peak=0, busy_time=until,
               end_time=until)


def prefills(run: MeasuredRun) -> Floats:
    """Return p_i, the seconds that the prefill of each request takes when nothing is in its way; 0 where unknown."""
    known = np.isfinite(run.ttft)
    if not known.any():
        return np.zeros(len(run))
    lengths, fastest = _fastest(run.prompt_tokens[known], run.ttft[known])
    slope = float(np.polyfit(lengths, fastest, 1)[0]) if len(lengths) > 1 and np.ptp(lengths) > 0 else 0.0
    slope = max(slope, 0.0)
    start = max(float(np.mean(fastest - slope * lengths)), 0.0)
    return np.where(known, np.minimum(run.ttft, start + slope * run.prompt_tokens), 0.0)


def _fastest(prompts: Ints, ttft: Floats) -> tuple[Floats, Floats]:
    """The mean length, and the least TTFT, of groups of like length."""
    shares = np.linspace(0.0, 1.0, max(1, min(GROUPS, len(prompts) // FEWEST)) + 1)[1:-1]
    group = np.searchsorted(np.unique(np.quantile(prompts, shares)), prompts)
    chosen = [group == each for each in np.unique(group)]
    return (np.array([prompts[each].mean() for each in chosen]), np.array([ttft[each].min() for each in chosen]))


def _spent(run: MeasuredRun) -> Spent:
    known = np.isfinite(run.ttft)
    if not known.any():
        return Spent(np.nan, np.nan, np.nan)
    prefill = prefills(run)
    return Spent(*(float(each[known].mean()) for each in (run.ttft - prefill, prefill, run.latency - run.ttft)))


def _served(run: MeasuredRun, ends: Floats, until: float) -> tuple[float, float]:
    """Requests and output tokens a second that were completed by then."""
    done = ends <= until
    return (float(np.count_nonzero(done) / until), float(run.output_tokens[done].sum() / until)) if until > 0 else (
        np.nan, np.nan)


def _little(run: MeasuredRun, ends: Floats, until: float) -> Little | None:
    start = WARM_UP * until
    arrived = (run.arrivals >= start) & (run.arrivals <= until)
    if not arrived.any():
        arrived, start = np.ones(len(run), dtype=bool), 0.0
    inside = np.maximum(np.minimum(ends, until) - np.maximum(run.arrivals, start), 0.0)
    return Little(float(inside.sum() / (until - start)), float(np.count_nonzero(arrived) / (until - start)),
                  float(run.latency[arrived].mean()), until - start)
