"""Finished rows on disk: one SQLite file, every row written at once and whole.

SQLite, because a row is there or not, whatever kills the process (its journal), because several programs may read
while one writes (its locks), because one file holds an experiment, and because Python brings it along and pandas reads
it:

    pandas.read_sql("select * from cells", sqlite3.connect("DIR/sweep.sqlite"))

A file answers one question (`verification.store.question`): rows of another are never mixed in, it is refused. Every
row carries the digest of its question and a checksum of itself, and is never written a second time; rows lie in the
order of their key, whichever was finished first. A row that does not match its checksum is taken out, to be computed
again; a file that SQLite finds damaged, or whose tables are not word for word those that were made, is put aside, and
its rows that match are kept. Tables come into being in one transaction: a kill or a full disk leaves an empty file or a
store. Of two programs that write one file the second is refused: the first holds a lock, which the operating system
drops with the process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from fluid.errors import FileError, FluidwaitError
from verification.store.question import Question
from verification.store.reading import Kept, connect, read
from verification.store.table import CREATE_QUESTIONS, QUESTIONS, STORE_VERSION, Row, Table, checksum

JOURNAL = "-journal"


class Store:
    """The rows of one question in a file; made by `opened`, and used by the thread that opened it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, question: Question, table: Table,
                 rows: list[Row]) -> None:
        self._path, self._connection, self._question, self._table = path, connection, question, table
        self.rows: list[Row] = [row[1:] for row in rows]  # those found in the file, in the order of their key

    def add(self, rows: Iterable[Iterable[Any]]) -> None:
        """Keep rows, all or none: when this returns, nothing that happens to the process takes them back.

        Raises InputError for a value that would not come back as it is, FileError where the file cannot be written or
        a row of the same key is there.
        """
        plain = [self._table.plain(row) for row in rows]
        with _refusing(self._path, "cannot be written"), self._connection as connection:
            _insert(connection, self._table, [(self._question.digest, *row) for row in plain])


@contextmanager
def opened(folder: Path, name: str, question: Question, table: Table, note: Callable[[str], None],
           advice: str = "choose another folder") -> Iterator[Store]:
    """Open the file of a name ("sweep.sqlite" holds a sweep) in a folder, made if need be, for one question, alone.

    `note` is told, in one line, of rows that are lost. Raises FluidwaitError, one line, where the file belongs to
    another question, another version or a program at work, with the `advice`, or where it cannot be used.

    >>> from tempfile import TemporaryDirectory
    >>> table, question = Table("runs", (("seed", "INTEGER"), ("delay", "REAL")), ("seed",)), Question.of(horizon=60.0)
    >>> with TemporaryDirectory() as folder:
    ...     with opened(Path(folder), "trial.sqlite", question, table, print) as store:
    ...         store.add((seed, seed / 8) for seed in range(2))
    ...     with opened(Path(folder), "trial.sqlite", question, table, print) as store:
    ...         store.rows
    [(0, 0.0), (1, 0.125)]
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(str(folder), "", f"cannot be a folder: {error.strerror or error}; {advice}") from None
    path = folder / name
    with _alone(path, advice), _refusing(path, "cannot be used"):
        kept = read(path, table, advice)
        _refuse_another(path, question, kept, advice)
        if kept.damage:
            aside = _put_aside(path)
            note(f"{path}: damaged ({kept.damage}); kept as {aside.name}; {len(kept.rows)} of its {table.name} match "
                 "their checksums and are used, others are computed again")
        elif kept.spoilt:
            note(f"{path}: {len(kept.spoilt)} {table.name} do not match their checksums and are computed again")
        with closing(connect(path)) as connection:
            _prepare(connection, question, table, kept)
            yield Store(path, connection, question, table, kept.rows)


def _prepare(connection: sqlite3.Connection, question: Question, table: Table, kept: Kept) -> None:
    """Leave the tables, the question and the rows that can be trusted, and nothing else."""
    if kept.questions == {question.digest: question.text} and not kept.damage and not kept.spoilt:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for statement in (CREATE_QUESTIONS, table.create, f"PRAGMA user_version = {STORE_VERSION}"):
            connection.execute(statement)
        connection.execute(f"DELETE FROM {QUESTIONS}")
        connection.execute(f"INSERT INTO {QUESTIONS} VALUES (?, ?)", (question.digest, question.text))
        if kept.damage or kept.spoilt:
            connection.execute(f"DELETE FROM {table.name}")
            _insert(connection, table, kept.rows)


def _insert(connection: sqlite3.Connection, table: Table, rows: list[Row]) -> None:
    connection.executemany(table.insert, [(*row, checksum(row)) for row in rows])


def _refuse_another(path: Path, question: Question, kept: Kept, advice: str) -> None:
    held = {str(row[0]) for row in kept.rows}
    if kept.spoilt or kept.damage:  # it may be the columns of another question that make its rows seem so
        held |= set(kept.questions)
    for digest in sorted(held - {question.digest}):
        known = kept.questions.get(digest)
        differs = f" ({question.difference(known)})" if known else ""
        raise FileError(str(path), "", f"holds another {path.stem}{differs}; {advice}")


def _put_aside(path: Path) -> Path:
    """Rename a damaged file, and the journal that belongs to it, to a name that is free."""
    free = next(each for n in count(1) if not (each := path.with_name(f"{path.name}.damaged-{n}")).exists())
    path.rename(free)
    journal = path.with_name(path.name + JOURNAL)
    if journal.exists():
        journal.rename(free.with_name(free.name + JOURNAL))
    return free


@contextmanager
def _alone(path: Path, advice: str) -> Iterator[None]:
    """Hold SQLite's lock on a file of its own, so that others may still read the rows."""
    lock = path.with_name(f".{path.stem}.lock")
    with ExitStack() as held:
        try:
            connection = held.enter_context(closing(sqlite3.connect(lock, timeout=0, isolation_level=None)))
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            why = f"another {path.stem} is writing there" if busy else f"{lock.name} cannot be locked ({error})"
            raise FluidwaitError(f"{path.parent}: {why}; {advice}") from None
        yield


@contextmanager
def _refusing(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise FileError(str(path), "", f"{what}: {error}") from None
