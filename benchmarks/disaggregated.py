"""Prefill and decode apart: the published decode-only experiment, and two pools beside the same replicas colocated.

1. The appendix of the WAIT paper (arXiv 2504.11320, LaTeX in github.com/Luoxiaogan/vidur_or, commit 1ebb920,
   `papers/appendix_b_additional.tex`) serves requests with 630 tokens of context and 20 to decode at 100 to 500 a
   second, 5,000 of them by our guess, and says that WAIT has 45 to 55% less latency than vLLM's scheduler. The numbers
   stand in `docs/progress/2026_03_30_real_data_experiments.md` there, with the cap on sequences ("tl", 300 to 600) that
   WAIT is in these runs. Baseline: vLLM v0, which gives newcomers their first token in a batch of their own (modelled
   as a prompt of one token whose other 629 are cached), with 128 sequences. Beside it Algorithm 1 with the thresholds
   of `thresholds.wait`, windows by `thresholds.paced`, and greedy admission, on a decode-only replica. Machines:
   Llama-2-7B on an A100 by Vidur's lines, as the text says, and the stand-in for Llama-3-8B of notebook 07, as the
   repository's notes say of the synthetic figures.
2. `examples/disaggregated.toml` at shares of its rates: 4 prefill and 2 decode replicas in tandem, and the same 6
   colocated, round robin, vLLM V1 with 8,192 tokens an iteration, on the same arrivals.

Means with 95% intervals over independent paths.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from fluid import IterationTime, PromptType, Replica, Workload, solve
from fluid.arrays import Floats
from fluid.hardware.catalogue import find_gpu, find_model
from fluid.hardware.placement import Placement
from fluid.planning import Kind, Part, colocated, most_tandem, pace
from fluidwait.deployment.deployment import load
from thresholds import paced, wait
from verification import Arrivals, Greedy, Interval, VllmV0, VllmV1, simulate, t_interval
from verification.fleets import Fleet, Router, Tandem, simulate_fleet, simulate_tandem
from verification.policies import Policy
from verification.traffic.processes import POISSON

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "disaggregated.toml"
PUBLISHED = {100: (0.879, 0.260), 150: (0.842, 0.292), 200: (0.710, 0.343), 250: (0.701, 0.388), 300: (1.621, 0.569),
             350: (3.045, 0.781), 400: (3.891, 1.272), 450: (4.723, 1.828), 500: (5.392, 2.445)}  # seconds: vLLM, WAIT
HANDED, NEWCOMERS = Workload([PromptType(630, 20, 1.0)]), Workload([PromptType(630, 21, 1.0, cached_prefix=629)])
REQUESTS, CAP = 5000, 128
POOLS, TOKENS = (4, 2), 8192


def machines() -> dict[str, Replica]:
    """Decode-only replicas: the text's, and the stand-in for the one that the notes name."""
    d1, per_token = 2.55e-7, 58.5e-6
    lines = IterationTime.largest(IterationTime(0.0101, d1), IterationTime(0.0089, d1, per_token, per_token))
    old, new = find_model("llama-2-7b"), find_model("llama-3-8b")
    weights, active = new.parameters / old.parameters, new.parameters_active / old.parameters_active
    before, after = (Placement(model, find_gpu("a100-80gb")).kv_bytes_per_token for model in (old, new))
    kv = d1 * after / before
    other = IterationTime.largest(IterationTime(weights * 0.0101, kv), IterationTime(
        weights * 0.0089, kv, active * per_token, active * per_token))
    return {"Llama-2-7B": Replica(137_000, lines, prefill="decode-only"),
            "stand-in for Llama-3-8B": Replica(29_952 * 16, other, prefill="decode-only")}


def latency(policy: Policy, mix: Workload, replica: Replica, rate: float, seeds: int) -> Interval:
    """Mean latency of so many requests from the first arrival to the last completion."""
    found = []
    for seed in range(seeds):
        times = np.random.default_rng(seed).exponential(1 / rate, REQUESTS).cumsum()
        run = simulate(policy, mix.scaled(rate), replica, arrivals=Arrivals(times, np.zeros(REQUESTS, dtype=np.int64)))
        found.append(float(np.nanmean(run.latency)))  # WAIT never serves the last requests, fewer than its threshold
    return t_interval(found)


