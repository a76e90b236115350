"""A day's schedule: a day of two levels by hand, every schedule of small ones, certificates by sums."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from fluid import InputError, IterationTime, PromptType, Replica, Workload, stability_region
from fluid.planning import Kind, most_demand
from fluid.scheduling import plan_day
from fluid.varying_rates import Schedule

BIG = Replica(500_000, IterationTime(0.009, 1.5e-7, 2e-5, 2e-5))
SMALL = Replica(60_000, IterationTime(0.012, 4e-7, 5e-5, 5e-5))
MIX = Workload([PromptType(200, 1000, 20.0, "chat"), PromptType(8000, 50, 10.0, "document")])
HOUR = 3600.0


def edge_load(replica: Replica) -> float:
    return stability_region(MIX, replica).edge_load(MIX.rates)


@pytest.mark.parametrize(("start_up", "least_time"), [(0.0, 0.0), (600.0, 0.0), (7200.0, 0.0), (600.0, 4 * HOUR)])
def test_a_day_of_two_levels_is_as_by_hand(start_up: float, least_time: float) -> None:
    """6 h at 1, 18 h at 0.4: those started are paid for 6 h and the start-up, or the least time; of one kind, whole."""
    kind = Kind("big", BIG, 4.0, start_up=start_up, least_time=least_time)
    many, few = (math.ceil(f * edge_load(BIG)) for f in (1.0, 0.4))
    assert many > few
    hours = 24 * few + (many - few) * max(6 + start_up / HOUR, least_time / HOUR)
    found = plan_day(MIX, [kind], Schedule([6 * HOUR, 18 * HOUR], [1.0, 0.4]))
    assert found.cost == pytest.approx(4.0 * min(hours, 24 * many))
    assert found.peak_cost == 4.0 * 24 * many
    assert found.check().holds(1e-9)


@pytest.mark.parametrize(("between", "kept"), [(0.5, True), (2.0, False)])
def test_what_is_needed_again_soon_is_kept(between: float, kept: bool) -> None:
    """Between two peaks replicas stay where the pause is shorter than the hour it takes to start one."""
    day = Schedule(np.array([4.0, between, 4.0, 10.0]) * HOUR, [1.0, 0.4, 1.0, 0.4])
    found = plan_day(MIX, [Kind("big", BIG, 4.0, start_up=HOUR)], day)
    assert found.counts is not None
    assert bool(found.counts[1, 0] == found.counts[0, 0]) is kept


def test_of_one_kind_the_linear_program_is_the_answer() -> None:
    """The rows are those of a flow: 24 hours of any rates have no gap, whatever the start-up."""
    rng = np.random.default_rng(5)
    for start_up in (300.0, 3000.0, 20_000.0):
        day = Schedule([HOUR] * 24, rng.uniform(0.2, 1.0, 24))
        found = plan_day(MIX, [Kind("small", SMALL, 1.2, start_up=start_up)], day, headroom=0.1, spare=1)
        assert abs(found.gap) < 1e-9
        assert found.status == "optimal"
        assert found.check().holds(1e-9)


def least_of_all(kinds: list[Kind], day: Schedule, most: tuple[int, int], spare: int) -> float:
    """The least cost over all counts in all windows, by dynamic programming from each first count on the circle."""
    counts = [np.array(each, dtype=float) for each in itertools.product(*(range(n + 1) for n in most))]
    factor = [min(most_demand(MIX, kinds, np.maximum(n - spare * lost, 0)).factor
                  for lost in (np.eye(2) if spare else np.zeros((1, 2)))) for n in counts]
    prices = np.array([each.price for each in kinds])
    waits = np.array([each.start_up for each in kinds]) / HOUR
    rise = np.array([[prices * waits @ np.maximum(b - a, 0) for b in counts] for a in counts])
    serve = np.array([[prices @ n * d / HOUR if factor[i] >= f - 1e-9 else math.inf for i, n in enumerate(counts)]
                      for d, f in zip(day.durations, day.factors, strict=True)])
    best = math.inf
    for first in range(len(counts)):
        cost = np.full(len(counts), math.inf)
        cost[first] = serve[0, first]
        for window in serve[1:]:
            cost = np.min(cost[:, None] + rise, axis=0) + window
        best = min(best, float(np.min(cost + rise[:, first])))
    return best


@pytest.mark.parametrize("spare", [0, 1])
def test_no_schedule_of_a_small_day_costs_less(spare: int) -> None:
    """Of two kinds and four windows every schedule is tried."""
    kinds = [Kind("big", BIG, 4.0, start_up=900.0), Kind("small", SMALL, 1.2, start_up=4000.0)]
    day = Schedule(np.array([2.0, 1.0, 3.0, 0.5]) * HOUR, [0.2, 0.38, 0.12, 0.3])
    found = plan_day(MIX, kinds, day, spare=spare)
    assert found.status == "optimal"
    assert found.cost == pytest.approx(least_of_all(kinds, day, (4, 9), spare), rel=1e-6)
    assert found.bound <= found.cost <= found.peak_cost
    assert found.check().holds()


def test_counts_there_stay_and_most_is_kept_also_while_starting() -> None:
    """Two of the big ones are there at all times; of at most as many as the peak takes, none is started beside them."""
    kinds = [Kind("big", BIG, 4.0, count=2, start_up=900.0), Kind("small", SMALL, 1.2, start_up=900.0)]
    day = Schedule([6 * HOUR, 18 * HOUR], [1.0, 0.2])
    found = plan_day(MIX, kinds, day)
    assert found.counts is not None
    assert found.counts[:, 0].min() >= 2
    few = plan_day(MIX, [replace(kinds[0], count=0, most=6)], day)
    assert few.counts is not None
    assert few.counts.max() <= 6
    assert few.check().holds()


def test_a_schedule_costs_no_more_than_without_start_up_times_and_no_less() -> None:
    """Costs rise with start-up times, up to the peak's fleet; with none each window has its own cheapest fleet."""
    day = Schedule([HOUR, HOUR, 2 * HOUR], [0.3, 0.6, 0.1])
    costs = [plan_day(MIX, [Kind("big", BIG, 4.0, start_up=s), Kind("small", SMALL, 1.2, start_up=s)], day).cost
             for s in (0.0, 600.0, 3600.0, 14_000.0)]
    assert costs == sorted(costs)


