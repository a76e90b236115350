"""Closed loops: exact formulas of queues with users, limits on concurrency, and what `verify` says of them."""

import math

import numpy as np
import pytest

from fluid import InputError, IterationTime, Lengths, PromptType, Replica, Workload, solve_users
from verification import (
    Batch,
    ClosedLoop,
    GammaBursts,
    Greedy,
    Limited,
    Misclassified,
    Predicted,
    Run,
    VllmV1,
    simulate,
    verify,
)
from verification.traffic.closed import LEAST_ROOM
from verification.traffic.processes import Traffic, is_closed

STEP = 0.01
ALONE = Replica(10**6, IterationTime(STEP, 0.0), prefill="decode-only", max_num_seqs=1)
FREE = Replica(10**9, IterationTime(STEP, 0.0), first_token="prefill")
GPU = Replica(137_000, IterationTime(0.0106, 4.013e-7, 5e-5, 8e-5), first_token="prefill")
CHAT = Workload([PromptType(512, 200, 1.0)])


def runs(workload: Workload, replica: Replica, traffic: Traffic, horizon: float, count: int = 10) -> list[Run]:
    return [simulate(Greedy(0.0), workload, replica, horizon=horizon, traffic=traffic, seed=1, replication=r)
            for r in range(count)]


def within_errors(measured: list[float], exact: float, bias: float = 0.0) -> bool:
    """Whether a mean over replications is within 4 standard errors of what is exact but for a relative bias."""
    error = np.std(measured, ddof=1) / math.sqrt(len(measured))
    return abs(np.mean(measured) - exact) < 4 * error + bias * exact


def completions_per_second(run: Run) -> float:
    """After a tenth of the run, in which users who all began by thinking come to balance."""
    begin = run.end_time / 10
    return float(np.count_nonzero(run.finished > begin) / (run.end_time - begin))


@pytest.mark.parametrize(("users", "think"), [(10, 5.0), (3, 2.0), (30, 10.0), (4, 0.5)])
def test_one_server_is_the_machine_repair_model(users: int, think: float) -> None:
    """M/M/1//N: p_n in proportion to N!/(N - n)! (s/Z)^n, X = (1 - p_0)/s, R = N/X - Z (Little).

    One sequence at a time and geometric outputs make the service of mean s = 1 s nearly exponential: its squared
    coefficient of variation is 0.99, which moves X by less than 0.5%.
    """
    mix = Workload.from_lengths(1, Lengths.geometric(mean=100), 1.0, bins=4000)
    service = STEP * float(mix.rates @ mix.output_tokens)
    weights = [1.0]
    for n in range(1, users + 1):
        weights.append(weights[-1] * (users - n + 1) * service / think)
    exact = (1 - weights[0] / sum(weights)) / service
    found = runs(mix, ALONE, ClosedLoop(users, think), 3000.0)
    assert within_errors([completions_per_second(run) for run in found], exact, 0.005)
    latency = [float(np.nanmean(run.latency[run.arrivals.times > 300])) for run in found]
    assert within_errors(latency, users / exact - think, 0.02)


def test_a_batch_without_limits_is_an_infinite_server() -> None:
    """Iterations of fixed length: a request takes 200 of them and what is left of one, so X = N/(Z + 2 s), to d0/2."""
    found = runs(CHAT, FREE, ClosedLoop(50, 20.0), 2000.0)
    assert within_errors([completions_per_second(run) for run in found], 50 / (20 + 200 * STEP), STEP / 2 / 22)


def test_one_user_who_does_not_think_is_served_without_a_pause() -> None:
    """Requests follow each other: the latency is 200 iterations of a batch of one, the server is always busy."""
    run = simulate(Greedy(0.0), CHAT, FREE, horizon=100.0, traffic=ClosedLoop(1, 0.0))
    assert run.latency[: run.completed] == pytest.approx(2.0)
    assert run.busy_share == pytest.approx(1.0)
    assert run.completed == 50


@pytest.mark.parametrize(("users", "think", "accuracy"), [(1, 1.0, 0.01), (20, 10.0, 0.01), (150, 20.0, 0.01)])
def test_the_fluid_model_predicts_the_throughput_below_saturation(users: int, think: float, accuracy: float) -> None:
    """N = X (Z + R) against greedy admission on a GPU."""
    loop = solve_users(CHAT, GPU, users, think)
    found = [completions_per_second(run) for run in runs(CHAT, GPU, ClosedLoop(users, think), 600.0)]
    assert within_errors(found, loop.rate, accuracy)
    assert np.mean(found) < loop.most


