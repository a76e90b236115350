"""Traffic: how the requests of a workload arrive.

    Poisson     independent streams at the workload's rates: what every steady-state prediction assumes
    GammaBursts, OnOff
                stationary streams that come in bursts (`verification.traffic.bursts`)
    ClosedLoop  users who send a request, wait for the answer and think (`verification.traffic.closed`)
    Limited     any open traffic, at most so many of its requests at the replica
    Scheduled   Poisson streams whose rates a `fluid.Schedule` moves up and down
    Replay      the requests of a trace at the trace's own moments, stretched to the workload's rate
    Predicted   any of these, output lengths only predicted: each request is seen as a type that need not be its own

A replay repeats the trace when it is over; its last request and the first of the next lap then come together.
Replication 0 starts at its first request, every other one at a random moment of it: their spread says how much depends
on the moment at which one starts, not how another day would look. Load that goes up and down in a recording is no
start-up: the warm-up of a replay is a fixed share of the run and never read off its path, which could take half a lap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fluid import Schedule, Workload
from fluid.arrays import Ints
from fluid.errors import InputError, whole
from fluid.traces.trace import Trace
from thresholds import Dispersion
from verification.traffic.arrivals import Arrivals, count_expected, poisson_arrivals, stream
from verification.traffic.bursts import GammaBursts, OnOff
from verification.traffic.closed import MOST_USERS, ClosedLoop, Returning
from verification.traffic.predicted_lengths import Predictor, seen_types


class Traffic(Protocol):
    """What `simulate` asks of traffic."""

    def factor(self) -> float:
        """Mean arrival rate over a long time, as a multiple of the workload's."""

    def draw(self, workload: Workload, horizon: float, seed: int, replication: int) -> Arrivals:
        """Arrivals over [0, horizon) seconds of one replication."""


@dataclass(frozen=True)
class Poisson:
    """Independent Poisson streams at the workload's rates."""

    def factor(self) -> float:
        return 1.0

    def draw(self, workload: Workload, horizon: float, seed: int, replication: int) -> Arrivals:
        return poisson_arrivals(workload, horizon, stream(seed, replication))


POISSON = Poisson()


@dataclass(frozen=True)
class Scheduled:
    """Poisson streams at the workload's rates times the factor of the schedule's window; time 0 opens the first.

    >>> from fluid import PromptType
    >>> traffic = Scheduled(Schedule([60.0, 60.0], [2.0, 1.0]))
    >>> times = traffic.draw(Workload([PromptType(10, 10, 50.0)]), 120.0, seed=0, replication=0).times
    >>> int((times < 60).sum()) > int((times >= 60).sum())
    True
    """

    schedule: Schedule

    def factor(self) -> float:
        return self.schedule.mean_factor

    def draw(self, workload: Workload, horizon: float, seed: int, replication: int) -> Arrivals:
        steady = poisson_arrivals(workload, float(self.schedule.elapsed(horizon)), stream(seed, replication))
        return Arrivals(np.minimum(self.schedule.moment(steady.times), np.nextafter(horizon, 0.0)), steady.types)


@dataclass(frozen=True)
class Replay:
    """The requests of `trace`, whose length pairs must be the workload's types (`trace.workload(rate)`).

    Raises InputError for a trace without arrival times, or with all of them at one moment.
    """

    trace: Trace

    def __post_init__(self) -> None:
        if self.trace.times is None or not self.trace.duration:
            raise InputError("trace", "one with arrival times that differ", self.trace.source, "Replay")

    def factor(self) -> float:
        return 1.0

    def draw(self, workload: Workload, horizon: float, seed: int, replication: int) -> Arrivals:
        count_expected(workload, horizon)
        own, period = self._stretched(workload)
        begin = float(stream(seed, replication).uniform(0.0, period)) if replication else 0.0
        first, last = self._count_before(own, period, begin), self._count_before(own, period, begin + horizon)
        laps, places = np.divmod(np.arange(first, last), len(own))
        times = np.clip(laps * period + own[places] - begin, 0.0, np.nextafter(horizon, 0.0))
        return Arrivals(np.maximum.accumulate(times), self.trace.types[places])  # rounding may swap two at a lap's end

    def lap(self, workload: Workload) -> float:
        """Seconds in which the trace is gone through once at the workload's rate."""
        return len(self.trace) / workload.rate

    def _stretched(self, workload: Workload) -> tuple[np.ndarray, float]:
        """The trace's moments at the workload's rate, and how long the trace then lasts."""
        own = self.trace.scaled(workload.rate).times
        assert own is not None  # checked when made
        return own, self.lap(workload)

    @staticmethod
    def _count_before(own: np.ndarray, period: float, moment: float) -> int:
        """Requests before a moment, the trace repeated from 0 on."""
        laps, rest = divmod(moment, period)
        return int(laps) * len(own) + int(np.searchsorted(own, rest))


