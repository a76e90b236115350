"""The discrete rounds of [J]: instances and the laws they are drawn from."""

from verification.rounds.instance import Instance
from verification.rounds.synthetic import all_at_once, over_time, overestimated, two_sided, underestimated

__all__ = [
    "Instance",
    "all_at_once",
    "over_time",
    "overestimated",
    "two_sided",
    "underestimated",
]