def in_system(run: Run) -> int:
    """The most requests at the replica at once; one that comes at the moment of an answer comes after it."""
    moments = np.concatenate([run.arrivals.times, run.finished[np.isfinite(run.finished)]])
    steps = np.concatenate([np.ones(len(run.arrivals)), -np.ones(run.completed)])
    return int(np.cumsum(steps[np.lexsort((steps, moments))]).max())


@pytest.mark.parametrize("policy", [Greedy(0.01), VllmV1(max_num_batched_tokens=2048)])
@pytest.mark.parametrize("traffic", [ClosedLoop(7, 0.3), Limited(7), Limited(7, GammaBursts(0.1)),
                                     Limited(7, Batch(90)), Predicted(Misclassified(0.5), ClosedLoop(7, 0.3))])
def test_never_more_than_the_users_or_the_limit_are_at_the_replica(policy: Greedy | VllmV1, traffic: Traffic) -> None:
    """Of 7 users, or 7 places, all are taken now and then; arrivals come in order, one for each answer."""
    mix = Workload([PromptType(100, 40, 15.0), PromptType(100, 80, 5.0)])
    run = simulate(policy, mix, GPU, horizon=60.0, traffic=traffic, seed=3)
    assert is_closed(traffic)
    assert in_system(run) == 7
    assert (np.diff(run.arrivals.times) >= 0).all()
    assert len(run.arrivals) - run.completed <= 7


def test_a_limit_that_nobody_reaches_changes_nothing() -> None:
    """Every request is sent when it is due: the run of the open traffic, bit for bit."""
    mix = Workload([PromptType(100, 40, 15.0)])
    open_run, held = (simulate(Greedy(0.0), mix, GPU, horizon=60.0, traffic=traffic, seed=3)
                      for traffic in (GammaBursts(0.5), Limited(10_000, GammaBursts(0.5))))
    np.testing.assert_array_equal(open_run.arrivals.times, held.arrivals.times)
    np.testing.assert_array_equal(open_run.finished, held.finished)
    tight = simulate(Greedy(0.0), mix, GPU, horizon=60.0, traffic=Limited(2, GammaBursts(0.5)), seed=3)
    assert (tight.arrivals.times >= open_run.arrivals.times[: len(tight.arrivals)]).all()


def test_a_loop_that_sends_more_than_there_was_room_for_is_begun_anew() -> None:
    """Whatever the rate of the workload hints at: 40 requests a second where it says one in a thousand seconds."""
    mix = Workload([PromptType(5, 1, 1e-3)])
    run = simulate(Greedy(0.0), mix, Replica(1000, IterationTime(0.05, 0.0), first_token="prefill"), horizon=100.0,
                   traffic=ClosedLoop(2, 0.0))
    assert run.completed == 4000 > LEAST_ROOM


def test_verify_says_that_a_closed_loop_is_stable_and_holds_its_throughput_against_the_balance() -> None:
    """Below saturation it agrees with the fluid model, above with the bound; rates are proportions."""
    calm = verify(Greedy(0.0), CHAT, GPU, horizon=300.0, replications=5, traffic=ClosedLoop(100, 20.0))
    assert calm.verified
    assert calm.verdict.reason.startswith("stable, as every closed loop is")
    assert {"throughput", "throughput at most"} <= {check.name for check in calm.checks}
    full = verify(VllmV1(max_num_batched_tokens=2048), CHAT, GPU, horizon=300.0, replications=5,
                  traffic=ClosedLoop(2000, 20.0))
    assert full.verdict.answer == "stable"
    assert "throughput" not in {check.name for check in full.checks}
    assert all(check.agrees for check in full.checks if check.name == "throughput at most")


def test_loops_that_would_lose_users_are_refused() -> None:
    """A request that never fits would be answered never; one with its token from elsewhere has it before it comes."""
    small = Replica(100, IterationTime(0.01, 0.0))
    elsewhere = Replica(10_000, IterationTime(0.01, 0.0), prefill="decode-only", first_token="prefill")
    for replica, field in ((small, "types"), (elsewhere, "first_token")):
        with pytest.raises(InputError) as caught:
            simulate(Greedy(0.0), CHAT, replica, horizon=10.0, traffic=ClosedLoop(2, 1.0))
        assert caught.value.field == field
    for make in (lambda: ClosedLoop(0, 1.0), lambda: ClosedLoop(1, -1.0), lambda: Limited(0),
                 lambda: Limited(3, ClosedLoop(2, 1.0))):
        with pytest.raises(InputError):
            make()
