"""Rows on disk: there whole or not at all, read back to the last bit, refused to another question."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from fluid.errors import FileError, FluidwaitError, InputError
from verification.store import store
from verification.store.question import Question
from verification.store.store import Store
from verification.store.table import Row, Table

NAME = "scaling.sqlite"
TABLE = Table("runs", (("scale", "REAL"), ("policy", "TEXT"), ("delay", "REAL"), ("evictions", "INTEGER"),
                       ("seed", "")), key=("scale", "policy"))
QUESTION = Question.of(horizon=60.0, program="fluidwait 0")
VERSION = slice(60, 64)  # of SQLite's user_version in the file


def opened(folder: Path, question: Question = QUESTION,
           notes: list[str] | None = None) -> AbstractContextManager[Store]:
    """The store of a folder; a note that nobody waits for is an error."""
    return store.opened(folder, NAME, question, TABLE, pytest.fail if notes is None else notes.append, "go elsewhere")


def run(scale: float, policy: str = "greedy") -> Row:
    """A row that nothing computed."""
    return scale, policy, scale / 3, 17, 2**40


def rows_in(folder: Path) -> list[Any]:
    """What lies in the file, in the order in which it lies there."""
    with closing(sqlite3.connect(folder / NAME)) as connection:
        return connection.execute("SELECT * FROM runs").fetchall()


def changed(folder: Path, statement: str) -> None:
    """Change the file behind the back of the store."""
    with closing(sqlite3.connect(folder / NAME)) as connection, connection:
        connection.execute(statement)


def test_rows_come_back_as_they_were_in_the_order_of_their_key(tmp_path: Path) -> None:
    """Every bit of every number, and text with quotes, in a folder that is made."""
    rows = [(0.2, 'a "b" × 2', 1e300, -2**63, "1" * 40), (0.1, "z", 5e-324, 0, 0.1), (0.1, "a", None, None, None)]
    with opened(tmp_path / "new") as empty:
        assert empty.rows == []
        empty.add(rows[:1])
        empty.add(rows[1:])
    with opened(tmp_path / "new") as found:
        assert found.rows == [rows[2], rows[1], rows[0]]
        assert [list(map(type, row)) for row in found.rows[1:]] == [list(map(type, row)) for row in rows[1::-1]]
    assert {row[0] for row in rows_in(tmp_path / "new")} == {QUESTION.digest}


def test_a_row_is_never_written_twice(tmp_path: Path) -> None:
    """A second result for one key is an error, not a replacement."""
    with opened(tmp_path) as kept:
        kept.add([run(1.0)])
        with pytest.raises(FileError, match="UNIQUE"):
            kept.add([(*run(1.0)[:2], 5.0, 0, 0)])
    with opened(tmp_path) as found:
        assert found.rows == [run(1.0)]


def broken() -> Iterator[Row]:
    """Two rows, then an error."""
    yield from (run(1.0), run(2.0))
    raise FluidwaitError("no more")


@pytest.mark.parametrize(("rows", "error", "match"), [
    ([run(1.0), run(2.0), run(9.0)], FileError, "UNIQUE"),
    ([run(1.0), (None, "greedy", 0.0, 0, 0)], FileError, "NOT NULL"),
    ([run(1.0), run(2.0)[:4]], InputError, "of 5 values"),
    ([run(1.0), (2.0, "greedy", 0.0, 1.5, 0)], InputError, "evictions must be an int of 64 bits"),
    (broken(), FluidwaitError, "no more"),
])
def test_several_rows_are_kept_all_or_none(rows: Any, error: type[Exception], match: str, tmp_path: Path) -> None:
    """Whichever of them cannot be written, and the store goes on working."""
    with opened(tmp_path) as kept:
        kept.add([run(9.0)])
        with pytest.raises(error, match=match):
            kept.add(rows)
        assert [row[1] for row in rows_in(tmp_path)] == [9.0]
        kept.add([run(1.0), run(2.0)])
    assert [row[1] for row in rows_in(tmp_path)] == [1.0, 2.0, 9.0]


WRITER = """
import sys
from itertools import count
from pathlib import Path
from verification.store.question import Question
from verification.store.store import opened
from verification.store.table import Table
table = Table("runs", (("step", "INTEGER"), ("row", "INTEGER"), ("delay", "REAL")), ("step", "row"))
with opened(Path(sys.argv[1]), "scaling.sqlite", Question.of(seed=0), table, print) as store:
    for step in count():
        store.add((step, row, row / 7) for row in range(500))
        print(step, flush=True)
"""


def test_a_kill_leaves_whole_transactions_and_all_that_were_reported(tmp_path: Path) -> None:
    """SIGKILL while rows are written in steps of 500: every step is whole, those that `add` returned from are there."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    house = str(Path(store.__file__).parents[2])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": house}) as process:
        assert process.stdout is not None
        reported = [int(process.stdout.readline()) for _ in range(5)]
        process.kill()
        reported += [int(line) for line in process.stdout if line.endswith("\n")]
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        steps = connection.execute("SELECT step, count(*) FROM runs GROUP BY step ORDER BY step").fetchall()
    assert [step for step, _ in steps[:len(reported)]] == reported
    assert {number for _, number in steps} == {500}


def test_another_question_is_refused_in_one_line(tmp_path: Path) -> None:
    """The line says what differs, by the word of the file, and ends with the advice; nothing is touched."""
    with opened(tmp_path) as kept:
        kept.add([run(1.0)])
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(FileError) as caught, opened(tmp_path, Question.of(horizon=61.0, program="fluidwait 0")):
        pass
    assert str(caught.value) == (f"{tmp_path / NAME}: holds another scaling (horizon 60.0 there, 61.0 here); "
                                 "go elsewhere")
    assert (tmp_path / NAME).read_bytes() == before


