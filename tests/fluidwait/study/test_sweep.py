"""Sweeps: cells that say what `verify` says, the same bytes however they are run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import written
from sweeps import EDGE, QUICK, REPLICA, TYPE, answer, cells_in, swept, text_of

from fluidwait.__main__ import status
from fluidwait.deployment.deployment import Deployment, parse
from fluidwait.study import sweep
from fluidwait.study.cell import KEPT_INTERVALS
from fluidwait.study.grid import Cell
from fluidwait.study.outcomes import Plan


def test_a_cell_is_what_verify_says_at_that_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To the last bit, for a policy that is designed anew and for one that is not, whatever the rate in the file."""
    cells = answer(capsys, written(tmp_path, text_of(37.3)), "--seed", 3, rates="120", policies="greedy,wait")["cells"]
    for cell in cells:
        status(["verify", str(written(tmp_path, text_of(120.0))), "--policy", cell["policy"], "--seed", "3", "--json",
                *QUICK])
        one = json.loads(capsys.readouterr().out)
        energy = dict.fromkeys(("joules", "lost_joules")) | (one["energy"] or {})  # known where power is
        assert cell == {"rate": 120.0, "reason": cell["reason"]} | energy | {
            name: one[name] for name in cell if name not in ("rate", "reason", *energy)}


def test_the_mix_keeps_its_proportions() -> None:
    """Three types at 2 : 1 : 1 stay so; at its own rate a deployment is itself."""
    text = REPLICA.format(capacity=137_000) + "".join(
        TYPE.format(name=name, prompt=100, output=10, rate=rate) for name, rate in (("a", 2), ("b", 1), ("c", 1)))
    mix = parse(text.encode(), "mix.toml")
    assert mix.at(10.0).workload.rates.tolist() == [5.0, 2.5, 2.5]
    assert mix.at(10.0).rate == 10.0
    assert mix.at(4.0) is not mix
    assert mix.at(4.0) == mix


def test_rates_that_change_over_time_keep_their_ratios() -> None:
    """Windows at 1 : 3 with mean 2 x 50 = 100 requests/s: at a mean of 60 they have 30 and 90; at 120 the second, 180
    requests/s, is inside the edge of 190 and thresholds are designed for it; at 200 (300) for the first, 100."""
    windows = "".join(f"[[workload.window]]\nduration = 60.0\nscale = {scale}\n" for scale in (1.0, 3.0))
    mix = parse((text_of(50.0) + windows).encode(), "mix.toml")
    assert mix.rate == pytest.approx(100.0, rel=1e-12)
    for rate, busiest in ((60.0, 90.0), (120.0, 180.0), (200.0, 100.0)):
        there = mix.at(rate)
        assert there.rate == pytest.approx(rate, rel=1e-12)
        assert there.workload.rate == pytest.approx(busiest, rel=1e-12)
        assert [each.equilibrium.workload.rate for each in there.mix.windows] == pytest.approx([rate / 2, 1.5 * rate])


def test_a_trace_gets_the_rates_it_would_have_in_a_file(tmp_path: Path) -> None:
    """Pairs that occur 3 and 4 times: at 70 requests/s 30 and 40, as `workload.rate = 70` would make them."""
    rows = [f"{i}.0,{10 if i < 3 else 20},5" for i in range(7)]
    (tmp_path / "t.csv").write_text("\n".join(["arrived_at,num_prefill_tokens,num_decode_tokens", *rows]))
    def at(rate: float) -> Deployment:
        text = REPLICA.format(capacity=137_000) + f'[workload]\ntrace = "t.csv"\nrate = {rate}\n'
        return parse(text.encode(), "mix.toml", tmp_path)
    for rate in (70.0, 0.1, 33.3):
        assert np.array_equal(at(11.7).at(rate).workload.rates, at(rate).workload.rates)


def test_thresholds_that_do_not_fit_are_simulated_and_none_at_all_are_unstable(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """512 + 20 with C = 20,000: one prompt in each of 21 stages, 21 x 522 = 10,962 tokens, fits and two do not. WAIT
    is stable with two, but overflows; beyond rho = 1 (1/(4.013e-7 x 10,962) = 227 requests/s) there are none."""
    file = written(tmp_path, text_of(capacity=20_000))
    found = answer(capsys, file, "--horizon", 100, rates="40,100,300", policies="wait")
    fits, overflows, none = found["cells"]
    assert (fits["verdict"], fits["overflow_runs"]) == ("stable", 0)
    assert (overflows["verdict"], overflows["overflow_runs"]) == ("stable", 2)
    assert overflows["kv_peak"] > 20_000
    assert none["verdict"] == "unstable"
    assert "overloaded" in none["reason"]
    assert all(none[name] is None for name in (*KEPT_INTERVALS, "kv_peak"))
    assert swept(file, "--horizon", 100, rates="40,100,300", policies="wait") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in ("overflows: a policy that never evicts", "unstable, no thresholds", "wait: stable up to 100"):
        assert part in shown


def test_limits_are_the_largest_stable_rates(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Below the edge of 190 requests/s greedy is stable, at twice the edge it is not; null where nothing is stable."""
    found = answer(capsys, file, "--horizon", 60, rates="50,100,400", policies="greedy")
    assert [cell["verdict"] for cell in found["cells"]] == ["stable", "stable", "unstable"]
    assert found["limits"] == {"greedy": 100.0}
    assert found["fluid_limit"] == pytest.approx(EDGE, abs=0.05)
    assert answer(capsys, file, "--horizon", 60, rates="400", policies="greedy")["limits"] == {"greedy": None}


def test_a_rate_beyond_all_machines_is_an_answer(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At 1e12 requests/s nothing is simulated, every verdict is unstable."""
    found = answer(capsys, file, rates="1e12", policies="greedy,wait,paced")
    assert {cell["verdict"] for cell in found["cells"]} == {"unstable"}


def test_a_threshold_policy_is_designed_for_the_rate_of_its_cell() -> None:
    """The file says 20 requests/s; at 150 WAIT holds 5 in each of 21 stages, 5 x 10,962 tokens."""
    deployment = parse(text_of(20.0).encode(), "mix.toml")
    cell = sweep.finish(deployment, Cell(150.0, "wait"), Plan(30.0, 2, 0))
    assert cell.measured is not None
    assert cell.measured.kv_peak == 5 * 10_962


def test_the_number_of_jobs_changes_no_byte(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in the answer nor in the figures nor in the table of cells."""
    texts, folders = [], [tmp_path / name for name in ("one", "two")]
    for jobs, folder in enumerate(folders, 1):
        assert swept(file, "--jobs", jobs, "--out", folder, "--json", policies="greedy,paced,wait") == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert cells_in(folders[0]) == cells_in(folders[1])
    for name in ("report.json", "sweep.svg", "sweep.png"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
