"""The unit of the arrival times of a file: stated, read off, or asked for, never guessed in silence.

A number may be of seconds, milliseconds, microseconds or nanoseconds. In this order it is settled by: the user; the
format, where all its files have one unit; the name of the column (`arrival_time_ns`); what a format usually has, or
seconds. The last is a guess, and is not taken where what it makes of the times is not to be believed:

    a fraction of a millisecond                                      (nobody stamps arrivals so; seconds have fractions)
    more than 1500 requests/s, or less than one an hour              over the whole file
    a trace of more than ten years, or times beyond 10^12 s

Then the file is refused in one line with what the other units make of it, and the flag that settles it. Dates have no
unit. Benchmarks state theirs; where one sent more than 1500 requests/s it sent them at once, and that is no traffic.
"""

from __future__ import annotations

import numpy as np

from fluid.arrays import Floats
from fluid.errors import FileError, shown
from fluid.traces.fields import (
    DATE_AND_TIME,
    LATEST,
    UNIT_NAMES,
    UNITS,
    Column,
    Dates,
    dates,
    numbers,
    seconds,
    time_requirement,
    whole_numbers,
)
from fluid.traces.formats.format import Format, ReadAs

MOST_RATE = 1500.0  # requests/s that are believed of times whose unit is a guess
FEWEST = 5  # requests, of which a rate is looked at
LONGEST_GAP = 3600.0  # seconds between requests, on average
LONGEST = 10 * 365.25 * 86_400.0  # seconds
EXACT = 2.0**53  # the integers up to which are floats
BENCHMARKS = ("vllm", "sglang", "aiperf", "guidellm")


class Times:
    """Reads the times of a file: as dates or as numbers, whichever the first that can be read is."""

    def __init__(self, found: Format, asked: str | None, source: str) -> None:
        self._format, self._source, self._asked = found, source, asked is not None
        self.unit = asked or found.unit
        self.dated: bool | None = None  # unknown until a time can be read
        self._fraction: float | None = None  # the first time that is no whole number of milliseconds
        self._from: int | None = None  # where times are counted from

    def read(self, column: Column) -> Floats | Dates:
        """The times in seconds or as dates; NaN or NaT where one cannot be used."""
        if self.dated is None:
            dated, numeric = ~np.isnat(dates(column)), ~np.isnan(seconds(column, UNITS[self.unit]))
            first = np.flatnonzero(dated | numeric)[:1]
            self.dated = bool(dated[first[0]]) if first.size else None
            if self.dated is None:
                self._refuse_beyond(column)
        if self.dated:
            return dates(column)
        found = self._seconds(column)
        if self._guessed and self.unit == "ms" and self._fraction is None:
            given = numbers(column)
            odd = np.flatnonzero(np.isfinite(given) & (given != np.floor(given)))[:1]
            self._fraction = float(given[odd[0]]) if odd.size else None
        return found

    def _seconds(self, column: Column) -> Floats:
        """The times in seconds; from the first of the file where they are integers that no float holds exactly."""
        found = seconds(column, UNITS[self.unit])
        exact = whole_numbers(column) if found.size and abs(found[0]) * UNITS[self.unit] > EXACT else None
        if self._from is None:
            self._from = int(exact[0]) if exact is not None else 0
        if exact is None or not self._from:
            return found - self._from / UNITS[self.unit]
        return np.where(np.isnan(found), np.nan, (exact - self._from) / UNITS[self.unit])

    @property
    def requirement(self) -> str:
        """What a time must be in this file."""
        number = time_requirement(self.unit)
        return {None: f"{number}, or {DATE_AND_TIME}", True: DATE_AND_TIME, False: number}[self.dated]

    def check(self, times: Floats | None) -> None:
        """Raise FileError where the unit is a guess, and what it makes of the times is not to be believed."""
        if times is None or not self._guessed or times[-1] < 1e-9:
            return
        rate = len(times) / times[-1]
        if self._fraction is not None:
            self._ask(f"{self._fraction:g} is a fraction", times)
        if len(times) >= FEWEST and rate > MOST_RATE:
            self._ask(f"{rate:,.4g} requests/s are not to be believed", times)
        if times[-1] > LONGEST or (len(times) >= FEWEST and times[-1] / len(times) > LONGEST_GAP):
            self._ask(f"{rate:.3g} requests/s over {times[-1] / 86_400:,.4g} days are not to be believed", times)

    def burst(self, times: Floats | None) -> str:
        """Why a benchmark's times are no traffic, where its requests were sent at once; "" elsewhere."""
        if times is None or self._format.name not in BENCHMARKS or len(times) < 2:
            return ""
        if times[-1] > 0 and len(times) / times[-1] <= MOST_RATE:
            return ""
        return f"all {len(times):,} requests were sent within {times[-1]:.3g} s, so no traffic rate is in the file"

    def read_as(self, timed: bool) -> ReadAs:
        """What the file was read as."""
        columns = self._format.columns
        if not timed:
            return ReadAs(columns.prompt, columns.output, None, None)
        if self.dated:
            return ReadAs(columns.prompt, columns.output, columns.time, "date", "with a time of day")
        why = ("as asked" if self._asked else "as its name says" if self._format.name == "columns" and self._format.sure
               else f"as the format {self._format.name} has them" if self._format.sure or self.unit != "s"
               else "which is assumed: --time-unit s, ms, us or ns says so")
        return ReadAs(columns.prompt, columns.output, columns.time, self.unit, why)

    @property
    def _guessed(self) -> bool:
        return not (self._asked or self._format.sure or self.dated)

    def _refuse_beyond(self, column: Column) -> None:
        """Raise FileError where all times are numbers too large for the unit, which is a guess."""
        given = numbers(column)
        if self._guessed and given.size and np.all(np.isfinite(given) & (np.abs(given) / UNITS[self.unit] > LATEST)):
            raise FileError(self._source, "", self._question(f"{shown(column[0])} is too large for {self.unit}"))

    def _ask(self, why: str, times: Floats) -> None:
        rates = {unit: len(times) / times[-1] * UNITS[unit] / UNITS[self.unit] for unit in UNITS}
        others = ", ".join(f"{rate:.3g} in {unit}" for unit, rate in rates.items() if 1e-4 <= rate <= 1e5)
        raise FileError(self._source, "", self._question(f"{why} in {self.unit}" + (
            f"; requests/s would be {others}" if others else "")))

    def _question(self, why: str) -> str:
        return (f"does not say in which unit {self._format.columns.time} is ({why}): say --time-unit "
                f"{', '.join(list(UNIT_NAMES)[:-1])} or ns")
