"""Numbers in the lines of logs: patterns that find them without going back, and what they must be.

Digits are ASCII ones, at most 15 of them before the point: what is counted stays a whole number as a float, and no
engine counts further. A pattern takes any number of digits, so that a number too long is told rather than not seen.
"""

from __future__ import annotations

from fluid.errors import shown

WHOLE, NUMBER = r"(\d++)", r"(\d++(?:\.\d*+)?+)"  # for patterns with re.ASCII
MOST_DIGITS = 15


class UnreadableError(Exception):
    """A number in a line that cannot be used: what, the requirement, what was found."""


def whole_number(name: str, digits: str, found: str = "") -> int:
    """The whole number that these digits are, "" none.

    >>> whole_number("#token", "16384")
    16384
    """
    if not 1 <= len(digits) <= MOST_DIGITS:
        raise UnreadableError(f"{name} must be a whole number of at most {MOST_DIGITS} digits (got "
                              f"{shown(found or digits)})")
    return int(digits)


def decimal(name: str, digits: str) -> float:
    """The number that these digits are, with a point or without.

    >>> decimal("gen throughput", "2520.18")
    2520.18
    """
    if len(digits.partition(".")[0]) > MOST_DIGITS:
        raise UnreadableError(f"{name} must be a number of at most {MOST_DIGITS} digits before the point (got "
                              f"{shown(digits)})")
    return float(digits)
