"""A sweep of plans: rows are those of `plan`, kept ones are not planned again, a cluster changes nothing."""

from __future__ import annotations

import csv
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import answer, written

from fluid import FluidwaitError
from fluidwait.__main__ import status
from fluidwait.deployment.deployment import load
from fluidwait.study import plans
from fluidwait.study.plans import PlanCell, plan_as_text, read_row

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of sockets that Dask leaves open
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "fleet.toml"
GRID = ("--rates", "15:30:15", "--headrooms", "0,10%", "--spares", "0,1", "--prices", "big=3,4")
CELL = PlanCell(15.0, 0.1, 1, "big", 3.0)


@pytest.fixture(autouse=True)
def _sockets_of_dask() -> Iterator[None]:
    """They are closed here, and not in the middle of somebody else's test."""
    yield
    gc.collect()


def test_every_row_is_the_plan_of_its_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """16 rows in order; one of them beside `plan` at its rate and price; the CSV has the replicas by kind."""
    code, found = answer(capsys, "plans", EXAMPLE, *GRID, "--out", tmp_path)
    rows = found["plans"]
    assert (code, len(rows)) == (0, 16)
    keys = [(row["rate"], row["headroom"], row["spare"], row["price"]) for row in rows]
    assert keys == sorted(keys)
    text = EXAMPLE.read_text(encoding="utf-8").replace("price = 4.0", "price = 3.0")
    _, alone = answer(capsys, "plan", written(tmp_path, text), "--headroom", "10%", "--spare", "1")
    (same,) = [row for row in rows if (row["rate"], row["headroom"], row["spare"], row["price"]) == (30.0, 0.1, 1, 3.0)]
    assert same["cost"] == pytest.approx(alone["cost"])
    assert same["fleet"] == {kind["name"]: kind["count"] for kind in alone["kinds"] if kind["count"]}
    with (tmp_path / "plans.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["cost"]) for line in lines] == [row["cost"] for row in rows]
    assert [int(line["small"]) for line in lines] == [row["fleet"].get("small", 0) for row in rows]


def test_pools_apart_are_planned_as_plan_does(capsys: pytest.CaptureFixture[str]) -> None:
    """Kinds with roles serve their parts only: the row is the plan of both pools, with no fleet of one kind beside."""
    file = EXAMPLE.with_name("disaggregated.toml")
    _, alone = answer(capsys, "plan", file, "--headroom", "10%")
    code, found = answer(capsys, "plans", file, "--headrooms", "10%")
    (row,) = found["plans"]
    kinds = [kind for pool in alone["pools"].values() for kind in pool["kinds"]]
    assert (code, row["status"], row["single"]) == (0, alone["status"], None)
    assert (row["cost"], row["bound"]) == (alone["cost"], alone["bound"])
    assert row["fleet"] == {kind["name"]: kind["count"] for kind in kinds}


def test_rates_that_change_are_means_and_the_report_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """At the mean of the file's day the row is the plan of the file, whose rate is that of the busiest window."""
    file = EXAMPLE.with_name("fleet-day.toml")
    _, alone = answer(capsys, "plan", file)
    mean = sum(each["rate"] * (each["end"] - each["start"]) for each in alone["day"]["pieces"]) / alone["day"]["period"]
    _, found = answer(capsys, "plans", file)
    (row,) = found["plans"]
    assert row["rate"] == pytest.approx(mean)
    assert row["rate"] < alone["rate"]
    assert (row["cost"], row["day"]) == pytest.approx((alone["cost"], alone["day"]["cost"]))
    assert status(["plans", str(file)]) == 0
    assert "requests/s are means over the period" in " ".join(capsys.readouterr().out.split())


def test_kept_plans_are_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """More values add cells, the same ones add none; kinds at other prices are refused."""
    _, first = answer(capsys, "plans", EXAMPLE, "--headrooms", "0", "--out", tmp_path)
    _, more = answer(capsys, "plans", EXAMPLE, "--headrooms", "0,20%", "--out", tmp_path)
    assert first["plans"] == more["plans"][:1]
    monkeypatch.setattr(plans, "planned", lambda *_: pytest.fail("planned again"))
    _, again = answer(capsys, "plans", EXAMPLE, "--headrooms", "0,20%", "--out", tmp_path)
    assert again["plans"] == more["plans"]
    other = written(tmp_path, EXAMPLE.read_text(encoding="utf-8").replace("price = 1.2", "price = 1.3"))
    assert status(["plans", str(other), "--out", str(tmp_path)]) == 2
    assert "another fleet" in capsys.readouterr().err


def test_a_cluster_changes_no_byte(cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The rows of a worker of Dask are those of threads."""
    grid = ("plans", EXAMPLE, "--headrooms", "0,10%", "--spares", "0,1")
    there = answer(capsys, *grid, "--dask", cluster.scheduler_address)
    assert there == answer(capsys, *grid, "--jobs", "2")


def test_a_row_comes_back_from_its_text_and_nothing_else_does() -> None:
    """A refusal with its sentence; another cell, half a row, no text at all in one line."""
    deployment = load(EXAMPLE)
    text = plan_as_text(deployment, CELL, plans.program())
    row = read_row(text, CELL)
    assert row.cell == CELL
    assert json.loads(text)[:5] == list(CELL)
    with pytest.raises(FluidwaitError, match="a worker computes with"):
        read_row(plan_as_text(deployment, CELL, "fluidwait 99"), CELL)
    for spoiled in (json.dumps(json.loads(text)[:-1]), "{", 7, None, "[" * 100_000, json.dumps([16.0, *row[1:]])):
        with pytest.raises(FluidwaitError, match="no plan at 15 requests/s"):
            read_row(spoiled, CELL)


@pytest.mark.parametrize(("flags", "said"), [
    (("--headrooms", "0,x"), "--headrooms must be a share"), (("--headrooms", "-1"), "--headrooms"),
    (("--spares", "0,1.5"), "--spares"), (("--spares", "-1"), "--spares"), (("--prices", "big"), "--prices"),
    (("--prices", "large=3"), "--prices"), (("--prices", "big=0"), "--prices"), (("--rates", "5:1:1"), "--rates")])
def test_bad_grids_are_one_line(flags: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, and the flag is named."""
    assert status(["plans", str(EXAMPLE), *flags]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
