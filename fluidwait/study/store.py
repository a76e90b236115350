"""Finished cells on disk: one SQLite file, a row for each cell, written at once and whole.

SQLite, because a row is there or not, whatever kills the process (its journal), because several programs may read
while one writes (its locks), because one file holds a sweep, and because Python brings it along and pandas reads it:

    pandas.read_sql("select * from cells", sqlite3.connect("DIR/sweep.sqlite"))

A folder answers one question (`fluidwait.study.fingerprint`): cells of another are never mixed in, the sweep is
refused. Every row carries the digest of its question and a checksum of itself, and is never written a second time; rows
lie in the order of their cells, whichever was finished first. A row that does not match its checksum is taken out and
computed again; a file that SQLite finds damaged is put aside, and its rows that match are kept. Of two sweeps that
write into one folder the second is refused: the first holds a lock, which the operating system drops with the process.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from fluid.errors import FileError, FluidwaitError
from fluidwait.progress import note
from fluidwait.study.cell import COLUMNS, Finished, cell_of, checksum, row_of
from fluidwait.study.fingerprint import Question
from fluidwait.study.grid import Cell

NAME, LOCK, JOURNAL = "sweep.sqlite", ".sweep.lock", "-journal"
PATIENCE = 60.0  # seconds, while a reader holds the file
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # the last: not the tables of a sweep
STORE_VERSION = 1  # of the tables: SQLite's user_version
KINDS = {"seed": "", "replications": "INTEGER", "kv_peak": "INTEGER", "overflow_runs": "INTEGER"} | dict.fromkeys(
    ("question", "policy", "verdict", "reason"), "TEXT")
CREATE_TABLES = f"""
CREATE TABLE IF NOT EXISTS questions (digest TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cells (
    {", ".join(f"{name} {KINDS.get(name, 'REAL')}" for name in COLUMNS)}, checksum TEXT NOT NULL,
    PRIMARY KEY (rate, policy)) WITHOUT ROWID;
PRAGMA user_version = {STORE_VERSION};
"""
INSERT = f"INSERT INTO cells ({', '.join(COLUMNS)}, checksum) VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"
SELECT = f"SELECT {', '.join(COLUMNS)}, checksum FROM cells"


class Store:
    """The cells of one question in a folder; made by `opened`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, question: Question, rows: list[Any]) -> None:
        self._path, self._connection, self._question = path, connection, question
        self.found: dict[Cell, Finished] = {finished.cell: finished for finished in map(cell_of, rows)}

    def add(self, finished: Finished) -> None:
        """Keep a cell: when this returns, nothing that happens to the process takes it back."""
        with _refusing(self._path, "cannot be written"), self._connection as connection:
            _insert(connection, row_of(finished, self._question))


class _Kept(NamedTuple):
    """What a file holds: rows that match their checksums, the others, questions by digest, and what is damaged."""

    rows: list[tuple[Any, ...]]
    spoilt: list[tuple[Any, ...]]
    questions: dict[str, str]
    damage: str = ""


@contextmanager
def opened(folder: Path, question: Question) -> Iterator[Store]:
    """Open the file of a folder for one question, alone; raises FluidwaitError, one line, where that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    with _alone(folder), _refusing(path, "cannot be used"):
        kept = _read(path)
        _refuse_another(path, question, kept)
        if kept.damage:
            aside = _put_aside(path)
            note(f"{path}: damaged ({kept.damage}); kept as {aside.name}; {len(kept.rows)} of its cells match their "
                 "checksums and are used, others are computed again")
        elif kept.spoilt:
            note(f"{path}: {len(kept.spoilt)} cells do not match their checksums and are computed again")
        with closing(_connect(path)) as connection:
            _prepare(connection, question, kept)
            yield Store(path, connection, question, kept.rows)


def _prepare(connection: sqlite3.Connection, question: Question, kept: _Kept) -> None:
    """Leave the tables, the question and the rows that can be trusted, and nothing else."""
    if kept.questions == {question.digest: question.text} and not kept.damage and not kept.spoilt:
        return
    connection.executescript(CREATE_TABLES)
    with connection:
        connection.execute("DELETE FROM questions")
        connection.execute("INSERT INTO questions VALUES (?, ?)", (question.digest, question.text))
        if kept.damage or kept.spoilt:
            connection.execute("DELETE FROM cells")
            for row in kept.rows:
                _insert(connection, row)


def _insert(connection: sqlite3.Connection, row: Sequence[Any]) -> None:
    connection.execute(INSERT, (*row, checksum(row)))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=PATIENCE)
    connection.text_factory = lambda data: data.decode("utf-8", "replace")  # a damaged text fails its checksum
    return connection


def _read(path: Path) -> _Kept:
    if not path.exists():
        return _Kept([], [], {})
    kept = _Kept([], [], {})
    with closing(_connect(path)) as connection:
        try:
            _collect(connection, kept)
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in DAMAGE:
                raise
            found = str(error)
        version = _version(connection) if found == "ok" else STORE_VERSION
    if version not in (0, STORE_VERSION):
        raise FileError(str(path), "", "was written by another version of fluidwait; choose another --out")
    return kept if found == "ok" else kept._replace(spoilt=[], damage=found)


def _collect(connection: sqlite3.Connection, kept: _Kept) -> None:
    """Read what is there, as far as it can be read; an empty file has no tables."""
    empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if empty or _version(connection) > STORE_VERSION:
        return
    for digest, text in connection.execute("SELECT digest, text FROM questions"):
        if hashlib.sha256(text.encode()).hexdigest() == digest:
            kept.questions[digest] = text
    for *row, check in connection.execute(SELECT):
        (kept.rows if check == checksum(row) else kept.spoilt).append(tuple(row))


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _refuse_another(path: Path, question: Question, kept: _Kept) -> None:
    others = {row[COLUMNS.index("question")] for row in kept.rows} - {question.digest}
    for digest in sorted(others):
        known = kept.questions.get(digest)
        differs = f" ({question.difference(known)})" if known else ""
        raise FileError(str(path), "", f"holds another sweep{differs}; choose another --out")


def _put_aside(path: Path) -> Path:
    """Rename a damaged file, and the journal that belongs to it, to a name that is free."""
    free = next(each for n in count(1) if not (each := path.with_name(f"{NAME}.damaged-{n}")).exists())
    path.rename(free)
    journal = path.with_name(NAME + JOURNAL)
    if journal.exists():
        journal.rename(free.with_name(free.name + JOURNAL))
    return free


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold SQLite's lock on a file of its own, so that others may still read the cells."""
    with ExitStack() as held:
        try:
            connection = held.enter_context(closing(sqlite3.connect(folder / LOCK, timeout=0, isolation_level=None)))
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            why = "another sweep is writing there" if busy else f"{LOCK} cannot be locked ({error})"
            raise FluidwaitError(f"{folder}: {why}; choose another --out") from None
        yield


@contextmanager
def _refusing(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise FileError(str(path), "", f"{what}: {error}") from None
