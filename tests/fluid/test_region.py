"""The stability region: its half-spaces, its edge, and its agreement with the equilibrium."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Instance, instances, lines, max_affine, near_edge, replicas, sampled

from fluid import IterationTime, PromptType, Replica, Workload, solve, stability_region, stage_profile


@sampled
@given(instances())
def test_each_half_space_adds_the_time_a_prompt_takes_and_its_share_of_memory(instance: Instance) -> None:
    """h_ij = c_ij + a_i w_j/C, with c and w summed over explicit stages."""
    mix, replica = instance
    region, profile = stability_region(mix, replica), stage_profile(mix, replica)
    for i, (a, d1, d2, d3) in enumerate(replica.iteration_time.pieces):
        for j in range(len(mix)):
            read, taken = int(profile.stage_read(j).sum()), int(profile.stage_prefill(j).sum())
            c = d1 * read + d2 * taken + d3 * profile.stage_read(j).size
            expected = c + a * int(profile.stage_kv(j).sum()) / replica.kv_capacity
            assert region.half_spaces[i, j] == pytest.approx(expected, rel=1e-12)


@sampled
@given(instances(load=(0.01, 2.0)))
def test_rates_are_in_the_region_if_and_only_if_the_equilibrium_passes_no_limit(instance: Instance) -> None:
    found = solve(*instance)
    inside = found.limit is None
    assert found.region.contains(instance.workload.rates) == (found.max_rate_scale >= 1) == inside
    assert found.stable == (inside and not found.impossible.beyond_anyone)


@sampled
@given(near_edge())
def test_the_equilibrium_agrees_with_the_region_a_millionth_from_its_edge(drawn: tuple[Instance, float]) -> None:
    """At rates f times the edge M*/C - 1 = (f - 1)/(1 - rho) >= f - 1 > 1e-9 in size: beyond the shared tolerance."""
    instance, factor = drawn
    found = solve(*instance)
    assert (found.limit is None) == found.region.contains(instance.workload.rates) == (factor < 1)
    assert found.max_rate_scale == pytest.approx(1 / factor, rel=1e-12)


@sampled
@given(instances(load=(0.01, 2.0)))
def test_the_mix_at_its_largest_rates_needs_the_whole_capacity(instance: Instance) -> None:
    """M* = C to 1e-9; 1 - rho = d0 W/C is above 8e-6 there (see strategies), so rounding costs at most some 1e-10."""
    mix, replica = instance
    edge = solve(mix.scaled(solve(mix, replica).max_rate_scale), replica)
    assert edge.kv_required == pytest.approx(replica.kv_capacity, rel=1e-9)
    assert edge.region.contains(edge.workload.rates)
    assert edge.max_rate_scale == pytest.approx(1.0, rel=1e-12)


@sampled
@given(instances(), st.floats(1e-6, 1e6))
def test_the_largest_scale_is_inverse_to_the_rates(instance: Instance, factor: float) -> None:
    mix, replica = instance
    scale = solve(mix.scaled(factor), replica).max_rate_scale
    assert scale == pytest.approx(solve(mix, replica).max_rate_scale / factor, rel=1e-12)


@sampled
@given(instances(replica=replicas(max_affine())))
def test_the_region_of_several_lines_is_the_intersection_of_theirs(instance: Instance) -> None:
    mix, replica = instance
    pieces = [replace(replica, iteration_time=IterationTime(*line)) for line in replica.iteration_time.pieces]
    scales = [solve(mix, piece).max_rate_scale for piece in pieces]
    assert solve(mix, replica).max_rate_scale == pytest.approx(min(scales), rel=1e-14)


@sampled
@given(instances(), st.lists(st.floats(0.01, 1.0), min_size=5, max_size=5), st.floats(0.0, 1.0))
def test_a_mixture_of_two_mixes_inside_is_inside(instance: Instance, weights: list[float], share: float) -> None:
    """The region is convex: points on its edge, averaged, do not leave it."""
    mix, replica = instance
    region = stability_region(mix, replica)
    other = mix.rates * np.array(weights[: len(mix)])
    one, two = (rates * region.max_rate_scale(rates) for rates in (mix.rates, other))
    assert region.contains(share * one + (1 - share) * two)


@sampled
@given(instances())
def test_the_region_does_not_depend_on_the_rates_it_is_asked_for(instance: Instance) -> None:
    mix, replica = instance
    one, two = stability_region(mix, replica), stability_region(mix.scaled(3.0), replica)
    assert np.array_equal(one.half_spaces, two.half_spaces)
    assert one.max_rate_scale(mix.rates) == solve(mix, replica).max_rate_scale


@sampled
@given(instances())
def test_more_memory_or_a_faster_server_carries_at_least_as_much(instance: Instance) -> None:
    mix, replica = instance
    faster = [IterationTime(*(0.9 * value for value in line)) for line in replica.iteration_time.pieces]
    scale = solve(mix, replica).max_rate_scale
    assert solve(mix, replace(replica, kv_capacity=replica.kv_capacity + 1)).max_rate_scale >= scale
    quick = solve(mix, replace(replica, iteration_time=IterationTime.largest(*faster)))
    assert quick.max_rate_scale == pytest.approx(scale / 0.9, rel=1e-12)


def test_a_type_that_never_fits_is_outside_at_every_rate_but_leaves_the_others_alone() -> None:
    """10 + 5 tokens hold at most 15 = C; 10 + 6 need 16. The first type's edge: w = 6 (10 + 2.5) = 75, h = w/C = 5."""
    mix = Workload([PromptType(10, 5, 1e-9), PromptType(10, 6, 1e-9)])
    region = stability_region(mix, Replica(15, IterationTime(1.0, 0.0)))
    assert region.never_fits.tolist() == [1]
    assert region.max_rate_scale(mix.rates) == 0.0
    assert not region.contains([1e-9, 1e-300])
    assert region.contains([0.2, 0.0])
    assert not region.contains([0.2001, 0.0])


