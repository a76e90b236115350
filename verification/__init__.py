"""Simulation of LLM inference policies, and the statistics that verify them."""

from verification.arrivals import Arrivals, poisson_arrivals
from verification.batches import BatchMeans, batch_means
from verification.capacity import Bound, Capacity, Effort, capacity
from verification.checks import Check
from verification.estimators import Interval, t_interval
from verification.invariants import invariants
from verification.paired import Difference, paired
from verification.percentiles import quantile_interval
from verification.predictions import LogNormalError, Misclassified, Overestimate
from verification.reference import OwnRule
from verification.replicate import replicate
from verification.rules.greedy import Greedy
from verification.rules.sarathi import Sarathi
from verification.rules.vllm_v0 import VllmV0
from verification.run import Run, Timeline
from verification.simulate import simulate
from verification.traffic import Poisson, Predicted, Replay, Scheduled
from verification.verdict import Verdict, judge
from verification.verify import Verification, verify

__all__ = [
    "Arrivals",
    "BatchMeans",
    "Bound",
    "Capacity",
    "Check",
    "Difference",
    "Effort",
    "Greedy",
    "Interval",
    "LogNormalError",
    "Misclassified",
    "Overestimate",
    "OwnRule",
    "Poisson",
    "Predicted",
    "Replay",
    "Run",
    "Sarathi",
    "Scheduled",
    "Timeline",
    "Verdict",
    "Verification",
    "VllmV0",
    "batch_means",
    "capacity",
    "invariants",
    "judge",
    "paired",
    "poisson_arrivals",
    "quantile_interval",
    "replicate",
    "simulate",
    "t_interval",
    "verify",
]
