"""A simulated tandem: queues with known answers, the links, both sides of the edge, what is held nowhere."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from fluid import InputError, IterationTime, PromptType, Replica, Workload, stability_region
from fluid.planning import Kind, Part, Transfer, most_tandem, plan_tandem
from thresholds import paced
from verification import Arrivals, Greedy, VllmV1, simulate
from verification.fleets import Fleet, Router, Tandem, TandemRun, simulate_tandem, try_tandem
from verification.fleets.tandem import free_again
from verification.policies import Policy

L, SERVICE = 100, 0.5
ALONE = Replica(L, IterationTime(0.1, 0.0, 0.004), first_token="prefill")  # one prompt at a time, 0.5 s
WIDE = Replica(10**6, IterationTime(0.01, 0.0), first_token="prefill")  # as many as one likes, 0.01 s a token
SINGLE = Workload([PromptType(L, 11, 1.5)])
GPU = Replica(400_000, IterationTime(0.008, 5e-8, 4e-5, 1e-5), first_token="prefill", max_num_batched_tokens=8192)
LINK = Transfer(2e10, 1e5, 0.001)
MIX = Workload([PromptType(1500, 200, 1.0, "chat"), PromptType(6000, 100, 0.3, "document")])


def pools(prefill: Replica, decode: Replica, transfer: Transfer, counts: tuple[int, int] = (1, 1),
          policies: tuple[Policy, Policy] = (Greedy(0.0), Greedy(0.0)), rule: str = "round-robin") -> Tandem:
    """One kind each."""
    kinds = [[Kind(role, replica, part=Part(role, transfer))]
             for role, replica in (("prefill", prefill), ("decode", decode))]
    return Tandem.of(kinds[0], kinds[1], ([counts[0]], [counts[1]]), ([policies[0]], [policies[1]]),
                     (Router(rule), Router(rule)))


def tandem(transfer: Transfer) -> Tandem:
    """One server before an infinitely wide one."""
    return pools(ALONE, WIDE, transfer)


def md1(service: float, rate: float) -> float:
    """The mean wait of M/D/1, by Pollaczek and Khinchine."""
    return rate * service**2 / (2 * (1 - rate * service))


@cache
def paths(link: float) -> tuple[TandemRun, ...]:
    """Independent paths in which a link is taken by a prompt for so many seconds."""
    return tuple(simulate_tandem(tandem(Transfer(L / link, 1.0, 0.02)), SINGLE, horizon=2000.0, seed=5, replication=r)
                 for r in range(12))


def close(values: list[float], expected: float) -> None:
    """The mean within four standard errors."""
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    assert abs(np.mean(values) - expected) < 4 * error


def test_a_prefill_that_fills_the_cache_is_a_queue_with_one_server() -> None:
    """TTFT is that of M/D/1; a link faster than the server never makes anyone wait, on any path."""
    for run in paths(0.3):
        sent = np.isfinite(run.received)
        assert run.received[sent] - run.prefilled[sent] == pytest.approx(0.32)
    close([float(np.nanmean(run.ttft)) for run in paths(0.3)], SERVICE + md1(SERVICE, 1.5))


def test_behind_it_a_slower_link_is_the_only_queue_that_counts() -> None:
    """Deterministic stations in a row: waits add up to that of M/D/1 with the longest service (Friedman, 1965)."""
    close([float(np.nanmean(run.received - run.arrivals.times)) for run in paths(0.6)],
          SERVICE + 0.6 + 0.02 + md1(0.6, 1.5))


def test_a_wide_decode_replica_takes_an_iteration_for_each_token_more() -> None:
    """10 tokens more take 0.1 s, after at most one iteration that is running."""
    for run in paths(0.3):
        done = np.isfinite(run.finished)
        more = (run.finished - run.received)[done]
        assert more.min() >= 0.1 - 1e-9
        assert more.max() <= 0.11 + 1e-9
        assert run.time_between_tokens[done] == pytest.approx((run.finished - run.prefilled)[done] / 10)


def test_a_link_serves_by_lindley() -> None:
    """The closed form against the recursion, in any order."""
    rng = np.random.default_rng(0)
    ends, busy = rng.uniform(0, 50, 200), rng.exponential(0.3, 200)
    free, expected = 0.0, np.empty(200)
    for i in np.argsort(ends):
        free = max(free, ends[i]) + busy[i]
        expected[i] = free
    assert free_again(ends, busy) == pytest.approx(expected)
    assert free_again(np.zeros(0), np.zeros(0)).size == 0


def test_each_station_is_the_simulator_on_what_comes_to_it() -> None:
    """Two replicas of each pool, one after the other, by `simulate` alone."""
    arrivals = Arrivals(np.arange(40) * 0.05, np.arange(40) % 2)
    both = pools(GPU, GPU, LINK, (2, 2), (VllmV1(8192), Greedy()))
    run = simulate_tandem(both, MIX, arrivals=arrivals)
    prefills, replica = Part("prefill", LINK).of(MIX, GPU)
    for i in (0, 1):
        alone = simulate(VllmV1(8192), prefills, replica, arrivals=Arrivals(arrivals.times[i::2], arrivals.types[i::2]))
        assert run.prefilled[i::2].tolist() == alone.finished.tolist()
    order = np.argsort(run.received, kind="stable")[1::2]
    decodes = Part("decode", LINK).of(MIX, GPU)
    second = simulate(Greedy(), *decodes, arrivals=Arrivals(run.received[order], arrivals.types[order]))
    assert run.finished[order].tolist() == second.finished.tolist()
    assert run.first_token.tolist() == run.prefilled.tolist()
    assert (run.completed, run.end_time) == (40, run.finished.max())


def test_by_the_convention_of_the_paper_the_first_token_is_decoded() -> None:
    """TTFT ends one iteration after the admission to the decode replica; a request of one token is decoded too."""
    pair = pools(replace(ALONE, first_token="decode"), replace(WIDE, first_token="decode"), Transfer(1e9, 1.0))
    run = simulate_tandem(pair, Workload([PromptType(L, 1, 1.0)]), arrivals=Arrivals([0.0], [0]))
    assert run.first_token.tolist() == pytest.approx([0.51])
    assert run.finished.tolist() == pytest.approx([0.51])


def test_requests_of_one_token_end_where_they_are_prefilled() -> None:
    """They use no link and no decode replica, and take nobody's turn there."""
    mix = Workload([PromptType(L, 1, 1.0), PromptType(L, 11, 1.0)])
    run = simulate_tandem(tandem(Transfer(1e9, 1.0)), mix, arrivals=Arrivals([0.0, 0.0], [0, 1]))
    assert run.finished.tolist() == pytest.approx([0.5, 1.1], abs=1e-6)
    assert run.decoded_by.tolist() == [-1, 0]
    assert np.isnan(run.received[0])


