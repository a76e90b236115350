"""How far predicted delays are from simulated ones: (predicted - simulated)/simulated over a grid of loads.

Paced WAIT as `thresholds.paced` designs it, without and with its gate, and greedy admission, at loads that are shares
of the largest rate the windows carry. Means over independent replications, the first and last tenth of the requests
left out; the interval of the simulated latency is given beside its error.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from fluid import IterationTime, PromptType, Replica, Workload, solve
from thresholds import PacedPolicy, Prediction, predict, predict_continuous
from thresholds.paced_wait.known import design_known
from verification import Greedy, Run, replicate, t_interval
from verification.policies import Policy

FLUID = IterationTime(0.0106, 4.01e-7)
WITH_PREFILL = IterationTime(0.0101, 4.02e-7, 5.88e-5)
INSTANCES = {
    "512+20": ([PromptType(512, 20, 1.0)], FLUID),
    "512+1000": ([PromptType(512, 1000, 1.0)], FLUID),
    "58+147": ([PromptType(58, 147, 1.0)], FLUID),
    "three types": ([PromptType(512, 1000, 1.0), PromptType(100, 300, 3.0), PromptType(2000, 100, 2.0)], FLUID),
    "built-in mix": ([PromptType(64, 60, 45.0), PromptType(512, 40, 6.0), PromptType(256, 20, 10.0)], WITH_PREFILL),
    "2048+64, prefill": ([PromptType(2048, 64, 1.0)], WITH_PREFILL),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000, help="per replication")
    parser.add_argument("--replications", type=int, default=8)
    options = parser.parse_args()
    print(f"{'instance':18}{'load':>6}  {'policy':8}{'latency':>9}{'+-':>7}{'TTFT':>9}")
    for name, (types, time) in INSTANCES.items():
        replica = Replica(137_000, time)
        scale = design_known(Workload(types), replica).max_rate_scale
        for load in (0.5, 0.8, 0.9, 0.95):
            workload = Workload(types).scaled(load * scale)
            for label, policy, predicted in candidates(workload, replica):
                runs = replicate(policy, workload, replica, horizon=options.requests / workload.rate,
                                 replications=options.replications)
                row(name, load, label, predicted, runs)


def candidates(workload: Workload, replica: Replica) -> list[tuple[str, Policy, Prediction]]:
    """Each policy with its prediction."""
    design = design_known(workload, replica)
    found: list[tuple[str, Policy, Prediction]] = [
        (label, policy, predict(policy, workload, replica))
        for label, gate in (("paced", False), ("gated", True))
        for policy in [PacedPolicy(design.entries, design.iterations, gate)]
    ]
    return [*found, ("greedy", Greedy(0.0), predict_continuous(solve(workload, replica)))]


def row(name: str, load: float, label: str, predicted: Prediction, runs: list[Run]) -> None:
    """Print the errors of one cell."""
    latency = t_interval([middle(run.latency) for run in runs])
    ttft = t_interval([middle(run.ttft) for run in runs])
    half = (latency.high - latency.mean) / latency.mean
    evicted = sum(run.evictions for run in runs) / len(runs)
    remark = f"  {evicted:,.0f} evictions a run" if evicted else ""
    print(f"{name:18}{load:6.2f}  {label:8}{error(predicted.latency, latency.mean):>9}{half:7.1%}"
          f"{error(predicted.ttft, ttft.mean):>9}{remark}", flush=True)


def middle(values: np.ndarray) -> float:
    """Mean over the requests but the first and last tenth."""
    return float(np.nanmean(values[len(values) // 10: -len(values) // 10]))


def error(predicted: float, simulated: float) -> str:
    """Relative error of a prediction."""
    return f"{predicted / simulated - 1:+.1%}" if math.isfinite(predicted) else "infinite"


if __name__ == "__main__":
    main()
