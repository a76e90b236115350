"""What policies near the edge cost in energy: greedy, vLLM V1 as it comes, and windows, on the same arrivals.

    python benchmarks/energy.py [--replications 8] [--horizon 1800]

Llama-3.1-8B on an H100 by the catalogue (150,000 KV tokens in blocks of 16, 8,192 tokens an iteration), 512 + 1000
tokens, at shares of the fluid edge. Printed are joules an output token of the requests completed after the warm-up,
what evictions waste of it (`verification.lost_work`), the difference to windows on the same arrivals with its 95%
interval, and what the fluid model says, which wastes nothing. How far the power itself is off is in `power_law.py`.
"""

from __future__ import annotations

import argparse

from fluid import Equilibrium, PromptType, Replica, Workload, energy_at, solve
from thresholds import paced
from verification import Greedy, Verification, VllmV1, paired, verify

SHARES = (0.5, 0.8, 0.9, 0.95, 0.98)
REPLICA = Replica.of("llama-3.1-8b", "h100-80gb", kv_capacity=150_000, block=16, first_token="prefill",
                     max_num_batched_tokens=8192)
MIX = Workload([PromptType(512, 1000, 1.0)])


def shown(name: str, found: Verification, windows: Verification) -> str:
    """A policy's line."""
    half = found.joules.high - found.joules.mean
    more = paired(windows, found, "joules")
    beside = "" if found is windows else (f", {more.mean / windows.joules.mean:+.2%} ±"
                                          f"{(more.high - more.mean) / windows.joules.mean:.2%} of windows")
    return (f"  {name:10} {1e3 * found.joules.mean:6.2f} ±{1e3 * half:.2f} mJ, "
            f"{found.lost_joules.mean / found.joules.mean:6.2%} wasted in {found.evictions.mean:,.0f} evictions"
            f"{beside} ({found.verdict.answer})")


def at(equilibrium: Equilibrium, share: float, horizon: float, replications: int) -> None:
    """One share of the edge."""
    workload = MIX.scaled(share * equilibrium.max_rate_scale)
    energy = energy_at(solve(workload, REPLICA))
    assert energy is not None
    print(f"{share:.0%} of the edge, {workload.rate:.3f} requests/s: fluid {1e3 * energy.per_output_token:.2f} mJ an "
          f"output token, {energy.watts:.0f} W")
    policies = {"windows": paced(workload, REPLICA), "vllm-v1": VllmV1(8192), "greedy": Greedy(0.0)}
    found = {name: verify(policy, workload, REPLICA, horizon=horizon, replications=replications)
             for name, policy in policies.items()}
    for name, each in found.items():
        print(shown(name, each, found["windows"]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=8)
    parser.add_argument("--horizon", type=float, default=1800.0)
    given = parser.parse_args()
    equilibrium = solve(MIX, REPLICA)
    for share in SHARES:
        at(equilibrium, share, given.horizon, given.replications)


if __name__ == "__main__":
    main()
