"""What unknown output lengths cost under look-ahead admission, beside windows that promise the same.

    python benchmarks/look_ahead.py [--trace FILE] [--iterations 1000000] [--seed 1] [--blocks]

Four length laws: the chat-like pairs of `benchmarks/unknown_lengths.py` cut by rejection, prompts of 58 tokens with
geometric outputs of mean 147, 512 + 1000 tokens with outputs spread evenly over 500 to 1,500, and the length pairs of a
trace where one is given. C = 137,000 tokens, d0 = 10.6 ms, d1 = 0.4013 us; KV above C with probability at most 1e-3 in
so many iterations. Requests arrive at 1.3 times the fluid limit, so that somebody always waits; `carried` is what then
enters per second from a tenth of the run on, `above C` the iterations with more KV than C, both with the designs'
own `fluid statement` and what is `proved` of it, as shares of the fluid limit. `us` is the time of a simulated
iteration; with --blocks the replica has cache blocks of 16 tokens.

Exit status 1 if look-ahead admission carries less than 98% of the fluid limit, or overflows.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from unknown_lengths import PROBABILITY, REPLICA, chat_lengths

from fluid import Replica, Workload, read_trace, solve
from fluid.arrays import Ints
from thresholds import LookAheadDesign, UnknownPacedDesign, look_ahead, paced
from verification import Run, simulate

CROWD, KEPT = 1.3, 0.98


def laws(pairs: int, seed: int, trace: Path | None) -> dict[str, tuple[Ints, Ints]]:
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


def report(name: str, lengths: tuple[Ints, Ints], replica: Replica, iterations: float, seed: int) -> bool:
    """Print the rows of a law; return whether look-ahead admission does what it should."""
    pairs, counts = np.unique(np.stack(lengths), axis=1, return_counts=True)
    workload = Workload.from_arrays(*pairs, counts / counts.sum())
    edge = solve(workload, replica).max_rate_scale
    horizon = iterations * float(replica.iteration_time.overheads.max())
    designs = (paced(workload, replica, lengths="unknown", horizon=horizon, overflow_probability=PROBABILITY),
               look_ahead(workload, replica, horizon=horizon, overflow_probability=PROBABILITY))
    kept = True
    for design in designs:
        started = time.perf_counter()
        run = saturated(design, workload.scaled(CROWD * edge), replica, iterations, seed)
        seconds, share = time.perf_counter() - started, carried(run) / edge
        proved = f"{design.proved_rate_scale / edge:7.1%}" if isinstance(design, LookAheadDesign) else "      -"
        print(f"{name:20} {design.name:11} {design.fluid_share:9.2%} {proved} {share:9.2%} {run.overflows:8} "
              f"{run.kv_peak / replica.kv_capacity:8.1%} {run.iterations:10,} {1e6 * seconds / run.iterations:6.1f}",
              flush=True)
        kept = kept and (isinstance(design, UnknownPacedDesign) or (share >= KEPT and run.overflows == 0))
    return kept


def saturated(design: UnknownPacedDesign | LookAheadDesign, crowd: Workload, replica: Replica, iterations: float,
              seed: int) -> Run:
    """A run in which somebody always waits."""
    return simulate(design, crowd, replica, horizon=iterations * (design.iteration_time or 0.0), seed=seed)


def carried(run: Run) -> float:
    """Requests that entered per second from a tenth of the run on."""
    entered = run.admitted[run.admitted >= run.end_time / 10]
    return len(entered) / (0.9 * run.end_time)


def main() -> int:
    """Report all laws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--iterations", type=float, default=1e6)
    parser.add_argument("--pairs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blocks", action="store_true")
    given = parser.parse_args()
    replica = replace(REPLICA, block=16) if given.blocks else REPLICA
    print(f"{'lengths':20} {'policy':11} {'statement':>9} {'proved':>7} {'carried':>9} {'above C':>8} {'KV peak':>8} "
          f"{'iterations':>10} {'us':>6}")
    kept = [report(name, lengths, replica, given.iterations, given.seed)
            for name, lengths in laws(given.pairs, given.seed, given.trace).items()]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
