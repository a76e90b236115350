"""The program is brute force on all small instances; limits, interrupts and bounds are what they are said to be."""

import cvxpy as cp
import numpy as np
import pytest
from brute_force import least_total_latency_of_all, small_instances, some_of
from small_rounds import exact as drawn

from fluid.errors import InputError
from verification.hindsight import hindsight
from verification.hindsight.prices import Market, ascend
from verification.hindsight.program import program
from verification.hindsight.search import improved, mc_sf, place, total_latency
from verification.hindsight.solver import solve
from verification.rounds import Instance, all_at_once, over_time


def is_the_optimum(instance):
    found, least = hindsight(instance), least_total_latency_of_all(instance)
    assert (found.status, found.objective, found.bound, found.gap) == ("optimal", least, least, 0)
    assert found.schedule.violations == ()
    assert found.schedule.total_latency == least
    assert found.mc_sf >= least


@pytest.mark.parametrize(("size", "memory", "arrivals"), [(2, 6, 0), (3, 6, 0), (4, 5, 0), (5, 6, 0), (6, 6, 0),
                                                          (6, 8, 0), (3, 6, 2), (4, 5, 2), (5, 6, 2), (6, 5, 1)])
def test_the_program_is_brute_force_on_a_sample_of_all_small_instances(size, memory, arrivals):
    """Up to 25 of each family: prompts of 1 or 2 tokens, outputs of 1 to 3."""
    for instance in some_of(small_instances(size, memory, arrivals=arrivals), 25, seed=size):
        is_the_optimum(instance)


@pytest.mark.slow
@pytest.mark.parametrize("memory", range(4, 10))
@pytest.mark.parametrize("size", range(1, 7))
def test_the_program_is_brute_force_on_all_instances_of_up_to_six_requests(size, memory):
    """Every multiset of (s, o) with s in 1, 2 and o in 1..3 that fits, all at once."""
    for instance in small_instances(size, memory):
        is_the_optimum(instance)


@pytest.mark.slow
@pytest.mark.parametrize("memory", range(4, 8))
@pytest.mark.parametrize("size", range(1, 4))
def test_the_program_is_brute_force_on_all_instances_of_up_to_three_requests_that_come_over_time(size, memory):
    """As above with arrivals 0, 1 and 2."""
    for instance in small_instances(size, memory, arrivals=2):
        is_the_optimum(instance)


@pytest.mark.parametrize("seed", range(20))
def test_larger_tokens_and_empty_prompts_change_nothing(seed):
    """Up to five requests within a dozen rounds, prompts of 0 to 4 tokens, memories of 6 to 25."""
    is_the_optimum(drawn(seed, most=5))


def in_words(instance):
    """The integer program of mathematics, section 7.4, with x_it on the safe horizon."""
    horizon, M = instance.horizon, instance.memory
    requests = list(zip(instance.arrivals, instance.prompts, instance.outputs, strict=True))
    x = [cp.Variable(horizon, boolean=True) for _ in requests]
    cost = sum(np.arange(horizon) @ x[i] + o - a for i, (a, _, o) in enumerate(requests))
    once = [cp.sum(x[i][a:]) == 1 for i, (a, _, _) in enumerate(requests)]
    once += [cp.sum(x[i][:a]) == 0 for i, (a, _, _) in enumerate(requests) if a]
    memory = [sum((s + t - k) * x[i][k] for i, (a, s, o) in enumerate(requests)
                  for k in range(max(a, t - o), min(t, horizon))) <= M for t in range(1, horizon + 1)]
    memory = [each for each in memory if not isinstance(each, bool | np.bool_)]
    problem = cp.Problem(cp.Minimize(cost), [*once, *memory])
    problem.solve(solver=cp.HIGHS)
    return round(problem.value)


@pytest.mark.parametrize("seed", range(4))
def test_the_program_of_the_paper_written_in_cvxpy_has_the_same_optimum(seed):
    """One variable for each request and moment, no turns, no start left out, the safe horizon."""
    instance = drawn(seed, most=6)
    assert hindsight(instance).objective == in_words(instance)


def some(count, seed=1):
    """The first requests of an instance of [J]."""
    whole = all_at_once(seed)
    return Instance(whole.arrivals[:count], whole.prompts[:count], whole.outputs[:count], whole.memory)


def test_at_the_time_limit_schedule_bound_and_gap_are_reported():
    """Twenty requests of [J] are not solved in a second; the bound is below what is known to be feasible."""
    seen = []
    found = hindsight(some(20), time_limit=1.0, progress=lambda *done: seen.append(done))
    assert found.status == "time limit"
    assert found.schedule.violations == ()
    assert 0 < found.bound < found.objective <= found.mc_sf
    assert found.gap == pytest.approx(1 - found.bound / found.objective)
    assert set(seen) <= {(0, 1), (1, 1)}
    assert "time limit" in str(found)


