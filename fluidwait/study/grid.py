"""The cells of a sweep: every rate with every policy, ordered by rate, then policy.

Rates are written as numbers and as ranges start:stop:step, separated by commas; a range goes on while it does not pass
stop, which it includes. It counts in decimals, so that 0.1:0.5:0.1 holds 0.3 and ends with 0.5. Loads, shares of the
edge, are written alike; the edge is the largest rate of the mix in the fluid model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import NamedTuple

from fluid.errors import InputError, number_meant, within
from fluidwait.deployment.policy_names import BASELINES, DESIGNED, known

POLICIES = "--policies"
MOST_RATES = 10_000


class Axis(NamedTuple):
    """A flag that says at which rates: its name, how it is written, its unit, from where to where it may go."""

    flag: str
    syntax: str
    unit: str
    least: float
    most: float


RATES = Axis("--rates", "rates in requests/s such as 5,10,20 or start:stop:step", "requests/s", 1e-9, 1e12)
LOADS = Axis("--loads", "shares of the edge such as 0.7,0.9,0.98 or start:stop:step", "times the edge", 1e-6, 100.0)


class Cell(NamedTuple):
    """One total rate (requests/s) and one policy."""

    rate: float
    policy: str


@dataclass(frozen=True)
class Grid:
    """Rates and names of policies, each sorted and there once.

    >>> Grid.read("0.1:0.3:0.1,5", "paced,greedy").rates
    (0.1, 0.2, 0.3, 5.0)
    """

    rates: tuple[float, ...]
    policies: tuple[str, ...]

    @classmethod
    def read(cls, rates: str, policies: str, axis: Axis = RATES) -> Grid:
        """The grid of the flags --rates, or --loads, and --policies; raises an error that names the flag.

        Of --loads the rates are shares, until they are times the edge (`at`).
        """
        names = {_policy(name.strip()) for name in policies.split(",")}
        return cls(rates_of(rates, axis), tuple(sorted(names)))

    def at(self, edge: float) -> Grid:
        """The grid whose rates are these times the edge, requests/s; raises InputError where there is none."""
        if not 0 < edge < math.inf:
            raise InputError(LOADS.flag, "given for a mix that has a largest rate", edge)
        return Grid(tuple(share * edge for share in self.rates), self.policies)

    @property
    def cells(self) -> list[Cell]:
        """Every rate with every policy."""
        return [Cell(*pair) for pair in product(self.rates, self.policies)]


def rates_of(rates: str, axis: Axis = RATES) -> tuple[float, ...]:
    """The rates of a flag, sorted and there once.

    >>> rates_of("5,1:3:1")
    (1.0, 2.0, 3.0, 5.0)
    """
    values = {rate for item in rates.split(",") for rate in _item(item.strip(), rates, axis)}
    if len(values) > MOST_RATES:
        raise InputError(axis.flag, f"at most {MOST_RATES:,} rates", rates)
    return tuple(sorted(values))


def _policy(name: str) -> str:
    try:
        return known(POLICIES, name, (*DESIGNED, *BASELINES))
    except InputError as error:
        raise InputError(POLICIES, error.requirement, name, guess=_commas(name) or error.guess) from None


def _commas(text: str) -> str:
    return "several stand with commas between them" if re.search(r"[^,;|\s][;|\s]+[^,;|\s]", text) else ""


def _item(item: str, text: str, axis: Axis) -> Iterator[float]:
    """The rates of a number or a range; `text` is the whole flag, for messages."""
    numbers = [_number(part, text, axis) for part in item.split(":")]
    if len(numbers) == 1:
        yield numbers[0]
        return
    if len(numbers) != 3:
        raise InputError(axis.flag, axis.syntax, text)
    start, stop, step = numbers
    if stop < start:
        raise InputError(axis.flag, "a range that starts at or below its stop", text)
    if (stop - start) / step > MOST_RATES:
        raise InputError(axis.flag, f"at most {MOST_RATES:,} rates", text)
    first, last, by = (Decimal(repr(number)) for number in numbers)
    for i in range(int((last - first) / by) + 1):
        yield float(first + i * by)


def _number(part: str, text: str, axis: Axis) -> float:
    try:
        number = float(part)
    except ValueError:
        raise InputError(axis.flag, axis.syntax, text, guess=_commas(text) or number_meant(part)) from None
    return within(axis.flag, number, axis.least, axis.most, unit=axis.unit)
