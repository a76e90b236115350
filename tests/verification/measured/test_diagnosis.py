"""A measured run diagnosed: simulated servers of known load, read back as their clients would have measured them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tool_files import ROWS, TOOLS, lines, sglang, written

from fluid import Columns, FileError, IterationTime, PromptType, Replica, Workload, solve
from fluid.traces.closed_loops import closed_loop
from fluid.traces.measured import MeasuredRun, read_run
from verification import Arrivals, Run, VllmV1, simulate
from verification.measured.diagnosis import Diagnosis, diagnose, prefills
from verification.measured.forecast import forecast

REPLICA = Replica(40_000, IterationTime(0.012, 3e-7, 6e-5, 1e-5), prefill=512, max_num_seqs=64, first_token="prefill")
MIX = Workload([PromptType(500, 200, 1.0), PromptType(1500, 50, 0.6)])


@cache
def served(load: float, requests: int, seed: int = 1) -> Run:
    """So many requests at a share of the edge, under vLLM V1 until all are done."""
    mix = MIX.scaled(load * solve(MIX, REPLICA).max_rate_scale)
    drawn = simulate(VllmV1(), mix, REPLICA, horizon=requests / mix.rate, seed=seed).arrivals
    return simulate(VllmV1(), mix, REPLICA, arrivals=Arrivals(drawn.times - drawn.times[0], drawn.types))


def measured(run: Run, **changes: Any) -> MeasuredRun:
    """What a client sees of a run."""
    types = run.arrivals.types
    given = {"arrivals": run.arrivals.times, "prompt_tokens": run.profile.prompt[types],
             "output_tokens": run.output_tokens, "ttft": run.ttft, "latency": run.latency}
    return MeasuredRun(**{**given, **changes})


def diagnosed(load: float, requests: int) -> Diagnosis:
    return diagnose(measured(served(load, requests)))


@pytest.mark.parametrize(("load", "answer"), [(0.3, "stable"), (0.7, "stable"), (1.3, "unstable"), (2.0, "unstable")])
def test_a_server_that_keeps_up_is_stable_and_one_that_falls_behind_is_not(load: float, answer: str) -> None:
    found = diagnosed(load, 2000)
    assert found.answer == answer
    assert found.stable == (answer == "stable")
    assert found.reason.startswith(answer)


def test_what_is_sustained_is_what_is_offered_until_the_edge_and_the_edge_beyond() -> None:
    """The edge of the mix by the fluid model; a batch of at most 64 and finite runs keep 10% from it."""
    edge = solve(MIX, REPLICA).max_rate_scale * MIX.rate
    below, above = diagnosed(0.7, 2000), diagnosed(2.0, 2000)
    assert below.sustained == pytest.approx(below.rate, rel=0.02)
    assert above.rate == pytest.approx(2 * edge, rel=0.1)
    assert above.sustained == pytest.approx(edge, rel=0.1)


@pytest.mark.parametrize("load", [0.3, 0.7, 1.3])
def test_the_parts_of_the_time_are_the_latency_and_prefill_is_that_of_the_engine(load: float) -> None:
    """A prompt of 500 takes 12 + 30 ms and more in one iteration, one of 1,500 three: 36 + 90 ms; in the mean of the
    types, 5:3, 73 ms, and more where decodes are in the batch. Waiting in overload is in the queue alone."""
    found = diagnosed(load, 2000)
    assert sum(found.spent) == pytest.approx(found.latency.mean)
    assert 0.055 < found.spent.prefill < 0.11
    assert (found.spent.queue > 10 * found.spent.prefill) == (load > 1)


def test_the_floor_under_the_time_to_the_first_token_is_that_of_prompts_nobody_stood_before() -> None:
    """10 ms and 0.1 ms a token, behind queues of an exponential length: the fit is within a tenth of it."""
    random = np.random.default_rng(3)
    prompts = random.integers(100, 4000, 3000)
    alone = 0.01 + 1e-4 * prompts
    run = MeasuredRun(np.arange(3000.0), prompts, np.full(3000, 5), alone + random.exponential(0.3, 3000),
                      alone + 10.0)
    np.testing.assert_allclose(prefills(run), alone, rtol=0.1, atol=0.02)


def test_littles_law_holds_of_a_stationary_run_and_not_of_one_that_grows() -> None:
    """The mean number in the system over the window from 10% of the run, against rate x latency there."""
    steady = diagnosed(0.7, 2000).little
    assert steady is not None
    assert steady.agrees
    assert steady.number == pytest.approx(steady.product, rel=0.05)
    grows = diagnosed(1.15, 2000).little
    assert grows is not None
    assert grows.agrees is False
    assert grows.number < 0.9 * grows.product


def test_the_model_of_the_same_replica_forecasts_what_was_measured() -> None:
    """The same requests at the same moments under the same rule: every ratio is 1; on a replica of half the speed the
    measured tokens come more than 1.5 times as fast as predicted."""
    found = diagnosed(0.7, 2000)
    same = forecast(found, REPLICA)
    assert [each.name for each in same.compared] == ["ttft_mean", "ttft_p99", "tpot_mean", "tpot_p99", "latency_mean",
                                                     "latency_p99", "throughput"]
    assert [each.ratio for each in same.compared] == pytest.approx([1.0] * 7)
    assert same.equilibrium is not None
    assert same.equilibrium.max_rate_scale == pytest.approx(1 / 0.7, rel=0.1)
    slow = Replica(40_000, IterationTime(0.024, 6e-7, 12e-5, 2e-5), prefill=512, max_num_seqs=64,
                   first_token="prefill")
    tpot = next(each for each in forecast(found, slow).compared if each.name == "tpot_mean")
    assert tpot.ratio < 1 / 1.5


def test_a_closed_loop_is_seen_and_an_open_stream_is_not_called_one() -> None:
    """Clients that send again as they are answered; Poisson arrivals of any rate, the same latencies."""
    random = np.random.default_rng(0)
    for clients in (1, 4, 32):
        free, sent, took = np.zeros(clients), [], []
        for _ in range(400):
            client = int(free.argmin())
            sent.append(free[client] + 1e-4)
            took.append(1.0 + random.exponential(5.0))
            free[client] = sent[-1] + took[-1]
        order = np.argsort(sent, kind="stable")
        loop = closed_loop(np.array(sent)[order], np.array(took)[order])
        assert loop is not None
        assert loop.clients == clients
    for rate in (0.05, 0.5, 5.0, 50.0):
        assert closed_loop(np.cumsum(random.exponential(1 / rate, 1000)), 1.0 + random.exponential(5.0, 1000)) is None


@pytest.mark.parametrize("tool", ["vllm", "vllm, on many lines", "aiperf", "guidellm", "guidellm, old",
                                  "llmservingsim, results"])
def test_first_tokens_and_ends_are_read_from_the_files_of_tools(tmp_path: Path, tool: str) -> None:
    """All first tokens after 0.2 s, all ends after 2 s, whatever the format and its units."""
    name, text = TOOLS[tool]
    run = read_run(written(tmp_path, text, name))
    assert run.arrivals.tolist() == [time for time, _, _ in ROWS]
    assert run.ttft == pytest.approx(np.full(4, 0.2), abs=1e-6)
    assert run.latency == pytest.approx(np.full(4, 2.0), abs=1e-6)
    assert run.tpot == pytest.approx([1.8 / (output - 1) for _, _, output in ROWS], abs=1e-6)


@pytest.mark.parametrize("unit", [None, "ms", "date"])
def test_moments_of_any_table_are_read_by_their_columns(tmp_path: Path, unit: str | None) -> None:
    def moment(seconds: float) -> str:
        return f"2024-05-10 00:00:{seconds:06.3f}" if unit == "date" else f"{seconds * (1000 if unit else 1):g}"

    rows = "".join(f"{moment(t)},{p},{o},{moment(t + 0.25)},{moment(t + 2)}\n" for t, p, o in ROWS)
    columns = Columns("in", "out", "at", "first", "end")
    path = written(tmp_path, "at,in,out,first,end\n" + rows)
    run = read_run(path, columns=columns, time_unit=unit if unit == "ms" else None)
    assert run.ttft == pytest.approx(np.full(4, 0.25))
    assert run.latency == pytest.approx(np.full(4, 2.0))
    records = [dict(zip(("at", "in", "out", "first", "end"), row.split(","), strict=True))
               for row in rows.splitlines()]
    again = read_run(written(tmp_path, lines(records)), columns=columns, time_unit=unit if unit == "ms" else None)
    assert again.latency == pytest.approx(run.latency)


@pytest.mark.parametrize(("content", "problem"), [
    (json.dumps(sglang(2.0)), "has no arrival times; diagnosing needs of each request when it arrived"),
    (TOOLS["bailian"][1], "does not say when requests ended; diagnosing needs of each request"),
    (lines([sglang(2.0), sglang(4.0)]), "holds 2 runs: --run chooses one"),
])
def test_a_file_without_the_times_says_which_are_missing(tmp_path: Path, content: str, problem: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(FileError) as caught:
        read_run(path)
    assert str(caught.value).removeprefix(f"{path}: ").startswith(problem)


def test_where_no_rate_was_offered_nothing_is_judged_and_what_was_sustained_is_told() -> None:
    """Two hundred requests at once, all done after 40 s: 5 a second."""
    run = MeasuredRun(np.zeros(200), np.full(200, 10), np.full(200, 4), np.linspace(0.1, 39.0, 200),
                      np.linspace(1.0, 40.0, 200), closed="all requests were sent at once")
    found = diagnose(run)
    assert (found.answer, found.reason) == ("undecided", "undecided: all requests were sent at once")
    assert (found.sustained, found.throughput) == (5.0, 20.0)
    assert forecast(found, REPLICA).equilibrium is None


@pytest.mark.parametrize(("first", "end", "what"), [(0.1, 101.0, "first token"), (100.1, 1.0, "end")])
def test_times_since_the_arrival_in_place_of_moments_are_refused(first: float, end: float, what: str,
                                                                 tmp_path: Path) -> None:
    """Of requests that arrive at 100, 101, ... s the first token and the end cannot be before that."""
    rows = [f"{100 + k},50,10,{first + k * (first > 1)},{end + k * (end > 1)}" for k in range(10)]
    file = tmp_path / "run.csv"
    file.write_text("\n".join(["start,in,out,first,end", *rows]), encoding="utf-8")
    with pytest.raises(FileError, match=f"has the {what} of 10 requests before their arrival"):
        read_run(file, columns=Columns("in", "out", "start", "first", "end"), time_unit="s")


def test_a_few_first_tokens_before_their_arrival_are_not_known(tmp_path: Path) -> None:
    """As clocks of two machines may have them."""
    rows = [f"{k},50,10,{k - 0.1 if k == 3 else k + 0.1},{k + 1}" for k in range(10)]
    file = tmp_path / "run.csv"
    file.write_text("\n".join(["start,in,out,first,end", *rows]), encoding="utf-8")
    run = read_run(file, columns=Columns("in", "out", "start", "first", "end"), time_unit="s")
    assert np.flatnonzero(np.isnan(run.ttft)).tolist() == [3]
    assert np.isfinite(run.latency).all()


def test_a_handful_of_requests_is_no_verdict() -> None:
    """Three that came and went say nothing of a server that keeps up."""
    few = MeasuredRun(np.arange(3.0), np.full(3, 9), np.full(3, 5), np.full(3, 0.1), np.full(3, 0.5))
    assert diagnose(few).answer == "undecided"
    assert "3 requests are fewer than the 30" in diagnose(few).reason
