"""Turns hold in feasible schedules; prices, areas and turns bound the optimum from below."""

import numpy as np
import pytest
from brute_force import least_total_latency_of_all, small_instances, some_of
from scipy.optimize import linprog
from small_rounds import exact as drawn

from fluid.errors import InputError
from verification.hindsight import lower_bound
from verification.hindsight.bounds import area_bound, turn_bound
from verification.hindsight.prices import Market, ascend
from verification.hindsight.program import program
from verification.hindsight.search import improved, mc_sf, total_latency
from verification.hindsight.turns import turns
from verification.rounds import Instance, MCBenchmark, all_at_once, least_total_latency, over_time, play


@pytest.mark.parametrize("draw", [all_at_once, over_time, drawn])
@pytest.mark.parametrize("together", [1, 2, 3, 5])
def test_no_moment_is_claimed_by_more_than_k(draw, together):
    """In the schedules of two policies and of the search, on twenty instances."""
    for seed in range(20):
        instance = draw(seed)
        found = turns(instance.prompts, instance.outputs, instance.memory, together)
        for starts in (mc_sf(instance), play(MCBenchmark(), instance).started, improved(instance, 300, seed)):
            finish = starts + instance.outputs
            moments = np.arange(-100, finish.max() + 100)[:, None]
            claimed = (moments >= finish - found.before) & (moments <= finish + found.after) & found.members
            assert claimed.sum(axis=1).max() <= together


def test_two_large_requests_finish_as_far_apart_as_their_claims_are_long():
    """(s, o) = (0, 8) twice, M = 10: when the first finishes with 8 the other holds 2: 6 = 2 * 8 - 10 moments later."""
    found = turns(np.array([0, 0]), np.array([8, 8]), 10, together=1)
    assert found.length.tolist() == [6, 6]
    assert least_total_latency_of_all(Instance([0, 0], [0, 0], [8, 8], memory=10)) == 8 + 14


@pytest.mark.parametrize(("size", "memory", "arrivals"), [(3, 5, 2), (4, 6, 0), (5, 5, 1), (6, 8, 0)])
def test_no_bound_exceeds_brute_force(size, memory, arrivals):
    """25 instances of each family."""
    for instance in some_of(small_instances(size, memory, arrivals=arrivals), 25, seed=size):
        found, least = lower_bound(instance), least_total_latency_of_all(instance)
        assert found.volume == least_total_latency(instance)
        assert 0 < max(found.area, found.turns, found.volume, found.prices) == found.best <= least


@pytest.mark.parametrize("seed", range(20))
def test_any_prices_bound_the_optimum_and_the_cost_of_every_start(seed):
    """L of random prices; and L + r_i(t) - min r_i is at most the least cost of a schedule that starts i at t."""
    instance = drawn(seed, most=5)
    market = Market.of(instance, instance.horizon)
    scale = 0.3 / instance.memory
    prices = np.random.default_rng(seed).uniform(0, scale, (len(market.limits), market.horizon))
    value, _ = market.answer(prices)
    assert value <= least_total_latency_of_all(instance)
    starts, cost = mc_sf(instance), market.costs(prices)
    for i, t in enumerate(starts):
        mine = cost[market.pair[i]]
        assert value + mine[t] - mine[instance.arrivals[i]:].min() <= total_latency(instance, starts) + 1e-9


def test_prices_of_nothing_leave_the_lengths():
    """With v = w = 0 everybody starts on arrival: sum o."""
    instance = over_time(0)
    market = Market.of(instance, instance.horizon)
    value, starts = market.answer(np.zeros((len(market.limits), market.horizon)))
    assert value == instance.outputs.sum()
    assert starts.tolist() == instance.arrivals.tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_dual_of_the_linear_relaxation_gives_its_value_and_the_ascent_comes_near(seed):
    """Strong duality: L at the prices that linprog finds is the relaxation; the ascent comes within 3%."""
    whole = all_at_once(seed)
    instance = Instance(whole.arrivals[:12], whole.prompts[:12], whole.outputs[:12], whole.memory)
    starts = mc_sf(instance)
    market = Market.of(instance, int((starts + instance.outputs).max()))
    made = program(market, np.zeros((len(market.limits), market.horizon)), 0.0, starts, 10**4)
    once = int(np.isfinite(made.lower).sum())
    inside = made.column_start <= market.horizon
    lp = linprog(made.costs[inside], made.matrix[once:][:, inside], made.upper[once:], made.matrix[:once][:, inside],
                 made.upper[:once], bounds=(0, None), method="highs")
    prices = -lp.ineqlin.marginals.reshape(len(market.limits), -1)
    tall = Market.of(instance, prices.shape[1])
    assert tall.answer(np.maximum(prices, 0))[0] == pytest.approx(lp.fun, rel=1e-6)
    best, _ = ascend(market, total_latency(instance, starts), 600)
    assert 0.97 * lp.fun <= best <= lp.fun * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_the_area_bound_is_the_transportation_problem(seed):
    """linprog on x_iu, tokens that i holds at moment u, against the smallest volume that has come."""
    instance = drawn(seed, most=6)
    a, s, o, M = instance.arrivals, instance.prompts, instance.outputs, instance.memory
    volume = s * o + o * (o + 1) // 2
    H = int(a.max() + -(-volume.sum() // M)) + 1
    moments = np.arange(1, H + 1)
    cost = np.where(moments > a[:, None], moments / volume[:, None], 1e6)
    n = len(a)
    lp = linprog(cost.ravel(), np.tile(np.eye(H), n), np.full(H, M), np.kron(np.eye(n), np.ones(H)), volume)
    ramps = [np.arange(1, each + 1) for each in o]
    shape = sum(o[i] - (j * (s[i] + j)).sum() / volume[i] for i, j in enumerate(ramps))
    expected = max(np.ceil(lp.fun + shape - a.sum() - 1e-6), o.sum())
    assert area_bound(instance) == expected


def test_equal_large_requests_are_bounded_by_their_turns_exactly():
    """Six of (0, 8) with M = 10 finish at 8, 14, 20, ...: 6 * 8 + 6 * (0 + 1 + ... + 5)."""
    instance = Instance([0] * 6, [0] * 6, [8] * 6, memory=10)
    assert turn_bound(instance) == 48 + 6 * 15 == total_latency(instance, mc_sf(instance))


def test_thousands_of_requests_get_a_bound_below_a_schedule_and_above_the_volumes():
    """2,000 requests at once: no prices for so long a horizon, and turns are worth more than volumes and areas."""
    rng = np.random.default_rng(5)
    prompts = rng.integers(1, 6, 2000)
    instance = Instance([0] * 2000, prompts, rng.integers(1, 41 - prompts), memory=40)
    found = lower_bound(instance)
    assert found.volume < found.area < found.turns == found.best <= total_latency(instance, mc_sf(instance))
    assert found.prices == 0
    assert found.to_frame().shape == (4, 2)


def test_nobody_has_the_bound_zero_and_negative_steps_are_refused():
    """Without requests nothing is spent."""
    empty = Instance([], [], [], memory=5)
    assert lower_bound(empty).best == 0
    with pytest.raises(InputError, match="steps"):
        lower_bound(empty, steps=-1)
