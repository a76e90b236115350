"""The errors of fluidwait, and the checks that raise them.

    FluidwaitError
    +-- InputError (also a ValueError)      an argument or a flag that cannot be used
    +-- FileError (also a ValueError)       a file that cannot be used: `fluidwait.deployment.toml`

An answer of the mathematics ("overloaded", "infeasible") is a value with a reason, never an exception.
"""

from __future__ import annotations

import difflib
import math
import numbers
import re
import reprlib
from collections.abc import Iterable
from typing import Any


class FluidwaitError(Exception):
    """Anything fluidwait refuses or fails at, with a sentence a person can act on."""


class InputError(FluidwaitError, ValueError):
    """A value that cannot be used: which field, what it must be, what was found, where, and what was probably meant."""

    def __init__(self, field: str, requirement: str, value: Any, where: str = "", guess: str = "") -> None:
        self.field = field
        self.requirement = requirement
        self.value = value
        self.where = where
        self.guess = guess
        place = f" in {where}" if where else ""
        super().__init__(f"{field} must be {requirement} (got {shown(value)}){place}" + (f"; {guess}" if guess else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.field, self.requirement, self.value, self.where, self.guess)


class FileError(FluidwaitError, ValueError):
    """A file that cannot be used: `source` (the file), `key` (a path in it, "" for the whole file), `problem`."""

    def __init__(self, source: str, key: str, problem: str) -> None:
        self.source, self.key, self.problem = source, key, problem
        super().__init__(source, key, problem)

    def __str__(self) -> str:
        return one_line(f"{self.source}: {self.key} {self.problem}" if self.key else f"{self.source}: {self.problem}")


def one_line(text: str) -> str:
    """The text with everything that does not print, line ends included, written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: Any) -> str:
    """The value as an error message quotes it: one line, at most 80 characters."""
    try:
        text = " ".join(_BEGINNING.repr(value).split())
    except ValueError:  # Python refuses to write out integers of thousands of digits
        text = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


_BEGINNING = reprlib.Repr()  # of a representation, 80 characters and more: a value may have millions
for _limit in ("maxlevel", "maxtuple", "maxlist", "maxarray", "maxdict", "maxset", "maxfrozenset", "maxdeque"):
    setattr(_BEGINNING, _limit, 80)
_BEGINNING.maxstring = _BEGINNING.maxlong = _BEGINNING.maxother = 400


def real(field: str, value: Any, where: str = "", *, unit: str = "", zero: bool = False) -> float:
    """Return `value` as a finite float above 0, or 0 itself where `zero` is allowed."""
    requirement = f"a {'nonnegative' if zero else 'positive'} finite number" + (f" of {unit}" if unit else "")
    number = _number(field, requirement, value, where)
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise InputError(field, requirement, value, where)
    return number


def within(field: str, value: Any, least: float, most: float, where: str = "", *, unit: str) -> float:
    """Return `value` as a float in [least, most]: for numbers that people choose, and that others are made of."""
    requirement = f"a number of {unit} from {least:g} to {most:g}"
    number = _number(field, requirement, value, where)
    if not least <= number <= most:
        raise InputError(field, requirement, value, where)
    return number


def probability(field: str, value: Any, where: str = "") -> float:
    """Return `value` as a finite float above 0 and below 1."""
    requirement = "a probability above 0 and below 1"
    number = _number(field, requirement, value, where)
    if not 0 < number < 1:
        raise InputError(field, requirement, value, where, share_meant(number))
    return number


def whole(field: str, value: Any, where: str = "", *, unit: str, least: int = 1, most: int = 2**53) -> int:
    """Return `value` as an int in [least, most]; a float is taken only if it is a whole number."""
    requirement = f"a whole number of {unit} from {least} to {most}"
    number = value if type(value) is int else _number(field, requirement, value, where)
    if not least <= number <= most or number != math.floor(number):
        raise InputError(field, requirement, value, where)
    return int(number)


def _number(field: str, requirement: str, value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(field, requirement, value, where)
    try:
        return float(value)
    except OverflowError:
        raise InputError(field, requirement, value, where) from None


def one_of(field: str, value: Any, allowed: tuple[str, ...], where: str = "") -> str:
    """Return `value` if it is one of the names in `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        names = " or ".join(f'"{name}"' for name in allowed)
        raise InputError(field, names, value, where, did_you_mean(value, allowed))
    return value


def share_meant(value: Any) -> str:
    """The question whether a number that is no share of one is a percentage; "" where it is neither.

    >>> share_meant(90)
    'is 0.9 meant, which is 90%?'
    """
    percent = isinstance(value, int | float) and 2 <= value <= 100  # 1.5 may be anything
    return f"is {value / 100:g} meant, which is {value:g}%?" if percent else ""


def number_meant(text: str) -> str:
    """The question which number was meant by a text with separators, a decimal comma or a unit; "" where none shows.

    >>> number_meant("137,000"), number_meant("0,5"), number_meant("1.5 h")
    ('is 137000 meant?', 'is 0.5 meant?', 'is 5400 meant? Seconds stand without a unit')
    """
    text = text.strip()[:60]
    if re.fullmatch(r"[-+]?[1-9]\d{0,2}([,' ]\d{3})+(\.\d+)?", text, re.ASCII):
        return f"is {re.sub(r'[^-+.0-9]', '', text)} meant?"
    if re.fullmatch(r"[-+]?\d+,\d+", text, re.ASCII):
        return f"is {text.replace(',', '.')} meant?"
    found = re.fullmatch(r"([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?) ?((?![ex]\d*$)[A-Za-z%/].*)", text, re.ASCII)
    if found and found[2] in _SECONDS:
        return f"is {float(found[1]) * _SECONDS[found[2]]:.6g} meant? Seconds stand without a unit"
    return "numbers stand without a unit" if found else ""


_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0,
            "hours": 3600.0, "d": 86_400.0, "days": 86_400.0}


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """The question which of the known names was meant: those that begin with `name`, else the nearest; "" if none is.

    >>> did_you_mean("h100", ["a100-80gb", "h100-80gb", "h200"])
    'did you mean "h100-80gb"?'
    """
    short, names = name[:60] if isinstance(name, str) else "", list(known)
    near = [each for each in names if len(short) > 1 and each.lower().startswith(short.lower())][:3]
    near = near or difflib.get_close_matches(short, names, n=1)
    return "did you mean " + " or ".join(f'"{each}"' for each in near) + "?" if near else ""
