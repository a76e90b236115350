r"""A day of rates: how many replicas of each kind serve when, ordered in time, at least cost.

The demand is lambda f(t), f a schedule of windows that repeats (`fluid.varying_rates`). A replica of kind k that serves
from t on is ordered, and paid for, from t - s_k on (`start_up`), and paid for at least `least_time` seconds; it can be
released at any moment. At every moment the replicas that serve carry (1 + headroom) f(t) lambda, without any `spare` of
one kind too, so that nothing ever waits for capacity:

    min  sum_k p_k (hours served + s_k/3600 * replicas started)       over schedules n_k(t) on the circle

**It is enough to change counts between windows**, where there is neither a least time nor a most. Let n(t) be any
schedule; at a share theta of each window take its counts there for the whole window. The hours served, averaged over
theta, are those of n(t), and the rises from window to window are never more than those of n(t) on its way. So some
theta costs no more. With a least time a replica may also leave when it is over: these moments cut the windows.

**Cuts** (`fluid.planning.fleet`) do not depend on the factor: n carries f (1 + headroom) lambda if and only if a.n >= f
for every a, the slopes of prices divided by what (1 + headroom) lambda costs at them. So one set of cuts serves all
windows: they are found first for the linear program, then for whole counts, until every window carries its demand. Of
more than two kinds whole counts are sought among those that the linear program or the busiest window uses, to 0.5% of
the cost; what is left is the gap to the bound.

**Bound**: that of the linear program with the cuts found, proved by sums (`fluid.scheduling.program`). It is the cost
itself where the program has whole optima, as with one kind without least time and most; else `gap` says what is left.

Source: derived here; mathematics, section 20.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fluid.arrays import Bools, Floats
from fluid.errors import InputError, real
from fluid.planning.demand import carried, excess
from fluid.planning.fleet import FleetPlan, plan_fleet
from fluid.planning.kinds import Kind, counts_of, prices_of, rows_of
from fluid.planning.margins import Residuals
from fluid.planning.whole_fleet import FEASIBLE, INFEASIBLE, OPTIMAL
from fluid.scheduling.cuts import Asked, Cuts
from fluid.scheduling.program import FEW_KINDS, HOUR, Pieces, pieces_of
from fluid.tables import Tabular, plain
from fluid.varying_rates import Schedule
from fluid.workload import Workload

MOST_ROUNDS = 200
SOME = 1e-6  # replicas, from which on a kind is used


@dataclass(frozen=True, eq=False)
class DayPlan(Tabular):
    """Replicas that serve in each piece of a day, `counts` (G, K), and how many of them are `started` (G, K) there.

    Piece i lasts from `edges[i]` to `edges[i + 1]` (s), at `factors[i]` times the demand, which `rates` (G, K, J)
    route. `peak` is the fleet for the busiest window, which would do all day long. `status` is "optimal" (within 1e-6),
    "feasible" where that is not proved (of more than two kinds `gap` says how near it is), or "infeasible" as the peak
    is. `bound` is the least cost of a day with fractions of replicas, proved by `prices` (C, R) of cuts, `asked`
    (C, G) of some pieces, and the `multipliers` of the program's rows, and attained by `relaxed`. Costs are those of a
    period, prices being an hour's. As a table, a row for each piece.
    """

    workload: Workload
    kinds: tuple[Kind, ...]
    schedule: Schedule
    headroom: float
    spare: int
    status: str
    reason: str
    peak: FleetPlan
    edges: Floats
    factors: Floats
    counts: Floats | None = None
    started: Floats | None = None
    rates: Floats | None = None
    bound: float = 0.0
    prices: Floats | None = None
    multipliers: Floats | None = None
    relaxed: Floats | None = None
    asked: Bools | None = None

    def __repr__(self) -> str:
        if self.counts is None:
            return f"DayPlan({self.status}: {self.reason[:90]})"
        least, most = (" + ".join(f"{n:g}" for n in self.counts[place(self.counts.sum(axis=1))])
                       for place in (np.argmin, np.argmax))
        return (f"DayPlan({least} to {most} replicas, cost {self.cost:.6g} a period, {self.status}, "
                f"bound {self.bound:.6g}, the peak's fleet {self.peak_cost:.6g})")

    def columns(self) -> dict[str, Sequence[str] | Floats]:
        """A row for each piece: when, how long, requests/s, replicas of each kind, how many begin to serve."""
        found: dict[str, Sequence[str] | Floats] = {
            "from s": self.edges[:-1], "seconds": np.diff(self.edges), "requests/s": self.workload.rate * self.factors}
        if self.counts is not None and self.started is not None:
            for k, each in enumerate(self.kinds):
                found |= {each.name: self.counts[:, k], f"{each.name} started": self.started[:, k]}
        return found

    def caption(self) -> str:
        """The outcome."""
        return repr(self)

    def to_dict(self) -> dict[str, object]:
        """Return what it says in plain values, under the names of `plan --json`."""
        pieces = []
        for i, factor in enumerate(self.factors if self.counts is not None else []):
            pieces.append({"start": self.edges[i], "end": self.edges[i + 1], "rate": self.workload.rate * factor,
                           "replicas": self._named(self.counts, i), "started": self._named(self.started, i)})
        there = self.counts is not None
        return plain({"status": self.status, "reason": self.reason,  # type: ignore[no-any-return]
                      "period": self.schedule.period, "cost": self.cost if there else None,
                      "bound": self.bound if there else None, "gap": self.gap if there else None,
                      "peak_cost": self.peak_cost if there else None, "pieces": pieces,
                      "certificate": self.check()._asdict() if there else None})

    def _named(self, values: Floats | None, i: int) -> dict[str, int]:
        return {} if values is None else {each.name: int(values[i, k]) for k, each in enumerate(self.kinds)}

    @property
    def cost(self) -> float:
        """What a period costs, infinite where there is no schedule."""
        if self.counts is None or self.started is None:
            return float("inf")
        return cost_of(self.kinds, self._pieces, self.counts, self.started)

    @property
    def peak_cost(self) -> float:
        """What the fleet of the busiest window costs, kept all the time."""
        return self.peak.cost * self.schedule.period / HOUR

    @property
    def gap(self) -> float:
        """(cost - bound)/cost."""
        return 1.0 if self.counts is None else (self.cost - self.bound) / self.cost

    @property
    def _pieces(self) -> Pieces:
        return Pieces(self.edges, self.factors)

    def check(self) -> Residuals:
        """Recompute certificates by sums: every piece's routing, the rows of time, and the bound.

        `primal` is the relative excess of a piece's demand over its fleet, or of a row of time; `gap` is that of the
        linear program. Raises InputError where there is no schedule.
        """
        if (self.counts is None or self.started is None or self.rates is None or self.multipliers is None
                or self.prices is None or self.relaxed is None or self.asked is None):
            raise InputError("check", "asked of a schedule that there is", self.status, "DayPlan")
        rows, demand = rows_of(self.workload, self.kinds), self.workload.scaled(1 + self.headroom)
        asked = Asked(self.kinds, rows, demand, self._pieces, self.spare)
        over = [excess(rows, (1 + self.headroom) * each, n, f * demand.rates)
                for each, n, f in zip(self.rates, self.counts, self.factors, strict=True)]
        timed = asked.program(np.zeros((0, len(self.kinds))), self.asked[:0])
        over.append(timed.excess(np.stack([self.counts.T, self.started.T]).ravel()))
        cut = asked.program(asked.slopes(self.prices), self.asked)
        bound, below = cut.bounded(np.maximum(self.multipliers, 0.0)), max(0.0, float(-self.multipliers.min(initial=0)))
        return Residuals(max(0.0, *over), below, abs(float(cut.costs @ self.relaxed) / bound - 1))


def plan_day(workload: Workload, kinds: Sequence[Kind], schedule: Schedule, headroom: float = 0.0,
             spare: int = 0) -> DayPlan:
    """Return how many replicas of each kind should serve when, at least cost, so that nothing waits for capacity.

    `workload` has the rates at factor 1 of the schedule, which repeats. Raises InputError as `plan_fleet` does, and for
    a kind whose `start_up` or `least_time` is beyond the period.

    >>> from fluid import IterationTime, PromptType, Replica
    >>> mix, replica = Workload([PromptType(512, 20, 500.0)]), Replica(137_000, IterationTime(0.0106, 4.013e-7))
    >>> plan_day(mix, [Kind("a100", replica, price=2.0, start_up=360.0)], Schedule([43200, 43200], [1.0, 0.3]))
    DayPlan(1 to 3 replicas, cost 96.4 a period, optimal, bound 96.4, the peak's fleet 144)
    """
    headroom, fleet = real("headroom", headroom, "day", zero=True), tuple(kinds)
    _within_period(fleet, schedule)
    peak = plan_fleet(workload.scaled(float(schedule.factors.max())), fleet, headroom, spare=spare)
    starts = np.concatenate([[0.0], np.cumsum(schedule.durations)[:-1]])
    stays = [starts + each.least_time - each.start_up for each in fleet if each.least_time > each.start_up]
    pieces = pieces_of(schedule, np.concatenate([[0.0], *stays]))
    found = DayPlan(workload, fleet, schedule, headroom, spare, INFEASIBLE, peak.reason, peak, *pieces)
    if peak.prices is None or not peak.feasible:
        return found
    rows, demand = rows_of(workload, fleet), workload.scaled(1 + headroom)
    asked = Asked(fleet, rows, demand, pieces, spare)
    return _scheduled(found, asked, peak.prices)


def _within_period(kinds: tuple[Kind, ...], schedule: Schedule) -> None:
    for each in kinds:
        for name in ("start_up", "least_time"):
            if getattr(each, name) > schedule.period:
                raise InputError(name, f"at most the {schedule.period:g} seconds of the period", getattr(each, name),
                                 f'kind "{each.name}"')


def _scheduled(found: DayPlan, asked: Asked, first: Floats) -> DayPlan:
    """Cuts for the linear program, then for whole counts; with one kind there is none to find."""
    cuts = Cuts(asked, first)
    for _ in range(MOST_ROUNDS):
        cut, prices, of = cuts.program, cuts.array, cuts.of
        relaxed, multipliers = cut.relaxed()
        if not cuts.grown(relaxed.reshape(cut.shape)[0].T, 0):
            break
    found = replace(found, bound=cut.bounded(multipliers), prices=prices, multipliers=multipliers, relaxed=relaxed,
                    asked=of)
    counts = relaxed.reshape(cut.shape)[0].T
    cuts.binding(counts)
    if len(asked.kinds) > FEW_KINDS and found.peak.counts is not None:
        used = (counts.max(axis=0) > SOME) | (found.peak.counts > 0) | (counts_of(asked.kinds) > 0)
        cuts.asked = replace(asked, only=used)
    return _whole(found, cuts)


def _whole(found: DayPlan, cuts: Cuts) -> DayPlan:
    """The cheapest whole counts that carry every piece; where rounds run out, the peak's fleet all the time."""
    asked = cuts.asked
    for _ in range(MOST_ROUNDS):
        cut = cuts.program
        x, ended = cut.solved()
        counts = np.rint(x.reshape(cut.shape)[0].T) + 0.0
        if not cuts.grown(counts, asked.spare):
            proved = ended and len(asked.kinds) <= FEW_KINDS
            return _routed(found, asked, counts, OPTIMAL if proved else FEASIBLE)
    kept = np.zeros(len(asked.kinds)) if found.peak.counts is None else found.peak.counts
    return _routed(found, asked, np.repeat(kept[None, :], len(asked.pieces.factors), axis=0), FEASIBLE)


def _routed(found: DayPlan, asked: Asked, counts: Floats, status: str) -> DayPlan:
    """The demand of each piece spread over its fleet, and what begins to serve."""
    at_one = dict[tuple[float, ...], Floats]()
    for n in counts:
        if tuple(n) not in at_one:
            each = carried(found.workload, asked.kinds, asked.rows, n)
            at_one[tuple(n)] = each.rates / each.factor
    rates = np.array([at_one[tuple(n)] * f for n, f in zip(counts, asked.pieces.factors, strict=True)])
    return replace(found, status=status, reason="", counts=counts, rates=rates, started=started(counts))


def started(counts: Floats) -> Floats:
    """Replicas (G, K) that begin to serve at the start of each piece of the circle."""
    rises: Floats = np.maximum(counts - np.roll(counts, 1, axis=0), 0.0)
    return rises


def cost_of(kinds: Sequence[Kind], pieces: Pieces, counts: Floats, started: Floats) -> float:
    """What a period costs: the hours served, and those before, since the order."""
    waiting = np.array([each.start_up for each in kinds]) / HOUR
    return float(prices_of(kinds) @ (pieces.hours @ counts + waiting * started.sum(axis=0)))
