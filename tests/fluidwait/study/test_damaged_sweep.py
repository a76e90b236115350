"""Damage to the file of a real sweep, wherever it falls: no traceback, no wrong number, and the sweep completes."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command_line import ONE_TYPE

from fluid import FluidwaitError
from fluidwait.__main__ import status
from fluidwait.deployment.deployment import parse
from fluidwait.study.cell import Finished
from fluidwait.study.fingerprint import asked
from fluidwait.study.grid import Cell
from fluidwait.study.outcomes import Plan
from fluidwait.study.store import NAME, opened

TEXT = ONE_TYPE.format(rate=100.0)
PLAN = Plan(30.0, 2, 0)
HEADER = 100  # bytes, in which SQLite says what the file is
VERSION = slice(60, 64)  # of the tables, in the header
WRITERS = 18  # a byte of the header: above 2 the file may not be written


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of six cells, the deployment beside it."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "mix.toml").write_text(TEXT, encoding="utf-8")
    assert command(folder, folder / "out") == 0
    return folder


def command(folder: Path, out: Path) -> int:
    return status(["sweep", str(folder / "mix.toml"), "--rates", "20:60:20", "--policies", "greedy,paced", "--horizon",
                   "30", "--replications", "2", "--out", str(out)])


def rows_in(folder: Path) -> list[Any]:
    with closing(sqlite3.connect(folder / NAME)) as connection:
        return connection.execute("SELECT * FROM cells").fetchall()


def cells_of(folder: Path) -> dict[Cell, Finished]:
    with opened(folder, asked(parse(TEXT.encode(), "mix.toml"), PLAN), PLAN) as store:
        return store.found


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The bytes cut off somewhere, or up to 16 of them changed, one in ten of these in the header."""
    if draw.random() < 0.15:
        return data[:draw.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        changed[draw.randrange(HEADER if draw.random() < 0.1 else len(data))] ^= draw.randrange(1, 256)
    return bytes(changed)


def completed(folder: Path, data: bytes, whole: dict[Cell, Finished], cells: list[Any]) -> str:
    """What becomes of a sweep that finds these bytes, every missing cell put in as if it were simulated again."""
    folder.mkdir()
    (folder / NAME).write_bytes(data)
    try:
        with opened(folder, asked(parse(TEXT.encode(), "mix.toml"), PLAN), PLAN) as store:
            for cell, found in store.found.items():
                assert repr(found) == repr(whole[cell])
            for cell in whole.keys() - store.found.keys():
                store.add(whole[cell])
    except FluidwaitError as error:
        return "refused" if "another version" in str(error) else str(error)
    assert rows_in(folder) == cells
    return "put aside" if len(list(folder.glob(f"{NAME}.damaged-1"))) else "kept"


@pytest.mark.parametrize("trials", [120, pytest.param(6000, marks=pytest.mark.slow)])
def test_a_sweep_completes_whatever_happened_to_its_file(trials: int, real: Path, tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    """Each time the same rows in the end, none that is wrong on the way; refused only where its version is another."""
    data, cells, whole = (real / "out" / NAME).read_bytes(), rows_in(real / "out"), cells_of(real / "out")
    draw = random.Random(trials)
    outcomes: Counter[str] = Counter()
    for trial in range(trials):
        found = damaged(data, draw)
        outcome = completed(tmp_path / str(trial), found, whole, cells)
        assert outcome != "refused" or found[VERSION] != data[VERSION], trial
        outcomes[outcome] += 1
        shutil.rmtree(tmp_path / str(trial))
    assert set(outcomes) <= {"kept", "put aside", "refused"}
    assert outcomes["put aside"] > trials / 3


def changes(data: bytes) -> dict[str, bytes]:
    """Damage of kinds that a chance byte seldom is."""
    def at(offset: int, byte: int) -> bytes:
        return data[:offset] + bytes([byte]) + data[offset + 1:]

    return {"no words": at(data.index(b"CREATE TABLE cells") + 8, 0xB3),
            "another kind": data.replace(b"horizon REAL", b"horizon RAIL"),
            "readers only": at(WRITERS, 41)}


@pytest.mark.parametrize("what", changes(b"CREATE TABLE cells" + bytes(HEADER)))
def test_the_command_ends_with_the_same_files(what: str, real: Path, tmp_path: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    """The file is put aside with one line, and the report, the figures and the rows are those of the first time."""
    out = tmp_path / "out"
    shutil.copytree(real / "out", out)
    changed = changes((real / "out" / NAME).read_bytes())[what]
    (out / NAME).write_bytes(changed)
    assert command(real, out) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert len(said) == 1
    assert (out / f"{NAME}.damaged-1").read_bytes() == changed
    assert rows_in(out) == rows_in(real / "out")
    for name in ("report.json", "sweep.svg", "sweep.png"):
        assert (out / name).read_bytes() == (real / "out" / name).read_bytes(), name
