"""What every report is written on: a console, titles, tables, and numbers as people read them."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fluid.errors import one_line
from fluid.files.written import write_files
from fluid.tables import duration, plain
from fluidwait.signs import in_ascii
from verification import Interval

MOST_ROWS = 20
GAP = 2  # blanks between columns
NAME = 24  # characters of the first column of a table: longer names are broken
UNEVEN = 1.5  # how much further the upper end of an interval may be than the lower one and be told as ±


class _Paper(Console):
    """A console that leaves a closed pipe to the command, and writes what does not print, in a file's name, as escapes.

    A table that is too wide is broken into several, one below the other. Signs that its encoding lacks are replaced
    before anything is laid out.
    """

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError

    def render_str(self, text: str, **options: Any) -> Text:
        text = "\n".join(map(one_line, text.split("\n")))
        return super().render_str(text if self.encoding.startswith("utf") else in_ascii(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(part for each in objects for part in _parts(each, self.width)), **options)


class _Values(Table):
    """A table of short values, none of which is to be broken: too wide a table is broken between its columns."""


console = _Paper(highlight=False)


def _parts(shown: Any, width: int) -> list[Any]:
    """A table of values in tables that fit the width, each with the first column; whatever else as it is."""
    if not isinstance(shown, _Values):
        return [shown]
    first, *others = ([column.header, *column.cells] for column in shown.columns)
    room = width + GAP - min(_width(first), NAME)
    parts: list[list[list[Any]]] = [[]]
    for column in others:
        if parts[-1] and sum(map(_width, (*parts[-1], column))) > room:
            parts.append([])
        parts[-1].append(column)
    return [_table([first, *part]) for part in parts] if len(parts) > 1 else [shown]


def _width(column: list[Any]) -> int:
    return GAP + max(Text.from_markup(str(cell)).cell_len for cell in column)


def _table(columns: list[list[Any]]) -> Table:
    """A table of columns, each with its heading first."""
    table = new_table(*(column[0] for column in columns))
    for row in zip(*(column[1:] for column in columns), strict=True):
        table.add_row(*row)
    return table


def title(text: str, remark: str) -> None:
    """A heading, with a remark beside it."""
    console.print(f"[bold]{escape(text)}[/bold]  [dim]{escape(remark)}[/dim]")


def say(good: bool, sentence: str) -> None:
    """A sentence in green or red."""
    console.print(f"[{'green' if good else 'red'}]{escape(sentence)}[/]")


def new_table(*columns: str) -> Table:
    """An empty table of values; the first column and one without a heading are aligned to the left."""
    table = _Values(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 or not column else "right", overflow="fold", no_wrap=i > 0)
    return table


def table_of_sentences(*columns: str) -> Table:
    """An empty table of words, which are broken into lines."""
    table = Table(*columns, box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for column in table.columns:
        column.overflow = "fold"
    return table


def print_table(table: Table, rows: int) -> None:
    """A table of types, and how many there are where it does not show them all."""
    console.print(table)
    if rows > MOST_ROWS:
        console.print(f"[dim]the {MOST_ROWS} largest of {rows:,} types; --json has them all[/dim]")


def largest(weights: np.ndarray) -> list[int]:
    """The types to show, in order: all of them, or the ones with the largest weights."""
    chosen = np.argsort(-weights.astype(np.float64), kind="stable")[:MOST_ROWS]
    return sorted(chosen.tolist())


def number(values: np.ndarray | None, j: int) -> str:
    """The value of type j, "-" where there is none."""
    return "-" if values is None else f"{values[j]:,.4g}"


def optional(value: float | None) -> str:
    """The value, "-" where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:,.4g}"


def with_interval(interval: Interval) -> str:
    """A mean and the half-width of its interval, its ends where they lie unevenly, "-" where nothing was measured."""
    half, below = interval.high - interval.mean, interval.mean - interval.low
    if not math.isfinite(half):
        return optional(interval.mean)
    if half > UNEVEN * below:
        return f"{optional(interval.mean)} ({brief(interval.low)} to {brief(interval.high)})"
    return f"{optional(interval.mean)} ±{brief(half)}"


def brief(value: float) -> str:
    """Two digits, or whole numbers with commas."""
    return f"{value:,.0f}" if 100 <= abs(value) < 1e7 else f"{value:.2g}"


def seconds(value: float | None) -> str:
    """A time with its unit, "-" where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return duration(value)


def give(answer: dict[str, Any], as_json: bool, show: Callable[[], None]) -> None:
    """Print a report or, with `as_json`, the answer as one JSON object."""
    try:
        if as_json:
            typer.echo(to_text(answer))
        else:
            show()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader left; the exit status still tells the answer
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def to_text(answer: dict[str, Any]) -> str:
    """The JSON text of an answer; infinite and undefined numbers become null."""
    return json.dumps(plain(answer), indent=2, allow_nan=False)


def write(folder: Path, answer: dict[str, Any], beside: Mapping[str, str | bytes]) -> None:
    """Write an answer as report.json, and the files that go with it, into the folder: all of them or none."""
    write_files(folder, {**beside, "report.json": to_text(answer) + "\n"})
