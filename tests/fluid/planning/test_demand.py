"""The largest demand of a fleet, and what its data are worth: closed forms and finite differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fluid import InputError, IterationTime, PromptType, Replica, Workload, stability_region
from fluid.planning import Kind, Margins, admit, most_demand, plan_fleet

CAPPED = Replica(300_000, IterationTime(0.009, 1.5e-7, 2e-5, 2e-5), max_num_seqs=100, max_num_batched_tokens=4096)
KINDS = (Kind("capped", CAPPED, 4.0), Kind("small", Replica(60_000, IterationTime(0.012, 4e-7, 5e-5, 5e-5)), 1.2))
MIX = Workload([PromptType(200, 1000, 20.0, "chat"), PromptType(8000, 50, 10.0, "document"),
                PromptType(500, 200, 15.0, "mail")])
STEP = 1e-4  # relative, of a central difference: its error is of the order of the square


@pytest.mark.parametrize("count", [1, 3, 250])
def test_of_one_kind_it_is_the_region_times_the_count(count: int) -> None:
    """theta = n / max_i h_i.lambda."""
    for kind in KINDS:
        found = most_demand(MIX, [kind], [count])
        assert found.factor == pytest.approx(count * stability_region(MIX, kind.replica).max_rate_scale(MIX.rates))
        assert found.check().holds(1e-9)


def test_a_fleet_carries_at_least_the_sum_of_its_parts() -> None:
    """Each part could carry its own share of every type; certificates meet."""
    parts = [most_demand(MIX, KINDS, counts).factor for counts in ([2, 0], [0, 5])]
    found = most_demand(MIX, KINDS, [2, 5])
    assert found.factor >= sum(parts) * (1 - 1e-9)
    assert found.bound == pytest.approx(found.factor, rel=1e-9)
    assert found.check().holds(1e-9)


def test_without_a_kind_that_a_type_fits_nothing_is_carried() -> None:
    """The factor of a mix is 0 where one of its types has no place; prices prove it."""
    mix = Workload([PromptType(100_000, 10, 0.5), PromptType(100, 100, 4.0)])
    for counts in ([0, 3], [0, 0]):
        found = most_demand(mix, KINDS, counts)
        assert found.factor == 0
        assert found.check() == (0, 0, 0)


@pytest.mark.parametrize("counts", [[1], [1, -1], [1, np.nan], [1, 1e12], "two", [[1, 1]]])
def test_counts_that_are_none_are_refused(counts: object) -> None:
    """K numbers from 0 on."""
    with pytest.raises((InputError, ValueError)):
        most_demand(MIX, KINDS, counts)


def changed(k: int, datum: str, by: float) -> list[Kind]:
    """The kinds with a datum of kind k multiplied by 1 + by, the capacity rounded."""
    kinds, replica = list(KINDS), KINDS[k].replica
    if datum == "kv_token":
        other = replace(replica, kv_capacity=round(replica.kv_capacity * (1 + by)))
    else:
        line = replica.iteration_time.pieces[0]._asdict()
        other = replace(replica, iteration_time=IterationTime(**{**line, datum: line[datum] * (1 + by)}))
    kinds[k] = replace(kinds[k], replica=other)
    return kinds


def size(k: int, datum: str) -> float:
    """The datum itself."""
    replica = KINDS[k].replica
    return replica.kv_capacity if datum == "kv_token" else getattr(replica.iteration_time.pieces[0], datum)


def cost(kinds: list[Kind]) -> float:
    return plan_fleet(MIX, kinds, 0.1, whole=False).bound


def factor(kinds: list[Kind]) -> float:
    return most_demand(MIX, kinds, [3, 4]).bound


def value(kinds: list[Kind]) -> float:
    return admit(MIX, kinds, [1, 1], "tokens").bound


def proportional(kinds: list[Kind]) -> float:
    return admit(MIX, kinds, [1, 1], "proportional").bound


SOLVED: dict[str, tuple[Callable[[list[Kind]], float], Callable[[], tuple[Margins, ...]]]] = {
    "cost": (cost, lambda: plan_fleet(MIX, KINDS, 0.1, whole=False).margins),
    "factor": (factor, lambda: most_demand(MIX, KINDS, [3, 4]).margins),
    "tokens": (value, lambda: admit(MIX, KINDS, [1, 1], "tokens").margins),
    "proportional": (proportional, lambda: admit(MIX, KINDS, [1, 1], "proportional").margins)}


@pytest.mark.parametrize("what", SOLVED)
@pytest.mark.parametrize("datum", ["kv_token", "overhead", "per_kv_token", "per_prefill_token", "per_sequence"])
def test_what_a_datum_is_worth_is_its_finite_difference(what: str, datum: str) -> None:
    """Central differences of the optimal value, of each kind: cost, factor, value and fairness."""
    solve, margins = SOLVED[what]
    found = margins()
    for k in range(2):
        step = 1e-3 if datum == "kv_token" else STEP  # whole tokens
        measured = (solve(changed(k, datum, step)) - solve(changed(k, datum, -step))) / (2 * step * size(k, datum))
        scale = abs(solve(list(KINDS))) / size(k, datum)
        assert getattr(found[k], datum) == pytest.approx(measured, rel=1e-3, abs=3e-6 * scale)


def test_what_a_type_and_a_replica_are_worth_are_finite_differences() -> None:
    """Cost by rates, factor by counts, value by counts and rates."""
    plan = plan_fleet(MIX, KINDS, 0.1, whole=False)
    for j in range(3):
        step = np.zeros(3)
        step[j] = STEP * MIX.rates[j]
        costs = [plan_fleet(MIX.at_rates(MIX.rates + sign * step), KINDS, 0.1, whole=False).bound for sign in (1, -1)]
        assert plan.worth[j] == pytest.approx((costs[0] - costs[1]) / (2 * step[j]), rel=1e-6)
    carried, admitted = most_demand(MIX, KINDS, [3, 4]), admit(MIX, KINDS, [1, 1])
    for k in range(2):
        by = STEP * np.eye(2)[k]
        up, down = (most_demand(MIX, KINDS, np.array([3, 4]) + sign * by).factor for sign in (1, -1))
        assert carried.margins[k].replica == pytest.approx((up - down) / (2 * STEP), rel=1e-6)
        up, down = (admit(MIX, KINDS, 1 + sign * by).value for sign in (1, -1))
        assert admitted.margins[k].replica == pytest.approx((up - down) / (2 * STEP), rel=1e-6)
