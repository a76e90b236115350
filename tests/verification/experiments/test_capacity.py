"""The largest sustained rate: searches whose answer is known, and queues whose edge is known exactly."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import ONE_SERVER
from hypothesis import given
from hypothesis import strategies as st

from fluid import IterationTime, PromptType, Replica, Workload
from fluid.errors import InputError
from fluidwait.__main__ import status
from thresholds import PacedPolicy, WaitPolicy, wait
from verification import (
    Bound,
    Effort,
    Greedy,
    Run,
    Scheduled,
    Targets,
    capacity,
    positive_interval,
    simulate,
    verify,
)
from verification.experiments.capacity import PROBE_ERROR, probe
from verification.experiments.rate_search import NOT_SUSTAINED, SUSTAINED, Capacity, Probe, search
from verification.experiments.stability import UNDECIDED
from verification.experiments.summary import PILOT

# one request at a time, each for 0.01 s: M/D/1, up to 100 requests/s
QUEUE = Replica(10, IterationTime(0.01, 0.0), max_num_seqs=1, first_token="prefill")
SHORT = Workload([PromptType(5, 1, 20.0)])
QUICK = Effort(horizon=300.0, replications=6)


def asked(answer: Callable[[float], str], edge: float = 100.0, precision: float = 0.02) -> Capacity:
    """What a search finds where every rate has a known answer."""
    return search(lambda rate: Probe(rate, answer(rate), ""), edge, precision)


# The search


@given(st.floats(1.0, 99.9), st.sampled_from([0.5, 0.1, 0.02, 0.001]), st.sampled_from([1e-6, 1.0, 100.0, 1e9]))
def test_the_answer_holds_the_edge_within_the_precision(share: float, precision: float, edge: float) -> None:
    """Rates up to share % of what the mathematics allows are sustained, those above are not."""
    limit = share / 100 * edge
    found = asked(lambda rate: SUSTAINED if rate <= limit else NOT_SUSTAINED, edge, precision)
    assert found.low is not None
    assert found.low <= limit <= found.high
    assert found.high - found.low <= precision * found.high
    assert [each.rate for each in found.probes] == sorted(each.rate for each in found.probes)


@given(st.floats(2.0, 90.0), st.floats(0.01, 9.0))
def test_what_stays_undecided_lies_inside_the_answer(start: float, width: float) -> None:
    """Between two rates nothing is decided: the answer ends within the precision outside of them."""
    def answer(rate: float) -> str:
        return SUSTAINED if rate <= start else NOT_SUSTAINED if rate > start + width else UNDECIDED
    found = asked(answer)
    assert found.low is not None
    assert found.low <= start <= found.low * 1.0205
    assert start + width <= found.high or not any(start < each.rate <= start + width for each in found.probes)
    assert found.high - (start + width) <= 0.0205 * found.high


def test_the_largest_of_two_ranges_is_found() -> None:
    """Sustained from 5 to 15 and from 45 to 62: low rates may fail, as the delay of WAIT does there."""
    found = asked(lambda rate: SUSTAINED if 5 < rate < 15 or 45 < rate < 62 else NOT_SUSTAINED)
    assert found.low is not None
    assert found.low < 62 < found.high < 63.3


def test_nothing_sustained_is_an_answer() -> None:
    """The reason is that of the lowest rate asked; where the mathematics excludes everything nothing is asked."""
    found = search(lambda rate: Probe(rate, NOT_SUSTAINED, f"late at {rate:g}"), 100.0)
    assert (found.low, found.high) == (None, 1.0)
    assert found.reason == "no rate is sustained: late at 1"
    none = search(lambda rate: pytest.fail("asked"), 0.0)
    assert (none.low, none.probes) == (None, ())


@pytest.mark.parametrize("precision", [0.0, -0.1, 0.6, float("nan"), "2%"])
def test_a_precision_is_a_share_up_to_a_half(precision: Any) -> None:
    with pytest.raises(InputError, match="precision"):
        asked(lambda rate: SUSTAINED, precision=precision)


# Queues


def test_a_server_for_one_sustains_up_to_its_rate() -> None:
    """M/D/1 with service 0.01 s: stable below 100 requests/s, which is its fluid limit."""
    found = capacity(Greedy(), SHORT, QUEUE, effort=QUICK)
    assert found.edge == pytest.approx(100.0)
    assert found.low is not None
    assert 98.0 <= found.low < found.high == found.edge


@pytest.mark.parametrize(("measure", "bound", "rate"), [
    ("latency", 0.02, 200 / 3),  # d + rho d/(2 (1 - rho)) = 2 d      at rho = 2/3
    ("ttft", 0.015, 50.0),       # the only token: the same delay, 1.5 d at rho = 1/2
    ("latency", 0.06, 1000 / 11),  # 6 d at rho = 10/11
])
def test_a_bound_on_the_mean_is_met_up_to_the_rate_of_theory(measure: str, bound: float, rate: float) -> None:
    """Pollaczek and Khinchine: the mean time in an M/D/1 queue."""
    found = capacity(Greedy(), SHORT, QUEUE, bound=Bound(measure, bound), effort=QUICK)
    assert found.low is not None
    assert found.low <= rate <= found.high
    assert found.high - found.low < 0.07 * rate


def test_a_percentile_is_asked_for_more_than_the_mean() -> None:
    """P(W = 0) = 1 - rho, so at most 1% wait at all, and 99% are served in 0.01 s, at rho <= 1%: no rate found so low
    meets it with d; with 2 d the 99th percentile allows fewer requests than the mean does."""
    mean = capacity(Greedy(), SHORT, QUEUE, bound=Bound("latency", 0.02), effort=QUICK)
    tail = capacity(Greedy(), SHORT, QUEUE, bound=Bound("latency_p99", 0.02), effort=QUICK)
    assert mean.low is not None
    assert tail.low is not None
    assert 1.0 < tail.low < tail.high < mean.low


def test_thresholds_sustain_their_own_rate_of_service() -> None:
    """WAIT with n = 3 and d1 = 0 serves 3 prompts per d0 = 0.01 s: 300 requests/s; memory for 7 allows 700."""
    replica = Replica(7 * 21 * 522, IterationTime(0.01, 0.0))
    found = capacity(WaitPolicy((3,)), Workload([PromptType(512, 20, 1.0)]), replica,
                     effort=Effort(horizon=60.0, replications=5))
    assert found.edge == pytest.approx(700.0)
    assert found.low is not None
    assert found.low <= 300.0 <= found.high
    assert found.high - found.low <= 0.02 * found.high + 1e-9


def test_a_probe_measures_what_verify_does() -> None:
    """With 12 replications, 2 of them beyond the pilot: the same backlogs and the same delays, at another level, over
    the horizon that it took to trust a 99th percentile.
    """
    mix = SHORT.scaled(4.0)
    found = probe(80.0, Greedy(), mix, QUEUE, Targets((Bound("latency_p99", 1.0),)), Effort(60.0, 12, seed=3))
    assert found.horizon is not None
    known = verify(Greedy(), mix, QUEUE, horizon=found.horizon, replications=12, seed=3)
    assert ("latency_p99" in known.doubted) == (found.doubt != "")
    assert found.measured == positive_interval(known.values("latency_p99"), 1 - PROBE_ERROR)
    assert (found.score, found.horizon) == (known.verdict.score, known.verdict.horizon)


@pytest.mark.parametrize(("targets", "most"), [(Targets(), 2), (Targets((Bound("ttft", 1.0),)), PILOT + 2)])
def test_a_probe_lets_its_runs_go(targets: Targets, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 30 runs, made one after the other, the pilot is held where there is a bound, and the one at work."""
    made: list[weakref.ref[Run]] = []
    alive: list[int] = []

    def counted(*arguments: Any, **keywords: Any) -> Run:
        run = simulate(*arguments, **keywords)
        made.append(weakref.ref(run))
        alive.append(sum(each() is not None for each in made))
        return run

    monkeypatch.setattr("verification.experiments.replications.simulate", counted)
    probe(20.0, Greedy(), SHORT, QUEUE, targets, Effort(60.0, 30, workers=1))
    assert len(made) == 30
    assert max(alive) <= most