@pytest.mark.parametrize("counts", [(3, 1), (7, 1)])
def test_below_the_edge_of_the_pools_nothing_grows_above_it_does(counts: tuple[int, int]) -> None:
    """At 90% the requests in the system stay as many; at 115% they grow, and no path does more than Theorem 2.1 says.

    Prefills bind first with 3 before 1, decodes with 7 before 1.
    """
    prefill, decode = ([Kind(role, GPU, part=Part(role, LINK))] for role in ("prefill", "decode"))
    edge = most_tandem(MIX, prefill, decode, [counts[0]], [counts[1]])
    assert edge.binds == ("prefill" if counts[0] == 3 else "decode")
    design = paced(*Part("decode", LINK).of(MIX.scaled(0.95 * edge.decode.factor), GPU))
    both = pools(GPU, GPU, LINK, counts, (VllmV1(8192), design))
    for share, grows in ((0.9, False), (1.15, True)):
        mix = MIX.scaled(share * edge.factor)
        runs = [simulate_tandem(both, mix, horizon=160.0, seed=3, replication=r) for r in range(6)]
        inside = np.array([[np.sum(~(run.finished <= t) & (run.arrivals.times <= t)) for t in (80.0, 160.0)]
                           for run in runs])
        growth = np.diff(inside, axis=1)[:, 0] / (80.0 * mix.rate)
        error = float(growth.std(ddof=1)) / len(runs) ** 0.5
        assert (growth.mean() > 4 * error) == grows
        for kind, count, ends in ((prefill[0], counts[0], "prefilled"), (decode[0], counts[1], "finished")):
            region = stability_region(*kind.seen(mix))
            for run in runs:
                done = np.bincount(run.arrivals.types[np.isfinite(getattr(run, ends))], minlength=2)
                assert region.edge_load(done / 160.0) <= count


