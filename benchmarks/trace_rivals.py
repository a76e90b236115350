"""Rules of [J] and engines' own on a trace in continuous time: mean latency over a lower bound that holds for any rule.

    python benchmarks/trace_rivals.py TRACE [--shares 0.7,0.9,1.1] [--replications 10] [--requests 10000]

Llama-2-7B on an A100 with the iteration time of measured hardware (`fluid.hardware`). The requests of the trace, whole
and at once or drawn from it with Poisson arrivals at a share of the region's edge, are served until the last is done;
the bound is `verification.hindsight.fluid_bound`. Intervals are over replications (95%); the trace's own moments are
one path and have none. Predictions are wrong by a lognormal factor where the row says so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from fluid import Replica, Trace, Workload, read_trace, solve
from fluid.hardware.placement import replica_from_catalogue
from fluidwait.progress import counting
from verification import (
    MCSF,
    AMin,
    Arrivals,
    Greedy,
    LogNormalError,
    MCBenchmark,
    Protected,
    Replay,
    Sarathi,
    SortedF,
    VllmV0,
    VllmV1,
    poisson_arrivals,
    simulate,
    t_interval,
)
from verification.hindsight.fluid_bound import least_mean_latency
from verification.policies import Policy
from verification.traffic.predicted_lengths import seen_types

RULES: dict[str, tuple[Policy, float]] = {
    "MC-SF": (MCSF(), 0.0),
    "MC-SF, sigma 0.3": (MCSF(), 0.3),
    "MC-SF, sigma 1": (MCSF(), 1.0),
    "MC-Benchmark": (MCBenchmark(), 0.0),
    "Sorted-F": (SortedF(), 0.0),
    "Sorted-F, sigma 0.3": (SortedF(), 0.3),
    "A_min, bounds of one token": (AMin(bound=1), 0.0),
    "protection 0.2": (Protected(), 0.0),
    "vLLM V1": (VllmV1(), 0.0),
    "Sarathi": (Sarathi(), 0.0),
    "vLLM v0": (VllmV0(), 0.0),
    "greedy, restart": (Greedy(), 0.0),
}


def main() -> None:
    """Print a table of mean latency over the bound: a row for each rule, a column for each load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--shares", default="0.7,0.9,1.1", help="of the region's edge")
    parser.add_argument("--replications", type=int, default=10)
    parser.add_argument("--requests", type=int, default=10_000, help="of a replication")
    given = parser.parse_args()
    trace = read_trace(given.trace)
    weighted = float(trace.prompt_tokens @ trace.prompt_tokens / trace.prompt_tokens.sum())
    replica = replica_from_catalogue("llama-2-7b", "a100-80gb", prompt_tokens=weighted, block=16)
    edge = trace.rate * solve(trace.workload(), replica).max_rate_scale
    shares = [float(share) for share in given.shares.split(",")]
    print(f"edge {edge:.3f} requests/s, C = {replica.kv_capacity:,} tokens; mean latency over the lower bound")
    print("| rule |" + "".join(f" Poisson, {share:.0%} |" for share in shares)
          + "".join(f" its own moments, {share:.0%} |" for share in shares) + " all at once |")
    print("|---" * (2 + 2 * len(shares)) + "|")
    cells = [*((trace, share * edge, given.requests, r + 1) for share in shares for r in range(given.replications)),
             *((trace, share * edge, len(trace), 0) for share in shares), (trace, edge, 0, 0)]
    with counting("simulating") as progress:
        found = []
        for ratios in Parallel(n_jobs=-1, return_as="generator")(delayed(tried)(*cell, replica) for cell in cells):
            found.append(ratios)
            progress(len(found), len(cells))
    for name in RULES:
        column = np.array([ratios[name] for ratios in found])
        drawn, own = column[:len(shares) * given.replications].reshape(len(shares), -1), column[-len(shares) - 1:]
        texts = [f"{mean:.2f} [{low:.2f}, {high:.2f}]" for mean, low, high in map(t_interval, drawn)]
        print(f"| {name} | {' | '.join(texts + [f'{value:.2f}' for value in own])} |")


def tried(trace: Trace, rate: float, requests: int, replication: int, replica: Replica) -> dict[str, float]:
    """The ratio of each rule: Poisson arrivals for a replication, the trace's moments for 0, a crowd for 0 requests."""
    workload = trace.workload(rate)
    arrivals = arriving(trace, workload, requests, replication)
    bound = least_mean_latency(arrivals, workload, replica)
    return {name: float(simulate(rule, workload, replica, arrivals=seen(arrivals, workload, sigma, replication))
                        .latency.mean()) / bound for name, (rule, sigma) in RULES.items()}


def arriving(trace: Trace, workload: Workload, requests: int, replication: int) -> Arrivals:
    """Who comes when."""
    if replication:
        drawn = poisson_arrivals(workload, 1.2 * requests / workload.rate, np.random.default_rng(replication))
        return Arrivals(drawn.times[:requests], drawn.types[:requests])
    replayed = Replay(trace).draw(workload, len(trace) / workload.rate * (1 - 1e-12), 0, 0)
    return replayed if requests else Arrivals(np.zeros(len(replayed)), replayed.types)


def seen(arrivals: Arrivals, workload: Workload, sigma: float, replication: int) -> Arrivals:
    """What a rule that predicts takes the requests for."""
    if not sigma:
        return arrivals
    generator = np.random.default_rng([replication, 1])
    return Arrivals(arrivals.times, arrivals.types,
                    seen_types(workload, arrivals.types, LogNormalError(sigma), generator))


if __name__ == "__main__":
    main()
