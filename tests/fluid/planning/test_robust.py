"""Fleets for all rates of a set: enough at every drawn point, exact over boxes and for one kind, a bound below."""

from __future__ import annotations

import numpy as np
import pytest

from fluid import IterationTime, PromptType, Replica, Workload
from fluid.errors import InputError
from fluid.planning import Kind, RobustPlan, most_demand, plan_fleet, plan_robust
from fluid.region import stability_region
from fluid.uncertainty import Bootstrap, Box, ChiSquareBall, Ellipsoid, robust_edge

MIX = Workload([PromptType(200, 1000, 20.0, "chat"), PromptType(8000, 50, 10.0, "document"),
                PromptType(500, 300, 15.0, "mail")])
BIG = Kind("big", Replica(500_000, IterationTime(0.009, 1.5e-7, 2e-5, 2e-5)), price=4.0)
SMALL = Kind("small", Replica(60_000, IterationTime(0.012, 4e-7, 5e-5, 5e-5)), price=1.2)
SETS = {"ellipsoid": Ellipsoid(MIX.rates, (0.2 * MIX.rates) ** 2, 1.0),
        "ball": ChiSquareBall(MIX.rates, 0.02, rate=MIX.rate)}


def drawn(name: str) -> np.ndarray:
    """Points of the surface of a set."""
    generator = np.random.default_rng(0)
    away = generator.normal(size=(40, 3))
    if name == "ellipsoid":
        return MIX.rates * (1 + 0.2 * away / np.linalg.norm(away, axis=1, keepdims=True))
    shares = MIX.rates / MIX.rate
    away -= (away @ np.ones(3) / 3)[:, None]
    away *= np.sqrt(0.02 / np.sum(away**2 / shares, axis=1, keepdims=True))
    return MIX.rate * (shares + away)


@pytest.mark.parametrize("name", SETS)
def test_the_fleet_carries_every_point_in_its_fixed_shares(name: str) -> None:
    """Rows hold at points drawn from the surface, routed as the plan says; the bound is below, the nominal cost too."""
    found = plan_robust(MIX, [BIG, SMALL], SETS[name])
    assert found.counts is not None
    assert found.shares is not None
    assert found.bound is not None
    assert found.shares.sum(axis=0) == pytest.approx(np.ones(3))
    for point in drawn(name):
        for k, each in enumerate((BIG, SMALL)):
            load = stability_region(MIX, each.replica).edge_load(found.shares[k] * point)
            assert load <= found.counts[k] * (1 + 1e-6)
        assert most_demand(MIX.at_rates(point), [BIG, SMALL], found.counts).factor >= 1 - 1e-6
    assert found.nominal.cost <= found.bound * (1 + 1e-9) <= found.cost * (1 + 1e-9)
    assert found.cost <= 1.1 * found.bound


def test_over_a_box_it_is_the_fleet_of_the_corner() -> None:
    """Spare replicas and head-room included."""
    box = Box.around(MIX.rates, 0.15)
    found, corner = plan_robust(MIX, [BIG, SMALL], box, 0.1, spare=1), plan_fleet(MIX.scaled(1.15), [BIG, SMALL], 0.1,
                                                                                   spare=1)
    assert found.cost == corner.cost == found.bound


@pytest.mark.parametrize("name", SETS)
def test_of_one_kind_it_is_the_robust_edge_rounded_up(name: str) -> None:
    """n = ceil(1/robust factor), and the bound says the same: no routing is left to gain."""
    found = plan_robust(MIX, [BIG], SETS[name])
    edge = robust_edge(stability_region(MIX, BIG.replica), MIX.rates, SETS[name])
    assert found.counts is not None
    assert found.counts.tolist() == [np.ceil(1 / edge.scale)]
    assert found.bound == found.cost


def test_a_wider_set_costs_more_and_a_point_costs_nothing() -> None:
    """The cost rises with the radius; at radius 0 it is the nominal plan."""
    costs = [plan_robust(MIX, [BIG, SMALL], ChiSquareBall(MIX.rates, radius, MIX.rate)).cost
             for radius in (0.0, 0.05, 0.5)]
    assert costs == sorted(costs)
    assert costs[0] == plan_fleet(MIX, [BIG, SMALL]).cost


def test_draws_have_a_fleet_and_no_bound() -> None:
    """Of the bootstrap nothing is proved from below."""
    types = np.random.default_rng(0).choice(3, p=MIX.rates / MIX.rate, size=500)
    found = plan_robust(MIX, [BIG, SMALL], Bootstrap(types, MIX.rate))
    assert found.bound is None
    assert found.cost >= found.nominal.cost


def test_too_few_replicas_are_an_answer() -> None:
    """Where the most there are do not carry all rates, there is no fleet, and a reason."""
    few = Kind("small", SMALL.replica, 1.2, most=int(plan_fleet(MIX, [SMALL]).cost / 1.2 + 0.5))
    found: RobustPlan = plan_robust(MIX, [few], SETS["ellipsoid"])
    assert found.counts is None
    assert found.nominal.feasible
    assert found.reason
    with pytest.raises(InputError, match="spare"):
        plan_robust(MIX, [BIG], SETS["ball"], spare=1)