def test_where_the_peak_has_no_fleet_there_is_no_schedule() -> None:
    """The reason is the peak's; a start-up beyond the period is refused in one line."""
    found = plan_day(MIX, [Kind("big", BIG, 4.0, most=1)], Schedule([HOUR], [1.0]))
    assert (found.status, found.counts) == ("infeasible", None)
    assert "more" in found.reason
    for name in ("start_up", "least_time"):
        with pytest.raises(InputError, match=name):
            plan_day(MIX, [Kind("big", BIG, 4.0, **{name: 2 * HOUR})], Schedule([HOUR], [1.0]))
        with pytest.raises(InputError, match=name):
            Kind("big", BIG, 4.0, **{name: -1.0})


def test_of_many_kinds_the_gap_says_how_near_the_cheapest_a_schedule_is() -> None:
    """Four kinds: whole counts within a percent or two of the bound that sums prove, never proved optimal."""
    kinds = [Kind("big", BIG, 4.0, start_up=300.0), Kind("small", SMALL, 1.2, start_up=300.0),
             Kind("dear", SMALL, 1.3), Kind("slow", replace(BIG, kv_capacity=300_000), 3.0, start_up=300.0)]
    found = plan_day(MIX.scaled(4.0), kinds, Schedule([HOUR] * 6, [0.3, 0.5, 0.9, 1.0, 0.7, 0.4]))
    assert found.status == "feasible"
    assert 0 <= found.gap < 0.03
    assert found.check().holds()
