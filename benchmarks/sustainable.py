"""The largest rate each policy sustains, as a share of the fluid limit of the replica it runs on.

vLLM V1 with budgets of 2,048 and 8,192 tokens and with a watermark, vLLM v0, Sarathi with chunks of 512 and 2,048
tokens, [A]'s greedy admission, which restarts what it evicts, WAIT and paced WAIT, whole prefills, with and without a
cap of 256 sequences. WAIT and paced WAIT keep the thresholds designed for the largest rate at which they fit.
The rate is found by bisection: it is sustained where `verification.judge` calls the replications stable. The fluid
limit is `solve(...).max_rate_scale`, the cap included. Beside the share, at that rate: mean latency and iteration time,
and evictions for each completed request.

A verdict takes a horizon (`--requests`): a limit cycle that begins once in many horizons goes unseen in a short one, so
the share of rules that evict falls with it; close to a boundary the verdict is "undecided", which counts as not
sustained.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fluid import IterationTime, PromptType, Replica, Workload, solve
from thresholds import Design, paced, wait
from verification import Greedy, Run, Sarathi, VllmV0, VllmV1, judge, replicate
from verification.experiments.stability import STABLE
from verification.policies import Policy

PUBLISHED = IterationTime(0.0106, 4.013e-7)
WITH_PREFILL = IterationTime(0.0106, 4.013e-7, 5.88e-5)
ROOFLINE = Replica(136_496, IterationTime(0.010126507, 4.017655e-7, 5.8826e-5))  # Llama-2-7B on an A100-80GB
INSTANCES = {
    "512+20, A100 data sheet": (PromptType(512, 20, 1.0), ROOFLINE),
    "512+1000, C = 137,000": (PromptType(512, 1000, 1.0), Replica(137_000, PUBLISHED)),
    "512+1000, prefill cost": (PromptType(512, 1000, 1.0), Replica(137_000, WITH_PREFILL)),
}
POLICIES: dict[str, Policy | Callable[[Workload, Replica], Design]] = {
    "vLLM V1, 2048": VllmV1(2048), "V1, watermark 5%": VllmV1(2048, 0.05), "vLLM V1, 8192": VllmV1(8192),
    "vLLM v0": VllmV0(), "Sarathi 512": Sarathi(512), "Sarathi 2048": Sarathi(2048),
    "greedy, restart": Greedy(), "WAIT": wait, "paced WAIT": paced,
}
CAP = 256


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=40_000, help="per replication, at the fluid limit")
    parser.add_argument("--replications", type=int, default=10)
    parser.add_argument("--steps", type=int, default=9, help="of the bisection, from 0 to 105%%")
    options = parser.parse_args()
    print(f"{'instance':26}{'cap':>5}{'limit/s':>9}  {'policy':17}{'share':>7}{'latency s':>11}{'iteration s':>12}"
          f"{'evictions':>11}")
    for name, (kind, server) in INSTANCES.items():
        for cap in (None, CAP):
            replica = replace(server, max_num_seqs=cap)
            edge = Workload([kind]).scaled(solve(Workload([kind]), replica).max_rate_scale)
            for label, policy in POLICIES.items():
                share, runs = sustained(policy, edge, replica, options)
                print(f"{name:26}{cap or '-':>5}{edge.rate:9.4g}  {label:17}{share:7.1%}{described(runs)}", flush=True)


def sustained(policy: Policy | Callable[[Workload, Replica], Design], edge: Workload, replica: Replica,
              options: argparse.Namespace) -> tuple[float, list[Run]]:
    """Return the largest sustained share of the rates `edge`, and the runs at it."""
    rule = largest(policy, edge, replica) if callable(policy) else policy
    if rule is None:
        return 0.0, []
    low, high, best = 0.0, 1.05, []
    for _ in range(options.steps):
        share = (low + high) / 2
        workload = edge.scaled(share)
        runs = replicate(rule, workload, replica, horizon=options.requests / edge.rate,
                         replications=options.replications, record=False)
        if judge(runs, workload.rate).answer == STABLE:
            low, best = share, runs
        else:
            high = share
    return low, best


def largest(make: Callable[[Workload, Replica], Design], edge: Workload, replica: Replica) -> Design | None:
    """The design for the largest rate at which it is feasible, None where there is no such rate."""
    scale = make(edge, replica).max_rate_scale
    design = make(edge.scaled(scale * (1 - 1e-6)), replica) if scale > 0 else None
    return design if design is not None and design.feasible else None


def described(runs: list[Run]) -> str:
    """Mean latency, iteration time and evictions per completed request."""
    if not runs:
        return f"{'-':>11}{'-':>12}{'-':>11}"
    latency = np.mean([np.nanmean(run.latency) for run in runs])
    iteration = sum(run.busy_time for run in runs) / sum(run.iterations for run in runs)
    evictions = sum(run.evictions for run in runs) / sum(run.completed for run in runs)
    return f"{latency:11.3g}{iteration:12.3g}{evictions:11.2g}"


if __name__ == "__main__":
    main()
