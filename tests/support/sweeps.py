"""Sweeps as tests ask for them: a deployment of one type, a quick sweep, the cells it left, a cell nobody computed."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fluidwait.__main__ import status
from fluidwait.study.cell import KEPT_INTERVALS, Finished, Kept
from fluidwait.study.grid import Cell
from fluidwait.study.store import NAME
from verification import Interval

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


def swept(file: Path, *options: object, rates: str = RATES, policies: str = "greedy,paced") -> int:
    """The exit status of a quick sweep."""
    return status([str(each) for each in ("sweep", file, "--rates", rates, "--policies", policies, *QUICK, *options)])


def answer(capsys: pytest.CaptureFixture[str], file: Path, *options: object, **grid: str) -> dict[str, Any]:
    """The JSON of a quick sweep."""
    assert swept(file, *options, "--json", **grid) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    return found


def cells_in(folder: Path) -> list[Any]:
    """The rows of a folder, in the order in which they lie there."""
    connection = sqlite3.connect(folder / NAME)
    rows = connection.execute("SELECT * FROM cells").fetchall()
    connection.close()
    return rows


def finished(rate: float, policy: str = "greedy", simulated: bool = True) -> Finished:
    """A cell that nothing computed."""
    interval = Interval(rate / 3, rate / 7, float("nan"))
    measured = Kept((*[interval] * (len(KEPT_INTERVALS) - 1), Interval(-0.0, 0.0, 1e300)), 17, 0, 0.1, 30.0)
    return Finished(Cell(rate, policy), "stable", "says \"why\": 1 × 2", measured if simulated else None)
