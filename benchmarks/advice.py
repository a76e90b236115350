"""Whether the advice wins: the policy that `auto` chooses beside every other candidate, on the same arrivals.

    python benchmarks/advice.py [--data ../shared/data] [--replications 4]

Thirty instances: chat-like and long-prompt lengths, the Azure conversation trace where the data is, 512 + 20, 512 +
1000, a mix of short and one of long outputs, at 50% to 98% of the edge. One A100 in blocks of 16, a cap of 256
sequences, a budget of 8,192 tokens, prefills at 58.5 us a token. The choice is made as `fluidwait run` makes it, by the
short trial of `verification.experiments.trials`; then all candidates are simulated anew, on other arrivals and twice as
long. `mean` and `p99` say by how much the best of the others is better (0%: none is).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fluid import IterationTime, Replica, Workload, solve
from thresholds import auto
from verification import VllmV1, try_out
from verification.experiments.trials import MEAN_TOLERANCE, TAIL_TOLERANCE, Trials, flags, usual_horizon
from verification.policies import Policy

REPLICA = Replica(137_000, IterationTime(0.0106, 4.013e-7, 58.5e-6), block=16, first_token="prefill",
                  max_num_seqs=256, max_num_batched_tokens=8192)
SHARES = {"512 + 20": (0.5, 0.8, 0.9, 0.95, 0.98), "512 + 1000": (0.5, 0.8, 0.9, 0.95, 0.98),
          "short mix": (0.5, 0.8, 0.9, 0.98), "long mix": (0.8, 0.9, 0.95, 0.98), "chat-like": (0.5, 0.8, 0.95, 0.98),
          "long prompts": (0.5, 0.8, 0.9, 0.95), "Azure conversations": (0.8, 0.9, 0.95, 0.98)}
PAIRS = 3000


def lengths(data: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Prompt and output tokens of each mix, shape (pairs, 2)."""
    rng = np.random.default_rng(1)

    def lognormal(median: float, sigma: float, least: float, most: float) -> np.ndarray:
        return np.clip(np.rint(rng.lognormal(np.log(median), sigma, PAIRS)), least, most)

    yield "512 + 20", np.array([[512, 20]])
    yield "512 + 1000", np.array([[512, 1000]])
    yield "short mix", np.array([[64, 60], [512, 40], [256, 20]])
    yield "long mix", np.array([[500, 800], [800, 1200], [100, 1500]])
    yield "chat-like", np.stack([lognormal(21, 1.42, 1, 500), lognormal(117, 0.67, 1, 500)], axis=1)
    yield "long prompts", np.stack([lognormal(3000, 0.6, 100, 12_000), lognormal(200, 0.5, 10, 1000)], axis=1)
    trace = data / "azure_conv.csv"
    if trace.exists():
        rows = np.loadtxt(trace, delimiter=",", skiprows=1, usecols=(1, 2), max_rows=2 * PAIRS)
        yield "Azure conversations", rows[(rows > 0).all(axis=1)]


def workload_of(pairs: np.ndarray) -> Workload:
    """Every pair of lengths a type, as likely as it is frequent."""
    types, count = np.unique(pairs.astype(np.int64), axis=0, return_counts=True)
    return Workload.from_arrays(*types.T, count / count.sum())


def designs(workload: Workload) -> list[Policy]:
    """The feasible designs that `auto` looks at; lengths are known where there are a few types."""
    seen = "known" if len(workload) <= 3 else "unknown"
    return [each for each in auto(workload, REPLICA, lengths=seen).candidates if each.feasible]


def excess(found: Trials, policy: Policy) -> tuple[float, float]:
    """By how much the best of the others is better in the mean and in the 99th percentile."""
    (mine,) = (each for each in found.all if each.policy == policy)
    others = [each for each in found.all if each is not mine]
    return tuple(getattr(mine, name).mean / min(getattr(each, name).mean for each in others) - 1
                 for name in ("latency", "latency_p99"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold the choice of auto against every other candidate.")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--replications", type=int, default=4, help="of the second look, on other arrivals")
    asked = parser.parse_args()
    print(f"{'lengths':>20} {'share':>6} {'chosen':>44} {'mean':>7} {'p99':>7}   engine as it comes: mean, p99")
    beaten, instances = 0, 0
    for name, pairs in lengths(asked.data):
        unit = workload_of(pairs)
        edge = solve(unit, REPLICA).max_rate_scale
        for share in SHARES[name]:
            mix = unit.scaled(share * edge)
            chosen = try_out(designs(mix), mix, REPLICA).best.policy
            again = try_out(designs(mix), mix, REPLICA, horizon=2 * usual_horizon(solve(mix, REPLICA)), seed=1,
                            replications=asked.replications, also=[chosen])
            mean, tail = excess(again, chosen)
            engine = excess(again, again.engine.policy)
            beaten += mean > MEAN_TOLERANCE or tail > TAIL_TOLERANCE
            instances += 1
            print(f"{name:>20} {share:6.0%} {said(chosen, again):>44} {max(mean, 0):7.1%} {max(tail, 0):7.1%}   "
                  f"{max(engine[0], 0):.1%}, {max(engine[1], 0):.1%}", flush=True)
    print(f"\nbeaten by more than {MEAN_TOLERANCE:.0%} in the mean or {TAIL_TOLERANCE:.0%} in the tail: "
          f"{beaten} of {instances}")


def said(policy: Policy, found: Trials) -> str:
    """A policy in a few words."""
    own = found.engine.policy
    if isinstance(policy, VllmV1) and isinstance(own, VllmV1):
        return flags(policy, own) or "the engine as it comes"
    return policy.name


if __name__ == "__main__":
    main()
