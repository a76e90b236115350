"""How often the KV cache overflows under designs that promise delta, and how much buffer simulation says is needed.

Nested WAIT and paced WAIT for unknown lengths are designed for delta and a horizon. Nested WAIT is simulated at its
load, paced WAIT at 2.6 times it (beyond the edge: its windows are then always full, the worst it allows). Beside the
share of runs whose KV exceeds what the design asks for (with its 95% Clopper-Pearson interval): the buffer of the
theorem and the tight one (nested WAIT has the theorem's only), the buffer that would have been enough for a share
1 - delta of the runs, and the mutant that has the base alone, no buffer. The base of nested WAIT counts every stage
full; where prompts leave inside segments it is not reached and the mutant never overflows. With the outputs "four
lengths", cut at exactly those, it is.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

import numpy as np
from joblib import Parallel, delayed

from fluid import IterationTime, Replica, Workload, solve
from thresholds import NestedDesign, UnknownPacedDesign, nested, paced
from verification import Run, simulate
from verification.statistics.intervals import least_probability

DELTA, HORIZON = 0.05, 600.0
REPLICA = Replica(137_000, IterationTime(0.0106, 4.013e-7))
LARGE = replace(REPLICA, kv_capacity=10_000_000)
FOUR = (50, 150, 300, 500)
DISTRIBUTIONS = {
    "lognormal": lambda rng, n: np.exp(rng.normal(math.log(147) - 0.32, 0.8, n)),
    "geometric": lambda rng, n: rng.geometric(1 / 147, n).astype(float),
    "uniform": lambda rng, n: rng.integers(1, 501, n).astype(float),
    "four lengths": lambda rng, n: rng.choice(FOUR, n, p=[0.4, 0.3, 0.2, 0.1]),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=400)
    options = parser.parse_args()
    print(f"delta = {DELTA} over {HORIZON:g} s, {options.runs} runs each; outputs cut at 500, prompts of 58 tokens")
    print(f"{'outputs':13}{'policy':8}{'base':>9}{'theorem':>9}{'tight':>9}{'needed':>9}{'overflows':>11}{'interval':>18}"
          f"{'no buffer':>11}")
    for name in DISTRIBUTIONS:
        workload = mix(name)
        cuts = FOUR if name == "four lengths" else None
        design = nested(workload, LARGE, horizon=HORIZON, overflow_probability=DELTA, boundaries=cuts)
        row(name, "nested", design, options.runs, 1.0)
        row(name, "paced", paced(workload, REPLICA, lengths="unknown", horizon=HORIZON, overflow_probability=DELTA),
            options.runs, 2.6)


def mix(name: str) -> Workload:
    """One type per output length from 1 to 500, at half the rate where the fluid fills the cache."""
    rng = np.random.default_rng(0)
    outputs = np.ceil(DISTRIBUTIONS[name](rng, 400_000)).astype(int)
    lengths, counts = np.unique(outputs[(outputs >= 1) & (outputs <= 500)], return_counts=True)
    shares = counts / counts.sum()
    workload = Workload.from_arrays(np.full(len(lengths), 58), lengths, shares)
    return workload.scaled(0.5 * solve(workload, REPLICA).max_rate_scale)


def row(name: str, label: str, design: NestedDesign | UnknownPacedDesign, runs: int, crowd: float) -> None:
    """Simulate a design with its buffer and without, and print what happened."""
    if design.kv_required is None or design.kv_base is None or not design.feasible:
        print(f"{name:13}{label:8}{design.reason}")
        return
    peaks = np.array([run.kv_peak for run in simulated(design, runs, crowd)])
    overflows = int(np.count_nonzero(peaks > design.kv_required))
    low, high = least_probability(overflows, runs, 0.975), 1 - least_probability(runs - overflows, runs, 0.975)
    mutant = np.count_nonzero(peaks > design.kv_base) / runs
    needed = float(np.quantile(peaks, 1 - DELTA)) - design.kv_base
    theorem = design.theorem.kv_required if isinstance(design, UnknownPacedDesign) and design.theorem else None
    print(f"{name:13}{label:8}{design.kv_base:9,.0f}{(theorem or design.kv_required) - design.kv_base:9,.0f}"
          f"{design.kv_required - design.kv_base:9,.0f}{needed:9,.0f}"
          f"{overflows / runs:11.3f}{f'{low:.3f} .. {high:.3f}':>18}{mutant:11.3f}", flush=True)


def simulated(design: NestedDesign | UnknownPacedDesign, runs: int, crowd: float) -> list[Run]:
    """Replications at `crowd` times the rates of the design."""
    workload, replica = design.equilibrium.workload.scaled(crowd), design.equilibrium.replica
    jobs = (delayed(simulate)(design, workload, replica, horizon=HORIZON, replication=r) for r in range(runs))
    found: list[Run] = Parallel(n_jobs=-1, backend="threading")(jobs)
    return found


if __name__ == "__main__":
    main()