def test_what_caches_forget_is_measured() -> None:
    """A burst of 8 prompts in one prefill iteration: one is on the link, seven wait for it, and none to be decoded."""
    both = pools(WIDE, WIDE, Transfer(L / 2.0, 1.0))
    run = simulate_tandem(both, SINGLE, arrivals=Arrivals(np.zeros(8), np.zeros(8, dtype=np.int64)))
    assert run.in_transfer == 8 * L
    assert run.waiting <= L
    narrow = pools(WIDE, replace(ALONE, kv_capacity=L + 10), Transfer(1e9, 1.0))
    run = simulate_tandem(narrow, SINGLE, arrivals=Arrivals(np.zeros(8), np.zeros(8, dtype=np.int64)))
    assert run.waiting >= 7 * L
    assert run.to_frame().shape[0] == 8


def test_the_same_seed_gives_the_same_path_and_nothing_after_the_horizon() -> None:
    """Bit by bit, with routers that draw; a horizon ends everything."""
    both = pools(GPU, GPU, LINK, (2, 3), (VllmV1(8192), Greedy()), "random")
    one, two = (simulate_tandem(both, MIX.scaled(9.0), horizon=20.0, seed=7) for _ in range(2))
    assert one.finished.tobytes() == two.finished.tobytes()
    assert np.nanmax(one.finished) <= 20.0 == one.end_time
    assert one.completed < len(one.arrivals)
    assert set(one.decoded_by.tolist()) >= {0, 1, 2}


def test_the_shortest_queue_is_no_slower_than_the_turn() -> None:
    """Both routers on the same arrivals, in both stations; measures of the merged run are those of the path."""
    mix = MIX.scaled(18.0)
    turn, shortest = (simulate_tandem(pools(GPU, GPU, LINK, (3, 2), (VllmV1(8192), Greedy()), rule), mix, horizon=60.0)
                      for rule in ("round-robin", "shortest-queue"))
    assert turn.arrivals.times.tolist() == shortest.arrivals.times.tolist()
    assert np.nanmean(shortest.ttft) < np.nanmean(turn.ttft)
    merged = shortest.merged
    assert np.array_equal(merged.latency, shortest.latency, equal_nan=True)
    assert np.array_equal(merged.time_between_tokens, shortest.time_between_tokens, equal_nan=True)
    assert merged.completed == shortest.completed


def test_the_pools_of_a_plan_are_simulated_as_planned() -> None:
    """Counts and kinds are those of the plan; none of a plan without pools."""
    kinds = [[Kind(role, GPU, part=Part(role, LINK))] for role in ("prefill", "decode")]
    plan = plan_tandem(MIX.scaled(18.0), kinds[0], kinds[1], 0.1)
    planned = Tandem.planned(plan)
    assert [len(planned.prefill), len(planned.decode)] == [plan.prefill.cost, plan.decode.cost]
    none = plan_tandem(MIX.scaled(18.0), kinds[0], [replace(kinds[1][0], most=0)])
    with pytest.raises(InputError, match="found pools"):
        Tandem.planned(none)


def test_pools_are_judged_stable_below_the_edge_and_not_above() -> None:
    """Four replications each of 80% and 125% of what 2 prefill and 1 decode replicas carry; prefills bind."""
    both = pools(GPU, GPU, LINK, (2, 1), (VllmV1(8192), Greedy()))
    prefill, decode = ([each] for each in both.kinds)
    factor = most_tandem(MIX, prefill, decode, [2], [1]).factor
    trials = [try_tandem(both, MIX.scaled(share * factor), horizon=200.0, replications=4) for share in (0.8, 1.25)]
    assert [each.verdict.answer for each in trials] == ["stable", "unstable"]
    assert trials[0].delays["ttft"].mean < trials[1].delays["ttft"].mean


def test_a_fleet_of_parts_is_refused() -> None:
    """Whole requests are what a fleet serves."""
    with pytest.raises(InputError, match="Tandem"):
        Fleet.of([Kind("half", GPU, part=Part("decode", LINK))], [1])


@pytest.mark.parametrize(("make", "named"), [
    (lambda: pools(GPU, GPU, LINK, (0, 1)), "counts"), (lambda: pools(GPU, GPU, LINK, rule="least"), "rule"),
    (lambda: Tandem.of([Kind("a", GPU)], [Kind("b", GPU)], ([1], [1])), "prefill"),
    (lambda: pools(GPU, replace(GPU, first_token="decode"), LINK), "first_token"),
    (lambda: simulate_tandem(tandem(LINK), SINGLE), "horizon"),
    (lambda: simulate_tandem(tandem(LINK), Workload([PromptType(L, 1, 1.0)]), arrivals=Arrivals([0.0], [0])),
     "output_tokens")])
def test_bad_values_are_refused(make: object, named: str) -> None:
    """One line that names what is wrong."""
    with pytest.raises(InputError, match=named):
        make()  # type: ignore[operator]
