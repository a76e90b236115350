"""The cheapest fleet: closed forms, certificates by sums, spare replicas, what is infeasible."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from fleets import many_types

from fluid import InputError, IterationTime, PromptType, Replica, Workload, stability_region
from fluid.planning import Kind, most_demand, plan_fleet

BIG = Replica(500_000, IterationTime(0.009, 1.5e-7, 2e-5, 2e-5))
SMALL = Replica(60_000, IterationTime(0.012, 4e-7, 5e-5, 5e-5))
MIX = Workload([PromptType(200, 1000, 20.0, "chat"), PromptType(8000, 50, 10.0, "document")])
KINDS = [Kind("big", BIG, 4.0), Kind("small", SMALL, 1.2)]


@pytest.mark.parametrize("headroom", [0.0, 0.1, 1.0])
def test_of_one_kind_it_takes_the_edge_load_rounded_up(headroom: float) -> None:
    """n = ceil((1 + headroom) max_i h_i.lambda), by the region of one replica."""
    for replica in (BIG, SMALL):
        load = (1 + headroom) * stability_region(MIX, replica).edge_load(MIX.rates)
        found = plan_fleet(MIX, [Kind("one", replica, 3.0)], headroom)
        assert (found.cost, found.status) == (3.0 * math.ceil(load), "optimal")
        assert found.bound == pytest.approx(3.0 * load, rel=1e-9)
        assert found.check().holds(1e-9)


def test_two_types_that_fit_one_kind_each_are_two_problems() -> None:
    """Long prompts fit the large cache only, short ones are sent where a request costs less: by hand."""
    mix = Workload([PromptType(100_000, 10, 0.5, "long"), PromptType(100, 100, 40.0, "short")])
    kinds = [Kind("big", BIG, 4.0), Kind("tiny", Replica(50_000, IterationTime(0.009, 1.5e-7, 2e-5, 2e-5)), 0.5)]
    long, short = (stability_region(mix, each.replica).half_spaces.max(axis=0) for each in kinds)
    assert 4.0 * long[1] > 0.5 * short[1]  # what a second of each kind costs a short request
    found = plan_fleet(mix, kinds, whole=False)
    assert found.counts == pytest.approx([0.5 * long[0], 40.0 * short[1]], rel=1e-6)
    assert found.rates == pytest.approx(np.array([[0.5, 0.0], [0.0, 40.0]]), abs=1e-6)


def test_a_mixed_fleet_beats_the_best_of_one_kind() -> None:
    """Of the big ones 6 cost 24, of the small ones 17 cost 20.4; one and 13 cost 19.6, and the answer is no dearer."""
    singles = [plan_fleet(MIX, [each]).cost for each in KINDS]
    assert singles == pytest.approx([24.0, 20.4])
    assert most_demand(MIX, KINDS, [1, 13]).factor >= 1
    found = plan_fleet(MIX, KINDS)
    assert found.cost <= 19.6 + 1e-9 < min(singles)
    assert found.status == "optimal"


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_no_cheaper_whole_fleet_carries_the_demand(spare: int) -> None:
    """Every cheaper pair of counts is tried: none carries it without `spare` of either kind."""
    found = plan_fleet(MIX, KINDS, spare=spare)
    assert found.counts is not None
    for counts in itertools.product(range(9), range(24)):
        if 4.0 * counts[0] + 1.2 * counts[1] < found.cost - 1e-9:
            losses = [np.maximum(np.array(counts) - lost, 0) for lost in ([spare, 0], [0, spare])]
            assert min(most_demand(MIX, KINDS, left).factor for left in losses) < 1
    losses = [found.losing(k, spare).factor for k in range(2) if found.counts[k] > 0]
    assert min(losses) >= 1 - 1e-7


def test_the_certificate_is_sums_over_the_half_spaces() -> None:
    """Bound, routing and counts once more by numpy: prices within those of the kinds, loads within the counts."""
    found = plan_fleet(MIX, KINDS, headroom=0.2)
    assert found.prices is not None
    assert found.rates is not None
    assert found.counts is not None
    costs = []
    for k, kind in enumerate(KINDS):
        h = stability_region(MIX, kind.replica).half_spaces
        assert np.all(h @ found.rates[k] * 1.2 <= found.counts[k] * (1 + 1e-9))
        rows = int(np.sum(np.all(h <= h[0], axis=1) & (np.arange(len(h)) > 0)))  # time lies below memory here
        assert rows == len(h) - 1
        assert 0 <= found.prices[k] <= kind.price * (1 + 1e-12)
        costs.append(found.prices[k] * h[0])
    bound = 1.2 * float(MIX.rates @ np.min(costs, axis=0))
    assert found.bound == pytest.approx(bound, rel=1e-12)
    assert found.bound <= found.cost
    assert found.rates.sum(axis=0) == pytest.approx(MIX.rates, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_random_fleets_have_certificates(seed: int) -> None:
    """Feasible to rounding, within the prices, and the relaxation without a gap; head-room and spare ones too."""
    mix, kinds = many_types(30, 4, seed)
    for headroom, spare in ((0.0, 0), (0.1, 1)):
        found = plan_fleet(mix, kinds, headroom, spare=spare)
        assert found.check().holds(1e-7)
        assert found.bound <= found.cost * (1 + 1e-9)


def test_what_is_there_is_kept_and_what_is_added_is_cheapest() -> None:
    """With 3 big ones there, the fleet has them, and costs no less than a free choice."""
    kinds = [replace(KINDS[0], count=3), KINDS[1]]
    found = plan_fleet(MIX, kinds)
    assert found.counts is not None
    assert found.counts[0] >= 3
    assert found.cost >= plan_fleet(MIX, KINDS).cost - 1e-9
    assert found.check().holds(1e-7)


def test_too_few_replicas_are_said_with_what_is_missing() -> None:
    """The share that all there is carries, and the fewest replicas more: with one less there is no fleet."""
    kinds = [replace(KINDS[0], most=1), replace(KINDS[1], most=2)]
    found = plan_fleet(MIX, kinds)
    assert (found.feasible, found.status) == (False, "infeasible")
    assert found.carries == pytest.approx(most_demand(MIX, KINDS, [1, 2]).factor, rel=1e-9)
    assert found.missing is not None
    assert "more" in found.reason
    assert most_demand(MIX, KINDS, np.array([1, 2]) + found.missing).factor >= 1 - 1e-7
    fewer = int(found.missing.sum()) - 1
    assert all(most_demand(MIX, KINDS, [1 + big, 2 + fewer - big]).factor < 1 for big in range(fewer + 1))


def test_a_demand_that_all_there_is_carries_but_for_rounding_has_a_fleet() -> None:
    """Up to 1e-7 of the demand, as everywhere; beyond that a replica is missing."""
    few = [replace(each, most=n) for each, n in zip(KINDS, (3, 8), strict=True)]
    factor = most_demand(MIX, KINDS, [3, 8]).factor
    for over in (1e-9, 5e-8):
        found = plan_fleet(MIX.scaled(factor * (1 + over)), few)
        assert found.counts is not None, found.reason
        assert (found.counts.tolist(), found.gap) == ([3, 8], pytest.approx(0, abs=1e-7))
        assert found.check().holds()
    assert "1 x big" in plan_fleet(MIX.scaled(factor * (1 + 2e-7)), few).reason


def test_a_type_that_fits_no_kind_is_named_with_what_it_lacks() -> None:
    """9,000 + 1,000 tokens and a cache of 6,000, or a limit on the length of requests."""
    mix = Workload([PromptType(9000, 1000, 1.0, "book"), PromptType(10, 10, 1.0)])
    found = plan_fleet(mix, [Kind("a", Replica(6000, IterationTime(0.01, 1e-7)))])
    assert not found.feasible
    assert "book" in found.reason
    assert "4,000 more" in found.reason
    short = plan_fleet(mix, [Kind("a", Replica(60_000, IterationTime(0.01, 1e-7), max_model_len=4096))])
    assert "max_model_len is 4,096" in short.reason


def test_ten_thousand_types_on_five_kinds_have_a_relaxed_fleet() -> None:
    """With a certificate that holds to rounding."""
    mix, kinds = many_types(10_000, 5)
    found = plan_fleet(mix, kinds, whole=False)
    assert found.check().holds(1e-9)


@pytest.mark.parametrize(("name", "arguments"), [
    ("headroom", {"headroom": -0.1}), ("headroom", {"headroom": math.nan}), ("spare", {"spare": -1}),
    ("spare", {"spare": 1.5}), ("spare", {"spare": 1, "whole": False})])
def test_bad_numbers_are_refused(name: str, arguments: dict[str, float]) -> None:
    """The message names the argument."""
    with pytest.raises(InputError, match=name):
        plan_fleet(MIX, KINDS, **arguments)


@pytest.mark.parametrize("given", [
    {"price": 0.0}, {"price": math.inf}, {"most": -1}, {"count": 3, "most": 2}, {"name": ""}, {"count": 10**9}])
def test_bad_kinds_are_refused(given: dict[str, float | str]) -> None:
    """A price of 0, more replicas there than there can be, no name."""
    with pytest.raises(InputError):
        replace(KINDS[0], **given)


def test_fleets_without_kinds_of_one_name_or_beyond_all_size_are_refused() -> None:
    """One line, not a solver's failure."""
    for kinds in ([], [KINDS[0], KINDS[0]], None):
        with pytest.raises(InputError, match="kinds"):
            plan_fleet(MIX, kinds)
    with pytest.raises(InputError, match="rate"):
        plan_fleet(MIX.scaled(1e15), KINDS)
    tiny = plan_fleet(MIX.scaled(1e-9), KINDS)
    assert tiny.cost == 1.2
