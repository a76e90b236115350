"""What a file of rows holds, read so that nothing in it can be believed by mistake, and nothing in it can stop us.

A row counts if it matches its checksum, a question if it matches its digest; what else is wrong with the file is told
in words, and then the file is put aside:

    SQLite cannot read it, or its check of the whole file fails
    its tables are not those that were made, word for word: a changed kind of a column would change what is written
    a byte of its header forbids to write it
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from fluid.errors import FileError
from verification.store.table import CREATE_QUESTIONS, QUESTIONS, STORE_VERSION, Row, Table, checksum

PATIENCE = 60.0  # seconds, while a reader holds the file
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG,
          sqlite3.SQLITE_ERROR)  # the last: not the tables of a store
WRITE_VERSION = 18  # offset in the file of a byte that is 1 or 2 where SQLite may write


class Kept(NamedTuple):
    """What a file holds: rows that match their checksums, the others, questions by digest, and what is damaged.

    Rows begin with the digest of their question.
    """

    rows: list[Row]
    spoilt: list[Row]
    questions: dict[str, str]
    damage: str = ""


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a file of rows, which may be damaged."""
    connection = sqlite3.connect(path, timeout=PATIENCE)
    connection.text_factory = lambda data: data.decode("utf-8", "replace")  # a damaged text fails its checksum
    return connection


def read(path: Path, table: Table, advice: str) -> Kept:
    """Read a file, if it is there; raises FileError, with the advice, where another version wrote it."""
    kept = Kept([], [], {})
    if not path.exists():
        return kept
    with closing(connect(path)) as connection:
        found = _damage(connection, path, table, kept)
        version = STORE_VERSION if found else _version(connection)
    if version not in (0, STORE_VERSION):
        raise FileError(str(path), "", f"was written by another version of fluidwait; {advice}")
    return kept._replace(rows=list(dict.fromkeys(kept.rows)), spoilt=[], damage=found) if found else kept


def _damage(connection: sqlite3.Connection, path: Path, table: Table, kept: Kept) -> str:
    """Read what is there and return what is wrong with the file, in words; "" where nothing is."""
    try:
        _collect(connection, table, kept)
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found == "ok" and _version(connection) in (0, STORE_VERSION):
            return _other_tables(connection, table) or _forbidden(path)
        return "" if found == "ok" else " ".join(str(found).split())
    except UnicodeDecodeError:  # SQLite quotes the file
        return "what SQLite says about it is no text"
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in DAMAGE:
            raise
        return str(error)


def _collect(connection: sqlite3.Connection, table: Table, kept: Kept) -> None:
    """Read what is there, as far as it can be read."""
    if _version(connection) > STORE_VERSION or _half_made(connection):
        return
    for digest, text in connection.execute(f"SELECT digest, text FROM {QUESTIONS}"):
        if _is_question(digest, text):
            kept.questions[digest] = text
    for *row, check in connection.execute(table.select):
        (kept.rows if check == checksum(row) else kept.spoilt).append(tuple(row))


def _is_question(digest: object, text: object) -> bool:
    """Whether a text is what `Question.text` writes, with its digest."""
    try:
        return (isinstance(text, str) and hashlib.sha256(text.encode()).hexdigest() == digest
                and isinstance(json.loads(text), dict))
    except (ValueError, RecursionError):
        return False


def _half_made(connection: sqlite3.Connection) -> bool:
    """Whether the tables were never finished, so that there are no rows."""
    return not _version(connection) and _tables(connection) <= {_plain(CREATE_QUESTIONS)}


def _other_tables(connection: sqlite3.Connection, table: Table) -> str:
    """What is wrong with the statements that the tables were made by."""
    made = {_plain(CREATE_QUESTIONS), _plain(table.create)}
    right = _half_made(connection) or made <= _tables(connection)
    return "" if right else "its tables are not those that were made"


def _tables(connection: sqlite3.Connection) -> set[str]:
    found = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")
    return {_plain(str(statement)) for (statement,) in found}


def _plain(statement: str) -> str:
    """A statement as SQLite keeps it, in one line."""
    return " ".join(statement.replace("IF NOT EXISTS ", "").split())


def _forbidden(path: Path) -> str:
    """What is wrong with a file that SQLite would read and not write: the version for writers in its header."""
    with path.open("rb") as file:
        header = file.read(WRITE_VERSION + 1)
    return "its header forbids to write it" if header[WRITE_VERSION:] > b"\2" else ""


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
