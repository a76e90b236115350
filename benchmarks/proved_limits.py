"""How far apart what is proved to be carried and what is proved to be impossible are, on ten instances.

    python benchmarks/proved_limits.py [--simulate]

Six instances with one line of the iteration time and four with two. Columns, as factors on the rates of the instance:
the fluid limit; what is proved to be impossible for any policy at all, and for those that never recompute what they
evicted; what windows or WAIT are proved to carry; and its share of the third. With `--simulate` windows designed for
98% of what they are proved to carry run for 4,000 requests and for 16,000, so that the share still unfinished at the
end shows whether they keep up, and greedy admission that restarts runs at 102% of what is impossible for it.
"""

from __future__ import annotations

import argparse

from fluid import IterationTime, PromptType, Replica, Workload, solve
from thresholds import paced, reachable
from verification import Greedy, simulate
from verification.policies import Policy

A100 = IterationTime(0.0106, 4.013e-7)
# Llama-2-7B on an A100 as Vidur's predictor has it: max(10.1 ms, 8.9 ms + 58.5 us a token) + 0.255 us a KV token
VIDUR = IterationTime.largest(IterationTime(0.0101, 2.55e-7), IterationTime(0.0089, 2.55e-7, 58.5e-6, 58.5e-6))
APART = IterationTime.largest(IterationTime(0.01, 4e-7), IterationTime(0.01, 0.0, 1e-4))
LONG, SHORT = PromptType(512, 1000, 1.0), PromptType(512, 20, 20.0)
CHAT, READING = PromptType(100, 300, 4.0), PromptType(4000, 100, 1.0)
INSTANCES = {
    "1 + 1000, C = 1,001": (Workload([PromptType(1, 1000, 0.1)]), Replica(1_001, IterationTime(0.01, 0.0))),
    "512 + 1000, C = 2,268": (Workload([LONG]), Replica(2_268, A100)),
    "512 + 1000, C = 48,384": (Workload([LONG]), Replica(48_384, A100)),
    "512 + 1000, C = 137,000": (Workload([LONG]), Replica(137_000, A100)),
    "512 + 20, C = 137,000": (Workload([SHORT]), Replica(137_000, A100)),
    "512 + 1000 and 4000 + 100, C = 12,000": (Workload([LONG, READING]), Replica(12_000, A100)),
    "512 + 1000, two lines, C = 137,000": (Workload([LONG]), Replica(137_000, VIDUR)),
    "100 + 300 and 4000 + 100, two lines, C = 137,000": (Workload([CHAT, READING]), Replica(137_000, VIDUR)),
    "8000 + 5 and 1 + 200, lines apart, C = 500,000": (
        Workload([PromptType(8000, 5, 0.9), PromptType(1, 200, 100.0)]), Replica(500_000, APART)),
    "the same in chunks of 512": (
        Workload([PromptType(8000, 5, 0.9), PromptType(1, 200, 100.0)]), Replica(500_000, APART, 512)),
}
REQUESTS = 4000


def unfinished(policy: Policy, mix: Workload, replica: Replica, requests: int) -> float:
    """The share of the requests that arrive in the run and are not completed in it."""
    run = simulate(policy, mix, replica, horizon=requests / mix.rate, seed=1)
    return 1.0 - run.completed / len(run.latency)


def simulated(mix: Workload, replica: Replica, carried: float, impossible: float) -> str:
    """Unfinished shares of windows just below what is proved and of greedy admission just above."""
    below, above = mix.scaled(0.98 * carried), mix.scaled(1.02 * impossible)
    windows = paced(below, replica)
    pairs = [(windows, below), (Greedy(0.0, eviction="restart"), above)]
    shares = [[unfinished(policy, rates, replica, count) for count in (REQUESTS, 4 * REQUESTS)]
              for policy, rates in pairs]
    return "".join(f"{early:9.1%} to {late:6.1%}" for early, late in shares)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulate", action="store_true")
    options = parser.parse_args()
    print(f"{'instance':50}{'fluid':>8}{'any':>8}{'keeping':>9}{'carried':>9}{'share':>8}")
    for name, (mix, replica) in INSTANCES.items():
        found = solve(mix, replica)
        anyone, keeping = found.impossible.anyone.scale, found.impossible.keeping.scale
        carried = reachable(found).scale
        row = f"{name:50}{found.max_rate_scale:8.4f}{anyone:8.4f}{keeping:9.4f}{carried:9.4f}{carried / keeping:8.1%}"
        print(row + (simulated(mix, replica, carried, keeping) if options.simulate else ""), flush=True)


if __name__ == "__main__":
    main()
