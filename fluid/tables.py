"""Results as others read them: a data frame where pandas is installed, HTML in a notebook, plain values for JSON.

A result says once, in `columns`, what its table is; the frame and the display follow. `to_dict` holds the same names as
the JSON of the command line, where that has the object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite, isnan
from typing import Any

import numpy as np

from fluid.errors import FluidwaitError

MOST_ROWS = 24  # shown in a notebook; of a longer table the first and the last
MOST_LISTED = 3  # in a line


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

    def to_dict(self) -> dict[str, Any]:
        """Return what it says in plain values, as JSON has them: here the columns, each a list."""
        return plain(dict(self.columns()))  # type: ignore[no-any-return]

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
        return figure(float(value))
    return escape(str(value))


def plain(value: Any) -> Any:
    """The value as JSON has it: lists for arrays and tuples, Python's numbers, None for what is not finite.

    >>> plain({"kv": np.array([1.0, np.inf]), "types": (np.int64(3),)})
    {'kv': [1.0, None], 'types': [3]}
    """
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def figure(number: float | None) -> str:
    """A number as people read it: to four digits, a large one to its last; a dash where there is none.

    >>> figure(0.123456), figure(137_000.4)
    ('0.1235', '137,000')
    """
    if number is None or isnan(number):
        return "–"
    return f"{number:,.0f}" if 1e4 <= abs(number) < 1e15 else f"{number:.4g}"


def duration(seconds: float) -> str:
    """A time with its unit.

    >>> duration(0.0106), duration(90.0)
    ('10.6 ms', '90 s')
    """
    return f"{seconds * 1e3:.4g} ms" if abs(seconds) < 1 else f"{figure(seconds)} s"


def listed(values: Sequence[Any]) -> str:
    """Values in brackets, of more than three the first and how many there are.

    >>> listed((1, 2)), listed(range(9))
    ('(1, 2)', '(0, 1, … 9 in all)')
    """
    shown = list(values) if len(values) <= MOST_LISTED else [*values[:2]]
    rest = [f"… {len(values):,} in all"] if len(values) > MOST_LISTED else []
    return f"({', '.join([*map(str, shown), *rest])})"
