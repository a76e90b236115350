"""What unknown output lengths cost under look-ahead admission, beside windows that promise the same.

    python benchmarks/look_ahead.py [--trace FILE] [--iterations 1000000] [--seed 1] [--block 16] [--delays]

Four length laws: the chat-like pairs of `benchmarks/unknown_lengths.py` cut by rejection, prompts of 58 tokens with
geometric outputs of mean 147, 512 tokens with outputs spread evenly over 500 to 1,500, and the length pairs of a trace
where one is given. C = 137,000 tokens, d0 = 10.6 ms, d1 = 0.4013 us; KV above C with probability at most 1e-3 in so
many iterations. `proved` is what the design is proved to carry, `expected` what it does by the fluid model (of windows
the same), as shares of the fluid limit. Then requests arrive at 1.3 times that limit, so that somebody always waits:
`carried` is what enters per second from a tenth of the run on, `above C` the iterations with more KV than C, `us` the
processor time of a simulated iteration, that of drawing the arrivals included.

With --delays instead: mean latency and 99th percentile in seconds at shares of the fluid limit (10 runs of 20,000
requests, those that arrive between 30% and 80% of the time), beside greedy admission that recomputes and vLLM V1; ± is
half a 95% interval, `evicted` and `above C` are counts of all runs.

Exit status 1 if look-ahead admission carries less than the windows, or overflows.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from unknown_lengths import PROBABILITY, REPLICA, chat_lengths

from fluid import Replica, Workload, read_trace
from fluid.arrays import Ints
from thresholds import LookAheadDesign, UnknownPacedDesign, look_ahead, paced
from verification import Greedy, Run, VllmV1, simulate, t_interval
from verification.experiments.measures import Window, delays
from verification.policies import Policy

CROWD = 1.3
SHARES, REQUESTS, RUNS = (0.8, 0.9, 0.95, 0.98), 20_000, 10
Lengths = tuple[Ints, Ints]


def laws(pairs: int, seed: int, trace: Path | None) -> dict[str, Lengths]:
    """Prompt and output tokens of each length law."""
    rng = np.random.default_rng(seed)
    found = {
        "chat": chat_lengths("rejection", pairs, seed),
        "58 + geometric 147": (np.full(pairs, 58), rng.geometric(1 / 147, pairs)),
        "512 + 500 to 1,500": (np.full(pairs, 512), rng.integers(500, 1501, pairs)),
    }
    if trace is not None:
        read = read_trace(trace)
        found[trace.stem] = read.prompt_tokens, read.output_tokens
    return found


def designed(lengths: Lengths, replica: Replica, iterations: float) -> tuple[UnknownPacedDesign, LookAheadDesign]:
    """Windows and look-ahead admission with the same promise, each pair of a law as likely as it is frequent."""
    pairs, counts = np.unique(np.stack(lengths), axis=1, return_counts=True)
    workload = Workload.from_arrays(*pairs, counts / counts.sum())
    horizon = iterations * float(replica.iteration_time.overheads.max())
    windows = paced(workload, replica, lengths="unknown", horizon=horizon, overflow_probability=PROBABILITY)
    assert isinstance(windows, UnknownPacedDesign)
    return windows, look_ahead(workload, replica, horizon=horizon, overflow_probability=PROBABILITY)


def report(name: str, lengths: Lengths, replica: Replica, iterations: float, seed: int) -> bool:
    """Print the rows of a law; return whether look-ahead admission does what it should."""
    found = {}
    for design in designed(lengths, replica, iterations):
        edge = design.equilibrium.max_rate_scale
        started = time.process_time()
        run = saturated(design, design.equilibrium.workload.scaled(CROWD * edge), replica, iterations, seed)
        seconds = time.process_time() - started
        found[design.name] = carried(run) / edge, run.overflows
        expected = design.expected_rate_scale if isinstance(design, LookAheadDesign) else design.max_rate_scale
        share = found[design.name][0]
        print(f"{name:20} {design.name:11} {design.fluid_share:9.2%} {expected / edge:9.2%} {share:9.2%} "
              f"{run.overflows:8} {run.kv_peak / replica.kv_capacity:8.1%} {run.iterations:10,} "
              f"{1e6 * seconds / run.iterations:6.1f}", flush=True)
    return found["look-ahead"][0] >= found["paced"][0] and found["look-ahead"][1] == 0


def saturated(design: UnknownPacedDesign | LookAheadDesign, crowd: Workload, replica: Replica, iterations: float,
              seed: int) -> Run:
    """A run in which somebody always waits."""
    return simulate(design, crowd, replica, horizon=iterations * (design.iteration_time or 0.0), seed=seed)


def carried(run: Run) -> float:
    """Requests that entered per second from a tenth of the run on."""
    return float(np.count_nonzero(run.admitted >= run.end_time / 10)) / (0.9 * run.end_time)


def report_delays(name: str, lengths: Lengths, replica: Replica, iterations: float) -> None:
    """Print mean latency and 99th percentile at each share of the fluid limit."""
    windows, ahead = designed(lengths, replica, iterations)
    policies: dict[str, Policy] = {"greedy": Greedy(eviction="recompute"), VllmV1.name: VllmV1(), "paced": windows,
                                   "look-ahead": ahead}
    for share in SHARES:
        workload = ahead.equilibrium.workload.scaled(share * ahead.equilibrium.max_rate_scale)
        for label, policy in policies.items():
            runs = [_delays(policy, workload, replica, seed) for seed in range(RUNS)]
            mean, tail = (t_interval([each[i] for each in runs]) for i in range(2))
            print(f"{name:20} {share:4.0%} {label:11} {mean.mean:8.3f} ± {(mean.high - mean.low) / 2:6.3f}  "
                  f"{tail.mean:8.3f} ± {(tail.high - tail.low) / 2:6.3f}  {sum(each[2] for each in runs):8.0f} "
                  f"{sum(each[3] for each in runs):8.0f}", flush=True)


def _delays(policy: Policy, workload: Workload, replica: Replica, seed: int) -> tuple[float, float, int, int]:
    horizon = REQUESTS / workload.rate
    run = simulate(policy, workload, replica, horizon=horizon, seed=seed)
    found = delays(run, Window(0.3 * horizon, horizon, 0.8 * horizon))
    return found.latency, found.latency_p99, run.evictions, run.overflows


def main() -> int:
    """Report all laws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--iterations", type=float, default=1e6)
    parser.add_argument("--pairs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--block", type=int, default=1)
    parser.add_argument("--delays", action="store_true")
    given = parser.parse_args()
    replica, found = replace(REPLICA, block=given.block), laws(given.pairs, given.seed, given.trace)
    if given.delays:
        print(f"{'lengths':20} {'load':4} {'policy':11} {'latency':>17}  {'p99':>17}  {'evicted':>8} {'above C':>8}")
        for name, lengths in found.items():
            report_delays(name, lengths, replica, given.iterations)
        return 0
    print(f"{'lengths':20} {'policy':11} {'proved':>9} {'expected':>9} {'carried':>9} {'above C':>8} {'KV peak':>8} "
          f"{'iterations':>10} {'us':>6}")
    kept = [report(name, lengths, replica, given.iterations, given.seed) for name, lengths in found.items()]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
