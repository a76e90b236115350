"""Cells on disk: read back to the last bit, used again, refused to another question, replaced where spoilt."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas
import pytest
from command_line import written
from sweeps import QUICK, RATES, REPLICA, answer, cells_in, finished, swept, text_of

from fluid import FluidwaitError
from fluidwait.__main__ import status
from fluidwait.deployment.deployment import Deployment, parse
from fluidwait.study import sweep
from fluidwait.study.cell import Finished, cell_of, row_of
from fluidwait.study.fingerprint import asked
from fluidwait.study.grid import Cell
from fluidwait.study.outcomes import Plan
from fluidwait.study.store import NAME, TABLE, opened
from verification.store.question import Digest, Question


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than computing: that figures stay the same bytes is shown of killed and damaged sweeps."""
    monkeypatch.setattr("fluidwait.figures.sweep.draw_sweep", lambda _: {})


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


DELAYS = ", ".join(f"{quantity}{statistic}{end} REAL" for quantity in ("latency", "ttft", "tpot", "itl")
                   for statistic in ("", "_p50", "_p90", "_p95", "_p99") for end in ("", "_low", "_high"))
BEFORE = f"""
CREATE TABLE IF NOT EXISTS questions (digest TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cells (
    question TEXT, rate REAL, policy TEXT, seed , replications INTEGER, horizon REAL, verdict TEXT, reason TEXT,
    {DELAYS}, throughput REAL, throughput_low REAL, throughput_high REAL,
    evictions REAL, evictions_low REAL, evictions_high REAL, joules REAL, joules_low REAL, joules_high REAL,
    lost_joules REAL, lost_joules_low REAL, lost_joules_high REAL, kv_peak INTEGER, overflow_runs INTEGER, score REAL,
    verdict_horizon REAL, checksum TEXT NOT NULL, PRIMARY KEY (rate, policy)) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


def test_a_sweep_of_the_first_tables_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Written out by hand as version 1 has it: the question's text, a row of 84 values and their checksum."""
    text = (f'{{"deployment": "{"d" * 64}", "horizon": 30.0, "program": "fluidwait 0", "replications": 2, '
            f'"seed": {2**100}, "trace": ""}}')
    digest = hashlib.sha256(text.encode()).hexdigest()
    row = [digest, 40.0, "paced", str(2**100), 2, 30.0, "stable", "why", *[1.5, 1.25, None] * 24, 17, 0, 0.1, 30.0]
    with closing(sqlite3.connect(tmp_path / NAME)) as connection, connection:
        connection.executescript(BEFORE)
        connection.execute("INSERT INTO questions VALUES (?, ?)", (digest, text))
        connection.execute(f"INSERT INTO cells VALUES ({', '.join('?' * 85)})",
                           (*row, hashlib.sha256(json.dumps(row).encode()).hexdigest()))
    with opened(tmp_path, QUESTION, PLAN) as store:
        (found,) = store.found.values()
        store.add(finished(41.0))
    assert found.cell == (40.0, "paced")
    assert plain(found) == tuple(row[1:])
    assert [each[1] for each in cells_in(tmp_path)] == [40.0, 41.0]
    assert capsys.readouterr().err == ""


def test_a_sweep_from_before_there_was_energy_is_refused(tmp_path: Path) -> None:
    """Its columns are fewer; its question names another program, so that it is left as it is and said to be another."""
    text = QUESTION.text.replace("fluidwait 0", "fluidwait -1")
    with closing(sqlite3.connect(tmp_path / NAME)) as connection, connection:
        connection.executescript(BEFORE.replace("joules REAL, joules_low REAL, joules_high REAL,", "").replace(
            "lost_joules REAL, lost_joules_low REAL, lost_joules_high REAL,", ""))
        connection.execute("INSERT INTO questions VALUES (?, ?)", (hashlib.sha256(text.encode()).hexdigest(), text))
    with pytest.raises(FluidwaitError, match="holds another sweep"), opened(tmp_path, QUESTION, PLAN):
        pass
    assert [path.name for path in tmp_path.glob("*.sqlite*")] == [NAME]


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
