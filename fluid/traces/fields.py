"""The fields of a trace, converted a column at a time: token counts, and arrival times as seconds or dates.

    token count    a whole number from 1 to 2^24, in ASCII digits; 374 may be written 374.0
    seconds        a finite number of at most 10^12 in size: seconds since 1970, but no milliseconds
    date           2023-11-16 18:15:46.6805900, with or without T, Z or an offset from UTC; 1900 to 2099, in whole ns

A column is converted in one call of numpy, or, if it holds anything unusual, value by value; a value that cannot be
used becomes NaN or NaT. Both ways accept the same values, so a bad row never changes how another is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluid.arrays import MOST_TOKENS, Bools, Floats, Ints

Dates = NDArray[np.datetime64]
Column = Sequence[Any] | NDArray[Any]

LATEST = 1e12  # seconds, of either sign
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}  # of times, in a second
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
DATE = r"(?:19|20)\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,18})?"
_DATES = re.compile(rf"(?:{DATE}\n)*+", re.ASCII)
_DATE = re.compile(rf"({DATE}) ?(?:Z|([+-])(\d\d):?(\d\d))?", re.ASCII)

TOKENS = f"a whole number of tokens from 1 to {MOST_TOKENS}"
DATE_AND_TIME = "a date and time such as 2023-11-16 18:15:46.68"


def time_requirement(unit: str) -> str:
    """What a time must be that is a number in a unit.

    >>> time_requirement("s")
    'a finite number of seconds, at most 1e12 in size'
    """
    return f"a finite number of {UNIT_NAMES[unit]}, at most {LATEST * UNITS[unit]:g} in size".replace("e+", "e")


def numbers(column: Column) -> Floats:
    """The values as floats; NaN where a value is not a number."""
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
    """Times in seconds, read from numbers in a unit of 1 / `per_second` s; NaN where a value is not such a number."""
    times = numbers(column) / per_second
    return np.where(np.abs(times) <= LATEST, times, np.nan)


def whole_numbers(column: Column) -> Ints | None:
    """The values as integers, exact where a float is not; None where one of them is no integer of 63 bits."""
    if set(map(type, column)) <= {str} and not (_ascii(text := "".join(column)) and text.isdigit()):
        return None
    if not set(map(type, column)) <= {int, str}:
        return None
    try:
        return np.array([int(each) for each in column], dtype=np.int64)
    except (ValueError, OverflowError):
        return None


def spans(column: Column, unit: str) -> Floats:
    """Lengths of time in seconds, read from numbers in a unit of `UNITS`; NaN where a value is none."""
    found = numbers(column) / UNITS[unit]
    return np.where((found >= 0) & (found <= LATEST), found, np.nan)


def between(column: Column, start: Column | None, unit: str) -> Floats:
    """Seconds from `start` to the moments of a column, negative where before, both dates or both numbers in a unit; NaN
    where one is none.
    """
    if start is None:
        return np.full(len(column), np.nan)
    later, sooner = dates(column), dates(start)
    if not np.isnat(sooner).all():
        return np.where(np.isnat(later) | np.isnat(sooner), np.nan, (later - sooner).astype(np.float64) / 1e9)
    exact = whole_numbers(column), whole_numbers(start)
    passed = ((exact[0] - exact[1]) if exact[0] is not None and exact[1] is not None
              else numbers(column) - numbers(start))
    return passed / UNITS[unit]


def dates(column: Column) -> Dates:
    """Times in ns since 1970, read from dates with a time of day; NaT where a value is not such a date."""
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
    return kinds <= {int, float} or (kinds == {str} and _ascii("".join(column)))


def _ascii(text: str) -> bool:
    """Whether the text has nothing that only Python reads as part of a number: 1_000, digits of other scripts."""
    return "_" not in text and text.isascii()


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return np.nan
    if isinstance(value, str) and not _ascii(value):
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
        local_time = np.datetime64(local, "ns")
    except ValueError:
        return np.datetime64("NaT")
    offset = 60 * int(hours or 0) + int(minutes or 0)
    return local_time - np.timedelta64(-offset if sign == "-" else offset, "m")