@dataclass(frozen=True)
class Predicted:
    """The requests of `traffic`, each taken for the type that a `predictor` gives it.

    Rules by prompt types (WAIT, windows of each type, MC-SF) go by what they see; the others look at no length at all.
    The errors have a stream of their own, so arrivals are those without them.

    >>> from fluid import PromptType
    >>> from verification.traffic.predicted_lengths import Misclassified
    >>> mix = Workload([PromptType(10, 10, 5.0), PromptType(10, 90, 5.0)])
    >>> arrivals = Predicted(Misclassified(0.5)).draw(mix, 100.0, seed=0, replication=0)
    >>> bool(0.15 < (arrivals.seen != arrivals.types).mean() < 0.35)
    True
    """

    predictor: Predictor
    traffic: Traffic = POISSON

    def factor(self) -> float:
        return self.traffic.factor()

    def draw(self, workload: Workload, horizon: float, seed: int, replication: int) -> Arrivals:
        def look(types: Ints) -> Ints:
            return seen_types(workload, types, self.predictor, errors(seed, replication))

        drawn = self.traffic.draw(workload, horizon, seed, replication)
        if isinstance(drawn, Returning):
            return drawn.seen_as(look)
        return Arrivals.made(drawn.times, drawn.types, look(drawn.types))


@dataclass(frozen=True)
class Limited:
    """The requests of `traffic`, at most `max_concurrency` of them at the replica: the others wait to be sent.

    As load generators do: a request is sent once it is due and fewer are there, first come, first served, and its
    latency counts from then. Raises InputError for less than one request, and where the traffic is a closed loop.

    >>> from fluid import IterationTime, PromptType, Replica
    >>> from verification import Batch, Greedy, simulate
    >>> replica = Replica(1000, IterationTime(0.5, 0.0), first_token="prefill")     # requests of one iteration
    >>> mix = Workload([PromptType(5, 1, 1.0)])
    >>> simulate(Greedy(0.0), mix, replica, horizon=9.0, traffic=Limited(2, Batch(7))).finished.tolist()
    [0.5, 0.5, 1.0, 1.0, 1.5, 1.5, 2.0]
    """

    max_concurrency: int
    traffic: Traffic = POISSON

    def __post_init__(self) -> None:
        most = whole("max_concurrency", self.max_concurrency, unit="requests", most=MOST_USERS)
        object.__setattr__(self, "max_concurrency", most)
        if is_closed(self.traffic):
            raise InputError("traffic", "open: a closed loop has its users", self.traffic, "Limited")

    def factor(self) -> float:
        return self.traffic.factor()

    def draw(self, workload: Workload, horizon: float, seed: int, replication: int) -> Arrivals:
        due = self.traffic.draw(workload, horizon, seed, replication)
        first = min(self.max_concurrency, len(due))
        return Returning.planning(due.types, due.times, np.zeros(len(due)), first, seen=due.seen)


def users_of(traffic: Traffic) -> ClosedLoop | None:
    """The closed loop of users behind traffic, None where there is none."""
    if isinstance(traffic, Predicted):
        return users_of(traffic.traffic)
    return traffic if isinstance(traffic, ClosedLoop) else None


def is_closed(traffic: Traffic) -> bool:
    """Whether requests are sent because others were answered, so that never more than so many are in the system."""
    if isinstance(traffic, Predicted):
        return is_closed(traffic.traffic)
    return isinstance(traffic, ClosedLoop | Limited)


def steady_dispersion(traffic: Traffic, by_type: bool, rate: float) -> Dispersion | None:
    """The dispersion of a policy's arrivals at a total rate (requests/s), where they are steady streams at the
    workload's rates; None where they are not: errors move those by type.
    """
    if isinstance(traffic, Predicted):
        return None if by_type else steady_dispersion(traffic.traffic, by_type, rate)
    if isinstance(traffic, Poisson):
        return Dispersion()
    return traffic.dispersion(rate) if isinstance(traffic, GammaBursts | OnOff) else None


def replayed(traffic: Traffic) -> Replay | None:
    """The recording that requests come from, as they are or with predicted lengths; None where they are drawn."""
    if isinstance(traffic, Predicted):
        return replayed(traffic.traffic)
    return traffic if isinstance(traffic, Replay) else None


def may_be_short(traffic: Traffic) -> bool:
    """Whether requests may be taken for types with shorter outputs, which they then outlive."""
    return isinstance(traffic, Predicted) and not traffic.predictor.never_short


def errors(seed: int, replication: int) -> np.random.Generator:
    """Return the random stream of the errors of one replication, apart from that of its arrivals."""
    return np.random.default_rng(np.random.SeedSequence([seed, replication], spawn_key=(1,)))
