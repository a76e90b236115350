"""Tables of a store: values as SQLite gives them back, and names that SQL can hold."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from fluid.errors import InputError
from verification.store.table import Table

COLUMNS = (("real", "REAL"), ("whole", "INTEGER"), ("text", "TEXT"), ("any", ""))
TABLE = Table("runs", COLUMNS, ("real",))


@pytest.mark.parametrize(("row", "plain"), [
    ((1, 2, "a", 3), (1.0, 2, "a", 3)),
    ((-0.0, True, "", -0.0), (0.0, 1, "", 0.0)),
    ((math.inf, -2**63, "é\n'", "1e5"), (math.inf, -2**63, "é\n'", "1e5")),
    ((np.float64(0.1), np.int64(5), np.str_("b"), np.float32(0.5)), (0.1, 5, "b", 0.5)),
    ((1.0, None, None, math.nan), (1.0, None, None, None)),
])
def test_a_plain_row_is_what_sqlite_gives_back(row: tuple[Any, ...], plain: tuple[Any, ...]) -> None:
    """To the type and the sign of every value; nothing for NaN."""
    found = TABLE.plain(row)
    assert list(map(repr, found)) == list(map(repr, plain))
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(TABLE.create)
        connection.execute(TABLE.insert, ("digest", *found, "checksum"))
        (read,) = connection.execute(TABLE.select)
    assert list(map(repr, read)) == list(map(repr, ("digest", *plain, "checksum")))


@pytest.mark.parametrize(("column", "value"), [
    ("real", "1.0"), ("real", 10**400), ("whole", 1.0), ("whole", 2**63), ("whole", "1"), ("text", 1), ("text", b"a"),
    ("any", 2**63), ("any", b"a"), ("any", [1]),
])
def test_a_value_that_would_not_come_back_is_refused(column: str, value: Any) -> None:
    """One line that names the column and the table."""
    row = {"real": 1.0, "whole": 1, "text": "", "any": 1} | {column: value}
    with pytest.raises(InputError, match=f'^{column} must be .* in table "runs"$'):
        TABLE.plain(row.values())


@pytest.mark.parametrize(("name", "columns", "key", "match"), [
    ("my runs", COLUMNS, ("real",), "name"),
    ("questions", COLUMNS, ("real",), "name"),
    ("runs", (("question", "TEXT"),), ("question",), "a column"),
    ("runs", (("checksum", "TEXT"),), ("checksum",), "a column"),
    ("runs", (("x) --", "TEXT"),), ("x) --",), "a column"),
    ("runs", (("x", "FLOAT"),), ("x",), "x must be of kind"),
    ("runs", COLUMNS, ("scale",), "key"),
    ("runs", COLUMNS, (), "key"),
    ("order", COLUMNS, ("real",), "no words of SQL"),
    ("sqlite_runs", COLUMNS, ("real",), "no words of SQL"),
    *(("runs", ((word, kind),), (word,), "no words of SQL") for kind in ("REAL", "TEXT", "")
      for word in ("select", "GROUP", "null", "current_time", "current_date", "primary", "values")),
    ("runs", (("x", "REAL"), ("X", "REAL")), ("x",), "different"),
])
def test_names_that_sql_or_the_store_cannot_have_are_refused(name: str, columns: tuple[tuple[str, str], ...],
                                                             key: tuple[str, ...], match: str) -> None:
    """When the table is made."""
    with pytest.raises(InputError, match=match):
        Table(name, columns, key)
