"""A fleet over a day of rates, for people and for programs: the schedule, its cost beside others, what waits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from rich.markup import escape

from fluid.scheduling import Backlog, DayPlan
from fluid.tables import duration
from fluidwait.reports.console import console, new_table
from fluidwait.study.fleet_day import Day

MOST_ROWS = 48
DAY = 86_400.0


def day_answer(found: Day | None) -> dict[str, Any] | None:
    """What `plan --json` says of a day, None where rates do not change."""
    if found is None:
        return None
    reaction = found.reaction
    return {**found.plan.to_dict(),
            "autoscaler": reaction and {"cost": reaction.cost, "backlog": reaction.backlog.to_dict()},
            "there": found.there and found.there.to_dict()}


def show_day(found: Day | None) -> None:
    """The schedule as a table, and what others cost and leave waiting."""
    if found is None or found.plan.counts is None:
        return
    plan = found.plan
    console.print(f"over {_period(plan.schedule.period)}, ordered in time, nothing waits for capacity:")
    _show_pieces(plan)
    less = 1 - plan.cost / plan.peak_cost
    console.print(f"it costs {plan.cost:,.6g}, {less:.1%} less than the {plan.peak_cost:,.6g} of the busiest window's "
                  f"fleet all the time; {_proof(plan)}")
    if found.reaction is not None:
        console.print(f"ordered without a forecast, when the load is there: {found.reaction.cost:,.6g}; "
                      f"{_waits(found.reaction.backlog)}")
    if found.there is not None:
        console.print(f"with what is there all the time: {_waits(found.there)}")
    console.print()


def _proof(plan: DayPlan) -> str:
    if plan.gap < 1e-6:
        return "no schedule costs less"
    whole = "no schedule of whole replicas costs less" if plan.status == "optimal" else "not proved cheapest"
    return f"{whole}, of fractions {plan.bound:,.6g} (gap {plan.gap:.2%})"


def _show_pieces(plan: DayPlan) -> None:
    """A row where the rate or a count changes; what is started was ordered its start-up time before."""
    counts, started = plan.counts, plan.started
    if counts is None or started is None:
        return
    used = np.flatnonzero(counts.max(axis=0) > 0)
    table = new_table("from", "requests/s", *(escape(plan.kinds[k].name) for k in used), "started", "released")
    for i in _changes(plan.factors, counts)[:MOST_ROWS]:
        gone = np.maximum(counts[i - 1] - counts[i], 0.0)
        table.add_row(clock(plan.edges[i]), f"{plan.workload.rate * plan.factors[i]:.4g}",
                      *(f"{counts[i, k]:,.0f}" for k in used), f"{started[i].sum():,.0f}", f"{gone.sum():,.0f}")
    console.print(table)


def _changes(factors: np.ndarray, counts: np.ndarray) -> list[int]:
    """The first piece, and those that differ from the one before."""
    return [i for i in range(len(factors))
            if i == 0 or factors[i] != factors[i - 1] or not np.array_equal(counts[i], counts[i - 1])]


def _waits(found: Backlog) -> str:
    if found.growth:
        return f"what waits grows by {duration(found.growth)} of the busiest window's traffic with every period"
    if found.largest <= 0:
        return "nothing waits"
    period = float(found.times[-1])
    later = found.drained > period  # in the next one
    drained = f"{clock(found.drained - later * period)}{' of the next' if later else ''}"
    return (f"requests wait up to {duration(found.largest)} for capacity, longest at {clock(found.worst)}, until "
            f"{drained}")


def clock(moment: float) -> str:
    """Seconds as hours and minutes, and seconds where there are any.

    >>> clock(27_000.0), clock(27_012.0)
    ('07:30', '07:30:12')
    """
    if not math.isfinite(moment):
        return "never"
    minutes, seconds = divmod(round(moment), 60)
    text = f"{minutes // 60:02d}:{minutes % 60:02d}"
    return f"{text}:{seconds:02d}" if seconds else text


def _period(period: float) -> str:
    return "a day" if abs(period - DAY) < 1 else f"a period of {clock(period)}"
