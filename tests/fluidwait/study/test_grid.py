"""Which cells a sweep asks for: rates and ranges, policies, and the flags that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import written
from sweeps import QUICK, RATES, swept, text_of

from fluidwait.__main__ import status
from fluidwait.study.grid import Grid


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


def test_loads_are_shares_of_the_edge(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--loads 0.3,0.5` are the rates 0.3 and 0.5 times the fluid limit, whatever rate the file says."""
    assert status(["sweep", str(file), "--loads", "0.3,0.5", "--policies", "greedy", "--json", *QUICK]) == 0
    found = json.loads(capsys.readouterr().out)
    edge = found["fluid_limit"]
    assert [cell["rate"] for cell in found["cells"]] == [0.3 * edge, 0.5 * edge]


@pytest.mark.parametrize(("flags", "message"), [
    (["--loads", "0.5", "--rates", "10"], "--rates must be given, or --loads, and not both"),
    (["--loads", "50%"], "--loads must be shares of the edge such as 0.7,0.9,0.98"),
    (["--loads", "101"], "--loads must be a number of times the edge from 1e-06 to 100"),
    (["--loads", "-1"], "--loads must be a number of times the edge")])
def test_loads_that_cannot_be_are_one_line(flags: list[str], message: str, file: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["sweep", str(file), "--policies", "greedy", *flags]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert message in captured.err


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