def test_blocks_decide_whether_a_type_fits() -> None:
    """10 + 5 tokens take 15 <= 15 in blocks of one or five, and 16 > 15 in blocks of four."""
    mix, replica = Workload([PromptType(10, 5, 1e-9)]), Replica(15, IterationTime(1.0, 0.0))
    fits = [stability_region(mix, replace(replica, block=block)).never_fits.size == 0 for block in (1, 5, 4)]
    assert fits == [True, True, False]


def nie_work(prompt: int, output: int, chunk: int) -> float:
    """[N]: g(l, o) = ((1 + l/q) l + 2 o l + (1 + o) o)/2."""
    return ((1 + prompt / chunk) * prompt + 2 * output * prompt + (1 + output) * output) / 2


def nie_rate(mix: Workload, replica: Replica, chunks: list[int]) -> float:
    """[N]: mu = M/(b E[g]) with the batch time of a full cache, b = d0 + d1 M."""
    d0, d1, _, _ = replica.iteration_time.pieces[0]
    g = [nie_work(t.prompt_tokens, t.output_tokens, q) for t, q in zip(mix.types, chunks, strict=True)]
    mean = float(np.dot(g, mix.rates)) / mix.rate
    return replica.kv_capacity / ((d0 + d1 * replica.kv_capacity) * mean)


def decode_first(replica: Replica) -> Replica:
    """The replica with the first token from the decode, as [N] counts, and room for the stage that this adds."""
    return replace(replica, first_token="decode", kv_capacity=replica.kv_capacity + 1)


no_prefill_time = instances(replica=replicas(lines(extras=False), plain=True))


@sampled
@given(no_prefill_time)
def test_whole_prefill_has_its_edge_at_the_service_rate_of_nie_si_and_zhou(instance: Instance) -> None:
    """q = l: g = (2 l + 2 o l + o + o^2)/2 = (o + 1)(l + o/2) = w, so the edge C/((d0 + d1 C) E[w]) is mu itself.

    It lies in their bracket mu (1 - max(l + o)/M) <= edge <= mu.
    """
    mix, replica = instance.workload, decode_first(instance.replica)
    mu = nie_rate(mix, replica, mix.prompt_tokens.tolist())
    edge = mix.rate * solve(mix, replica).max_rate_scale
    assert edge == pytest.approx(mu, rel=1e-12)
    assert mu * (1 - (mix.prompt_tokens + mix.output_tokens).max() / replica.kv_capacity) <= edge * (1 + 1e-12)


@sampled
@given(no_prefill_time, st.integers(1, 250))
def test_chunked_prefill_falls_short_of_that_rate_by_the_last_partial_chunk(instance: Instance, q: int) -> None:
    """K = ceil(l/q) stages and r = l - q (K - 1) tokens in the last. Stages held: q K (K - 1)/2 + l, against [N]'s
    smooth (1 + l/q) l/2: the difference is (q - r)(2 K - 2 + r/q)/2 >= 0, zero where q divides l. It is below
    (q - r) K, so edge/mu = E[g]/E[w] lies between 1 - E[(q - r) K]/E[w] and 1.
    """
    mix, replica = instance.workload, replace(decode_first(instance.replica), prefill=q)
    K = -(-mix.prompt_tokens // q)
    r = mix.prompt_tokens - q * (K - 1)
    g = np.array([nie_work(t.prompt_tokens, t.output_tokens, q) for t in mix.types])
    w = stage_profile(mix, replica).kv_work
    assert w - g == pytest.approx((q - r) * (2 * K - 2 + r / q) / 2, abs=1e-9 * w.max())
    ratio = mix.rate * solve(mix, replica).max_rate_scale / nie_rate(mix, replica, [q] * len(mix))
    assert 1 - np.dot((q - r) * K, mix.rates) / np.dot(w, mix.rates) - 1e-12 <= ratio <= 1 + 1e-12


def test_an_edge_load_beyond_the_floats_is_held_at_the_largest_one() -> None:
    region = stability_region(Workload([PromptType(512, 20, 1.0)] * 2), Replica(9, IterationTime(1.0, 1.0)))
    assert region.edge_load([1.7e308, 1.7e308]) == np.finfo(np.float64).max
    assert math.isfinite(region.max_rate_scale([1.7e308, 1.7e308]))


def test_no_traffic_at_all_is_inside() -> None:
    """sum_j 0 h_j = 0 <= 1."""
    assert stability_region(Workload([PromptType(1, 1, 1.0)]), Replica(9, IterationTime(1.0, 0.0))).contains([0.0])


def test_region_and_equilibrium_agree_where_memory_is_a_billionth_of_the_load() -> None:
    """w = 3, d1 = 1/3, rho = rate = 1 - 5e-10 counts as 1; d0 w/C = 3e-6/2^40 adds nothing to the load of the edge."""
    found = solve(Workload([PromptType(1, 1, 1 - 5e-10)]), Replica(2**40, IterationTime(1e-6, 1 / 3)))
    assert found.stable == found.region.contains(found.workload.rates)
