"""A deployment to sweep, the cells that are simulated, a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import written
from sweeps import text_of

from fluidwait.deployment.deployment import Deployment
from fluidwait.study import sweep
from fluidwait.study.cell import Finished
from fluidwait.study.grid import Cell
from fluidwait.study.outcomes import Plan


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A deployment of 512 + 20 tokens at 100 requests/s."""
    return written(tmp_path, text_of())


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


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A scheduler and a worker that talk over sockets, in this process, so that a test can make the worker hostile."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp",
                                  dashboard_address=None) as made:
        yield made
