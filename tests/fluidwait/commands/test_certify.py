"""The command certify: its answer, its sets of rates, bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import ONE_TYPE, answer, written

from fluidwait.__main__ import status
from fluidwait.deployment.deployment import load


def some_requests(folder: Path) -> Path:
    """400 independent requests of three length pairs, one in half a second."""
    pairs = np.random.default_rng(5).choice(3, size=400, p=[0.6, 0.3, 0.1])
    rows = [f"{0.5 * i},{(50, 400, 1000)[k]},{(20, 80, 300)[k]}\n" for i, k in enumerate(pairs)]
    path = folder / "requests.csv"
    path.write_text("at,prompt,output\n" + "".join(rows), encoding="utf-8")
    return path


def test_the_answer_is_yes_where_the_demand_is_carried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Below the proved factor it is yes, between the two or above both no; factors scale with 1/rate."""
    code, low = answer(capsys, "certify", written(tmp_path, ONE_TYPE.format(rate=100.0)))
    assert (code, low["answer"]) == (0, True)
    code, high = answer(capsys, "certify", written(tmp_path, ONE_TYPE.format(rate=1000.0)))
    assert (code, high["answer"]) == (1, False)
    assert high["above_factor"] == pytest.approx(low["above_factor"] / 10)
    assert high["below"][0]["rate"] == pytest.approx(low["below"][0]["rate"])
    assert low["below_factor"] <= low["above_factor"]


def test_uncertainty_may_turn_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At 95% of what is carried 10% more is not; over a box every factor is divided by 1.1."""
    edge = answer(capsys, "certify", written(tmp_path, ONE_TYPE.format(rate=1.0)))[1]["below_factor"]
    file = written(tmp_path, ONE_TYPE.format(rate=0.95 * edge))
    assert answer(capsys, "certify", file)[0] == 0
    code, found = answer(capsys, "certify", file, "--rates-within", "10%")
    assert code == 1
    for worst, nominal in zip(found["uncertainty"]["below"] + found["uncertainty"]["above"],
                              found["below"] + found["above"], strict=True):
        assert worst["factor"] == pytest.approx(nominal["factor"] / 1.1)


def test_a_trace_is_uncertain_without_being_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its shares are those of a chi-square ball at 95%; more confidence costs more, and the other sets do, too."""
    lost, file = {}, some_requests(tmp_path)
    columns = ("--prompt-column", "prompt", "--output-column", "output", "--time-column", "at", "--time-unit", "s")
    for flags in ((), ("--confidence", "99%"), ("--set", "ellipsoid"), ("--set", "bootstrap")):
        _, found = answer(capsys, "certify", file, *columns, *flags)
        lost[flags] = 1 - found["uncertainty"]["above"][0]["factor"] / found["above"][0]["factor"]
    assert found["uncertainty"]["set"] == "bootstrap"
    assert 0 < lost[()] < lost["--confidence", "99%"] < 0.2
    assert lost["--set", "bootstrap"] == pytest.approx(lost[()], rel=0.25)
    assert lost["--set", "ellipsoid"] > lost[()]  # the number of requests is uncertain there, too


def test_the_file_is_what_json_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--out writes the object of --json, and the report says where."""
    file, out = written(tmp_path, ONE_TYPE.format(rate=100.0)), tmp_path / "certificate.json"
    _, found = answer(capsys, "certify", file, "--out", out)
    assert json.loads(out.read_text(encoding="utf-8")) == found
    assert status(["certify", str(file), "--out", str(out)]) == 0
    report = capsys.readouterr().out
    assert "never an overflow" in report
    assert "assumed" in report


def test_a_type_that_never_fits_is_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No, with the reason, and no bound."""
    code, found = answer(capsys, "certify", written(tmp_path, ONE_TYPE.format(rate=1.0).replace("137000", "100")))
    assert code == 1
    assert found["reason"].startswith("never fits")
    assert (found["below"], found["above"], found["gap"]) == ([], [], None)
    assert load(tmp_path / "mix.toml").rate == 1.0
    assert status(["certify", str(tmp_path / "mix.toml")]) == 1
    assert "never fits" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [
    ["--rates-within", "-1"], ["--rates-within", "nan"], ["--rates-within", "much"], ["--rates-within", "11"],
    ["--set", "ball"], ["--set", "chi-square"], ["--set", "bootstrap"], ["--set", "box"], ["--confidence", "2"],
    ["--confidence", "0.3"], ["--out", "no/such/folder/c.json"],
])
def test_bad_flags_are_one_line(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, one line, and the flag or the file is named."""
    assert status(["certify", *flags]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert flags[0] in captured.err or flags[1] in captured.err or "--rates-within" in captured.err


def test_a_batch_and_a_closed_loop_have_no_rate_to_certify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both are refused in one line."""
    for lines in ("[workload]\narrivals = { batch = 100 }\n", "[workload]\nusers = 10\nthink = 1.0\n"):
        assert status(["certify", str(written(tmp_path, ONE_TYPE.format(rate=5.0).replace("[[", lines + "[[")))]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_iterations_that_take_nothing_but_their_overhead_are_certified(tmp_path: Path,
                                                                       capsys: pytest.CaptureFixture[str]) -> None:
    """Where requests add no time at all the cache alone is the limit."""
    text = ONE_TYPE.format(rate=5.0).replace("4.013e-7", "0.0")
    code, found = answer(capsys, "certify", written(tmp_path, text))
    assert code == 0
    assert found["above"][0]["limit"] == "memory"
    assert found["above_factor"] == pytest.approx(137_000 / (5 * 0.0106 * sum(range(512, 533))))
