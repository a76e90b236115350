"""A cluster and what it may do: answers are text that is checked; a worker's pickles are not opened for them."""

from __future__ import annotations

import gc
import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command_line import ONE_TYPE
from sweeps import swept

from fluid import FluidwaitError
from fluidwait.deployment.deployment import parse
from fluidwait.study import dask
from fluidwait.study.cell import Finished
from fluidwait.study.fingerprint import program
from fluidwait.study.grid import Cell
from fluidwait.study.outcomes import Plan

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of sockets that Dask leaves open
TEXT = ONE_TYPE.format(rate=100.0)
CELL, PLAN = Cell(20.0, "greedy"), Plan(30.0, 2, 2**100)


@pytest.fixture(autouse=True)
def _sockets_of_dask() -> Iterator[None]:
    """They are closed here, and not in the middle of somebody else's test."""
    yield
    gc.collect()


class Bomb:
    """What makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.file,)


def sent(file: Path, address: str) -> int:
    """The exit status of a sweep of one cell that is sent to a scheduler."""
    return swept(file, "--json", "--dask", address, rates="20", policies="greedy")


def test_two_dask_workers_change_no_byte(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The cells of a local cluster with two worker processes are those of one thread."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        assert swept(file, "--json", "--dask", cluster.scheduler_address) == 0
    there = capfd.readouterr().out
    assert swept(file, "--json", "--jobs", 1) == 0
    assert there == capfd.readouterr().out


@pytest.mark.parametrize("what", ["result", "error"])
def test_no_pickle_of_a_worker_is_opened_to_learn_its_program(what: str, cluster: Any, file: Path, tmp_path: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    """A worker that answers with code is refused in one line, status 2, and its code is not run."""
    from distributed.protocol import Serialized, serialize, to_serialize
    from distributed.protocol.pickle import dumps

    bomb = Bomb(tmp_path / "ran")
    answers = {"result": {"status": "OK", "result": Serialized(*serialize(bomb, serializers=["pickle"]))},
               "error": {"status": "error", "exception": to_serialize(dumps(bomb)), "traceback": None,
                         "exception_text": "mine", "traceback_text": ""}}
    (worker,) = cluster.workers.values()

    async def hostile(**message: object) -> dict[str, object]:
        return answers[what]

    worker.handlers["run"] = hostile
    assert sent(file, cluster.scheduler_address) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "--dask" in captured.err
    assert not Path(bomb.file).exists()


def test_no_pickle_is_opened_for_a_cell(cluster: Any, file: Path, tmp_path: Path,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    """A worker that hands over something else than the text: one line, status 2."""
    from distributed.protocol import Serialized, serialize

    bomb = Bomb(tmp_path / "ran")
    (worker,) = cluster.workers.values()

    async def hostile(keys: Any, **message: Any) -> dict[str, Any]:
        return {"status": "OK", "data": {key: Serialized(*serialize(bomb, serializers=["pickle"])) for key in keys}}

    worker.handlers["get_data"] = hostile
    assert sent(file, cluster.scheduler_address) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert not Path(bomb.file).exists()


def test_a_worker_of_another_program_is_named(cluster: Any, file: Path, monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    """The line says what it has and what it must have."""
    (worker,) = cluster.workers.values()

    async def older(**message: object) -> dict[str, object]:
        return {"status": "OK", "result": "fluidwait 0"}

    worker.handlers["run"] = older
    assert sent(file, cluster.scheduler_address) == 2
    said = capsys.readouterr().err
    assert worker.address in said
    assert "(got fluidwait 0)" in said
    assert program() in said


@pytest.mark.parametrize("address", ["tls://127.0.0.1:1", "ucx://127.0.0.1:1", "carrier://pigeon:1", "tcp://", "",
                                     "nowhere"])
def test_an_address_that_cannot_be_is_one_line(address: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TLS without certificates, a network that is not there, no scheme of Dask's, no port, no address."""
    pytest.importorskip("distributed")
    assert sent(file, address) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert f"--dask: no scheduler answers at {address}".strip() in captured.err


def test_a_scheduler_that_is_dead_is_one_line(file: Path, monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    """A port that is taken, where nobody ever says anything."""
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask, "CONNECT_WITHIN", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        assert sent(file, address) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert address in captured.err


def text_of(cell: Cell = CELL, plan: Plan = PLAN) -> str:
    return dask.finish_as_text(parse(TEXT.encode(), "mix.toml"), cell, plan, "")


def test_a_cell_comes_back_from_its_text() -> None:
    """Every number, to the last bit; a refusal with its sentence."""
    found = dask._cell(text_of(), CELL, PLAN)
    assert isinstance(found, Finished)
    assert json.loads(text_of())[:3] == [20.0, "greedy", str(2**100)]
    assert repr(found) == repr(dask._cell(text_of(), CELL, PLAN))
    refused = dask.finish_as_text(parse(TEXT.encode(), "mix.toml"), CELL, PLAN, "fluidwait 99")
    with pytest.raises(FluidwaitError, match="a worker computes with"):
        dask._cell(refused, CELL, PLAN)


@pytest.mark.parametrize("spoil", [
    lambda row: None, lambda row: 7, lambda row: [], lambda row: row[:-1], lambda row: {"refused": 1},
    lambda row: [21.0, *row[1:]], lambda row: [row[0], "paced", *row[2:]], lambda row: [*row[:5], "sure", *row[6:]],
    lambda row: [*row[:6], None, *row[7:]], lambda row: [*row[:8], "1", *row[9:]], lambda row: [*row[:-1], None],
    lambda row: [*row[:-1], [1]], lambda row: [*row[:-1], {}],
])
def test_an_answer_that_is_no_cell_is_one_line(spoil: Any) -> None:
    """Of another cell, with other types, with a verdict that does not exist, with half a measurement."""
    for text in (json.dumps(spoil(json.loads(text_of()))), "{", "[" * 100_000, 7, None, b"\x80"):
        with pytest.raises(FluidwaitError, match="no cell at 20 requests/s") as caught:
            dask._cell(text, CELL, PLAN)
        assert "\n" not in str(caught.value)
