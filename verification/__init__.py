"""Simulation of LLM inference policies, and the statistics that verify them."""

from typing import TYPE_CHECKING

from fluid.loading import on_demand

if TYPE_CHECKING:
    from verification.asymptotics.experiment import HeavyTraffic, experiment, slope
    from verification.asymptotics.scaling import scaled
    from verification.experiments.capacity import Effort, capacity
    from verification.experiments.checks import Check
    from verification.experiments.invariants import invariants
    from verification.experiments.makespan import Makespan, makespan
    from verification.experiments.paired_difference import Difference, paired
    from verification.experiments.rate_search import Capacity
    from verification.experiments.replications import replicate
    from verification.experiments.stability import Verdict, judge
    from verification.experiments.targets.bounds import Bound, Goodput, Targets
    from verification.experiments.trials import Trial, Trials, try_out
    from verification.experiments.verification import Verification, verify
    from verification.policies import OwnRule
    from verification.rules.greedy import Greedy
    from verification.rules.memory_constrained.a_min import AMin
    from verification.rules.memory_constrained.clearing import Clearing
    from verification.rules.memory_constrained.mc_benchmark import MCBenchmark
    from verification.rules.memory_constrained.mcsf import MCSF
    from verification.rules.memory_constrained.protected import Protected
    from verification.rules.memory_constrained.sorted_f import SortedF
    from verification.rules.sarathi import Sarathi
    from verification.rules.vllm_v0 import VllmV0
    from verification.rules.vllm_v1 import VllmV1
    from verification.run import Gaps, Run, Timeline
    from verification.simulation import simulate
    from verification.statistics.batch_means import BatchMeans, batch_means
    from verification.statistics.intervals import Interval, positive_interval, t_interval
    from verification.statistics.percentiles import quantile_interval
    from verification.traffic.arrivals import Arrivals, poisson_arrivals
    from verification.traffic.batch import Batch
    from verification.traffic.bursts import GammaBursts, OnOff
    from verification.traffic.closed import ClosedLoop
    from verification.traffic.predicted_lengths import LogNormalError, Misclassified, Overestimate
    from verification.traffic.processes import Limited, Poisson, Predicted, Replay, Scheduled
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = [
    "MCSF",
    "AMin",
    "Arrivals",
    "Batch",
    "BatchMeans",
    "Bound",
    "Capacity",
    "Check",
    "Clearing",
    "ClosedLoop",
    "Difference",
    "Effort",
    "GammaBursts",
    "Gaps",
    "Goodput",
    "Greedy",
    "HeavyTraffic",
    "Interval",
    "Limited",
    "LogNormalError",
    "MCBenchmark",
    "Makespan",
    "Misclassified",
    "OnOff",
    "Overestimate",
    "OwnRule",
    "Poisson",
    "Predicted",
    "Protected",
    "Replay",
    "Run",
    "Sarathi",
    "Scheduled",
    "SortedF",
    "Targets",
    "Timeline",
    "Trial",
    "Trials",
    "Verdict",
    "Verification",
    "VllmV0",
    "VllmV1",
    "batch_means",
    "capacity",
    "experiment",
    "invariants",
    "judge",
    "makespan",
    "paired",
    "poisson_arrivals",
    "positive_interval",
    "quantile_interval",
    "replicate",
    "scaled",
    "simulate",
    "slope",
    "t_interval",
    "try_out",
    "verify",
]
