"""What unknown output lengths cost: the share of the fluid limit that one paced window keeps.

    python benchmarks/unknown_lengths.py [--pairs 200000] [--seed 1]

Chat-like lengths: prompts lognormal with mean 58 and median 21 tokens, outputs lognormal with mean 147 and median 117,
both cut at 500 by rejection or by clipping; the empirical distribution of so many seeded pairs. C = 137,000 tokens,
d0 = 10.6 ms, d1 = 0.4013 us. The KV may exceed C with probability at most 1e-3 over a million iterations, however
entries bunch. Two windows (N, g) stand side by side, each with the two bounds on it:

    theorem     the largest N/g that the block Chernoff bound allows (mathematics, section 4.7)
    tight       the largest N/g that any bound proved in `thresholds.paced_wait.tail_bounds` allows: the design

`share` is the largest total rate the window carries over that of the fluid limit, `base` the mean KV of a full window,
`required` the tokens that suffice with probability 1 - 1e-3, `buffer` their difference; `P` bounds the probability that
the KV exceeds C. The design is then simulated for a million iterations at 98% of the rate it carries and at 130% of it,
where every window is full. Exit status 1 if a design keeps less than 93% of the fluid limit or overflows.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from fluid import IterationTime, Replica, Workload, solve
from fluid.arrays import Ints
from thresholds.paced_wait.overflow import OverflowBound, overflow_problem
from thresholds.paced_wait.unknown import UnknownPacedDesign, paced_unknown
from verification import simulate

REPLICA = Replica(kv_capacity=137_000, iteration_time=IterationTime(overhead=0.0106, per_kv_token=4.013e-7))
MEAN_AND_MEDIAN = ((58, 21), (147, 117))
LONGEST = 500
HORIZON, PROBABILITY = 1e6 * 0.0106, 1e-3
KEPT = 0.93


def chat_lengths(cut: str, pairs: int, seed: int) -> tuple[Ints, Ints]:
    """Prompt and output tokens of seeded chat-like requests, cut at 500 by "rejection" or by "clipping"."""
    rng = np.random.default_rng(seed)
    drawn = np.stack([_lognormal(rng, mean, median, 2 * pairs) for mean, median in MEAN_AND_MEDIAN])
    if cut == "rejection":
        drawn = drawn[:, (drawn <= LONGEST).all(axis=0)]
    prompt, output = np.minimum(drawn, LONGEST)[:, :pairs]
    return prompt, output


def _lognormal(rng: np.random.Generator, mean: float, median: float, size: int) -> Ints:
    """Whole tokens, at least 1: median = e^m and mean = e^(m + s^2/2)."""
    tokens = rng.lognormal(np.log(median), np.sqrt(2 * np.log(mean / median)), size)
    return np.maximum(1, np.rint(tokens)).astype(np.int64)


def report(cut: str, pairs: int, seed: int) -> float:
    """Print both windows of one recipe; return the share that the design keeps."""
    prompt, output = chat_lengths(cut, pairs, seed)
    workload = Workload.from_arrays(prompt, output, np.full(prompt.size, 1.0 / prompt.size))
    equilibrium = solve(workload, REPLICA)
    print(f"{cut}: {prompt.size:,} pairs, means {prompt.mean():.1f} and {output.mean():.1f} tokens, KV work "
          f"{equilibrium.profile.kv_work.mean():,.0f}, fluid limit {equilibrium.max_rate_scale:.2f} requests/s")
    problem = overflow_problem(equilibrium, horizon=HORIZON, overflow_probability=PROBABILITY)
    design = paced_unknown(workload, REPLICA, horizon=HORIZON, overflow_probability=PROBABILITY)
    entries, g = problem.theorem_pair
    bounds = problem.theorem(entries, g), problem.tight(entries, g)
    _print_window("theorem", UnknownPacedDesign((entries,), (g,), equilibrium=equilibrium, theorem=bounds[0],
                                                tight=bounds[1]))
    _print_window("tight", design)
    overflows = sum(_simulated(design, workload, load) for load in (0.98, 1.3))
    return design.fluid_share if not overflows else 0.0


def _simulated(design: UnknownPacedDesign, workload: Workload, load: float) -> int:
    """Iterations above C in a million of them."""
    crowd = workload.scaled(load * design.max_rate_scale)
    seconds = 1e6 * (design.iteration_time or 0.0)
    run = simulate(design, crowd, REPLICA, horizon=seconds, seed=1)
    print(f"  simulated at {load:.0%} of that rate: {run.iterations:,} iterations, {len(run.arrivals):,} requests, "
          f"KV peak {run.kv_peak:,}, {run.overflows} iterations above C")
    return run.overflows


def _print_window(name: str, design: UnknownPacedDesign) -> None:
    print(f"  {name:8} N = {design.entries[0]}, g = {design.iterations[0]}: share {design.fluid_share:.2%}, "
          f"{design.max_rate_scale:.2f} requests/s, base {design.kv_base:,.0f}")
    for bound in (design.theorem, design.tight):
        if bound is not None:
            _print_bound(bound, design.kv_base or 0.0)


def _print_bound(bound: OverflowBound, base: float) -> None:
    print(f"    P <= {bound.overflow_probability:8.2e}  required {bound.kv_required:9,.0f}  buffer "
          f"{bound.kv_required - base:8,.0f}  {bound.method}, one term for every {bound.window} iterations")


def main() -> int:
    """Report both recipes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    kept = [report(cut, arguments.pairs, arguments.seed) for cut in ("rejection", "clipping")]
    return 0 if min(kept) >= KEPT else 1


if __name__ == "__main__":
    sys.exit(main())
