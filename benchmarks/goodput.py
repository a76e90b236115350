"""The largest rate under goodput: the search of `fluidwait capacity` against brute force, on five workloads.

Brute force simulates every rate of a grid, 1% of the edge apart, with other seeds and as many replications; its answer
is the last rate up to which the share of good requests is at least what is asked, and the next one. The search should
end in an interval that meets this one. "asked" counts the rates simulated, with their doubled horizons as one.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from fluid import IterationTime, PromptType, Replica, Workload, solve
from verification import Effort, Goodput, Targets, VllmV1, capacity, verify

TIMES = IterationTime(0.0101, 4.02e-7, 5.88e-5, 1e-5)  # an A100 with Llama-2-7B, prefill and sequences included


@dataclass(frozen=True)
class Case:
    """A workload on a replica, what its requests must meet, and the share that must."""

    types: list[PromptType]
    replica: Replica
    conditions: str
    share: float


def _replica(**keywords: int) -> Replica:
    return Replica(119_488, TIMES, block=16, first_token="prefill", **keywords)


CASES = {
    "chat": Case([PromptType(512, 200, 1.0)], _replica(), "ttft<=0.5, tpot<=0.03", 0.99),
    "long outputs": Case([PromptType(512, 1000, 1.0)], _replica(), "ttft<=2, tpot<=0.05", 0.9),
    "long prompts": Case([PromptType(4000, 100, 1.0)], _replica(), "ttft<=3, tpot<=0.1", 0.95),
    "mix": Case([PromptType(100, 400, 4.0), PromptType(2000, 100, 1.0), PromptType(800, 20, 3.0)], _replica(),
                "ttft<=1, tpot<=0.06", 0.99),
    "32 sequences": Case([PromptType(300, 300, 1.0)], _replica(max_num_seqs=32), "latency<=8", 0.9),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--horizon", type=float, default=1800.0, help="seconds, of every simulation")
    parser.add_argument("--replications", type=int, default=10)
    options = parser.parse_args()
    print(f"{'workload':14}{'edge':>8}  {'search':>17}  {'brute force':>17}  {'asked':>6}  {'binds':8}  meet")
    for name, case in CASES.items():
        workload, targets = Workload(case.types), Targets(goodput=Goodput.read(case.conditions, case.share))
        edge = workload.rate * solve(workload, case.replica).max_rate_scale
        found = capacity(VllmV1(), workload, case.replica, bound=targets,
                         effort=Effort(options.horizon, options.replications))
        low, high = brute(case, workload, edge, options.horizon, options.replications)
        meet = found.low is not None and found.low <= high and low <= found.high
        print(f"{name:14}{edge:8.4g}  {found.low or 0:8.4g}{found.high:9.4g}  {low:8.4g}{high:9.4g}  "
              f"{len(found.probes):6}  {found.binds or 'edge':8}  {'yes' if meet else 'NO'}", flush=True)


def brute(case: Case, workload: Workload, edge: float, horizon: float, replications: int) -> tuple[float, float]:
    """The last rate of the grid up to which enough requests are good, and the next."""
    good = Targets(goodput=Goodput.read(case.conditions, case.share))
    last = 0.0
    for rate in edge * np.arange(0.2, 1.0, 0.01):
        found = verify(VllmV1(), workload.scaled(rate / workload.rate), case.replica, horizon=horizon,
                       replications=replications, seed=1, targets=good)
        if found.targets[0].measured.mean < case.share:
            return last, float(rate)
        last = float(rate)
    return last, edge


if __name__ == "__main__":
    main()
