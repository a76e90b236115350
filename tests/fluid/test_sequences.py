"""The cap on sequences in a batch: its half-spaces, its place in the equilibrium, and what the answer says of it."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from strategies import Instance, capped, instances, lines, replicas, sampled

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve, stability_region, stage_profile
from fluid.symbolic import SymbolicRegion, derive, derive_region

LINE = IterationTime(0.01, 1e-6)
derived = cache(derive)


@cache
def derived_region(types: int) -> SymbolicRegion:
    return derive_region(derived(types), "sequences")


@sampled
@given(capped())
def test_the_cap_adds_a_half_space_for_each_line(instance: Instance) -> None:
    """h_ij = c_ij + a_i S_j/B after the rows of memory, which stay as they are without a cap."""
    mix, replica = instance
    region, free = stability_region(mix, replica), stability_region(mix, replace(replica, max_num_seqs=None))
    pieces, stages = len(replica.iteration_time.pieces), stage_profile(mix, replica).stages
    assert region.limits == ("memory",) * pieces + ("sequences",) * pieces + ("time",) * pieces
    assert region.half_spaces.shape == (3 * pieces, len(mix))
    assert free.limits == ("memory",) * pieces + ("time",) * pieces
    assert np.array_equal(np.delete(region.half_spaces, np.s_[pieces:2 * pieces], axis=0), free.half_spaces)
    for i, a in enumerate(replica.iteration_time.overheads.tolist()):
        c = stage_profile(mix, replica).time_work(replica.iteration_time)[i]
        assert region.half_spaces[pieces + i] == pytest.approx(c + a * stages / replica.max_num_seqs, rel=1e-12)


@sampled
@given(capped(load=(0.01, 2.0)))
def test_rates_are_in_the_region_if_and_only_if_memory_and_batch_take_the_equilibrium(instance: Instance) -> None:
    """Stable: rho < 1, M* <= C and sum_j n_j* S_j <= B, the last summed from explicit stages."""
    found = solve(*instance)
    assert found.region.contains(instance.workload.rates) == (found.limit is None)
    if found.inventory is None:
        assert found.sequences is None
        return
    sequences = math.fsum(n * len(found.profile.stage_kv(j)) for j, n in enumerate(found.inventory.tolist()))
    assert found.sequences == pytest.approx(sequences, rel=1e-12)
    fits = [sequences / instance.replica.max_num_seqs, found.kv_required / found.kv_capacity]
    assert (found.limit is None) == (max(fits) <= 1 + 1e-9)
    if found.limit is not None:
        assert found.limit == ("sequences" if fits[0] > fits[1] else "memory")


@sampled
@given(capped(load=(0.01, 2.0)))
def test_at_the_largest_rates_the_limit_that_binds_is_met_exactly(instance: Instance) -> None:
    """There M* = C or sum_j n_j* S_j = B, whichever the region names; 1e-7 leaves room for a division by 1 - rho."""
    mix, replica = instance
    edge = solve(mix.scaled(solve(mix, replica).max_rate_scale), replica)
    share = {"memory": (edge.kv_required or 0.0) / edge.kv_capacity,
             "sequences": (edge.sequences or 0.0) / replica.max_num_seqs, "time": edge.load}
    assert share[edge.region.binding(mix.rates)] == pytest.approx(1.0, rel=1e-7)
    assert max(share.values()) <= 1 + 1e-7


@sampled
@given(capped(), st.integers(1, 100))
def test_a_larger_cap_carries_at_least_as_much_and_a_huge_one_changes_nothing(instance: Instance, more: int) -> None:
    mix, replica = instance
    scale = solve(mix, replica).max_rate_scale
    wider = replace(replica, max_num_seqs=replica.max_num_seqs + more)
    assert solve(mix, wider).max_rate_scale >= scale
    free, huge = (solve(mix, replace(replica, max_num_seqs=cap)) for cap in (None, 2**50))
    assert free.max_rate_scale == pytest.approx(huge.max_rate_scale, rel=1e-12)
    assert (free.stable, free.limit, free.kv_required) == (huge.stable, huge.limit, huge.kv_required)


def test_one_type_reaches_the_rate_of_a_batch_that_is_always_full() -> None:
    """10 + 4: S = 5, c = d1 (10 + 11 + .. + 14) = 60 d1. B = 8 slots turn over once in S iterations of d0 + 8 c/5:
    the edge is 8/(5 d0 + 8 c) = 8/(0.05 + 4.8e-4) requests/s, in a cache that takes far more.
    """
    found = solve(Workload([PromptType(10, 4, 1.0)]), Replica(10**9, LINE, max_num_seqs=8))
    assert found.max_rate_scale == pytest.approx(8 / (0.05 + 8 * 60e-6), rel=1e-12)
    assert found.region.binding([1.0]) == "sequences"


@pytest.mark.parametrize(("rate", "cap", "capacity", "words"), [
    (20.0, None, 1000, ("stable: needs 12 of 1,000 KV tokens; memory binds at",)),
    (20.0, 8, 1000, ("stable: needs 12 of 1,000 KV tokens and 1 of 8 sequences in a batch; max_num_seqs binds at",)),
    (20.0, 800, 1000, ("KV tokens and 1 of 800 sequences in a batch; memory binds at",)),
    (400.0, 8, 1000, ("overloaded: needs 20.5 sequences in a batch, the replica takes 8 (max_num_seqs)",
                      "the mix is stable at most up to 0.3962 of these rates")),
    (20.0, 10**13, 10**14, ("; time binds at",)),
])
def test_the_reason_names_what_binds(rate: float, cap: int | None, capacity: int, words: tuple[str, ...]) -> None:
    """10 + 4: w = 60, S = 5, c = 6e-5 s. At 20/s Delta* = 0.01/(1 - 0.0012), n* = 0.2: 12 tokens, 1 sequence.

    At 400/s Delta* = 0.01/0.976, n* = 4.1: 20.5 sequences; the edge is 8/(0.05 + 4.8e-4) = 158.48, 0.3962 of 400. Where
    d0 w/C = 6e-15 and d0 S/B = 5e-15 are far below 3e-9 c = 1.8e-13 only time is left to bind.
    """
    replica = Replica(capacity, LINE, max_num_seqs=cap)
    reason = solve(Workload([PromptType(10, 4, rate)]), replica).reason
    for part in words:
        assert part in reason
    assert "\n" not in reason


@pytest.mark.parametrize("cap", [0, -1, 1.5, "many", True, float("nan"), 2**60])
def test_a_cap_that_is_no_count_is_refused(cap: object) -> None:
    with pytest.raises(InputError, match=r"max_num_seqs must be a whole number of sequences from 1 to .* in replica"):
        Replica(100, LINE, max_num_seqs=cap)  # type: ignore[arg-type]


@pytest.mark.parametrize("types", [1, 2])
def test_the_half_space_of_the_cap_is_derived_by_algebra(types: int) -> None:
    """sequences(z lambda) = B gives h_j = c_j + d0 (o_j + 1)/B."""
    symbolic = derive(types)
    region = derive_region(symbolic, "sequences")
    x = symbolic.symbols
    for h, c, o in zip(region.half_spaces, symbolic.time_work, x.decodes, strict=True):
        assert sp.simplify(h - c - x.overhead * (o + 1) / x.max_num_seqs) == 0


@sampled
@given(instances(replica=replicas(lines(), plain=True), most_types=2), st.integers(1, 1000))
def test_the_derived_half_space_equals_the_numerical_one(instance: Instance, cap: int) -> None:
    mix, replica = instance.workload, replace(instance.replica, max_num_seqs=cap)
    symbolic, found = derived(len(mix)), solve(mix, replica)
    region = derived_region(len(mix))
    assert symbolic.numeric(symbolic.sequences, mix, replica) == pytest.approx(found.sequences, rel=1e-12)
    for h, number in zip(region.half_spaces, found.region.half_spaces[1], strict=True):
        assert region.numeric(h, mix, replica) == pytest.approx(number, rel=1e-12)


def test_the_derived_half_space_needs_a_cap_and_a_known_limit() -> None:
    symbolic = derive()
    region = derive_region(symbolic, "sequences")
    with pytest.raises(InputError, match="max_num_seqs must be given"):
        region.numeric(region.max_rate_scale, PromptType(2, 3, 0.1), Replica(99, LINE))
    with pytest.raises(InputError, match='limit must be "memory" or "sequences"'):
        derive_region(symbolic, "time")