@pytest.mark.parametrize("columns", [TABLE.columns[:-1], TABLE.columns[::-1], (*TABLE.columns, ("more", "REAL"))])
def test_rows_of_other_columns_are_neither_spoilt_nor_damaged(columns: tuple[Any, ...], tmp_path: Path) -> None:
    """A program whose rows have another form asks another question: the rows of the old one are left alone."""
    with opened(tmp_path) as kept:
        kept.add([run(1.0)])
    before = (tmp_path / NAME).read_bytes()
    table, question = Table("runs", columns, TABLE.key), Question.of(horizon=60.0, program="fluidwait 1")
    with pytest.raises(FileError, match=r"holds another scaling \(program fluidwait 0 there, fluidwait 1 here\)"), \
            store.opened(tmp_path, NAME, question, table, pytest.fail):
        pass
    assert (tmp_path / NAME).read_bytes() == before


def test_a_question_without_rows_gives_way(tmp_path: Path) -> None:
    """Where nothing was finished there is nothing to mix."""
    with opened(tmp_path):
        pass
    with opened(tmp_path, Question.of(horizon=61.0)) as kept:
        kept.add([run(1.0)])
    with opened(tmp_path, Question.of(horizon=61.0)) as found:
        assert found.rows == [run(1.0)]


def test_two_names_share_a_folder(tmp_path: Path) -> None:
    """Each has a file and a lock of its own."""
    with opened(tmp_path) as one, store.opened(tmp_path, "sweep.sqlite", QUESTION, TABLE, pytest.fail) as other:
        one.add([run(1.0)])
        other.add([run(2.0)])
    assert [row[1] for row in rows_in(tmp_path)] == [1.0]


def test_a_spoilt_row_is_taken_out_with_a_note(tmp_path: Path) -> None:
    """A delay that somebody changed: the row is found out by its checksum, the others are kept."""
    with opened(tmp_path) as kept:
        kept.add([run(1.0), run(2.0), run(3.0)])
    changed(tmp_path, "UPDATE runs SET delay = delay / 2 WHERE scale = 2")
    notes: list[str] = []
    with opened(tmp_path, notes=notes) as found:
        assert found.rows == [run(1.0), run(3.0)]
        found.add([run(2.0)])
    assert notes == [f"{tmp_path / NAME}: 1 runs do not match their checksums and are computed again"]
    with opened(tmp_path) as found:
        assert found.rows == [run(1.0), run(2.0), run(3.0)]


def test_a_damaged_file_is_put_aside_with_a_note(tmp_path: Path) -> None:
    """Under names that are free; an empty file is no damage."""
    (tmp_path / NAME).write_bytes(b"")
    with opened(tmp_path):
        pass
    for number in (1, 2):
        data = b"not a database, by far " * 100 + bytes([number])
        (tmp_path / NAME).write_bytes(data)
        notes: list[str] = []
        with opened(tmp_path, notes=notes) as found:
            assert found.rows == []
        aside = tmp_path / f"{NAME}.damaged-{number}"
        assert aside.read_bytes() == data
        assert notes == [f"{tmp_path / NAME}: damaged (file is not a database); kept as {aside.name}; 0 of its runs "
                         "match their checksums and are used, others are computed again"]


def test_no_flipped_byte_is_trusted(tmp_path: Path) -> None:
    """Wherever a byte of the file changes, every row that is read back is one that was written, or is missing."""
    original, notes = tmp_path / "original", list[str]()
    rows = [run(float(scale), policy) for scale in range(1, 31) for policy in ("greedy", "paced")]
    with opened(original) as kept:
        for row in rows:
            kept.add([row])
    data = (original / NAME).read_bytes()
    lost = 0
    for offset in range(0, len(data), 211):
        folder = tmp_path / str(offset)
        folder.mkdir()
        spoilt = bytearray(data)
        spoilt[offset] ^= 0x55
        (folder / NAME).write_bytes(bytes(spoilt))
        if spoilt[VERSION] != data[VERSION]:
            with pytest.raises(FileError, match="another version of fluidwait; go elsewhere"), opened(folder):
                pass
            continue
        with opened(folder, notes=notes) as found:
            assert set(found.rows) <= set(rows), offset
        lost += len(found.rows) < len(rows)
        with opened(folder) as again:
            assert again.rows == found.rows, offset
    assert lost > 0.2 * len(data) / 211
    assert len(notes) >= lost


def test_the_second_who_writes_is_refused_and_readers_are_not(tmp_path: Path) -> None:
    """One line while the first is at work, by the word of the file; afterwards the file is free."""
    with opened(tmp_path) as kept:
        kept.add([run(1.0)])
        with pytest.raises(FluidwaitError) as caught, opened(tmp_path):
            pass
        assert len(rows_in(tmp_path)) == 1
    assert str(caught.value) == f"{tmp_path}: another scaling is writing there; go elsewhere"
    with opened(tmp_path) as found:
        assert found.rows == [run(1.0)]


def test_what_cannot_be_locked_or_used_is_one_line(tmp_path: Path) -> None:
    """A lock that is a folder; a file of rows that is a folder; a folder that is a file."""
    (tmp_path / "a" / ".scaling.lock").mkdir(parents=True)
    (tmp_path / "b" / NAME).mkdir(parents=True)
    (tmp_path / "c").write_text("a file", encoding="utf-8")
    refused = {"a": r"\.scaling\.lock cannot be locked .*; go elsewhere", "b": "cannot be used: unable to open",
               "c": "cannot be a folder: .*; go elsewhere"}
    for name, words in refused.items():
        with pytest.raises(FluidwaitError, match=words), opened(tmp_path / name):
            pass
