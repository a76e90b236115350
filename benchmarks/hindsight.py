"""How far MC-SF is from the hindsight optimum on the instances of [J], and how far the bounds reach.

    python benchmarks/hindsight.py [--instances 4] [--seconds 60] [--model both] [--adversary]

For each instance of [J]'s two arrival models (`verification.rounds.synthetic`): the number of requests, M, the status
of `hindsight` within the limit, the cost of the best schedule found, the bound, their gap, the seconds taken, and the
total latency of MC-SF over the best schedule and over the bound. The ratio to the optimum lies between the two.
`--adversary` prints instead what the adversary does to MC-SF and MC-Benchmark as M grows, and the power of n by least
squares on the logarithms.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np

from verification.hindsight import against, hindsight
from verification.rounds import MCSF, Instance, MCBenchmark, all_at_once, over_time, play

MODELS: dict[str, Callable[[int], Instance]] = {"all at once": all_at_once, "over time": over_time}
MEMORIES = tuple(4**k for k in range(3, 9))


def table(asked: argparse.Namespace) -> Iterator[str]:
    """A line for each instance, then the means."""
    yield (f"{'instance':>15} {'n':>3} {'M':>3} {'status':>10} {'objective':>9} {'bound':>7} {'gap':>6} {'s':>6}  "
           "MC-SF over both")
    for name, drawn in MODELS.items():
        ratios = []
        if asked.model not in ("both", name):
            continue
        for seed in range(asked.instances):
            instance = drawn(seed)
            found = hindsight(instance, time_limit=asked.seconds)
            ratios.append((found.mc_sf / found.objective, found.mc_sf / found.bound))
            yield (f"{name:>12} {seed:>2} {len(instance):>3} {instance.memory:>3} {found.status:>10} "
                   f"{found.objective:>9,} {found.bound:>7,} {found.gap:>6.1%} {found.seconds:>6.1f}  "
                   f"{ratios[-1][0]:.3f} to {ratios[-1][1]:.3f}")
        low, high = np.mean(ratios, axis=0)
        yield f"{name:>12}, mean of {len(ratios)}: {low:.3f} to {high:.3f}"


def adversary() -> Iterator[str]:
    """Cost over that of the witness for each policy and M."""
    yield (f"{'policy':>14} {'M':>7} {'n':>7} {'cost':>12} {'witness':>9} {'ratio':>7} {'proved':>7} "
           f"{'ratio/sqrt n':>12}")
    for policy in (MCSF(), MCBenchmark()):
        losses = [against(lambda instance, policy=policy: play(policy, instance), memory) for memory in MEMORIES]
        sizes = np.array([len(loss.instance) for loss in losses])
        for n, loss in zip(sizes, losses, strict=True):
            yield (f"{policy.name:>14} {loss.instance.memory:>7,} {n:>7,} {loss.cost:>12,} "
                   f"{loss.witness.total_latency:>9,} {loss.ratio:>7.2f} {loss.proved:>7.2f} "
                   f"{loss.ratio / n**0.5:>12.3f}")
        power = np.polyfit(np.log(sizes), np.log([loss.ratio for loss in losses]), 1)[0]
        yield f"{policy.name:>14} grows as n^{power:.3f} over these sizes"


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold MC-SF against the hindsight optimum.")
    parser.add_argument("--instances", type=int, default=4, help="of each arrival model")
    parser.add_argument("--seconds", type=float, default=60.0, help="the limit for each instance")
    parser.add_argument("--model", choices=("both", *MODELS), default="both")
    parser.add_argument("--adversary", action="store_true", help="the growth of the loss instead")
    asked = parser.parse_args()
    for line in adversary() if asked.adversary else table(asked):
        print(line, flush=True)


if __name__ == "__main__":
    main()
