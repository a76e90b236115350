"""Stores that something happened to: never finished, changed in a word, written by a hand that knows the digests."""

from __future__ import annotations

import hashlib
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fluid.errors import FluidwaitError
from verification.store import store
from verification.store.question import Question
from verification.store.table import CREATE_QUESTIONS, Row, Table

NAME = "runs.sqlite"
TABLE = Table("runs", (("seed", "INTEGER"), ("delay", "REAL"), ("why", "TEXT")), key=("seed",))
QUESTION = Question.of(horizon=60.0)
ROWS: list[Row] = [(seed, seed / 7, "x" * 500) for seed in range(20)]


def finished(folder: Path) -> list[str]:
    """Put in the rows that are missing; the notes on the way. In the end all rows are there."""
    notes: list[str] = []
    with store.opened(folder, NAME, QUESTION, TABLE, notes.append) as kept:
        assert set(kept.rows) <= set(ROWS)
        kept.add([row for row in ROWS if row not in kept.rows])
    with store.opened(folder, NAME, QUESTION, TABLE, pytest.fail) as found:
        assert found.rows == ROWS
    return notes


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can be longer than so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_from_any_moment_on_damages_nothing(tmp_path: Path) -> None:
    """From the first byte of the file to the last row: one line, and afterwards the rows that are missing are added."""
    refused = 0
    for size in range(0, 24_000, 1024):
        folder = tmp_path / str(size)
        with full_disk(size):
            try:
                with store.opened(folder, NAME, QUESTION, TABLE, pytest.fail) as kept:
                    for row in ROWS:
                        kept.add([row])
            except FluidwaitError as error:
                refused += "\n" not in str(error)
        assert finished(folder) == [], size
    assert refused > 10


KILLED = """
import os, sys
from itertools import count
from pathlib import Path
from verification.store import reading, store
from verification.store.question import Question
from verification.store.table import Table

table = Table("runs", (("seed", "INTEGER"), ("delay", "REAL"), ("why", "TEXT")), key=("seed",))
connect = store.connect
for moment in count():
    folder = Path(sys.argv[1]) / str(moment)
    if not (child := os.fork()):
        statements = iter(range(moment))
        def dying(path):
            connection = connect(path)
            connection.set_trace_callback(lambda _: next(statements, None) is None and os.kill(os.getpid(), 9))
            return connection
        reading.connect = store.connect = dying
        with store.opened(folder, "runs.sqlite", Question.of(horizon=60.0), table, print) as kept:
            kept.add([(0, 0.0, "x" * 500)])
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(moment)
"""


def test_a_kill_between_any_two_statements_damages_nothing(tmp_path: Path) -> None:
    """Before the tables, among them, before and after the first row: no note, no row lost that was reported."""
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=True,
                         env={"PYTHONPATH": str(Path(store.__file__).parents[2])})
    moments = int(run.stdout)
    assert moments > 8
    for moment in range(moments + 1):
        assert finished(tmp_path / str(moment)) == [], moment


@pytest.mark.parametrize("statements", [
    [], [CREATE_QUESTIONS], [CREATE_QUESTIONS, TABLE.create],
    [CREATE_QUESTIONS, TABLE.create, "PRAGMA user_version = 1"],
])
def test_tables_that_were_never_finished_are_no_damage(statements: list[str], tmp_path: Path) -> None:
    """As a version that made them one by one could leave them."""
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("VACUUM")
    assert finished(tmp_path) == []


@pytest.mark.parametrize("text", ["nonsense", "[1]", "7", "[" * 100_000, '"\\ud800"', "{"])
def test_a_question_that_is_none_is_not_told(text: str, tmp_path: Path) -> None:
    """Its digest may match: it is no question of ours, and the rows are not."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    finished(tmp_path)
    with closing(sqlite3.connect(tmp_path / NAME)) as connection, connection:
        connection.execute("UPDATE questions SET digest = ?, text = ?", (digest, text))
        connection.execute("UPDATE runs SET question = ? WHERE seed = 3", (digest,))
    notes = finished(tmp_path)
    assert len(notes) == 1
    assert "1 runs do not match" in notes[0]


@pytest.mark.parametrize(("statement", "lost"), [
    ("UPDATE sqlite_master SET sql = replace(sql, 'delay REAL', 'delay RAIL')", 3),
    ("UPDATE sqlite_master SET sql = replace(sql, 'why TEXT', 'why TEXT DEFAULT 7')", 0),
    ("UPDATE sqlite_master SET sql = replace(sql, 'delay', 'dilay')", 20),
    ("UPDATE sqlite_master SET name = 'walks', tbl_name = 'walks', sql = replace(sql, 'runs', 'walks') "
     "WHERE name = 'runs'", 20),
])
def test_tables_of_other_words_are_put_aside(statement: str, lost: int, tmp_path: Path) -> None:
    """A kind, a default, a name: SQLite finds nothing wrong, and rows that are as they were written are used.

    Under a kind that is none the delays 0, 1 and 2 come back as integers.
    """
    finished(tmp_path)
    with closing(sqlite3.connect(tmp_path / NAME)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(statement)
    notes = finished(tmp_path)
    assert len(notes) == 1
    assert f"{len(ROWS) - lost} of its runs match" in notes[0]
    assert (tmp_path / f"{NAME}.damaged-1").exists()
