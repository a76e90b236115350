"""Results as tables: a data frame where pandas is installed, and HTML in a notebook.

A result says once, in `columns`, what its table is; the frame and the display follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import isnan
from typing import Any

import numpy as np

from fluid.errors import FluidwaitError

MOST_ROWS = 24  # shown in a notebook; of a longer table the first and the last


class Tabular:
    """A frozen value that is a table; it says what its columns are, all of one length."""

    def columns(self) -> Mapping[str, Sequence[Any] | np.ndarray]:
        """The columns by name, in order, with units in the names where there are any."""
        raise NotImplementedError

    def caption(self) -> str:
        """One sentence above the table; empty where the columns say it all."""
        return ""

    def to_frame(self) -> Any:
        """Return the table as a `pandas.DataFrame`; raises FluidwaitError where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise FluidwaitError("to_frame needs pandas beside fluidwait: pip install pandas") from None
        return pandas.DataFrame({name: np.asarray(column) for name, column in self.columns().items()})

    def _repr_html_(self) -> str:
        """The table as notebooks show it: numbers to four digits, a long one without its middle."""
        columns = self.columns()
        length, half = len(next(iter(columns.values()))), MOST_ROWS // 2
        shown = range(length) if length <= MOST_ROWS else [*range(half), *range(length - half, length)]
        body = [_row(_cell(column[place]) for column in columns.values()) for place in shown]
        if length > MOST_ROWS:
            body.insert(half, _row(["…"] * len(columns)))
        above = f"<caption>{escape(self.caption())}</caption>" if self.caption() else ""
        head = _row([escape(name) for name in columns], "th")
        return f"<table>{above}<thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"


def _row(cells: Any, tag: str = "td") -> str:
    return "<tr>" + "".join(f'<{tag} style="text-align: right">{cell}</{tag}>' for cell in cells) + "</tr>"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return "–" if isnan(number) else f"{number:,.0f}" if 1e4 <= abs(number) < 1e15 else f"{number:.4g}"
    return escape(str(value))
