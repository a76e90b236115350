"""Sweeps: cells that say what `verify` says, files that survive anything, the same bytes however they are run."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from fluid import FluidwaitError, solve
from fluidwait.__main__ import status
from fluidwait.deployment.deployment import Deployment, parse
from fluidwait.deployment.policy_names import BASELINES, DESIGNED
from fluidwait.figures.style import style
from fluidwait.figures.sweep import sweep_figure
from fluidwait.study import sweep
from fluidwait.study.cell import KEPT_INTERVALS, Finished, Kept, cell_of, row_of
from fluidwait.study.fingerprint import asked
from fluidwait.study.grid import Cell, Grid
from fluidwait.study.outcomes import Plan
from fluidwait.study.store import NAME, TABLE, opened
from verification import Interval
from verification.store.question import Digest, Question

REPLICA = """
[replica]
kv_capacity = {capacity}
[replica.iteration_time]
overhead = 0.0106
per_kv_token = 4.013e-7
"""
TYPE = """
[[workload.type]]
name = "{name}"
prompt_tokens = {prompt}
output_tokens = {output}
rate = {rate}
"""
QUICK = ("--horizon", "30", "--replications", "2")
RATES = "20:60:20"  # three rates, with two policies six cells
EDGE = 190.6  # requests/s that 512 + 20 tokens can have: the README's example


def text_of(rate: float = 100.0, capacity: int = 137_000) -> str:
    return REPLICA.format(capacity=capacity) + TYPE.format(name="chat", prompt=512, output=20, rate=rate)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A deployment of 512 + 20 tokens at 100 requests/s."""
    return written(tmp_path, text_of())


def written(folder: Path, text: str) -> Path:
    path = folder / "mix.toml"
    path.write_text(text, encoding="utf-8")
    return path


def swept(file: Path, *options: object, rates: str = RATES, policies: str = "greedy,paced") -> int:
    """The exit status of a quick sweep."""
    return status([str(each) for each in ("sweep", file, "--rates", rates, "--policies", policies, *QUICK, *options)])


def answer(capsys: pytest.CaptureFixture[str], file: Path, *options: object, **grid: str) -> dict[str, Any]:
    """The JSON of a quick sweep."""
    assert swept(file, *options, "--json", **grid) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    return found


# Rates and policies


@pytest.mark.parametrize(("text", "rates"), [
    ("10:150:10", tuple(range(10, 151, 10))),
    ("0.1:0.5:0.1", (0.1, 0.2, 0.3, 0.4, 0.5)),  # in binary 0.1 + 2 x 0.1 is not 0.3, and 4 steps pass 0.5
    ("10:25:10", (10, 20)),
    ("7:7:1", (7,)),
    ("20,5,10.5", (5, 10.5, 20)),
    ("1:3:1,2, 10", (1, 2, 3, 10)),
    ("1e-3:3e-3:1e-3", (0.001, 0.002, 0.003)),
])
def test_rates_are_numbers_and_ranges_that_include_their_stop(text: str, rates: tuple[float, ...]) -> None:
    assert Grid.read(text, "paced").rates == rates


def test_cells_are_ordered_by_rate_then_policy() -> None:
    """Whatever the order in which they were asked for, and each once."""
    grid = Grid.read("20,10", "wait, greedy,wait")
    assert grid.cells == [(10, "greedy"), (10, "wait"), (20, "greedy"), (20, "wait")]


REFUSED = [
    ("--rates", each) for each in ("", "fast", "10:20", "10:20:5:5", "10:20:", "20:10:1", "10:20:0", "10:20:-1",
                                   "0:20:5", "-5", "nan", "inf", "1:inf:1", "1:2:1e-9", "1:1e300:1", "5,,6")
] + [("--policies", each) for each in ("", "auto", "lifo", "greedy,", "greedy;paced")] + [
    ("--jobs", each) for each in ("0", "-1", "many", "1.5")
] + [("--replications", "0"), ("--horizon", "0"), ("--horizon", "1e15"), ("--seed", "-1"), ("--out", "")]