def test_designs_are_made_anew_at_every_rate() -> None:
    """512 + 20 and C = 137,000: WAIT fits up to its `max_rate_scale`, and is sustained close to it."""
    replica = Replica(137_000, IterationTime(0.0106, 4.013e-7))
    mix = Workload([PromptType(512, 20, 100.0)])

    def design(there: Workload) -> WaitPolicy | None:
        made = wait(there, replica)
        return made if made.feasible else None

    found = capacity(design, mix, replica, effort=Effort(horizon=100.0, replications=5))
    limit = 100.0 * wait(mix, replica).max_rate_scale
    assert found.low is not None
    assert 0.95 * limit <= found.low <= limit <= found.high + 1e-9
    assert any("do not fit" in each.reason for each in found.probes) or found.high == found.edge


def test_the_rate_of_traffic_that_changes_is_its_mean() -> None:
    """M/D/1 in windows of 1 s at 1 : 3, short against the 300 s: stable below a mean of 100 requests/s all the same."""
    from fluid import Schedule
    traffic = Scheduled(Schedule([1.0, 1.0], [1.0, 3.0]))
    found = capacity(Greedy(), SHORT, QUEUE, effort=QUICK, traffic=traffic)
    assert found.edge == pytest.approx(100.0)
    assert found.low is not None
    assert 95.0 <= found.low < 100.0


