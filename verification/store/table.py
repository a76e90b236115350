"""The rows of a store: columns with their SQL kinds, the columns that tell rows apart, and values that come back.

A row read back must be the row that was written, to the last bit, or its checksum would not match. SQLite converts a
value to the kind of its column, has no NaN, and no minus before a zero. So a value is made plain before it is written:

    REAL       a float; -0.0 becomes 0.0
    INTEGER    an int of 64 bits
    TEXT       a str
    ""         either of the three, for values that may be beyond 64 bits and are then written as text

and NaN becomes None (NULL), which every column but those of the key can hold. Two columns more are the store's own: the
digest of the question before the others, the checksum behind them.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np

from fluid.errors import InputError

Value = float | int | str | None
Row = tuple[Value, ...]

STORE_VERSION = 1  # of the tables: SQLite's user_version
QUESTION, CHECKSUM, QUESTIONS = "question", "checksum", "questions"  # the store's columns, and its other table
CREATE_QUESTIONS = f"CREATE TABLE IF NOT EXISTS {QUESTIONS} (digest TEXT PRIMARY KEY, text TEXT NOT NULL)"
KINDS = {"REAL": "a float, or an int of 64 bits", "INTEGER": "an int of 64 bits", "TEXT": "text",
         "": "text, a float, or an int of 64 bits"}


@dataclass(frozen=True)
class Table:
    """A table by its name, which is the word for its rows: (column, kind) pairs, and the columns that are the key.

    Raises InputError for names that are none, the store's own or words of SQL, and for kinds other than those of KINDS.

    >>> table = Table("runs", (("scale", "REAL"), ("seed", "INTEGER"), ("delay", "REAL")), ("scale", "seed"))
    >>> table.plain((4, 0, float("nan")))
    (4.0, 0, None)
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]

    def __post_init__(self) -> None:
        where = f'table "{self.name}"'
        if not self.name.isidentifier() or self.name.lower() == QUESTIONS:
            raise InputError("name", f'a word other than "{QUESTIONS}"', self.name, where)
        for name, kind in self.columns:
            if not name.isidentifier() or name.lower() in (QUESTION, CHECKSUM):
                raise InputError("a column", f'a word other than "{QUESTION}" and "{CHECKSUM}"', name, where)
            if kind not in KINDS:
                raise InputError(name, 'of kind "REAL", "INTEGER", "TEXT" or ""', kind, where)
        if not self.key or not set(self.key) <= set(self.names):
            raise InputError("key", "some of the columns", self.key, where)
        _refuse_words_of_sql(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return tuple(name for name, _ in self.columns)

    def plain(self, row: Iterable[Any]) -> Row:
        """The row as SQLite gives it back; raises InputError for a value that would not come back as it is."""
        values = tuple(row)
        if len(values) != len(self.columns):
            raise InputError("a row", f"of {len(self.columns)} values", values, f'table "{self.name}"')
        return tuple(self._plain(name, kind, value) for (name, kind), value in zip(self.columns, values, strict=True))

    def _plain(self, name: str, kind: str, value: Any) -> Value:
        if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
            return None
        if isinstance(value, str) and kind in ("TEXT", ""):
            return str(value)
        if isinstance(value, Integral) and kind != "TEXT" and -2**63 <= int(value) < 2**63:
            return float(value) if kind == "REAL" else int(value)
        if isinstance(value, float | np.floating) and kind in ("REAL", ""):
            return float(value) + 0.0
        raise InputError(name, KINDS[kind], value, f'table "{self.name}"')

    @cached_property
    def create(self) -> str:
        """The statement that makes the table where it is not there."""
        return (f"CREATE TABLE IF NOT EXISTS {self.name} (\n    {QUESTION} TEXT, "
                f"{', '.join(f'{name} {kind}' for name, kind in self.columns)}, {CHECKSUM} TEXT NOT NULL,\n"
                f"    PRIMARY KEY ({', '.join(self.key)})) WITHOUT ROWID")

    @cached_property
    def insert(self) -> str:
        """The statement that writes a row, with its question and its checksum."""
        return f"INSERT INTO {self.name} ({self._all}) VALUES ({', '.join('?' * (len(self.columns) + 2))})"

    @cached_property
    def select(self) -> str:
        """The statement that reads every row, with its question and its checksum."""
        return f"SELECT {self._all} FROM {self.name}"

    @property
    def _all(self) -> str:
        return ", ".join((QUESTION, *self.names, CHECKSUM))


def _refuse_words_of_sql(table: Table) -> None:
    """Write and read a row in memory: as a name a word of SQL is an error, or is read as something else."""
    kinds = ("TEXT", *(kind for _, kind in table.columns), "TEXT")
    row = tuple(str(i) if kind == "TEXT" else i for i, kind in enumerate(kinds))
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute(table.create)
            connection.execute(table.insert, row)
            (found,) = connection.execute(table.select)
        except sqlite3.Error:
            found = None
    if found != row:
        raise InputError("names", "different, and no words of SQL", (table.name, *table.names), f'table "{table.name}"')


def checksum(row: Sequence[Value]) -> str:
    """SHA-256 of the values of a row, its question before them."""
    return hashlib.sha256(json.dumps(row, default=repr).encode()).hexdigest()