def test_a_gap_that_is_asked_for_is_enough():
    """With 60% allowed MC-SF and the bound by prices suffice."""
    found = hindsight(some(20), gap=0.6)
    assert found.status == "optimal"
    assert found.gap <= 0.6


def test_an_interrupt_returns_the_best_so_far():
    """The first report of progress, after a slice of the search, is answered by KeyboardInterrupt."""
    def stop(done, of):
        raise KeyboardInterrupt
    found = hindsight(some(20), progress=stop)
    assert found.status == "interrupted"
    assert found.schedule.violations == ()
    assert found.objective <= found.mc_sf


def test_an_interrupt_in_the_solver_keeps_its_schedule_and_its_bound():
    """HiGHS is stopped at the first look: it holds what it was given, or better."""
    instance = some(20)
    starts = mc_sf(instance)
    cost = total_latency(instance, starts)
    market = Market.of(instance, int((starts + instance.outputs).max()))
    value, prices = ascend(market, cost, 100)
    made = program(market, prices, value, starts, cost)

    def stop():
        raise KeyboardInterrupt
    answer = solve(made, made.values(starts), 60.0, 0.0, stop)
    assert answer.interrupted
    assert answer.values is None or made.costs @ answer.values <= cost + 1e-6
    assert answer.bound <= cost


def test_a_schedule_is_read_back_from_the_variables_it_became():
    """Twins may exchange their starts; sorted within a class they are the same."""
    instance = Instance([0, 0, 0, 1], [1, 1, 2, 1], [2, 2, 1, 2], memory=5)
    starts = mc_sf(instance)
    market = Market.of(instance, instance.horizon)
    cost, prices = total_latency(instance, starts), np.zeros((len(market.limits), market.horizon))
    made = program(market, prices, 0.0, starts, cost)
    assert made.starts(made.values(starts)).tolist() == starts.tolist()


@pytest.mark.parametrize("seed", range(30))
def test_annealing_gives_feasible_schedules_and_never_loses_to_mc_sf(seed):
    """Whatever the order, and whatever the instance."""
    instance = drawn(seed)
    found = hindsight(instance, time_limit=0.0)
    starts = improved(instance, 300, seed)
    assert found.mc_sf >= total_latency(instance, starts)
    order = np.random.default_rng(seed).permutation(len(instance))
    used = np.zeros(instance.horizon + int(instance.outputs.max()) + 2, dtype=np.int64)
    placed = np.zeros(len(instance), dtype=np.int64)
    total = place(order, instance.arrivals, instance.prompts, instance.outputs, instance.memory, used, placed, 2**62)
    assert total == total_latency(instance, placed)
    assert used.max() <= instance.memory
    assert np.all(placed >= instance.arrivals)


def test_a_placed_request_cannot_start_a_moment_earlier_than_it_does():
    """Each is tried at every moment from its arrival on, against all that were placed before it."""
    instance = over_time(3)
    n, H = len(instance), instance.horizon + 60
    order = np.random.default_rng(0).permutation(n)
    used, starts = np.zeros(H, dtype=np.int64), np.zeros(n, dtype=np.int64)
    place(order, instance.arrivals, instance.prompts, instance.outputs, instance.memory, used, starts, 2**62)
    held = np.zeros(H, dtype=np.int64)
    for i in order:
        ramp = instance.prompts[i] + np.arange(1, instance.outputs[i] + 1)
        fits = [np.all(held[t + 1:t + 1 + len(ramp)] + ramp <= instance.memory)
                for t in range(instance.arrivals[i], starts[i] + 1)]
        assert fits == [False] * (len(fits) - 1) + [True]
        held[starts[i] + 1:starts[i] + 1 + len(ramp)] += ramp


def test_nobody_to_serve_costs_nothing():
    """No requests: latency 0, proved."""
    found = hindsight(Instance([], [], [], memory=5))
    assert (found.status, found.objective, found.bound, found.gap) == ("optimal", 0, 0, 0)


@pytest.mark.parametrize(("field", "value"), [("time_limit", -1.0), ("gap", -0.1), ("gap", 1.0)])
def test_limits_that_mean_nothing_are_refused(field, value):
    """Seconds are not negative, a gap is a share."""
    with pytest.raises(InputError, match=field):
        hindsight(Instance([0], [1], [1], memory=5), **{field: value})
