"""Time between tokens as half-spaces, and limits filled in part: closed forms, the equilibrium, finite differences."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve, stability_region
from fluid.planning import Kind, admit, most_demand, plan_fleet

BIG = Replica(500_000, IterationTime(0.009, 1.5e-7, 2e-5, 2e-5))
SMALL = Replica(60_000, IterationTime(0.012, 4e-7, 5e-5, 5e-5))
MIX = Workload([PromptType(200, 1000, 20.0, "chat"), PromptType(8000, 50, 10.0, "document")])
KINDS = (Kind("big", BIG, 4.0, tpot=0.04), Kind("small", SMALL, 1.2, tpot=0.02, use=0.8))


@pytest.mark.parametrize("tpot", [0.0125, 0.02, 0.05, 1.0])
def test_of_one_kind_the_slowest_allowed_iteration_and_the_region_say_how_many(tpot: float) -> None:
    """n is the larger of e and rho tau / (tau - d0); the iteration of one replica at its share is then within tau, and
    is tau itself with fractions of replicas where that binds."""
    edge, rho = stability_region(MIX, SMALL).edge_load(MIX.rates), solve(MIX, SMALL).load
    need = max(edge, rho * tpot / (tpot - 0.012))
    found = plan_fleet(MIX, [Kind("small", SMALL, tpot=tpot)], whole=False)
    assert found.cost == pytest.approx(need, rel=1e-9)
    at_share = solve(MIX.scaled(1 / need), SMALL).iteration_time
    assert at_share is not None
    assert at_share <= tpot * (1 + 1e-9)
    if need > edge:
        assert at_share == pytest.approx(tpot)
        assert found.limits == ("tpot",)
    assert plan_fleet(MIX, [Kind("small", SMALL, tpot=tpot)]).cost == math.ceil(need)


def test_a_fleet_of_two_kinds_keeps_each_to_its_time_between_tokens() -> None:
    """The equilibrium of each replica at its share of the rates, and the certificate by sums."""
    found = plan_fleet(MIX, KINDS, 0.1)
    assert found.counts is not None
    assert found.rates is not None
    assert found.check().holds(1e-9)
    for k, kind in enumerate(KINDS):
        if found.counts[k]:
            sent = found.rates[k] > 1e-12
            types = [each for each, one in zip(MIX.types, sent, strict=True) if one]
            mine = Workload(types).at_rates(1.1 * found.rates[k][sent] / found.counts[k])
            one = solve(mine, kind.replica)
            assert one.iteration_time is not None
            assert kind.tpot is not None
            assert one.iteration_time <= kind.tpot * (1 + 1e-9)
            assert one.max_rate_scale >= (1 - 1e-9) / kind.use


def test_the_share_that_may_be_used_divides_what_is_carried() -> None:
    """Without a time between tokens: theta and 1/cost are in proportion to it."""
    whole, part = ([Kind("small", SMALL, 1.2, use=use)] for use in (1.0, 0.7))
    assert most_demand(MIX, part, [5]).factor == pytest.approx(0.7 * most_demand(MIX, whole, [5]).factor)
    assert plan_fleet(MIX, part, whole=False).cost == pytest.approx(plan_fleet(MIX, whole, whole=False).cost / 0.7)


def test_kinds_whose_empty_iteration_is_too_slow_serve_nobody() -> None:
    """12 ms of overhead against 10 ms: the other kind carries all, or the reason says so."""
    kinds = [replace(each, tpot=0.01) for each in KINDS]
    found = plan_fleet(MIX, kinds)
    assert found.counts is not None
    assert found.counts[1] == 0
    alone = plan_fleet(MIX, kinds[1:])
    assert not alone.feasible
    assert "12 ms" in alone.reason
    few = plan_fleet(MIX, [replace(kinds[0], most=2)])
    assert few.missing is not None
    assert few.missing[0] + 2 == found.counts[0]


DATA = ["kv_token", "overhead", "per_kv_token", "per_prefill_token", "per_sequence", "tpot"]


def changed(k: int, datum: str, by: float) -> list[Kind]:
    """The kinds with a datum of kind k multiplied by 1 + by."""
    kind = KINDS[k]
    if datum == "tpot":
        other = replace(kind, tpot=(kind.tpot or 0.0) * (1 + by))
    elif datum == "kv_token":
        other = replace(kind, replica=replace(kind.replica, kv_capacity=round(kind.replica.kv_capacity * (1 + by))))
    else:
        line = kind.replica.iteration_time.pieces[0]._asdict()
        time = IterationTime(**{**line, datum: line[datum] * (1 + by)})
        other = replace(kind, replica=replace(kind.replica, iteration_time=time))
    return [other if each is kind else each for each in KINDS]


def size(k: int, datum: str) -> float:
    kind = KINDS[k]
    if datum in ("kv_token", "tpot"):
        return kind.replica.kv_capacity if datum == "kv_token" else kind.tpot or 0.0
    return float(getattr(kind.replica.iteration_time.pieces[0], datum))


@pytest.mark.parametrize("datum", DATA)
@pytest.mark.parametrize("what", ["cost", "tokens"])
def test_what_a_datum_is_worth_is_its_finite_difference(what: str, datum: str) -> None:
    """Central differences of the least cost and of the most tokens, with rows for the time between tokens."""
    def solved(kinds: list[Kind]) -> float:
        return plan_fleet(MIX, kinds, whole=False).bound if what == "cost" else admit(MIX, kinds, [2, 3], what).bound

    found = (plan_fleet(MIX, KINDS, whole=False) if what == "cost" else admit(MIX, KINDS, [2, 3], what)).margins
    for k in range(2):
        step = 1e-3 if datum == "kv_token" else 1e-4
        measured = (solved(changed(k, datum, step)) - solved(changed(k, datum, -step))) / (2 * step * size(k, datum))
        scale = abs(solved(list(KINDS))) / size(k, datum)
        assert getattr(found[k], datum) == pytest.approx(measured, rel=1e-3, abs=3e-6 * scale)
    assert any(each.tpot != 0 for each in found)


def test_bad_limits_are_refused() -> None:
    """A time that is none, a share outside (0, 1]."""
    for name, value in (("tpot", 0.0), ("tpot", math.inf), ("use", 0.0), ("use", 1.2), ("use", np.nan)):
        with pytest.raises(InputError, match=name):
            replace(KINDS[0], **{name: value})