def published(seeds: int) -> None:
    """The first table."""
    for name, replica in machines().items():
        edge = solve(HANDED, replica).max_rate_scale
        print(f"\n{name}, C = {replica.kv_capacity:,}, edge {edge:.1f} requests/s; latencies in seconds")
        print(f"{'rate':>5}{'vLLM, published':>17}{'ours':>16}{'WAIT, published':>17}{'WAIT':>7}{'windows':>9}"
              f"{'greedy':>16}{'less, published':>17}{'ours':>6}")
        apart = replace(replica, prefill="whole", first_token="prefill", max_num_seqs=CAP)
        for rate, (vllm, best) in PUBLISHED.items():
            base = latency(VllmV0(max_num_batched_tokens=4096), NEWCOMERS, apart, rate, seeds)
            greedy = latency(Greedy(), HANDED, replica, rate, seeds)
            whole, windows = (f"{latency(each, HANDED, replica, rate, seeds).mean:.3f}" if each.feasible else "none"
                              for each in (wait(HANDED.scaled(rate), replica), paced(HANDED.scaled(rate), replica)))
            print(f"{rate:5}{vllm:17.3f}{_told(base):>16}{best:17.3f}{whole:>7}{windows:>9}{_told(greedy):>16}"
                  f"{1 - best / vllm:17.0%}{1 - greedy.mean / base.mean:6.0%}")


def beside(seeds: int, horizon: float) -> None:
    """The second table."""
    read = load(EXAMPLE)
    replica, part = read.replica, read.fleet[0].kind.part
    assert part is not None
    link = part.transfer
    prefill, decode = (Kind(role, replica, part=Part(role, link)) for role in ("prefill", "decode"))
    rule, turn = VllmV1(TOKENS), Router("round-robin")
    tandem = Tandem.of([prefill], [decode], ([POOLS[0]], [POOLS[1]]), ([rule], [rule]), (turn, turn))
    fleet = Fleet.of([Kind("both", replica)], [sum(POOLS)], [rule])
    print(f"\n{POOLS[0]} prefill + {POOLS[1]} decode replicas, and {sum(POOLS)} colocated; seconds, and ms between "
          "tokens")
    print(f"{'of rates':>8}{'':>11}{'load':>6}{'TTFT':>15}{'p99':>7}{'between':>8}{'predicted':>11}{'p99':>7}"
          f"{'latency':>15}")
    for share in (0.6, 0.8, 1.0, 1.15, 1.25):
        mix = read.workload.scaled(share)
        paths = [POISSON.draw(mix, horizon, 1, r) for r in range(seeds)]
        edge = most_tandem(mix, [prefill], [decode], [POOLS[0]], [POOLS[1]]).factor
        runs = [simulate_tandem(tandem, mix, arrivals=each, seed=1, replication=r) for r, each in enumerate(paths)]
        _row(share, "apart", 1 / edge, [(run.ttft, run.time_between_tokens, run.latency) for run in runs],
             pace(mix, decode, mix.rates / POOLS[1]).iteration_time)
        whole = [simulate_fleet(fleet, turn, mix, arrivals=each).merged for each in paths]
        _row(share, "colocated", 1 / (sum(POOLS) * solve(mix, replica).max_rate_scale), [
            (run.ttft, run.time_between_tokens, run.latency) for run in whole],
            pace(mix, colocated([decode])[0], mix.rates / sum(POOLS)).iteration_time)
        held = max(run.in_transfer for run in runs), max(run.waiting for run in runs)
        print(f"{'':8} most KV tokens of a replica in transfer {held[0]:,.0f}, before decoding {held[1]:,.0f}, of "
              f"{replica.kv_capacity:,}")


def _row(share: float, name: str, used: float, paths: list[tuple[Floats, Floats, Floats]], predicted: float) -> None:
    ttft, between, whole = (t_interval([float(np.nanmean(path[i])) for path in paths]) for i in range(3))
    tails = [float(np.nanpercentile(np.concatenate([path[i] for path in paths]), 99)) for i in range(2)]
    print(f"{share:8.0%}{name:>11}{used:6.0%}{_told(ttft):>15}{tails[0]:7.2f}{1e3 * between.mean:8.1f}"
          f"{1e3 * predicted:11.1f}{1e3 * tails[1]:7.1f}{_told(whole):>15}")


def _told(interval: Interval) -> str:
    return f"{interval.mean:.3f} ±{interval.high - interval.mean:.3f}"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--horizon", type=float, default=600.0)
    options = parser.parse_args()
    published(options.seeds)
    beside(options.seeds, options.horizon)


if __name__ == "__main__":
    main()
