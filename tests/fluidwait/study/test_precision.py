"""The command's statistics: a precision asked for, differences on the same arrivals, what one replication can say."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest

from fluidwait.__main__ import status
from fluidwait.commands.options import share
from fluidwait.reports.answers import COMPARED

SHORT = ["--horizon", "60", "--replications", "5"]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The JSON object of a command."""
    status([*arguments, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The report of a command, its lines joined."""
    status(list(arguments))
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("text", "value"), [("2%", 0.02), ("0.02", 0.02), ("12.5%", 0.125), (" 1 %", 0.01)])
def test_a_share_may_be_written_as_a_percentage(text: str, value: float) -> None:
    assert share(text) == pytest.approx(value, rel=1e-15)


def test_both_ways_to_write_a_precision_give_the_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for precision in ("2%", "0.02"):
        status(["verify", "--policy", "greedy", *SHORT, "--precision", precision, "--json"])
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]


def test_verify_says_the_precision_that_it_reached(capsys: pytest.CaptureFixture[str]) -> None:
    """The half-widths in the answer meet the rule; the report says so with the number of replications."""
    asked = ["verify", "--policy", "greedy", *SHORT, "--precision", "2%"]
    found = answer(capsys, *asked)
    assert found["replications"] > 5
    assert found["precision"]["asked"] == 0.02
    assert found["precision"]["reached"] is True
    for name in ("latency", "throughput"):
        assert found[name]["high"] - found[name]["mean"] <= 0.02 / 1.02 * found[name]["mean"]
    assert f"precision 0.02 reached: mean latency and throughput are known to {found['precision']['found']:.2%} with " \
           f"{found['replications']} replications" in report(capsys, *asked)


def test_a_precision_not_reached_is_said_with_what_was_found(monkeypatch: pytest.MonkeyPatch,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("verification.statistics.precision.MOST_REPLICATIONS", 8)
    asked = ["verify", "--policy", "greedy", *SHORT, "--precision", "0.01%"]
    found = answer(capsys, *asked)
    assert (found["replications"], found["precision"]["reached"]) == (8, False)
    assert "precision 0.0001 not reached" in report(capsys, *asked)


def test_without_a_precision_nothing_is_said_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "verify", "--policy", "greedy", *SHORT)["precision"] is None


@pytest.mark.parametrize("precision", ["0", "1", "150%", "-2%", "nan", "2 percent", "%", ""])
def test_a_precision_that_is_none_is_one_line(precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["verify", "--policy", "greedy", "--precision", precision, "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "precision" in captured.err


def test_run_compares_every_rival_with_the_chosen_policy_on_the_same_arrivals(
        capsys: pytest.CaptureFixture[str]) -> None:
    """Each difference is that of the means, inside its interval; with a precision all have the chosen one's number."""
    found = answer(capsys, "run", *SHORT, "--precision", "10%", "--against", "greedy")
    chosen = found["verify"]
    assert chosen["precision"]["reached"] is True
    assert chosen["policy"] == "paced"
    assert [rival["policy"] for rival in found["rivals"]] == ["vllm-v1", "greedy"]
    for rival in found["rivals"]:
        assert rival["replications"] == chosen["replications"]
        assert rival["precision"] is None
        assert list(rival["against_chosen"]) == list(COMPARED)
        for measure, gap in rival["against_chosen"].items():
            assert gap["mean"] == pytest.approx(rival[measure]["mean"] - chosen[measure]["mean"], abs=1e-9)
            assert gap["low"] <= gap["mean"] <= gap["high"]
            assert gap["significant"] == (gap["low"] > 0 or gap["high"] < 0)


def test_run_shows_the_differences_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    text = report(capsys, "run", *SHORT, "--verbose")
    assert "difference: mean latency less that of paced" in text
    assert "drift: the requests in the system change by" in text


def test_one_replication_shows_batch_means_while_the_intervals_over_replications_stay_null(
        capsys: pytest.CaptureFixture[str]) -> None:
    """The contract keeps null; the report and `batch_means` have intervals from inside the run."""
    one = ["verify", "--policy", "greedy", "--horizon", "600", "--replications", "1"]
    found = answer(capsys, *one)
    for name in ("throughput", "latency", "ttft"):
        assert found[name]["low"] is None
        inside = found["batch_means"][name]
        assert inside["low"] < inside["mean"] < inside["high"]
        assert inside["mean"] == pytest.approx(found[name]["mean"], rel=0.02)  # at most 31 requests fewer
    shown = report(capsys, *one)
    assert "± from batch means inside the single replication" in shown
    assert answer(capsys, "verify", "--policy", "greedy", *SHORT)["batch_means"] is None


def test_a_replication_too_short_for_batches_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "verify", "--policy", "greedy", "--horizon", "1", "--replications", "1")
    assert found["batch_means"] is None


def test_a_percentile_that_needs_unfinished_requests_is_a_lower_bound(capsys: pytest.CaptureFixture[str]) -> None:
    """In 2 s the last requests, 1.2 s long, do not finish; over 600 s within the edge all but the last 1% do."""
    hot = ["verify", "--policy", "greedy", "--horizon", "2", "--replications", "2"]
    found = answer(capsys, *hot)
    assert found["unfinished"] > 0
    assert found["latency_p99_at_least"] is True
    assert re.search(r"latency +≥ \S+", report(capsys, *hot))
    calm = answer(capsys, "verify", "--policy", "greedy", "--horizon", "600", "--replications", "2")
    assert calm["latency_p99_at_least"] is False


def test_the_drift_stands_beside_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """Stable: the interval of the drift holds 0 or nearly; `verify` without simulation has none."""
    drift = answer(capsys, "verify", "--policy", "greedy", *SHORT)["drift"]
    assert drift["low"] <= drift["mean"] <= drift["high"]
    assert math.isclose(drift["mean"], 0.0, abs_tol=1.0)  # of 43 requests/s
