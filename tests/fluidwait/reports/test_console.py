"""Tables and signs on a console."""

from __future__ import annotations

import io

import pytest

from fluidwait.reports.console import _Paper, new_table, table_of_sentences


def shown(table: object, width: int, encoding: str = "utf-8") -> list[str]:
    """The lines of a table on a console of a width and an encoding."""
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    _Paper(file=file, width=width, highlight=False).print(table)
    file.flush()
    return file.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined]


def wide(columns: int) -> object:
    """A table of two rows, each value of 20 characters."""
    table = new_table("policy", *(f"measure {j}" for j in range(columns)))
    for name in ("wait", "paced"):
        table.add_row(name, *(f"{1234.5:.1f} ±{j:d} (1 to 9,999)" for j in range(columns)))
    return table


@pytest.mark.parametrize("columns", [1, 3, 4, 7])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_of_values_is_broken_between_columns(columns: int, width: int) -> None:
    """Every value is whole, in its order, and each part has the first column."""
    lines = shown(wide(columns), width)
    assert max(map(len, lines)) <= width
    parts = sum(line.startswith("policy") for line in lines)
    assert len(lines) == 3 * parts
    rows = " ".join(line for line in lines if line.startswith("wait"))
    assert [f"1234.5 ±{j:d} (1 to 9,999)" in rows for j in range(columns)] == [True] * columns
    assert sum(line.startswith("paced") for line in lines) == parts


def test_a_table_that_fits_is_one() -> None:
    """As are sentences, which are broken within."""
    assert len(shown(wide(3), 120)) == 3
    table = table_of_sentences("flag", "meaning")
    table.add_row("--flag", "many words " * 20)
    assert sum(line.startswith("flag") for line in shown(table, 60)) == 1


def test_columns_stay_in_line_where_signs_take_more_room() -> None:
    """+- is one character longer than ±, and the columns know."""
    lines = shown(wide(2), 80, "ascii")
    assert "+-" in lines[1]
    assert len(set(map(len, lines))) == 1
