"""A trace at its own moments: when it is, how long, what it is measured by, and what its bursts cost beside Poisson."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import answer

from fluid import IterationTime, PromptType, Replica, Trace, Workload
from fluidwait.__main__ import status
from fluidwait.deployment.deployment import load
from fluidwait.study.burstiness import Burstiness, beside_poisson
from fluidwait.study.outcomes import Plan, examine
from verification import Greedy, Poisson, Predicted, Replay, Scheduled, verify
from verification.experiments.replications import Experiment
from verification.traffic.predicted_lengths import Overestimate
from verification.traffic.processes import replayed

REPLICA = """
[replica]
kv_capacity = 20000
[replica.iteration_time]
overhead = 0.02
per_kv_token = 2e-6
"""
WORKLOAD = '[workload]\ntrace = "t.csv"\nrate = 4.0\n'
WINDOW = "[[workload.window]]\nduration = 10.0\nscale = 1.0\n"
REQUESTS, CROWD = 600, 60


def trace(folder: Path, times: np.ndarray | None) -> Path:
    """A deployment that serves so many requests of 100 + 20 tokens at these moments."""
    rows = [f"100,20,{time}" for time in times] if times is not None else ["100,20"] * REQUESTS
    head = "prompt,output" + (",time" if times is not None else "")
    (folder / "t.csv").write_text("\n".join([head, *rows]) + "\n")
    columns = 'prompt_column = "prompt"\noutput_column = "output"\n' + 'time_column = "time"\n' * (times is not None)
    path = folder / "d.toml"
    path.write_text(REPLICA + WORKLOAD + columns)
    return path


def even() -> np.ndarray:
    """One request a second."""
    return np.arange(REQUESTS, dtype=float)


def crowds() -> np.ndarray:
    """As many over a long time, by sixty at a moment."""
    return np.repeat(np.arange(REQUESTS / CROWD) * CROWD, CROWD)


@pytest.mark.parametrize(("times", "more", "kind"), [
    (even(), "", Replay), (even(), 'arrivals = "poisson"\n', Poisson), (even(), "bins = 1\n", Poisson),
    (even(), WINDOW, Scheduled), (None, "", Poisson), (np.zeros(REQUESTS), "", Poisson)])
def test_a_trace_with_moments_is_replayed(times: np.ndarray | None, more: str, kind: type, tmp_path: Path) -> None:
    """Unless Poisson arrivals are asked for, or there are bins, windows, no moments or only one."""
    file = trace(tmp_path, times)
    file.write_text(file.read_text() + more)
    assert isinstance(load(file).traffic, kind)


def test_a_bare_trace_is_replayed(tmp_path: Path) -> None:
    """As in a deployment file."""
    path = tmp_path / "t.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,100,20\n5,100,20\n")
    assert isinstance(load(path).traffic, Replay)


@pytest.fixture(scope="module", params=["even", "crowds"])
def bursts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Burstiness]:
    """Greedy admission of either trace, at its moments and with Poisson arrivals."""
    times = {"even": even, "crowds": crowds}[request.param]()
    deployment = load(trace(tmp_path_factory.mktemp("traces"), times))
    plan = Plan.checked(deployment, 450.0, 6, 0)
    found = beside_poisson(deployment, examine(deployment, "greedy", plan), plan)
    assert found is not None
    return request.param, found


def test_crowds_wait_longer_than_poisson_arrivals(bursts: tuple[str, Burstiness]) -> None:
    """Of sixty at once each waits for the others' KV to be read; where they come one by one nobody does.

    A request alone takes 20 iterations of 0.02 s + 2e-6 s x some 110 tokens, 0.404 s; the sixtieth of a crowd finds
    6,000 tokens and more in every iteration, 0.032 s.
    """
    kind, found = bursts
    assert found.laps == pytest.approx(450.0 * 4.0 / REQUESTS)
    assert ("latency" in found.differing) == (kind == "crowds")
    own, drawn = found.replay.latency.mean, found.poisson.latency.mean
    assert (own > 20 * 0.032 > drawn) if kind == "crowds" else (own < drawn)


def test_a_replay_is_held_against_no_steady_state(bursts: tuple[str, Burstiness]) -> None:
    """What Poisson arrivals are; and its warm-up is the first tenth."""
    _, found = bursts
    names = {check.name for check in found.replay.checks}
    assert "throughput" not in names
    assert "throughput" in {check.name for check in found.poisson.checks}
    assert found.replay.warm_up == 0.1


def test_the_warm_up_of_a_replay_is_not_read_off_its_path() -> None:
    """A trace that is busy in the first half of its lap looks like a start that takes half a lap."""
    busy = np.concatenate([np.linspace(0, 100, 900), np.linspace(101, 200, 60)])
    recorded = Trace(np.full(960, 100), np.full(960, 20), busy)
    mix, replica = recorded.workload(4.8), Replica(20_000, IterationTime(0.02, 2e-6))
    for traffic in (Replay(recorded), Predicted(Overestimate(2.0), Replay(recorded))):
        found = verify(Greedy(), mix, replica, horizon=200.0, replications=5, traffic=traffic)
        assert found.warm_up == 0.1
        assert replayed(traffic) is not None
    assert replayed(Poisson()) is None
    assert Experiment(Greedy(), Workload([PromptType(1, 1, 1.0)]), replica, 10.0).warm_up(list(found.runs)) == 0.1


def test_a_busy_part_of_a_recording_decides_against_nobody() -> None:
    """9 requests/s for 100 s and 0.6 for another 100 s, where 1/(8e-5 s x 2,300 token-iterations) = 5.4 can be served.

    What waits after the first half, some 100 x 3.6 requests, is gone after 360/4.8 = 75 s of the second.
    """
    busy = np.concatenate([np.linspace(0, 100, 900), np.linspace(101, 200, 60)])
    recorded = Trace(np.full(960, 100), np.full(960, 20), busy)
    found = verify(Greedy(), recorded.workload(4.8), Replica(20_000, IterationTime(0.02, 8e-5)), horizon=100.0,
                   replications=1, traffic=Replay(recorded))
    assert found.verdict.horizon >= 200.0
    assert found.verdict.answer != "unstable"
    assert found.horizon == 100.0


def test_a_run_goes_through_the_trace_once_at_least(tmp_path: Path) -> None:
    """After the warm-up, at the rate that is simulated; a horizon that is given stays as it is."""
    file = trace(tmp_path, even())
    file.write_text(file.read_text() + "[target]\nhorizon = 60.0\n")
    deployment = load(file)
    assert Plan.checked(deployment, None, 2, 0).horizon == pytest.approx(REQUESTS / 4.0 / 0.9)
    assert Plan.checked(deployment, None, 2, 0, lowest=2.0).horizon == pytest.approx(REQUESTS / 2.0 / 0.9)
    assert Plan.checked(deployment, 30.0, 2, 0).horizon == 30.0


def test_verify_says_what_bursts_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In words and in JSON; nothing of it where arrivals are Poisson anyway."""
    file, asked = trace(tmp_path, crowds()), ["--policy", "greedy", "--horizon", "300", "--replications", "3"]
    _, found = answer(capsys, "verify", file, *asked)
    assert found["laps"] == pytest.approx(2.0)
    assert found["latency"]["mean"] > found["poisson"]["latency"]["high"]
    assert "latency" in found["poisson"]["differing"]
    status(["verify", str(file), *asked])
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 laps of it a run" in shown
    assert "its bursts cost" in shown
    file.write_text(file.read_text() + 'arrivals = "poisson"\n')
    _, found = answer(capsys, "verify", file, *asked)
    assert (found["laps"], found["poisson"]) == (None, None)
