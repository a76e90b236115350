"""What eviction costs: vLLM V1 as engines run it, its watermarks, windows, and the paper's eviction that restarts.

    python benchmarks/eviction.py [--replications 10]

512 + 1000 tokens on C = 137,000 in blocks of 16, at most 256 sequences and 8,192 tokens an iteration, d0 = 10.6 ms,
d1 = 0.401 us, without prefill cost and with 58.5 us a token (a smaller edge, of which the shares are). Printed are

    at 98% of the edge, 2,000 s    share completed, latency, 99th percentile, preemptions a run; 95% intervals. Windows
                                   never preempt in our simulation; iterations above C are counted beside. (2, 15), a
                                   design for blocks of one token, passes C here; (3, 23) is the one for blocks of 16
    over long runs                 output tokens of the second half of 20,000 requests over those offered, by share of
                                   the edge
    published figures              vLLM v0 in Vidur (512 + 1000 at 2.5 requests/s; 2,000 requests, as its makespan says)
                                   with its iteration time, and a watermark table of Qwen2.5-7B (C = 299,584, some
                                   1,000 + 5,000 tokens), whose rate is not known: ours is at 98% of the edge
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from joblib import Parallel, delayed

from fluid import IterationTime, PromptType, Replica, Workload, solve
from thresholds import PacedPolicy
from verification import Arrivals, Greedy, Run, VllmV0, VllmV1, simulate, t_interval
from verification.policies import Policy

LONG = Workload([PromptType(512, 1000, 1.0)])
TOKENS = 8192
WATERMARKS = (0.01, 0.02, 0.05, 0.1, 0.15)
POLICIES: dict[str, Policy] = {
    "vllm-v1": VllmV1(TOKENS), **{f"watermark {mark:.0%}": VllmV1(TOKENS, mark) for mark in WATERMARKS},
    "vllm-v1, async": VllmV1(TOKENS, asynchronous=True), "windows (2, 15)": PacedPolicy((2,), (15,)),
    "windows (3, 23)": PacedPolicy((3,), (23,)), "vllm-v1, restart": VllmV1(TOKENS, eviction="restart"),
    "greedy, restart [A]": Greedy(0.0)}
SHARES = (0.88, 0.90, 0.92, 0.94, 0.96, 0.98)
VIDUR = IterationTime.largest(IterationTime(0.0101, 2.55e-7), IterationTime(0.0089, 2.55e-7, 58.5e-6, 58.5e-6))


def replica(per_prefill: float) -> Replica:
    return Replica(137_000, IterationTime(0.0106, 4.01e-7, per_prefill), block=16, first_token="prefill",
                   max_num_seqs=256, max_num_batched_tokens=TOKENS)


def repeated(policy: Policy, mix: Workload, server: Replica, horizon: float, replications: int,
             measure: Callable[[Run], tuple[float, ...]]) -> list[str]:
    """Means and half-widths of what is measured, over replications."""
    def one(replication: int) -> tuple[float, ...]:
        return measure(simulate(policy, mix, server, horizon=horizon, replication=replication))

    found = Parallel(n_jobs=-1, backend="threading")(delayed(one)(r) for r in range(replications))
    intervals = [t_interval(column) for column in zip(*found, strict=True)]
    return [f"{each.mean:,.4g} ±{each.high - each.mean:.2g}" for each in intervals]


def near_the_edge(run: Run) -> tuple[float, ...]:
    done = run.latency[np.isfinite(run.latency)]
    return run.completed / len(run.arrivals), done.mean(), float(np.quantile(done, 0.99)), run.evictions, run.overflows


def second_half(run: Run) -> tuple[float]:
    """Output tokens completed in the second half over those that arrived in it."""
    half = run.end_time / 2
    done, came = run.finished > half, run.arrivals.times > half
    return (float(run.output_tokens[done].sum() / run.output_tokens[came].sum()),)


def print_near_the_edge(replications: int) -> None:
    for per_prefill in (0.0, 58.5e-6):
        server = replica(per_prefill)
        mix = LONG.scaled(0.98 * solve(LONG, server).max_rate_scale)
        print(f"\n98% of the edge, {mix.rate:.3f} requests/s, prefill {1e6 * per_prefill:g} us a token, 2,000 s, "
              f"{replications} seeds\n")
        print(f"{'':>20} {'completed':>18} {'latency s':>18} {'p99 s':>18} {'preemptions':>18} {'above C':>18}")
        for name, policy in POLICIES.items():
            row = repeated(policy, mix, server, 2000.0, replications, near_the_edge)
            print(f"{name:>20}" + "".join(f"{cell:>19}" for cell in row), flush=True)


def print_long_runs(replications: int) -> None:
    for per_prefill in (0.0, 58.5e-6):
        server = replica(per_prefill)
        edge = solve(LONG, server).max_rate_scale
        print(f"\nthroughput of the second half over the offer, prefill {1e6 * per_prefill:g} us a token\n")
        print(f"{'share of the edge':>20}" + "".join(f"{share:>19.0%}" for share in SHARES))
        for name, policy in POLICIES.items():
            row = [repeated(policy, LONG.scaled(share * edge), server, 20_000 / (share * edge), replications,
                            second_half)[0] for share in SHARES]
            print(f"{name:>20}" + "".join(f"{cell:>19}" for cell in row), flush=True)


def print_vidur(replications: int) -> None:
    """Latency and makespan of 2,000 requests; the published single runs are beside them."""
    server = Replica(137_000, VIDUR, block=16, first_token="prefill", max_num_seqs=256)
    print("\nvLLM v0, 512 + 1000 at 2.5 requests/s: published 90.5 s, 887 s (recompute), 195 s, 1,186 s (restart)\n")
    for eviction in ("recompute", "restart"):
        rows = []
        for seed in range(replications):
            times = np.random.default_rng(seed).exponential(1 / 2.5, 2000).cumsum()
            run = simulate(VllmV0(0.01, "front", 4096, eviction), LONG, server,
                           arrivals=Arrivals(times, np.zeros(2000, dtype=np.int64)))
            rows.append((run.latency.mean(), run.end_time))
        latency, makespan = (np.array(column) for column in zip(*rows, strict=True))
        print(f"{eviction:>12}: latency {latency.mean():.1f} s (runs {latency.min():.1f} to {latency.max():.1f}), "
              f"makespan {makespan.mean():.0f} s ({makespan.min():.0f} to {makespan.max():.0f})")


def print_watermarks(replications: int) -> None:
    """Preemptions an hour and tokens/s by watermark on long outputs."""
    server = Replica(299_584, IterationTime(0.0065, 1.2e-7, 30e-6), block=16, first_token="prefill",
                     max_num_seqs=256, max_num_batched_tokens=TOKENS)
    rng = np.random.default_rng(0)
    lengths = [np.rint(mean * rng.lognormal(-0.02, 0.2, 500)).astype(int) for mean in (1000, 5000)]
    mix = Workload.from_arrays(*lengths, np.ones(500))
    mix = mix.scaled(0.98 * solve(mix, server).max_rate_scale)
    print("\nsome 1,000 + 5,000 tokens, C = 299,584, 98% of the edge; published preemptions 1,065/400/187/168/168 and "
          "tokens/s 11,582/12,134/12,167/11,835/11,635 at 0/2/5/10/15%\n")
    for watermark in (0.0, 0.02, 0.05, 0.1, 0.15):
        row = repeated(VllmV1(TOKENS, watermark), mix, server, 7200.0, replications,
                       lambda run: (run.evictions / 2, run.throughput))
        print(f"{watermark:>12.0%}: {row[0]} preemptions an hour, {row[1]} tokens/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what eviction costs, and what prevents it.")
    parser.add_argument("--replications", type=int, default=10, help="seeds of each row")
    asked = parser.parse_args()
    for show in (print_near_the_edge, print_long_runs, print_vidur, print_watermarks):
        show(asked.replications)


if __name__ == "__main__":
    main()
