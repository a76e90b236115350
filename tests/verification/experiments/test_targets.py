"""Targets: what delays are, bounds on them, goodput; in runs, in searches, in files and on the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import ONE_SERVER

from fluid import IterationTime, PromptType, Replica, Workload
from fluid.errors import InputError
from fluidwait.__main__ import status
from fluidwait.deployment.deployment import parse
from verification import (
    Arrivals,
    Bound,
    Effort,
    Goodput,
    Greedy,
    Interval,
    Run,
    Sarathi,
    Targets,
    VllmV0,
    VllmV1,
    capacity,
    simulate,
)
from verification import verify as verified
from verification.experiments.capacity import guess
from verification.experiments.measures import Window
from verification.experiments.rate_search import SUSTAINED, Probe, search
from verification.experiments.targets.bounds import MET, MISSED, UNSURE, Held, share_interval
from verification.experiments.targets.delays import delays
from verification.experiments.targets.names import DELAYS

MIX = Workload([PromptType(50, 20, 4.0), PromptType(200, 5, 4.0)])
SMALL = Replica(kv_capacity=2_000, iteration_time=IterationTime(0.02, 1e-5, 1e-4), first_token="prefill")
ALL = Window(0.0, math.inf, math.inf)


@pytest.fixture(scope="module")
def run() -> Run:
    return simulate(VllmV1(), MIX, SMALL, horizon=120.0, seed=3, record=True)


def test_every_statistic_is_that_of_numpy(run: Run) -> None:
    """Of the requests of a window, and of the gaps that end in it, each as often as it occurs."""
    window = Window(20.0, 110.0, 100.0)
    found = delays(run, window)
    chosen = (run.arrivals.times >= 20.0) & (run.arrivals.times < 100.0)
    assert run.gaps is not None
    ends = (run.gaps.end > 20.0) & (run.gaps.end <= 110.0)
    between = run.time_between_tokens[chosen]
    of = {"latency": run.latency[chosen], "ttft": run.ttft[chosen], "tpot": between[np.isfinite(between)],
          "itl": np.repeat(run.gaps.seconds[ends], run.gaps.count[ends])}
    for name, values in of.items():
        assert found.of(name) == pytest.approx(values.mean(), rel=1e-12)
        for percent in (50, 90, 95, 99):
            assert found.of(f"{name}_p{percent}") == np.quantile(values, percent / 100, method="higher")
    assert (found.at_least, found.unfinished) == (frozenset(), 0)


def test_the_gaps_of_a_request_add_up_to_its_time_between_tokens(run: Run) -> None:
    """sum of all gaps = sum (completion - first token) over requests that finish, which all do if nobody comes late."""
    early = np.searchsorted(run.arrivals.times, 60.0)
    arrivals = Arrivals(run.arrivals.times[:early], run.arrivals.types[:early])
    for policy in (VllmV1(), VllmV0(), Greedy(eviction="recompute"), Sarathi()):
        whole = simulate(policy, MIX, SMALL, arrivals=arrivals, record=True)
        assert whole.gaps is not None
        assert whole.completed == early
        assert whole.gaps.seconds @ whole.gaps.count == pytest.approx((whole.finished - whole.first_token).sum())
        assert whole.gaps.count.sum() == (whole.output_tokens - 1).sum()


def test_an_eviction_is_a_gap() -> None:
    """Two requests of 30 + 40 tokens in a cache of 120: the second is preempted, and its longest gap is the wait."""
    replica = Replica(120, IterationTime(1.0, 0.0), first_token="prefill")
    run = simulate(VllmV1(), Workload([PromptType(30, 40, 1.0)]), replica, arrivals=Arrivals([0.0, 0.0], [0, 0]),
                   record=True)
    assert run.evictions == 1
    assert run.gaps is not None
    assert run.gaps.seconds.max() == run.finished[1] - run.first_token[1] - 38  # the other gaps are iterations of 1 s
    assert np.repeat(run.gaps.seconds, run.gaps.count).sum() == 39 + (run.finished[1] - run.first_token[1])


def test_without_a_record_there_are_no_gaps_and_all_else_is_the_same(run: Run) -> None:
    found, bare = (delays(each, ALL) for each in (run, simulate(VllmV1(), MIX, SMALL, horizon=120.0, seed=3)))
    assert all(math.isnan(bare.of(name)) for name in DELAYS if name.startswith("itl"))
    assert [bare.of(name) for name in DELAYS[:15]] == [found.of(name) for name in DELAYS[:15]]


def test_requests_that_did_not_finish_make_lower_bounds() -> None:
    """Stopped after 4 s, when half of the requests have just come: medians and more are at least so long."""
    run = simulate(VllmV1(), MIX, SMALL, horizon=4.0, seed=1, record=True)
    found = delays(run, ALL)
    assert found.unfinished == run.unfinished > 0
    assert "latency" in found.at_least
    assert "latency_p99" in found.at_least
    assert not any(name.startswith(("tpot", "itl")) for name in found.at_least)


# Goodput


def test_goodput_counts_requests_that_meet_everything(run: Run) -> None:
    """By hand; a request that did not finish meets nothing, one with a single token has no TPOT to exceed."""
    ttft, tpot = np.nanmedian(run.ttft), np.nanmedian(run.time_between_tokens)
    good = Goodput((("ttft", ttft), ("tpot", tpot)))
    assert good.met(run, ALL) == ((run.ttft <= ttft) & (run.time_between_tokens <= tpot)).mean()
    cut = simulate(VllmV1(), MIX, SMALL, horizon=4.0, seed=1)
    assert Goodput((("latency", 1e9),)).met(cut, ALL) == cut.completed / len(cut.arrivals)
    one = simulate(Greedy(), Workload([PromptType(5, 1, 9.0)]), SMALL, horizon=9.0, seed=1)
    assert Goodput((("tpot", 1e-9),)).met(one, ALL) == one.completed / len(one.arrivals)


@pytest.mark.parametrize("text", ["ttft<=2,tpot<=0.05", " TTFT <= 2s , tpot<=0.05 s", "ttft:2,tpot:0.05",
                                  "ttft<2,tpot<0.05"])
def test_conditions_are_read_as_people_write_them(text: str) -> None:
    assert Goodput.read(text).conditions == (("ttft", 2.0), ("tpot", 0.05))


def test_the_end_to_end_latency_of_benchmarks_is_the_latency() -> None:
    assert Goodput.read("e2el<=9").conditions == (("latency", 9.0),)


def test_a_share_is_said_in_percent() -> None:
    """Not as "1 of the requests"."""
    assert Goodput.read("ttft<=1", 1.0).text == "ttft up to 1 s for 100% of the requests"
    assert Goodput.read("ttft<=1", 0.999).text.endswith("for 99.9% of the requests")


@pytest.mark.parametrize("text", ["", "ttft", "ttft<=", "ttft<=x", "ttft<=-1", "itl<=1", "ttft<=1;tpot<=2",
                                  "ttft<=inf"])
def test_conditions_that_cannot_be_read_are_refused_in_a_line(text: str) -> None:
    with pytest.raises(InputError, match=r"goodput.* must be conditions") as error:
        Goodput.read(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.0, 1.5, 99.0, -1.0, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(InputError, match="share"):
        Goodput((("ttft", 1.0),), share)


def test_a_target_is_met_or_missed_where_its_interval_lies_on_one_side() -> None:
    bound, good = Bound("ttft", 2.0), Goodput((("ttft", 1.0),), 0.9)
    answers = [Held(bound, Interval(1.5, low, high)).answer for low, high in ((1.0, 2.0), (1.0, 2.1), (2.1, 3.0))]
    assert answers == [MET, UNSURE, MISSED]
    shares = [Held(good, Interval(0.9, low, high)).answer for low, high in ((0.9, 1.0), (0.89, 0.99), (0.5, 0.89))]
    assert shares == [MET, UNSURE, MISSED]
    assert Held(bound, Interval(1.0, 0.9, 1.1), "too short").answer == UNSURE


def test_the_interval_of_a_share_stays_a_share() -> None:
    assert share_interval([1.0, 1.0, 1.0]) == (1.0, 1.0, 1.0)
    found = share_interval([0.9, 1.0, 0.95, 0.92])
    assert 0 <= found.low < found.mean < found.high <= 1


# Searches: a queue with a known answer


SHORT = Workload([PromptType(5, 1, 20.0)])
QUEUE = Replica(10, IterationTime(0.01, 0.0), max_num_seqs=1, first_token="prefill")  # M/D/1, 100 requests/s
QUICK = Effort(300.0, 6)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_goodput_is_found_where_theory_has_it(share: float) -> None:
    """In M/D/1 a request takes no longer than its service where it finds nobody: P = 1 - rho (PASTA), 100 (1 - s) / s
    of the service rate.
    """
    targets = Targets(goodput=Goodput((("latency", 0.01 * (1 + 1e-9)),), share))
    found = capacity(Greedy(), SHORT, QUEUE, bound=targets, effort=QUICK)
    assert found.low is not None
    assert found.low <= 100 * (1 - share) <= found.high
    assert found.binds == "goodput"


def test_the_tightest_of_several_bounds_binds() -> None:
    """Mean latency 2 d allows rho = 2/3, mean TTFT (here the same delay) 1.5 d rho = 1/2."""
    both = Targets((Bound("latency", 0.02), Bound("ttft", 0.015)))
    found = capacity(Greedy(), SHORT, QUEUE, bound=both, effort=QUICK)
    assert found.low is not None
    assert found.low <= 50.0 <= found.high
    assert found.binds == "ttft"
    assert {held.name for each in found.probes for held in each.held} == {"latency", "ttft"}


def test_bounds_on_gaps_between_tokens_are_simulated() -> None:
    """Gaps of 0.02 s plus what prefills and KV add: a bound on their 90th percentile is met below the edge only."""
    found = capacity(VllmV1(), MIX, SMALL, bound=Bound("itl_p90", 0.035), effort=Effort(200.0, 4), precision=0.1)
    assert found.low is not None
    assert found.low < found.edge
    assert found.binds == "itl_p90"
    probe = next(each for each in found.probes if each.rate == found.low)
    assert probe.measured is not None
    assert probe.measured.high <= 0.035


def test_the_search_begins_at_the_guess_and_goes_up_from_there_where_it_was_too_low() -> None:
    """True edge at 62 of 100: from guesses below, near and above, the same answer."""
    def ask(rate: float) -> Probe:
        asked.append(rate)
        return Probe(rate, SUSTAINED if rate < 62 else "not sustained", "")

    for start, first in ((20.0, 21.0), (60.0, 63.0), (90.0, 94.5), (math.inf, 95.0)):
        asked: list[float] = []
        found = search(ask, 100.0, guess=start)
        assert asked[0] == pytest.approx(first)
        assert found.low is not None
        assert found.low < 62 <= found.high <= found.low * 1.03


def test_the_guess_is_where_the_fluid_iteration_is_as_long_as_allowed() -> None:
    """Delta = d0 / (1 - rho) without KV limits: 0.0106 / (1 - x/227.3) = 0.0212 at half of the load."""
    replica = Replica(10**9, IterationTime(0.0106, 4.013e-7))
    mix = Workload([PromptType(512, 20, 1.0)])
    found = guess(mix, replica, Targets((Bound("tpot_p99", 0.0212),)))
    edge = 1 / (4.013e-7 * (21 * 512 + 210))
    assert found == pytest.approx(edge / 2, rel=0.03)
    assert guess(mix, replica, Targets((Bound("ttft", 0.1),))) == math.inf


def test_what_no_request_has_decides_nothing_and_is_said_so() -> None:
    """Requests of a single token have no TPOT; what they have binds."""
    asked = Targets((Bound("tpot", 0.1), Bound("latency", 0.001)))
    found = verified(Greedy(), SHORT, QUEUE, horizon=100.0, replications=2, targets=asked)
    assert [(each.name, each.answer) for each in found.targets] == [("latency", MISSED), ("tpot", UNSURE)]
    assert found.targets[1].text == "tpot of no request"


# Files and flags


MD1 = ONE_SERVER.format(rate=50.0) + "[target]\nhorizon = 200.0\n"


def said(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, *words: str) -> tuple[int, Any]:
    (tmp_path / "queue.toml").write_text(text, encoding="utf-8")
    code = status([words[0], str(tmp_path / "queue.toml"), *words[1:], "--json"])
    shown = capsys.readouterr()
    return code, json.loads(shown.out) if code < 2 else shown.err


def test_the_targets_of_a_file_are_held_against_the_simulation(tmp_path: Path,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    """Mean latency 1.5 d at rho = 1/2: met at 16 ms, missed at 14 ms, which makes the answer no."""
    code, found = said(capsys, tmp_path, MD1 + "latency = 0.016\n", "verify", "--policy", "greedy")
    assert (code, [each["answer"] for each in found["targets"]]) == (0, ["met"])
    code, found = said(capsys, tmp_path, MD1 + "latency = 0.014\n", "verify", "--policy", "greedy")
    assert (code, found["targets"][0]["answer"], found["verdict"], found["agrees"]) == (1, "missed", "stable", True)
    assert all({"mean", "low", "high"} <= found[name].keys() for name in DELAYS)
    report = status(["verify", str(tmp_path / "queue.toml"), "--policy", "greedy"])
    shown = " ".join(capsys.readouterr().out.split())
    assert report == 1
    assert "target latency up to 0.014 s: latency 0.014" in shown
    assert "missed" in shown


def test_flags_take_the_place_of_the_targets_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("capacity", "--policy", "greedy", "--replications", "6")
    _, own = said(capsys, tmp_path, MD1 + "latency = 0.02\n", *words)
    assert own["targets"] == {"latency": 0.02, "goodput": None}
    assert own["low"] <= 200 / 3 <= own["high"]
    asked = ("--goodput", "latency<=0.0100001", "--share", "50%")
    _, flags = said(capsys, tmp_path, MD1 + "latency = 0.02\n", *words, *asked)
    assert flags["targets"] == {"goodput": {"conditions": {"latency": 0.0100001}, "share": 0.5}}
    assert flags["low"] <= 50 <= flags["high"]
    assert flags["binds"] == "goodput"


def test_a_mean_may_be_written_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = said(capsys, tmp_path, MD1, "verify", "--policy", "greedy", "--latency-mean", "1", "--ttft-p99", "1")
    assert (code, {each["measure"] for each in found["targets"]}) == (0, {"latency", "ttft_p99"})


@pytest.mark.parametrize(("words", "message"), [
    (["--ttft-p99", "0"], "--ttft-p99 must be a positive finite number of seconds (got 0.0)"),
    (["--tpot-mean", "x"], "must be a number"),
    (["--goodput", "ttft=2"], "--goodput must be conditions"),
    (["--share", "90%"], "--share must be given beside --goodput only"),
    (["--goodput", "ttft<=1, ttft<=2"], "--goodput must be at most one condition on each delay"),
    (["--goodput", "ttft<=1", "--share", "150%"], "--share must be a share of the requests"),
])
def test_a_flag_that_cannot_be_used_is_one_line(words: list[str], message: str, tmp_path: Path,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    code, line = said(capsys, tmp_path, MD1, "capacity", *words)
    assert code == 2
    assert message in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(("text", "words", "message"), [
    (MD1, ["--replications", "1"], "--replications must be a whole number of replications from 2"),
    (MD1.replace("[[workload", "[workload]\narrivals = { batch = 10 }\n[[workload"), [],
     "must not be a batch for targets"),
])
def test_targets_that_nothing_could_be_held_against_are_refused(text: str, words: list[str], message: str,
                                                                tmp_path: Path,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    code, line = said(capsys, tmp_path, text, "verify", "--ttft", "0.001", *words)
    assert code == 2
    assert message in line


@pytest.mark.parametrize(("key", "message"), [
    ("ttft_p99 = 0.0", "target.ttft_p99 must be a positive finite number of seconds"),
    ('goodput = "fast"', "target.goodput must be conditions"),
    ("share = 0.5", "target.share must be given beside goodput only"),
    ("ttft_p98 = 1.0", "target.ttft_p98 is not a known key"),
])
def test_a_target_that_cannot_be_used_is_one_line(key: str, message: str) -> None:
    with pytest.raises(Exception, match="target") as error:
        parse((MD1 + key).encode(), "queue.toml")
    assert message in str(error.value)


def test_verify_measures_all_of_them() -> None:
    """Latency is TTFT plus the gaps; percentiles are in order."""
    found = verified(VllmV1(), MIX, SMALL, horizon=200.0, replications=4, targets=Targets((Bound("itl_p99", 1.0),)))
    for quantity in ("latency", "ttft", "tpot", "itl"):
        means = [found.delays[f"{quantity}_p{percent}"].mean for percent in (50, 90, 95, 99)]
        assert means == sorted(means)
    assert found.targets[0].answer == MET
    assert found.values("tpot_p95").shape == (4,)
