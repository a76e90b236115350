"""The discrete rounds of [J]: instances, policies, schedules with certificates, and what they cost in total latency."""

from verification.rounds.a_min import AMin
from verification.rounds.engine import play
from verification.rounds.feasibility import fits_at_completions, fits_every_round, fits_sorted, needed
from verification.rounds.instance import Instance
from verification.rounds.mc_sf import MCSF, MCBenchmark
from verification.rounds.protection import Clearing, Protected
from verification.rounds.schedule import Schedule, least_total_latency
from verification.rounds.sorted_f import SortedF
from verification.rounds.state import RoundPolicy
from verification.rounds.synthetic import all_at_once, over_time, overestimated, two_sided, underestimated

__all__ = [
    "MCSF",
    "AMin",
    "Clearing",
    "Instance",
    "MCBenchmark",
    "Protected",
    "RoundPolicy",
    "Schedule",
    "SortedF",
    "all_at_once",
    "fits_at_completions",
    "fits_every_round",
    "fits_sorted",
    "least_total_latency",
    "needed",
    "over_time",
    "overestimated",
    "play",
    "two_sided",
    "underestimated",
]


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
