"""Sweeps that are killed or interrupted in the middle, and go on where they were."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweeps import cells_in, text_of

from fluidwait.__main__ import status
from fluidwait.deployment.deployment import parse
from fluidwait.study import sweep
from fluidwait.study.fingerprint import asked
from fluidwait.study.grid import Cell
from fluidwait.study.outcomes import Plan
from fluidwait.study.store import NAME, opened

RATES = ["--rates", "10:120:10", "--policies", "greedy,paced"]  # 24 cells
SHORT = [*RATES, "--horizon", "60", "--replications", "2"]
LONG = [*RATES, "--horizon", "2000", "--replications", "4"]
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where whoever runs the tests ignores Ctrl-C
from itertools import count
from time import sleep
from fluidwait.__main__ import main
from fluidwait.study import sweep

finish, turn = sweep.finish, count()
sweep.finish = lambda *asked: finish(*asked) if next(turn) < {cells} else sleep(600)
main(sys.argv[1:])
"""


def started(file: Path, out: Path, *options: str, cells: int = 24) -> subprocess.Popen[str]:
    """A sweep in a process of its own, which has so many of its cells finished, and no end."""
    command = [sys.executable, "-c", PROGRAM.format(cells=cells), "sweep", str(file), *options, "--out", str(out)]
    folder = str(Path(sweep.__file__).parents[2])
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | {"PYTHONPATH": folder}, cwd=file.parent, start_new_session=True)


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
    process = started(file, out, *SHORT, "--jobs", jobs, cells=4)
    wait_for_cells(out, process, 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = cells_in(out)
    assert 3 <= len(before) <= 4
    assert status(["sweep", str(file), *SHORT, "--out", str(out), "--json"]) == 0
    resumed = capsys.readouterr()
    assert f"{len(before)} of 24 cells are there already" in resumed.err
    assert len(counted) == 24 - len(before)
    assert {(row[1], row[2]) for row in before}.isdisjoint(counted)
    assert set(before) < set(cells_in(out))
    assert status(["sweep", str(file), *SHORT, "--out", str(whole), "--json"]) == 0
    assert capsys.readouterr().out == resumed.out
    assert cells_in(whole) == cells_in(out)
    for name in ("report.json", "sweep.svg", "sweep.png"):
        assert (whole / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_an_interrupted_sweep_is_one_line_and_keeps_its_cells(where: str, file: Path, tmp_path: Path,
                                                              request: pytest.FixtureRequest) -> None:
    """Ctrl-C: exit status 130 and one line; the cells are there, and the folder is free again.

    Cells of 2,000 s, so that some are left when the signal comes, however busy the machine is.
    """
    workers = ("--jobs", "2") if where == "threads" else (
        "--dask", request.getfixturevalue("cluster").scheduler_address)
    out = tmp_path / "out"
    process = started(file, out, *LONG, *workers)
    wait_for_cells(out, process, 1)
    process.send_signal(signal.SIGINT)
    shown, said = process.communicate(timeout=60)
    assert (process.returncode, shown) == (130, "")
    assert [line for line in said.splitlines() if "simulating cells:" not in line and "compiling" not in line] == [
        "fluidwait: interrupted"]
    deployment = parse(text_of().encode(), "mix.toml")
    plan = Plan(2000.0, 4, 0)
    with opened(out, asked(deployment, plan), plan) as store:
        assert 1 <= len(store.found) < 24
