"""What the fields of a trace say: token counts and moments, a column at a time.

    token count    a whole number from 1 to 2^24; 374 may be written 374.0
    seconds        a finite number of at most 10^12 in size: seconds since 1970, but no milliseconds
    date           2023-11-16 18:15:46.6805900, with or without T, Z or an offset from UTC; 1900 to 2099, in whole ns

A column is converted in one call of numpy; a column that holds anything unusual is converted value by value, and what
cannot be used becomes NaN or NaT. Both ways accept the same values, so a fault in one row never changes another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluid.arrays import MOST_TOKENS, Floats

Bools = NDArray[np.bool_]
Dates = NDArray[np.datetime64]
Column = Sequence[Any]

LATEST = 1e12
DATE = r"(?:19|20)\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?"
_DATES = re.compile(rf"(?:{DATE}\n)*+", re.ASCII)
_DATE = re.compile(rf"({DATE}) ?(?:Z|([+-])(\d\d):?(\d\d))?", re.ASCII)

TOKENS = f"a whole number of tokens from 1 to {MOST_TOKENS}"
SECONDS = "a finite number of seconds, at most 1e12 in size"
MILLISECONDS = "a finite number of milliseconds, at most 1e15 in size"
DATE_AND_TIME = "a date and time such as 2023-11-16 18:15:46.68"


def numbers(column: Column) -> Floats:
    """The values as floats; NaN for what is no number."""
    if _plain(column):
        try:
            return np.fromiter(map(float, column), np.float64, len(column))
        except (ValueError, OverflowError):
            pass
    return np.array([_number(value) for value in column], dtype=np.float64)


def countable(values: Floats) -> Bools:
    """Which of the numbers are token counts."""
    counts: Bools = (values >= 1) & (values <= MOST_TOKENS) & (values == np.floor(values))
    return counts


def seconds(column: Column, per_second: float = 1.0) -> Floats:
    """The moments in seconds, read from numbers of which `per_second` make a second; NaN for what is no moment."""
    moments = numbers(column) / per_second
    return np.where(np.abs(moments) <= LATEST, moments, np.nan)


def dates(column: Column) -> Dates:
    """The moments in ns since 1970, read from dates and times; NaT for what is none."""
    texts = list(map(str, column))
    if texts and texts[0].endswith(("Z", "+00:00")):
        texts = [text.removesuffix("Z").removesuffix("+00:00") for text in texts]
    lines = "\n".join([*texts, ""])
    if _DATES.fullmatch(lines) and lines.count("\n") == len(texts):
        try:
            return np.array(texts, dtype="M8[ns]")
        except ValueError:  # the 30th of February
            pass
    return np.array([_date(str(value)) for value in column], dtype="M8[ns]")


def _plain(column: Column) -> bool:
    kinds = set(map(type, column))
    return kinds <= {int, float} or (kinds == {str} and "_" not in "".join(column))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return np.nan
    if isinstance(value, str) and "_" in value:  # Python reads 1_000
        return np.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return np.nan


def _date(text: str) -> np.datetime64:
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return np.datetime64("NaT")
    local, sign, hours, minutes = match.groups()
    try:
        moment = np.datetime64(local, "ns")
    except ValueError:
        return np.datetime64("NaT")
    offset = 60 * int(hours or 0) + int(minutes or 0)
    return moment - np.timedelta64(-offset if sign == "-" else offset, "m")
