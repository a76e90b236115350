"""Fleets behind routers: the same bits as replicas by themselves, the rules as defined, queues with known answers."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fluid import InputError, IterationTime, PromptType, Replica, Workload, stability_region
from fluid.planning import Kind, most_demand, plan_fleet
from thresholds import PacedPolicy
from verification import MCSF, ClosedLoop, Greedy, OnOff, Run, Sarathi, VllmV0, VllmV1, poisson_arrivals, simulate
from verification.fleets import Fleet, FleetRun, Router, simulate_fleet, try_fleet
from verification.fleets.router import Choices
from verification.fleets.together import simulate_together
from verification.policies import Policy
from verification.simulation import run_kernel
from verification.traffic.arrivals import Arrivals

MIX = Workload([PromptType(200, 300, 20.0, "chat"), PromptType(4000, 50, 10.0, "document")])
BIG = Kind("big", Replica(200_000, IterationTime(0.009, 1.5e-7, 2e-5, 2e-5)), price=4.0)
SMALL = Kind("small", Replica(30_000, IterationTime(0.012, 4e-7, 5e-5, 5e-5)), price=1.2)
ONE_AT_A_TIME = Kind("server", Replica(10**6, IterationTime(0.01, 0.0), prefill="decode-only", max_num_seqs=1))


def same(run: Run, other: Run) -> bool:
    """Whether two runs are the same to the last bit."""
    times = all(np.array_equal(getattr(run, name), getattr(other, name), equal_nan=True)
                for name in ("admitted", "first_token", "finished"))
    counts = all(getattr(run, name) == getattr(other, name)
                 for name in ("iterations", "evictions", "overflows", "kv_peak", "busy_time", "end_time"))
    return times and counts


@pytest.mark.parametrize("policy", [
    VllmV1(), VllmV1(asynchronous=True), Greedy(0.0), Greedy(0.0, eviction="recompute"), VllmV0(), Sarathi(),
    PacedPolicy((8,), (5,)), PacedPolicy((6, 1), (5, 3)), PacedPolicy((4, 1), (9, 7), gate=True)], ids=repr)
@pytest.mark.parametrize("replica", [SMALL.replica, replace(SMALL.replica, prefill="decode-only")],
                         ids=["mixed", "decode-only"])
def test_a_replica_in_a_fleet_runs_as_by_itself(policy: Policy, replica: Replica) -> None:
    """Requests dealt out before, or one by one while all replicas run: every time and count is the same bits."""
    fleet = Fleet.of([Kind("small", replica)], [4], [policy])
    run = simulate_fleet(fleet, Router("random"), MIX, horizon=40.0, seed=3)
    alone = Choices(tuple(np.array([i]) for i in range(4)), run.where)
    where, runs = simulate_together(fleet, "shortest-queue", alone, MIX, run.arrivals, 40.0)
    assert np.array_equal(where, run.where)
    assert sum(each.completed for each in runs) > 100
    assert all(same(a, b) for a, b in zip(run.runs, runs, strict=True))


def test_types_that_a_kind_cannot_hold_change_nothing_for_the_others() -> None:
    """A kind too small for documents serves chats alone, by either way the same bits."""
    kinds = [Kind("tiny", Replica(3000, IterationTime(0.012, 4e-7))), BIG]
    fleet = Fleet.of(kinds, [2, 1])
    run = simulate_fleet(fleet, Router("round-robin"), MIX, horizon=30.0)
    assert set(run.where[run.arrivals.types == 1]) == {2}
    alone = Choices(tuple(np.array([i]) for i in range(3)), run.where)
    _, runs = simulate_together(fleet, "shortest-queue", alone, MIX, run.arrivals, 30.0)
    assert all(same(a, b) for a, b in zip(run.runs, runs, strict=True))


def in_system(run: FleetRun, r: int) -> list[int]:
    """How many requests that came before r each replica has at its arrival."""
    moment, finished = run.arrivals.times[r], run.merged.finished
    there = (np.arange(len(run.where)) < r) & ~(finished <= moment)
    counts: list[int] = np.bincount(run.where[there], minlength=len(run.fleet)).tolist()
    return counts


@pytest.mark.parametrize("policy", [Greedy(0.0), VllmV1(), PacedPolicy((6, 1), (5, 3))], ids=repr)
def test_the_shortest_queue_is_the_one_with_the_fewest_requests_at_that_moment(policy: Policy) -> None:
    """Counted from the completions that came out, whatever the iterations that were running."""
    fleet = Fleet.of([SMALL], [5], [policy])
    run = simulate_fleet(fleet, Router("shortest-queue"), MIX, horizon=20.0, seed=1)
    counted = [in_system(run, r) for r in range(len(run.arrivals))]
    assert all(each[to] == min(each) for each, to in zip(counted, run.where.tolist(), strict=True))
    assert max(max(each) - min(each) for each in counted) > 0


def test_the_least_kv_is_that_of_the_running_iteration_and_of_the_prompts_that_wait() -> None:
    """Recomputed from the timelines of the replicas, recorded on the requests that each was sent."""
    policy = PacedPolicy((6, 1), (5, 3))
    fleet = Fleet.of([SMALL, BIG], [3, 1], [policy, policy])
    found = simulate_fleet(fleet, Router("least-kv"), MIX, horizon=20.0, seed=2)
    runs = [run_kernel(policy, MIX, fleet.served(k), run.arrivals, 20.0, record=True)
            for k, run in zip(fleet.kind_of.tolist(), found.runs, strict=True)]
    sent, compared = [0] * 4, 0
    for moment, to in zip(found.arrivals.times.tolist(), found.where.tolist(), strict=True):
        loads = []
        for one, run in enumerate(runs):
            assert run.timeline is not None
            i = int(np.searchsorted(run.timeline.end, moment))  # the first iteration that ends then or later
            there = i < len(run.timeline.end) and run.timeline.start[i] < moment
            kv = int(run.timeline.kv[i]) if there else 0
            waits = ~(run.admitted[:sent[one]] < moment)
            kv += int(MIX.prompt_tokens[run.arrivals.types[:sent[one]][waits]].sum())
            loads.append(kv / run.kv_capacity)
        assert loads[to] == min(loads)
        compared += max(loads) > min(loads)
        sent[to] += 1
    assert compared > 100


def test_ties_take_turns() -> None:
    """Where all are alike the shortest queue is the next in turn."""
    fleet = Fleet.of([BIG], [3])
    run = simulate_fleet(fleet, Router("shortest-queue"), MIX, arrivals=Arrivals(np.arange(6) * 100.0, [0] * 6))
    assert run.where.tolist() == [0, 1, 2, 0, 1, 2]


def test_shares_say_which_kind_a_type_goes_to() -> None:
    """Of 9,000 requests the share at a kind is that of the router within 4 standard errors, each type by its own."""
    shares = np.array([[0.7, 1.0], [0.3, 0.0]])
    fleet = Fleet.of([BIG, SMALL], [2, 2])
    run = simulate_fleet(fleet, Router("random", shares), MIX, horizon=300.0)
    at_big = run.where < 2
    chats = run.arrivals.types == 0
    assert at_big[~chats].all()
    assert abs(at_big[chats].mean() - 0.7) < 4 * math.sqrt(0.21 / chats.sum())


def mean_wait(router: Router, replications: int = 12) -> np.ndarray:
    """Mean wait in each replication of a fleet of 4 servers at 80%, service 1 s exactly, after a tenth of the run."""
    mix = Workload([PromptType(1, 100, 3.2)])
    fleet = Fleet.of([ONE_AT_A_TIME], [4], [Greedy(0.0)])
    waits = []
    for r in range(replications):
        run = simulate_fleet(fleet, router, mix, horizon=4000.0, seed=5, replication=r).merged
        late = run.arrivals.times > 400
        waits.append(float(np.nanmean(run.latency[late])) - 1.0)
    return np.array(waits)


def test_random_routing_is_queues_side_by_side() -> None:
    """M/D/1 at load rho: the mean wait is rho s/(2 (1 - rho)), within 4 standard errors."""
    waits = mean_wait(Router("random"))
    error = waits.std(ddof=1) / math.sqrt(len(waits))
    assert abs(waits.mean() - 0.8 / (2 * 0.2)) < 4 * error + 0.005  # an arrival into an iteration waits for its end


def test_the_shortest_queue_lies_between_one_queue_for_all_and_queues_in_turn() -> None:
    """Of fixed service times: wait of M/D/4 <= shortest queue <= Erlang arrivals in turn <= M/D/1, paired by seed.

    The M/D/4 queue is simulated by its recursion (Kiefer and Wolfowitz) on the same arrivals.
    """
    shortest, turns, random = (mean_wait(Router(rule)) for rule in ("shortest-queue", "round-robin", "random"))
    mix, one_queue = Workload([PromptType(1, 100, 3.2)]), []
    for r in range(len(shortest)):
        arrivals = poisson_arrivals(mix, 4000.0, np.random.default_rng([5, r])).times
        free, waits = np.zeros(4), []
        for moment in arrivals.tolist():
            start = max(moment, free.min())
            waits.append(start - moment)
            free[free.argmin()] = start + 1.0
        one_queue.append(np.mean(np.array(waits)[arrivals > 400]))
    for less, more in ((np.array(one_queue), shortest), (shortest, turns), (turns, random)):
        gain = more - less
        assert gain.mean() > 4 * gain.std(ddof=1) / math.sqrt(len(gain)) - 0.01


def test_a_plan_is_carried_as_it_routes_and_not_without_types() -> None:
    """With 20% head-room the fleet of a plan is stable behind its routing; dealt out in turn, it is not."""
    mix = Workload([PromptType(200, 1000, 20.0), PromptType(8000, 50, 10.0)])
    kinds = [Kind("big", Replica(500_000, IterationTime(0.009, 1.5e-7, 2e-5, 2e-5)), price=4.0),
             Kind("small", Replica(60_000, IterationTime(0.012, 4e-7, 5e-5, 5e-5)), price=1.2)]
    plan = plan_fleet(mix, kinds, headroom=0.2)
    fleet = Fleet.planned(plan)
    by_plan = try_fleet(fleet, Router.planned(plan), mix, horizon=600.0, replications=3)
    in_turn = try_fleet(fleet, Router("round-robin"), mix, horizon=600.0, replications=3)
    assert (by_plan.verdict.answer, in_turn.verdict.answer) == ("stable", "unstable")
    assert by_plan.latency.high < in_turn.latency.low


@pytest.mark.parametrize("rule", ["random", "round-robin"])
def test_an_even_split_without_types_carries_what_the_weakest_kind_does(rule: str) -> None:
    """(21.1): min_k sum_l n_l / e_k times the demand; stable at 85% of it, unstable at 115%, where the plan is not."""
    kinds, counts = [BIG, SMALL], [1, 4]
    edges = [1 / stability_region(MIX, each.replica).max_rate_scale(MIX.rates) for each in kinds]
    even = min(sum(counts) / each for each in edges)
    assert 1.15 * even < 0.9 * most_demand(MIX, kinds, counts).factor
    fleet = Fleet.of(kinds, counts)
    answers = [try_fleet(fleet, Router(rule), MIX.scaled(share * even), horizon=400.0, replications=3).verdict.answer
               for share in (0.85, 1.15)]
    assert answers == ["stable", "unstable"]


@pytest.mark.parametrize("rule", ["random", "round-robin", "shortest-queue", "least-kv"])
def test_no_router_carries_more_than_the_fluid_limit(rule: str) -> None:
    """At 1.15 times the most that a fleet carries, proved by prices, every router falls behind."""
    kinds, counts = [BIG, SMALL], [1, 2]
    found = most_demand(MIX, kinds, counts)
    fleet, mix = Fleet.of(kinds, counts), MIX.scaled(1.15 * found.bound)
    assert try_fleet(fleet, Router(rule, found.rates), mix, horizon=400.0, replications=3).verdict.answer == "unstable"


def test_one_replica_is_a_fleet() -> None:
    """A fleet of one gives the run of `simulate`, behind any router."""
    run = simulate(VllmV1(), MIX.scaled(0.3), BIG.replica, horizon=50.0, seed=4)
    for rule in ("random", "least-kv"):
        fleet = simulate_fleet(Fleet.of([BIG], [1]), Router(rule), MIX.scaled(0.3), horizon=50.0, seed=4)
        assert same(fleet.runs[0], run)
        assert fleet.merged.to_dict() == run.to_dict()


def test_bursts_go_to_fleets_too() -> None:
    """Traffic that comes in bursts waits longer at the same fleet and rate."""
    fleet, mix = Fleet.of([SMALL], [6]), MIX.scaled(0.5)
    steady = try_fleet(fleet, Router("shortest-queue"), mix, horizon=300.0, replications=4)
    bursty = try_fleet(fleet, Router("shortest-queue"), mix, horizon=300.0, replications=4, traffic=OnOff(5.0, 5.0))
    assert bursty.ttft.low > steady.ttft.high


@pytest.mark.parametrize(("make", "needs"), [
    (lambda: Router("fastest"), "rule must be"),
    (lambda: Router("random", np.array([[-1.0, 1.0]])), "shares must be numbers from 0 on"),
    (lambda: Fleet.of([SMALL], [0]), "counts must be 1 to 10,000 replicas"),
    (lambda: Fleet.of([SMALL], [2, 1]), "counts and policies must be 1 of each"),
    (lambda: Fleet.of([SMALL], [1.5]), "counts must be"),
    (lambda: simulate_fleet(Fleet.of([SMALL], [2]), Router("random", np.ones((2, 2))), MIX, horizon=1.0), "of shape"),
    (lambda: simulate_fleet(Fleet.of([SMALL, BIG], [2, 0]), Router("random", np.ones((2, 2))), MIX, horizon=1.0),
     "0 where a type fits no replica"),
    (lambda: simulate_fleet(Fleet.of([SMALL], [2]), Router(), MIX, horizon=1.0, traffic=ClosedLoop(3, 1.0)), "open"),
    (lambda: simulate_fleet(Fleet.of([Kind("tiny", Replica(3000, IterationTime(0.01, 0.0)))], [2]), Router(), MIX,
                            horizon=1.0), "document"),
    (lambda: simulate_fleet(Fleet.of([SMALL], [2], [MCSF()]), Router("least-kv"), MIX, horizon=1.0), "vllm-v1"),
])
def test_what_cannot_be_simulated_is_refused(make: object, needs: str) -> None:
    """One line says what is wrong."""
    assert callable(make)
    with pytest.raises(InputError, match=needs):
        make()
