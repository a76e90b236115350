"""Finished cells on disk: `sweep.sqlite` in the folder of a sweep, a row of the table `cells` for each.

How rows are kept, found damaged, and refused to another question is `verification.store.store`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fluidwait.progress import note
from fluidwait.study.cell import COLUMNS, Finished, cell_of, row_of
from fluidwait.study.grid import Cell
from fluidwait.study.outcomes import Plan
from verification.store import store
from verification.store.question import Question
from verification.store.table import Table

NAME = "sweep.sqlite"
ADVICE = "choose another --out"
KINDS = {"seed": "", "replications": "INTEGER", "kv_peak": "INTEGER", "overflow_runs": "INTEGER"} | dict.fromkeys(
    ("policy", "verdict", "reason"), "TEXT")
TABLE = Table("cells", tuple((name, KINDS.get(name, "REAL")) for name in COLUMNS), key=Cell._fields)


class Cells:
    """The finished cells of a sweep in a folder; made by `opened`."""

    def __init__(self, kept: store.Store, plan: Plan) -> None:
        self._kept, self._plan = kept, plan
        self.found: dict[Cell, Finished] = {finished.cell: finished for finished in map(cell_of, kept.rows)}

    def add(self, finished: Finished) -> None:
        """Keep a cell: when this returns, nothing that happens to the process takes it back."""
        self._kept.add([row_of(finished, self._plan)])


@contextmanager
def opened(folder: Path, question: Question, plan: Plan) -> Iterator[Cells]:
    """Open a folder for the cells of one question, alone; raises FluidwaitError, one line, where that cannot be."""
    with store.opened(folder, NAME, question, TABLE, note, ADVICE) as kept:
        yield Cells(kept, plan)
