"""Prefill and decode apart: pools by hand, links, prices against differences, certificates, colocated beside."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluid import InputError, IterationTime, PromptType, Replica, Workload, solve, stability_region, stage_profile
from fluid.planning import Kind, Part, Transfer, colocated, most_tandem, pace, plan_tandem

D0, D1, D2, D3, C = 0.008, 5e-8, 4e-5, 1e-5, 400_000
GPU = Replica(C, IterationTime(D0, D1, D2, D3), first_token="prefill")
LINK = Transfer(2e10, 1e5, 0.001)
FAST = Transfer(1e12, 1.0)  # as good as none
ONE = Workload([PromptType(3000, 300, 30.0)])
MIX = Workload([PromptType(200, 1000, 8.0, "chat"), PromptType(8000, 50, 6.0, "document"), PromptType(900, 1, 5.0)])


def pools(replica: Replica = GPU, link: Transfer = LINK, prices: tuple[float, float] = (1.0, 1.0),
          ) -> tuple[list[Kind], list[Kind]]:
    """One kind each."""
    prefill, decode = (Kind(role, replica, price, part=Part(role, link))
                       for role, price in zip(("prefill", "decode"), prices, strict=True))
    return [prefill], [decode]


def load(mix: Workload, kind: Kind) -> float:
    """Replicas of a kind that the mix takes, by its half-spaces."""
    return kind.region(stage_profile(*kind.seen(mix))).edge_load(mix.rates)


def test_loads_of_the_pools_are_those_of_their_stages_by_hand() -> None:
    """A prefill: 3,000 tokens in one iteration; a decode: 299 iterations of 3,001 to 3,299; both hold 3,000 for T."""
    seconds = 0.001 + 3000 * 1e5 / 2e10
    prefill = (D1 + D2) * 3000 + D3 + D0 * 3000 / C + 3000 * seconds / C
    work = sum(3000 + s for s in range(1, 300))
    decode = D1 * work + D3 * 299 + D0 * work / C + 3000 * seconds / C
    found = most_tandem(ONE, *pools(), [5], [4])
    assert found.prefill.factor == pytest.approx(5 / (30 * prefill), rel=1e-9)
    assert found.decode.factor == pytest.approx(4 / (30 * decode), rel=1e-9)
    assert found.factor == min(found.prefill.factor, found.decode.factor)
    assert found.check().holds(1e-9)
    assert plan_tandem(ONE, *pools()).ratio == pytest.approx(prefill / decode, rel=1e-9)


def test_by_the_convention_of_the_paper_every_token_is_decoded() -> None:
    """With first_token = "decode" there are 300 decode stages, and a request of one token is decoded too."""
    replica = replace(GPU, first_token="decode")
    work = sum(3000 + s for s in range(1, 301))
    seconds = 0.001 + 3000 * 1e5 / 2e10
    decode = D1 * work + D3 * 300 + D0 * work / C + 3000 * seconds / C
    assert most_tandem(ONE, *pools(replica), [9], [1]).factor == pytest.approx(1 / (30 * decode), rel=1e-9)
    assert len(plan_tandem(MIX, *pools(replica)).decode.workload) == 3


def test_requests_of_one_token_end_at_their_prefill() -> None:
    """Where prefills make the first token they never come to the decode pool, and cost nothing there."""
    found = plan_tandem(MIX, *pools())
    assert found.decode.workload.names == ("chat", "document")
    assert found.worth.shape == (3,)
    assert found.worth[2] == found.prefill.worth[2]
    only = Workload([PromptType(900, 1, 5.0)])
    with pytest.raises(InputError, match="at least 2 tokens"):
        plan_tandem(only, *pools())


def test_a_slow_link_binds_in_both_pools() -> None:
    """A replica moves b/(k l) prompts a second and no more: 2e9 / (1e5 * 3000) = 6.67."""
    found = most_tandem(ONE, *pools(link=Transfer(2e9, 1e5)), [4], [9])
    assert found.factor == pytest.approx(4 * (2e9 / (1e5 * 3000)) / 30, rel=1e-9)
    slow = plan_tandem(ONE, *pools(link=Transfer(2e9, 1e5)))
    assert slow.prefill.limits == slow.decode.limits == ("link",)
    assert slow.check().holds(1e-9)


def test_whole_blocks_behind_a_cached_prefix_are_moved() -> None:
    """A prompt of 1,000 with 300 cached leaves 700 tokens, 704 in blocks of 16."""
    mix = Workload([PromptType(1000, 50, 1.0, cached_prefix=300)])
    found = most_tandem(mix, *pools(replace(GPU, block=16), Transfer(1e3, 1.0)), [1], [99])
    assert found.factor == pytest.approx(1e3 / 704, rel=1e-9)


@pytest.mark.parametrize("counts", [(5, 2), (2, 5), (3.3, 7.0)])
def test_one_more_replica_is_worth_what_the_edge_moves(counts: tuple[float, float]) -> None:
    """The price of the pool that binds is the difference quotient; one more of the other is worth nothing."""
    found = most_tandem(MIX, *pools(), [counts[0]], [counts[1]])
    for role, pool, step in (("prefill", found.prefill, (1e-3, 0.0)), ("decode", found.decode, (0.0, 1e-3))):
        up, down = (most_tandem(MIX, *pools(), [counts[0] + sign * step[0]], [counts[1] + sign * step[1]]).factor
                    for sign in (1, -1))
        binds = found.binds == role
        assert pool.margins[0].replica * binds == pytest.approx((up - down) / 2e-3, rel=1e-6, abs=1e-9)
        more = most_tandem(MIX, *pools(), [counts[0] + (role == "prefill")], [counts[1] + (role == "decode")])
        assert found.one_more(role) == pytest.approx(more.factor - found.factor, abs=1e-12)
        assert (found.one_more(role) > 0) == binds


def test_no_cheaper_pair_of_counts_carries_the_demand() -> None:
    """Every cheaper pair is tried; the fractions that prove the cost are the loads times the prices."""
    kinds = pools(prices=(3.0, 2.0))
    found = plan_tandem(MIX, *kinds, headroom=0.1)
    assert found.cost == 3.0 * found.prefill.cost / 3.0 + found.decode.cost
    loads = [1.1 / most_tandem(MIX, *kinds, [1], [99]).factor, 1.1 / most_tandem(MIX, *kinds, [99], [1]).factor]
    assert found.bound == pytest.approx(3.0 * loads[0] + 2.0 * loads[1], rel=1e-7)
    assert found.check().holds(1e-7)
    for counts in itertools.product(range(1, 12), range(1, 12)):
        if 3.0 * counts[0] + 2.0 * counts[1] < found.cost - 1e-9:
            assert most_tandem(MIX, *kinds, [counts[0]], [counts[1]]).factor < 1.1


@pytest.mark.parametrize("prefill", ["whole", 256])
@pytest.mark.parametrize("first_token", ["prefill", "decode"])
def test_stages_and_work_of_the_parts_add_up(prefill: str | int, first_token: str) -> None:
    """Stages, KV work and time work of a request, once whole and once in two parts."""
    replica = replace(GPU, prefill=prefill, first_token=first_token, block=16)
    mix = Workload([PromptType(700, 90, 1.0), PromptType(31, 2, 1.0)])
    whole = stage_profile(mix, replica)
    first, second = (stage_profile(*Part(role, LINK).of(mix, replica)) for role in ("prefill", "decode"))
    assert (first.stages + second.stages).tolist() == whole.stages.tolist()
    assert (first.kv_work + second.kv_work).tolist() == whole.kv_work.tolist()
    parts = first.time_work(GPU.iteration_time) + second.time_work(GPU.iteration_time)
    assert parts == pytest.approx(whole.time_work(GPU.iteration_time), rel=1e-12)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9000), st.integers(2, 2000), st.floats(0.1, 20.0)), min_size=1, max_size=3),
       st.sampled_from([None, 64]), st.sampled_from(["whole", 512]))
def test_with_one_line_identical_replicas_never_carry_more_apart(types: list[tuple[int, int, float]], cap: int | None,
                                                                 prefill: str | int) -> None:
    """e <= e_P + e_D, for any mix; as much where memory binds in both and links cost nothing."""
    mix = Workload([PromptType(*each) for each in types])
    replica = replace(GPU, max_num_seqs=cap, prefill=prefill)
    apart = [load(mix, kind) for pool in pools(replica, FAST) for kind in pool]
    whole = stability_region(mix, replica).edge_load(mix.rates)
    assert whole <= sum(apart) * (1 + 1e-9)
    if cap is None:
        assert whole == pytest.approx(sum(apart), rel=1e-6)


def test_with_several_lines_the_colocated_limit_is_not_reached_but_apart_is_below_what_is_proved() -> None:
    """The instance of mathematics, section 17.4, for two replicas: 1.19 apart, 2.29 by the fluid limit, 1.36 proved."""
    lines = IterationTime.largest(IterationTime(0.01, 4e-7), IterationTime(0.01, 0.0, 1e-4))
    replica, mix = Replica(500_000, lines), Workload([PromptType(8000, 5, 1.0), PromptType(1, 200, 100.0)])
    prefill, decode = (load(mix, kind) for pool in pools(replica, FAST) for kind in pool)
    whole = solve(mix, replica)
    found = [2 / (prefill + decode), 2 * whole.max_rate_scale, 2 * whole.impossible.anyone.scale]
    assert found == pytest.approx([1.19, 2.29, 1.36], abs=0.005)


def test_what_is_held_for_transfers_fits_and_costs_its_share_at_most() -> None:
    """At the edge Delta* W + H <= C; without the term the edge is larger by less than the share H/C."""
    slow = Transfer(5e9, 1e5, 0.05)
    kind = pools(link=slow)[1][0]
    assert kind.part is not None
    factor = most_tandem(ONE, *pools(link=slow), [99], [1]).factor
    mine, replica = kind.seen(ONE.scaled(factor))
    held = float(kind.part.held(stage_profile(mine, replica)) @ mine.rates)
    needed = solve(mine, replica).kv_required
    assert needed is not None
    assert needed + held <= C
    without = stability_region(mine, replica).max_rate_scale(mine.rates)
    assert 1 < without <= 1 / (1 - held / C)


def test_a_token_of_cache_is_worth_what_the_edge_moves() -> None:
    """The derivative against a central difference, with KV held for transfers of a second each."""
    slow = Transfer(2e10, 1e5, 1.0)
    found = most_tandem(ONE, *pools(link=slow), [99], [3])
    up, down = (most_tandem(ONE, *pools(replace(GPU, kv_capacity=C + step), slow), [99], [3]).factor
                for step in (100, -100))
    assert found.decode.margins[0].kv_token == pytest.approx((up - down) / 200, rel=1e-4)


def test_iterations_of_a_pool_are_those_of_the_balance() -> None:
    """Delta* of a decode-only replica at its share; beside whole prompts an iteration takes d2 of one longer."""
    shares = MIX.rates[:2] / 4
    mix = Workload.from_arrays(MIX.prompt_tokens[:2], MIX.output_tokens[:2], shares)
    decode = pools()[1][0]
    own = solve(mix, replace(GPU, prefill="decode-only")).iteration_time or math.nan
    found = pace(mix, decode, shares)
    assert [*found] == pytest.approx([own, own])
    mixed = pace(mix, colocated([decode])[0], shares)
    assert mixed.iteration_time == pytest.approx(solve(mix, GPU).iteration_time)
    assert mixed.longest > D2 * 8000
    assert math.isinf(pace(mix, decode, shares * 100).iteration_time)


def test_two_kinds_may_decode() -> None:
    """Of two kinds for decodes the plan is no dearer than with either, and its certificate holds."""
    cheap = Kind("old", Replica(150_000, IterationTime(0.012, 8e-8, 1e-4, 1e-5), first_token="prefill"), 0.5,
                 part=Part("decode", LINK))
    prefill, decode = pools(prices=(3.0, 3.0))
    both = plan_tandem(MIX, prefill, [*decode, cheap])
    assert both.cost <= min(plan_tandem(MIX, prefill, [each]).cost for each in (*decode, cheap)) + 1e-9
    assert both.check().holds(1e-7)


@pytest.mark.parametrize(("make", "named"), [
    (lambda: Transfer(0.0, 1.0), "bandwidth"), (lambda: Transfer(1.0, 1.0, -1.0), "latency"),
    (lambda: Part("both", LINK), "role"), (lambda: Part("decode", None), "transfer"),  # type: ignore[arg-type]
    (lambda: Kind("a", GPU, part=1), "part"),  # type: ignore[arg-type]
    (lambda: plan_tandem(ONE, pools()[1], pools()[0]), "prefill"), (lambda: plan_tandem(ONE, [], pools()[1]), "kinds"),
    (lambda: plan_tandem(ONE, pools(replace(GPU, prefill="decode-only"))[0], pools()[1]), "prefill"),
    (lambda: plan_tandem(ONE, pools()[0], pools(replace(GPU, first_token="decode"))[1]), "first_token"),
    (lambda: most_tandem(ONE, *pools(), [1], [1]).one_more("both"), "role")])
def test_bad_values_are_refused(make: object, named: str) -> None:
    """One line that names what is wrong."""
    with pytest.raises(InputError, match=named):
        make()  # type: ignore[operator]
