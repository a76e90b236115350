"""Sifted programs: the same optimum as of all pairs at once, with the certificate of all types."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fleets import many_types

from fluid import Workload
from fluid.planning import admit, most_demand, plan_fleet, sifting
from fluid.planning.kinds import rows_of
from fluid.planning.sifting import _groups


@pytest.mark.parametrize("seed", range(3))
def test_sifting_finds_what_all_pairs_do(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 types on 6 kinds, with all 1,800 pairs and with few: cost, factor, tokens/s, certificates to rounding."""
    mix, kinds = many_types(300, 6, seed)
    counts = np.random.default_rng(seed).integers(0, 20, 6)
    found = []
    for few in (10_000, 0):
        monkeypatch.setattr(sifting, "FEW_PAIRS", few)
        plan, carried = plan_fleet(mix, kinds, whole=False), most_demand(mix, kinds, counts)
        assert plan.check().holds(1e-9)
        assert carried.check().holds(1e-8)
        admitted = admit(mix, kinds, counts / 10, "tokens")
        assert admitted.check().holds(1e-8)
        found.append((plan.cost, carried.factor, admitted.value))
    assert found[0] == pytest.approx(found[1], rel=1e-8)


def test_a_fleet_that_just_fits_is_found_where_groups_of_types_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all that `most` replicas carry is carried by them, though types that are split alike fit worse."""
    monkeypatch.setattr(sifting, "FEW_PAIRS", 0)
    mix, kinds = many_types(2000, 2)
    few = [replace(each, most=n) for each, n in zip(kinds, (3, 8), strict=True)]
    factor = most_demand(mix, kinds, [3, 8]).factor
    found = plan_fleet(mix.scaled(factor * 0.99999), few)
    assert found.counts is not None, found.reason
    assert found.counts.tolist() == [3, 8]
    assert found.check().holds()


def test_types_in_proportion_are_one_group() -> None:
    """The same lengths at any rate are parallel; types that fit other kinds are apart."""
    mix, kinds = many_types(40, 3)
    twice = Workload.from_arrays(np.tile(mix.prompt_tokens, 2), np.tile(mix.output_tokens, 2),
                                 np.concatenate([mix.rates, 3 * mix.rates]))
    group = _groups(rows_of(twice, kinds))
    assert group[:40].tolist() == group[40:].tolist()
    rows = rows_of(twice, kinds)
    rows.fits[0, 0] = False
    assert _groups(rows)[0] != _groups(rows)[40]


def test_ten_thousand_types_on_five_kinds_have_a_whole_fleet() -> None:
    """With a certificate that holds to rounding, and one kind's edge load as an upper bound on the cost."""
    mix, kinds = many_types(10_000, 5)
    found = plan_fleet(mix, kinds, 0.1)
    assert found.check().holds(1e-8)
    assert found.cost <= min(plan_fleet(mix, [each], 0.1).cost for each in kinds) + 1e-9
