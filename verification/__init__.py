"""Simulation of LLM inference policies, and the statistics that verify them."""

from verification.arrivals import Arrivals, poisson_arrivals
from verification.capacity import Bound, Capacity, Effort, capacity
from verification.checks import Check
from verification.estimators import Interval, t_interval
from verification.replicate import replicate
from verification.rules.greedy import Greedy
from verification.run import Run, Timeline
from verification.simulate import simulate
from verification.traffic import Poisson, Replay, Scheduled
from verification.verdict import Verdict, judge
from verification.verify import Verification, verify

__all__ = [
    "Arrivals",
    "Bound",
    "Capacity",
    "Check",
    "Effort",
    "Greedy",
    "Interval",
    "Poisson",
    "Replay",
    "Run",
    "Scheduled",
    "Timeline",
    "Verdict",
    "Verification",
    "capacity",
    "judge",
    "poisson_arrivals",
    "replicate",
    "simulate",
    "t_interval",
    "verify",
]