def test_a_request_that_never_fits_is_never_sustained() -> None:
    found = capacity(Greedy(), Workload([PromptType(50, 1, 1.0)]), QUEUE)
    assert (found.low, found.edge, found.probes) == (None, 0.0, ())


def test_the_same_seed_gives_the_same_answer_whatever_the_workers() -> None:
    bound = Bound("latency", 0.02)
    one, two = (capacity(Greedy(), SHORT, QUEUE, bound=bound, precision=0.1, effort=Effort(100.0, 4, 3, workers))
                for workers in (1, 2))
    assert one == two


def test_a_bound_needs_two_replications_to_be_decided() -> None:
    with pytest.raises(InputError, match="replications"):
        capacity(Greedy(), SHORT, QUEUE, bound=Bound("latency", 1.0), effort=Effort(60.0, 1))


@pytest.mark.parametrize(("measure", "seconds"), [("mean", 1.0), ("latency", 0.0), ("ttft", float("inf"))])
def test_a_bound_is_checked_when_it_is_made(measure: str, seconds: float) -> None:
    with pytest.raises(InputError):
        Bound(measure, seconds)


# The command


MD1 = ONE_SERVER.format(rate=20.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "queue.toml"
    path.write_text(MD1, encoding="utf-8")
    return path


def test_the_command_says_what_the_library_says(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`capacity --json` holds the interval, the limits beside it, and every rate that was asked."""
    arguments = ["capacity", str(file), "--policy", "greedy", "--latency", "0.02", "--horizon", "300",
                 "--replications", "6"]
    assert status([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    found = capacity(Greedy(), SHORT, QUEUE, bound=Bound("latency", 0.02), effort=QUICK)
    assert (answer["low"], answer["high"]) == (found.low, found.high)
    assert answer["bound"] == {"measure": "latency", "seconds": 0.02}
    assert (answer["fluid_limit"], answer["design_limit"]) == (found.edge, None)
    assert [each["rate"] for each in answer["probes"]] == [each.rate for each in found.probes]
    assert status(arguments) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert found.reason in shown
    assert "fluid limit 100 requests/s" in shown


def test_auto_says_which_policy_it_uses(capsys: pytest.CaptureFixture[str]) -> None:
    """On the built-in deployment: windows, up to what they carry."""
    assert status(["capacity", "--horizon", "200", "--replications", "3", "--precision", "10%", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["policy"], answer["used"]) == ("auto", "paced")
    assert 1.8 < answer["low"] < answer["high"] <= answer["design_limit"] <= answer["fluid_limit"]


def test_no_rate_at_all_is_an_answer(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bound below the 0.01 s that a request takes: status 1."""
    assert status(["capacity", str(file), "--policy", "greedy", "--ttft", "0.009", "--horizon", "60", "--replications",
                   "2", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["low"] is None
    assert "no rate is sustained" in answer["reason"]


@pytest.mark.parametrize("flags", [
    ["--latency", "0"], ["--latency", "soon"], ["--latency-p99", "-1"], ["--ttft", "nan"],
    ["--latency", "1", "--replications", "1"], ["--precision", "0"],
    ["--precision", "60%"], ["--precision", "%"], ["--precision", "2%%"], ["--policy", "lifo"],
    ["--horizon", "0"], ["--horizon", "1e15"],
])
def test_bad_flags_are_one_line(flags: list[str], file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named on standard error, nothing on standard output, exit status 2."""
    assert status(["capacity", str(file), "--policy", "greedy", *flags, "--json"]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert flags[0].removeprefix("--") in captured.err or flags[1] in captured.err or "replications" in captured.err


def test_a_rate_at_which_the_cache_overflows_is_not_sustained() -> None:
    """Windows that never bind let everybody in: near the edge of memory runs hold more than there is; below the rate
    that is sustained none does.
    """
    mix, server = Workload([PromptType(60, 60, 1.0)]), Replica(3_000, IterationTime(0.01, 1e-6))
    policy, effort = PacedPolicy((1000,), (1,)), Effort(200.0, 4)
    found = capacity(policy, mix, server, precision=0.1, effort=effort)
    assert found.low is not None
    over = [each for each in found.probes if "holds more than the replica has" in each.reason]
    assert over
    assert all(each.answer == "not sustained" and each.rate > found.low for each in over)
    run = simulate(policy, mix.scaled(over[-1].rate), server, horizon=200.0)
    assert run.overflows > 0
    for replication in range(4):
        assert simulate(policy, mix.scaled(found.low), server, horizon=200.0, replication=replication).overflows == 0
