r"""Autoscaling without a forecast: replicas are ordered when the load is there, and serve `start_up` later.

At every moment the autoscaler knows the present factor f(t), not the next, and wants

    w_k(t) = max(ceil(f(t)/f_max N_k), count_k)       N the fleet of the busiest window (`fluid.planning.plan_fleet`)

of each kind, those that are there already among them, as they stay. That carries what comes, with its head-room: at
f/f_max of the busiest rates f/f_max of its fleet does, and more does too. What it does not see is what waits. It orders
what is lacking at once, and at once gives up what is too much, orders that do not serve yet first. So the m-th replica
of kind k is ordered, o_km = 1, while w_k >= m, and for least_time at least; it serves when it has been ordered for
start_up:

    n_k(t) = sum_m min over [t - s_k, t] of o_km,         cost sum_k p_k int sum_m o_km

All are constant on pieces of time and known exactly; what waits meanwhile is `fluid.scheduling.backlog`. The day shown
is the third from no replica at all. Source: derived here; mathematics, section 20.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fluid.arrays import Floats
from fluid.errors import InputError
from fluid.planning.fleet import FleetPlan
from fluid.planning.kinds import Kind, counts_of, prices_of
from fluid.scheduling.backlog import Backlog, backlog
from fluid.scheduling.program import HOUR
from fluid.varying_rates import Schedule
from fluid.workload import Workload

DAYS = 3  # simulated, of which the last is shown
SAME = 1e-9  # of a period

Spans = list[tuple[float, float]]  # of time, s


@dataclass(frozen=True, eq=False)
class Reaction:
    """A day of an autoscaler without a forecast: `serving` (G, K) replicas between `edges` (G + 1,), s, its `cost` of a
    period, and the `backlog` that it leaves."""

    edges: Floats
    serving: Floats
    cost: float
    backlog: Backlog

    def __repr__(self) -> str:
        return f"Reaction(cost {self.cost:.6g} a period, {self.backlog})"


def react(workload: Workload, schedule: Schedule, peak: FleetPlan) -> Reaction:
    """Return what an autoscaler does that orders by the present load; `peak` is the fleet of the busiest window.

    `workload` has the rates at factor 1. Raises InputError where the peak has no fleet.

    >>> from fluid import IterationTime, PromptType, Replica
    >>> from fluid.planning import plan_fleet
    >>> mix, replica = Workload([PromptType(512, 20, 500.0)]), Replica(137_000, IterationTime(0.0106, 4.013e-7))
    >>> kinds, day = [Kind("a100", replica, price=2.0, start_up=360.0)], Schedule([43200, 43200], [1.0, 0.3])
    >>> react(mix, day, plan_fleet(mix, kinds))
    Reaction(cost 96 a period, Backlog(up to 222.8 s, at 137 s, gone at 1,913 s))
    """
    if peak.counts is None:
        raise InputError("peak", "a fleet that there is", peak.status, "react")
    wanted = np.ceil(peak.counts * (schedule.factors / schedule.factors.max())[:, None] * (1 - 1e-12))
    wanted = np.maximum(wanted, counts_of(peak.kinds))
    spans = [_ordered(wanted[:, k], each, schedule) for k, each in enumerate(peak.kinds)]
    begin = (DAYS - 1) * schedule.period
    paid = [sum(_within(span, begin, begin + schedule.period) for layer in layers for span in layer)
            for layers in spans]
    edges, serving = _serving(spans, peak.kinds, schedule, begin)
    cost = float(prices_of(peak.kinds) @ np.array(paid)) / HOUR
    return Reaction(edges, serving, cost, backlog(workload, peak.kinds, schedule, edges, serving))


def _ordered(wanted: Floats, kind: Kind, schedule: Schedule) -> list[Spans]:
    """For each replica of a kind the spans of time from its order to its release, over all days."""
    clock = np.concatenate([[0.0], np.cumsum(schedule.durations)])
    times = np.concatenate([clock[:-1] + day * schedule.period for day in range(DAYS)] + [[DAYS * schedule.period]])
    levels = np.tile(wanted, DAYS)
    layers = []
    for m in range(1, int(wanted.max(initial=0)) + 1):
        needed = _runs(levels >= m, times)
        layers.append(_kept(needed, kind.least_time))
    return layers


def _runs(true: np.ndarray, times: Floats) -> Spans:
    """The spans in which a condition on pieces of time holds."""
    turns = np.flatnonzero(np.diff(np.concatenate([[0], true.astype(np.int64), [0]])))
    return [(float(times[a]), float(times[b])) for a, b in zip(turns[::2], turns[1::2], strict=True)]


def _kept(needed: Spans, least: float) -> Spans:
    """The same with each span at least so long, those that then touch being one."""
    spans = Spans()
    for begin, end in needed:
        if spans and begin <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        else:
            spans.append((begin, max(end, begin + least)))
    return spans


def _within(span: tuple[float, float], begin: float, end: float) -> float:
    """Seconds of a span between two moments."""
    return max(0.0, min(span[1], end) - max(span[0], begin))


def _serving(spans: list[list[Spans]], kinds: Sequence[Kind], schedule: Schedule,
             begin: float) -> tuple[Floats, Floats]:
    """The replicas of each kind that serve in the last day, on pieces of time."""
    serving = [[(a + each.start_up, b) for layer in layers for a, b in layer if b > a + each.start_up]
               for layers, each in zip(spans, kinds, strict=True)]
    period = schedule.period
    moments = [moment - begin for each in serving for span in each for moment in span if 0 < moment - begin < period]
    edges = np.unique(np.array([0.0, *moments, period]))
    edges = edges[np.concatenate([[True], np.diff(edges) > SAME * period])]
    edges[-1] = period
    middles = begin + (edges[:-1] + edges[1:]) / 2
    counts = np.zeros((len(middles), len(kinds)))
    for k, each in enumerate(serving):
        for a, b in each:
            counts[:, k] += (a < middles) & (middles < b)
    return edges, counts