@pytest.mark.parametrize(("flag", "value"), REFUSED)
def test_bad_flags_are_one_line(flag: str, value: str, file: Path, tmp_path: Path,
                                capsys: pytest.CaptureFixture[str]) -> None:
    """The line names the flag or what it gives; nothing is printed or written, exit status 2."""
    flags = {"--rates": RATES, "--policies": "greedy", "--out": str(tmp_path / "out")} | {flag: value}
    assert status(["sweep", str(file), "--json", *(f"{name}={each}" for name, each in flags.items())]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert flag.removeprefix("--") in captured.err or value in captured.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["--rates", "--policies"])
def test_both_flags_are_needed(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = {"--rates": RATES, "--policies": "greedy"}
    del flags[missing]
    assert status(["sweep", *(f"{name}={each}" for name, each in flags.items())]) == 2
    assert missing in capsys.readouterr().err


@pytest.mark.parametrize("policy", ["wait", "mc-sf", "mc-benchmark", "sorted-f"])
def test_who_reads_lengths_is_refused_where_they_are_unknown(policy: str, tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    text = text_of().replace("[[workload", '[workload]\nlengths = "unknown"\n[[workload', 1)
    assert swept(written(tmp_path, text), policies=f"greedy,{policy}") == 2
    assert f"--policies {policy}" in capsys.readouterr().err
    assert status(["run", str(written(tmp_path, text)), "--against", policy]) == 2


def test_the_cluster_has_its_own_number_of_jobs(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert swept(file, "--jobs", 2, "--dask", "tcp://127.0.0.1:8786") == 2
    assert "--jobs" in capsys.readouterr().err


def test_every_policy_has_a_colour_and_a_marker_of_its_own() -> None:
    """Lines are told apart without colours: no two policies share a marker."""
    names = (*DESIGNED, *BASELINES)
    assert len({style(name).marker for name in names}) == len({style(name).colour for name in names}) == len(names)


# What a cell is


def test_a_cell_is_what_verify_says_at_that_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To the last bit, for a policy that is designed anew and for one that is not, whatever the rate in the file."""
    cells = answer(capsys, written(tmp_path, text_of(37.3)), "--seed", 3, rates="120", policies="greedy,wait")["cells"]
    for cell in cells:
        status(["verify", str(written(tmp_path, text_of(120.0))), "--policy", cell["policy"], "--seed", "3", "--json",
                *QUICK])
        one = json.loads(capsys.readouterr().out)
        assert cell == {"rate": 120.0} | {name: one[name] for name in cell if name not in ("rate", "reason")} | {
            "reason": cell["reason"]}


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
    for part in ("stable, overflows", "unstable, no thresholds", "wait: stable up to 100 requests/s"):
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


# The same bytes


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


def test_two_dask_workers_change_no_byte(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The cells of a local cluster with two worker processes are those of one thread."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        assert swept(file, "--json", "--dask", cluster.scheduler_address) == 0
    there = capfd.readouterr().out
    assert swept(file, "--json", "--jobs", 1) == 0
    assert there == capfd.readouterr().out


def test_a_cluster_that_is_not_there_is_one_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("distributed")
    assert swept(file, "--dask", "nowhere") == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "nowhere" in captured.err


# What is kept


def cells_in(folder: Path) -> list[Any]:
    """The rows of a folder, in the order in which they lie there."""
    connection = sqlite3.connect(folder / NAME)
    rows = connection.execute("SELECT * FROM cells").fetchall()
    connection.close()
    return rows


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """The cells that are simulated from now on."""
    done: list[Cell] = []
    finish = sweep.finish

    def counting(deployment: Deployment, cell: Cell, plan: Plan) -> Finished:
        done.append(cell)
        return finish(deployment, cell, plan)

    monkeypatch.setattr(sweep, "finish", counting)
    return done


def test_pandas_reads_the_cells(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row for each cell, ordered by rate, then policy, with the numbers of the answer."""
    found = answer(capsys, file, "--out", tmp_path / "out", "--seed", 5)
    connection = sqlite3.connect(tmp_path / "out" / NAME)
    frame = pandas.read_sql("select * from cells", connection)
    connection.close()
    places = [(cell["rate"], cell["policy"]) for cell in found["cells"]]
    assert places == list(zip(frame.rate, frame.policy, strict=True))
    assert frame.latency.tolist() == [cell["latency"]["mean"] for cell in found["cells"]]
    assert frame.throughput_low.tolist() == [cell["throughput"]["low"] for cell in found["cells"]]
    assert set(frame.seed) == {5}
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == found


def test_the_same_command_again_computes_nothing_and_a_wider_one_what_is_missing(
        file: Path, tmp_path: Path, counted: list[Cell], capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    first = answer(capsys, file, "--out", out, rates="20,60")
    assert sorted(counted) == [(20, "greedy"), (20, "paced"), (60, "greedy"), (60, "paced")]
    counted.clear()
    assert answer(capsys, file, "--out", out, rates="20,60") == first
    assert counted == []
    again = answer(capsys, file, "--out", out, rates=RATES, policies="greedy,paced,wait")
    assert sorted(counted) == [(20, "wait"), (40, "greedy"), (40, "paced"), (40, "wait"), (60, "wait")]
    assert again == answer(capsys, file, rates=RATES, policies="greedy,paced,wait")
    assert [cell for cell in again["cells"] if cell["rate"] != 40 and cell["policy"] != "wait"] == first["cells"]


ANOTHER: dict[str, Callable[[Path], list[str]]] = {
    "horizon": lambda folder: ["--horizon", "31"],
    "seed": lambda folder: ["--seed", "1"],
    "replications": lambda folder: ["--replications", "3"],
    "deployment": lambda folder: [str(written(folder, text_of(capacity=136_999)))],
}


@pytest.mark.parametrize("what", ANOTHER)
def test_another_question_is_refused(what: str, file: Path, tmp_path: Path, counted: list[Cell],
                                     capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says what differs; the cells that are there stay as they are."""
    out = tmp_path / "out"
    assert swept(file, "--out", out) == 0
    before = (out / NAME).read_bytes()
    counted.clear()
    capsys.readouterr()
    (tmp_path / "other").mkdir()
    changed = ANOTHER[what](tmp_path / "other")
    arguments = [str(file), *changed] if changed[0].startswith("--") else changed
    assert status(["sweep", *arguments[:1], "--rates", RATES, "--policies", "paced", *QUICK, *arguments[1:], "--out",
                   str(out), "--json"]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n"), counted) == ("", 1, [])
    assert what in captured.err
    assert (out / NAME).read_bytes() == before


def test_a_question_is_what_the_file_means(tmp_path: Path) -> None:
    """A comment changes nothing; a rate, the target or a row of the trace does."""
    def asks(text: str) -> Question:
        return asked(parse(text.encode(), "mix.toml", tmp_path), Plan(60.0, 2, 0))
    (tmp_path / "t.csv").write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,10,5\n1.0,10,5\n3.0,10,5\n")
    traced = REPLICA.format(capacity=137_000) + '[workload]\ntrace = "t.csv"\nrate = 3.0\narrivals = "trace"\n'
    first, replay = asks(text_of()), asks(traced)
    assert asks(text_of() + "# mine\n") == first
    for text in (text_of(99.0), text_of() + "[target]\noverflow_probability = 0.1\n", traced):
        assert asks(text) != first
    (tmp_path / "t.csv").write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,10,5\n2.0,10,5\n3.0,10,5\n")
    assert asks(traced).difference(replay.text) == "another deployment; another trace"


def test_cells_of_another_program_are_not_used(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    assert swept(file, "--out", tmp_path / "out") == 0
    capsys.readouterr()
    monkeypatch.setattr("fluidwait.study.fingerprint.program", lambda: "fluidwait 99")
    assert swept(file, "--out", tmp_path / "out") == 2
    assert "fluidwait 99 here" in capsys.readouterr().err


def finished(rate: float, policy: str = "greedy", simulated: bool = True) -> Finished:
    """A cell that nothing computed."""
    interval = Interval(rate / 3, rate / 7, float("nan"))
    measured = Kept(interval, interval, interval, interval, Interval(-0.0, 0.0, 1e300), 17, 0, 0.1, 30.0)
    return Finished(Cell(rate, policy), "stable", "says \"why\": 1 × 2", measured if simulated else None)


@pytest.mark.parametrize(("rates", "stable"), [
    ("20:200:20", {"greedy": 160.0, "paced": 180.0, "wait": None}),  # the fluid limit, EDGE, lies among the rates
    ("20:60:20", {"greedy": 60.0}),  # beyond all of them
    ("180", dict.fromkeys((*DESIGNED, *BASELINES), 180.0)),  # a single one
    ("300,400", {"paced": None, "wait": None}),  # before all of them, and nothing was simulated
])
def test_the_figure_shows_every_limit_and_clips_nothing(rates: str, stable: dict[str, float | None]) -> None:
    """Limits are drawn within the axes and written beside them; all that is drawn is within the figure."""
    grid, deployment = Grid.read(rates, ",".join(stable)), parse(text_of().encode(), "mix.toml")
    cells = [replace(finished(*cell, simulated=min(grid.rates) < 300.0),
                     verdict="stable" if cell.rate <= (stable[cell.policy] or 0.0) else "unstable")
             for cell in grid.cells]
    found = sweep.Sweep(grid, Plan(30.0, 2, 0), tuple(cells), solve(deployment.workload, deployment.replica))
    figure = sweep_figure(found)
    figure.draw_without_rendering()
    verdicts, _, tokens = figure.axes
    values = {each.get_position()[1]: each.get_text() for each in verdicts.texts}
    assert [values[row] for row in range(len(stable))] == [
        "never" if stable[each] is None else f"up to {stable[each]:g}" for each in grid.policies]
    assert float(values[len(stable)]) == pytest.approx(EDGE, abs=0.05)
    bars = [line.get_xdata()[0] for line in verdicts.lines if line.get_marker() == "|"]
    assert bars == [stable[each] for each in grid.policies if stable[each] is not None]
    beyond = any(line.get_marker() == ">" for line in verdicts.lines)
    assert beyond == (tokens.get_xlim()[1] < EDGE)
    assert all(bar < tokens.get_xlim()[1] for bar in bars)
    drawn, whole = figure.get_tightbbox(), figure.bbox_inches
    assert whole.x0 <= drawn.x0 < drawn.x1 <= whole.x1
    assert whole.y0 <= drawn.y0 < drawn.y1 <= whole.y1


PLAN = Plan(30.0, 2, 2**100)
QUESTION = Question.of(deployment=Digest("d" * 64), trace=Digest(""), horizon=30.0, replications=2, seed=2**100,
                       program="fluidwait 0")


@pytest.mark.parametrize("simulated", [True, False])
def test_a_row_read_back_is_the_row_that_was_written(simulated: bool, tmp_path: Path) -> None:
    """Every bit of every number, NaN, text, and a seed beyond 64 bits."""
    cell = finished(0.1, simulated=simulated)
    with opened(tmp_path, QUESTION, PLAN) as store:
        store.add(cell)
    with opened(tmp_path, QUESTION, PLAN) as store:
        (found,) = store.found.values()
    assert plain(found) == plain(cell)
    assert repr(found) == repr(cell).replace("-0.0", "0.0")
    assert repr(cell_of(plain(cell))) == repr(found)


def plain(cell: Finished) -> tuple[Any, ...]:
    """The row of a cell as a file gives it back."""
    return TABLE.plain(row_of(cell, PLAN))


BEFORE = """
CREATE TABLE IF NOT EXISTS questions (digest TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cells (
    question TEXT, rate REAL, policy TEXT, seed , replications INTEGER, horizon REAL, verdict TEXT, reason TEXT,
    latency REAL, latency_low REAL, latency_high REAL, latency_p99 REAL, latency_p99_low REAL, latency_p99_high REAL,
    ttft REAL, ttft_low REAL, ttft_high REAL, throughput REAL, throughput_low REAL, throughput_high REAL,
    evictions REAL, evictions_low REAL, evictions_high REAL, kv_peak INTEGER, overflow_runs INTEGER, score REAL,
    verdict_horizon REAL, checksum TEXT NOT NULL, PRIMARY KEY (rate, policy)) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


def test_a_sweep_of_the_first_tables_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Written out by hand as version 1 has it: the question's text, a row of 27 values and their checksum."""
    text = (f'{{"deployment": "{"d" * 64}", "horizon": 30.0, "program": "fluidwait 0", "replications": 2, '
            f'"seed": {2**100}, "trace": ""}}')
    digest = hashlib.sha256(text.encode()).hexdigest()
    row = [digest, 40.0, "paced", str(2**100), 2, 30.0, "stable", "why", *[1.5, 1.25, None] * 5, 17, 0, 0.1, 30.0]
    with closing(sqlite3.connect(tmp_path / NAME)) as connection, connection:
        connection.executescript(BEFORE)
        connection.execute("INSERT INTO questions VALUES (?, ?)", (digest, text))
        connection.execute(f"INSERT INTO cells VALUES ({', '.join('?' * 28)})",
                           (*row, hashlib.sha256(json.dumps(row).encode()).hexdigest()))
    with opened(tmp_path, QUESTION, PLAN) as store:
        (found,) = store.found.values()
        store.add(finished(41.0))
    assert found.cell == (40.0, "paced")
    assert plain(found) == tuple(row[1:])
    assert [each[1] for each in cells_in(tmp_path)] == [40.0, 41.0]
    assert capsys.readouterr().err == ""


def test_a_spoilt_row_is_computed_again_with_a_note(file: Path, tmp_path: Path, counted: list[Cell],
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    """A latency that somebody changed: the cell is found out by its checksum, the others are kept."""
    out = tmp_path / "out"
    first = answer(capsys, file, "--out", out)
    rows = cells_in(out)
    connection = sqlite3.connect(out / NAME)
    connection.execute("UPDATE cells SET latency = latency / 2 WHERE rate = 40 AND policy = 'paced'")
    connection.commit()
    connection.close()
    counted.clear()
    assert swept(file, "--out", out, "--json") == 0
    captured = capsys.readouterr()
    assert "1 cells do not match their checksums" in captured.err
    assert json.loads(captured.out) == first
    assert counted == [(40, "paced")]
    assert cells_in(out) == rows


def test_a_file_that_is_no_sweep_is_put_aside_with_a_note(file: Path, tmp_path: Path,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    """Text, a database of other tables, nothing at all: the sweep is computed, what was there is kept."""
    out = tmp_path / "out"
    out.mkdir()
    for number, spoil in enumerate((lambda path: path.write_text("not a database, by far " * 100), other_tables), 1):
        (out / NAME).unlink(missing_ok=True)
        spoil(out / NAME)
        data = (out / NAME).read_bytes()
        assert len(answer_with_note(capsys, file, out, "damaged")["cells"]) == 6
        assert (out / f"{NAME}.damaged-{number}").read_bytes() == data
    (out / NAME).write_bytes(b"")
    assert len(answer(capsys, file, "--out", out)["cells"]) == 6


def other_tables(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()


def answer_with_note(capsys: pytest.CaptureFixture[str], file: Path, out: Path, note: str) -> dict[str, Any]:
    assert swept(file, "--out", out, "--json") == 0
    captured = capsys.readouterr()
    assert note in captured.err
    found: dict[str, Any] = json.loads(captured.out)
    return found


def test_two_sweeps_do_not_write_into_one_folder(file: Path, tmp_path: Path, counted: list[Cell],
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    """The second is one line while the first is at work, and goes on from its cells when it is over."""
    out = tmp_path / "out"
    deployment = parse(text_of().encode(), "mix.toml")
    plan = Plan(30.0, 2, 0)
    with opened(out, asked(deployment, plan), plan):
        assert swept(file, "--out", out) == 2
        assert pandas.read_sql("select * from cells", sqlite3.connect(out / NAME)).empty  # reading is free
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n"), counted) == ("", 1, [])
    assert captured.err.strip().endswith(f"{out}: another sweep is writing there; choose another --out")
    assert swept(file, "--out", out) == 0


def test_what_cannot_be_locked_or_written_is_one_line(file: Path, tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    """`--out` that is a file; a lock that is a folder; a file of cells that is a folder."""
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "a" / ".sweep.lock").mkdir(parents=True)
    (tmp_path / "b" / NAME).mkdir(parents=True)
    for name in ("taken", "a", "b"):
        assert swept(file, "--out", tmp_path / name) == 2
        captured = capsys.readouterr()
        assert (captured.out, captured.err.count("\n")) == ("", 1)
        assert name in captured.err


def test_an_error_half_way_keeps_what_is_finished(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    """The cell that fails ends the command; the same command goes on with the cells that are missing."""
    out, finish = tmp_path / "out", sweep.finish

    def failing(deployment: Deployment, cell: Cell, plan: Plan) -> Finished:
        if cell.rate == 20:
            raise FluidwaitError("no more")
        return finish(deployment, cell, plan)

    with monkeypatch.context() as patch:
        patch.setattr(sweep, "finish", failing)
        assert swept(file, "--out", out, "--jobs", 1) == 2
    assert "no more" in capsys.readouterr().err
    assert [row[1:3] for row in cells_in(out)] == [(40, "greedy"), (40, "paced"), (60, "greedy"), (60, "paced")]
    assert answer(capsys, file, "--out", out) == answer(capsys, file)


# Killed in the middle


LONG = ["--rates", "10:120:10", "--policies", "greedy,paced", "--horizon", "1500", "--replications", "4"]


def started(file: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """A sweep of 24 cells in a process of its own."""
    command = [sys.executable, "-m", "fluidwait", "sweep", str(file), *LONG, "--out", str(out), *options]
    folder = str(Path(sweep.__file__).parents[1])
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | {"PYTHONPATH": folder}, start_new_session=True)


def wait_for_cells(out: Path, process: subprocess.Popen[str], least: int) -> None:
    """Wait until so many cells are in the file."""
    for _ in range(6000):
        assert process.poll() is None, process.communicate()
        if (out / NAME).exists() and (out / NAME).stat().st_size > 0:
            connection = sqlite3.connect(out / NAME, timeout=60)
            try:
                if connection.execute("SELECT count(*) FROM cells").fetchone()[0] >= least:
                    return
            except sqlite3.OperationalError:  # the tables are not there yet
                pass
            finally:
                connection.close()
        time.sleep(0.01)
    pytest.fail("no cell was finished in a minute")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_killed_sweep_goes_on_where_it_was(jobs: str, file: Path, tmp_path: Path, counted: list[Cell],
                                             capsys: pytest.CaptureFixture[str]) -> None:
    """SIGKILL after some cells: they stay to the last bit, none is computed again, the end is as if uninterrupted."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    process = started(file, out, "--jobs", jobs)
    wait_for_cells(out, process, 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = cells_in(out)
    assert 3 <= len(before) < 24
    assert status(["sweep", str(file), *LONG, "--out", str(out), "--json"]) == 0
    resumed = capsys.readouterr()
    assert f"{len(before)} of 24 cells are there already" in resumed.err
    assert len(counted) == 24 - len(before)
    assert {(row[1], row[2]) for row in before}.isdisjoint(counted)
    assert set(before) < set(cells_in(out))
    assert status(["sweep", str(file), *LONG, "--out", str(whole), "--json"]) == 0
    assert capsys.readouterr().out == resumed.out
    assert cells_in(whole) == cells_in(out)
    for name in ("report.json", "sweep.svg", "sweep.png"):
        assert (whole / name).read_bytes() == (out / name).read_bytes()


def test_an_interrupted_sweep_is_one_line_and_keeps_its_cells(file: Path, tmp_path: Path) -> None:
    """Ctrl-C: exit status 130 and one line; the cells are there, and the folder is free again.

    Cells of 6,000 s, so that some are left when the signal comes, however busy the machine is.
    """
    out = tmp_path / "out"
    process = started(file, out, "--jobs", "2", "--horizon", "6000")
    wait_for_cells(out, process, 2)
    process.send_signal(signal.SIGINT)
    shown, said = process.communicate(timeout=60)
    assert (process.returncode, shown) == (130, "")
    assert [line for line in said.splitlines() if "simulating cells:" not in line and "compiling" not in line] == [
        "fluidwait: interrupted"]
    deployment = parse(text_of().encode(), "mix.toml")
    plan = Plan(6000.0, 4, 0)
    with opened(out, asked(deployment, plan), plan) as store:
        assert 2 <= len(store.found) < 24
