"""The mix of a deployment: which prompt types arrive at which rates, and the traffic that draws their arrivals."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from fluid.closed_loop import ClosedEquilibrium, residence
from fluid.lengths.pairs import LengthPairs
from fluid.replica import Replica
from fluid.stages import stage_profile
from fluid.traces.trace import Binned, Trace
from fluid.varying_rates import Schedule, WindowEquilibrium, carries, solve_windows
from fluid.workload import Workload
from verification.traffic.batch import Batch
from verification.traffic.bursts import Bursts
from verification.traffic.closed import MOST_USERS, ClosedLoop
from verification.traffic.processes import POISSON, Limited, Poisson, Replay, Scheduled

Arriving = Poisson | Scheduled | Replay | Bursts | Batch | ClosedLoop | Limited


@dataclass(frozen=True)
class Stated:
    """Lengths stated as laws, and the `rate` (requests/s) of the requests that have them."""

    pairs: LengthPairs
    rate: float


@dataclass(frozen=True)
class Mix:
    """What arrives: the `workload`, the `traffic` that draws its arrivals, and the `trace` behind it, if any.

    Where rates change over time the workload has those of the busiest window that fits, as thresholds are designed for
    it; `windows` holds the equilibrium of each window, and `mean_fits` says whether the mean rates are inside the
    stability region. `binned` has the errors of the binning where the trace's length pairs were binned; `reserved` are
    the KV tokens that shared prefixes hold for good; `laws` are the laws of lengths that types were made of; `closed`
    is the balance of a closed loop, whose throughput the rates of the workload then are.
    """

    workload: Workload
    traffic: Arriving = field(default=POISSON, compare=False)
    trace: Trace | None = field(default=None, compare=False)
    binned: Binned | None = field(default=None, compare=False)
    windows: tuple[WindowEquilibrium, ...] = field(default=(), compare=False)
    mean_fits: bool = field(default=True, compare=False)
    reserved: int = field(default=0, compare=False)
    laws: tuple[Stated, ...] = field(default=(), compare=False)
    closed: ClosedEquilibrium | None = field(default=None, compare=False)

    @property
    def rate(self) -> float:
        """Requests/s of all types; the mean over a long time, where rates change."""
        return self.workload.rate * self.traffic.factor()

    @property
    def only_laws(self) -> bool:
        """Whether all requests have lengths stated as laws, and share no prefix."""
        pairs = sum(len(each.pairs.chances) for each in self.laws)
        return pairs == len(self.workload) and not self.workload.cached_prefix.any()

    def at(self, rate: float, replica: Replica) -> Mix:
        """The mix at another total rate, every proportion kept; at its own rate, the mix itself to the last bit.

        A closed loop gets as many users as send that rate in the fluid model; the types of a trace have exactly the
        rates that `Trace.workload` gives them at that total rate.
        """
        if rate == self.rate:
            return self
        if self.closed is not None:
            life = self.closed.think + residence(self.closed.equilibrium, rate / self.rate, math.inf)
            return with_users(self, max(1, round(min(rate * life, MOST_USERS))), self.closed.think, replica)
        mix = replace(self, workload=self._workload_at(rate / self.traffic.factor()))
        return scheduled(mix, self.traffic.schedule, replica) if isinstance(self.traffic, Scheduled) else mix

    def arriving(self, traffic: Arriving) -> Mix:
        """The mix with other traffic."""
        return replace(self, traffic=traffic)

    def _workload_at(self, rate: float) -> Workload:
        mine = self.workload
        shares = mine.rates / mine.rate
        if self.trace is None:
            requests, counts = 1, shares
        else:
            requests = len(self.trace)
            counts = np.rint(shares * requests)
        with np.errstate(over="ignore"):
            return mine.at_rates(counts * (rate / requests))

    @property
    def overload(self) -> str:
        """The windows that do not fit, in a sentence; empty where all do."""
        over = [each for each in self.windows if not each.equilibrium.stable]
        if not over:
            return ""
        rate = f"{self.workload.rate * self.traffic.factor():.4g} requests/s"
        waiting = max(each.backlog for each in over)
        end = (f"does: what piles up, {waiting:,.4g} s of work at most, is served in the others" if self.mean_fits
               else "does not fit either")
        return f"{len(over)} of {len(self.windows)} windows do not fit; the mean rate, {rate}, {end}"


def trace_mix(trace: Trace, replica: Replica, rate: float | None = None) -> Mix:
    """The mix of a trace at a total rate (requests/s; None: its own), every length pair kept."""
    workload = trace.workload(rate)
    stage_profile(workload, replica)  # refuses a type that the replica cannot serve
    return Mix(workload, arriving(trace), trace)


def arriving(trace: Trace) -> Poisson | Replay:
    """How the requests of a trace arrive unless told otherwise: at its own moments, where it has some that differ."""
    return POISSON if trace.times is None or not trace.duration else Replay(trace)


def with_users(mix: Mix, users: int, think: float, replica: Replica) -> Mix:
    """The mix as so many users send it who think for so many seconds; its rates are proportions."""
    loop = ClosedLoop(users, think)
    balance = loop.balance(mix.workload, replica)
    return replace(mix, workload=balance.equilibrium.workload, traffic=loop, closed=balance)


def scheduled(mix: Mix, schedule: Schedule, replica: Replica) -> Mix:
    """The mix with its rates multiplied by the factors of a schedule over time."""
    windows = solve_windows(mix.workload, replica, schedule)
    fits = [each.equilibrium.stable for each in windows]
    busiest = float(schedule.factors[fits].max() if any(fits) else schedule.factors.min())
    relative = Schedule(schedule.durations, schedule.factors / busiest)
    return replace(mix, workload=mix.workload.scaled(busiest), traffic=Scheduled(relative), windows=windows,
                   mean_fits=carries(mix.workload, replica, schedule))
