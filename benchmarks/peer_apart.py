"""Prefill and decode apart: the pools that the peer of `benchmarks/peer_planner.py` advises, planned and simulated.

    peer/bin/python benchmarks/peer_apart.py [--replications 6] [--horizon 300]     installed as `peer_planner.py` says

For the same questions: the peer's best pools on eight GPUs and their rate, which is the smaller of 0.9 of what prefill
replicas do one prompt at a time and 0.92 of what decode replicas do with their batch full; its TTFT is 1.8 times a
prefill, whatever the load, and KV moves for nothing. Here, with the peer's steps and with the law, the edge of these
pools and which binds, the same GPUs colocated as the peer's best replicas, and Poisson arrivals at the peer's rate
through both stations behind shortest queues (vLLM V1), with links of 50 GB/s a replica.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from functools import partial
from typing import NamedTuple

import numpy as np
from peer_planner import HUB, QUESTIONS, SHARE, Machine, Question, ask_peer, cli_default

from fluid import solve
from fluid.hardware.kernel_tables import SYSTEMS
from fluid.planning import Kind, Part, Transfer, most_tandem
from verification.fleets import Router, Tandem, simulate_tandem

BANDWIDTH = 50e9  # bytes/s
WARM_UP = 0.2  # share of the arrivals


class Pools(NamedTuple):
    """What the peer advises: GPUs of a replica and replicas, of prefill and of decode; requests/s, seconds."""

    gpus: tuple[int, int]
    counts: tuple[int, int]
    rate: float
    ttft: float
    tpot: float

    @property
    def all_gpus(self) -> int:
        return int(np.dot(self.gpus, self.counts))


def ask(question: Question) -> Pools:
    """The peer's best pools."""
    found = cli_default(HUB[question.model], 8, SYSTEMS[question.gpu], backend="vllm", isl=question.prompt,
                        osl=question.output, ttft=1000 * question.ttft, tpot=1000 * question.tpot, strict_sla=True)
    best = found.best_configs["disagg"].iloc[0]
    return Pools((int(best["(p)tp"]), int(best["(d)tp"])), (int(best["(p)workers"]), int(best["(d)workers"])),
                 float(best["seq/s"]), best["ttft"] / 1000, best["tpot"] / 1000)


def kinds(question: Question, pools: Pools, law: bool) -> list[Kind]:
    """A prefill and a decode kind, with one or the other iteration time."""
    made = []
    for role, gpus in zip(("prefill", "decode"), pools.gpus, strict=True):
        machine = Machine(question, gpus, SHARE[question.gpu])
        link = Transfer(BANDWIDTH, machine.placement.kv_bytes_per_token)
        made.append(Kind(role, machine.replica(machine.law if law else machine.kernels), part=Part(role, link)))
    return made


def simulated(question: Question, pools: Pools, pair: list[Kind], replications: int, horizon: float) -> str:
    """Poisson arrivals at the peer's rate: TTFT and time between tokens."""
    first, second = pair
    tandem = Tandem.of([first], [second], ([pools.counts[0]], [pools.counts[1]]),
                       routers=(Router("shortest-queue"), Router("shortest-queue")))
    runs = [simulate_tandem(tandem, question.mix.scaled(pools.rate), horizon=horizon, seed=1, replication=r)
            for r in range(replications)]
    ttft, between = ([values[int(WARM_UP * len(values)):] for values in each] for each in (
        [run.ttft for run in runs], [run.time_between_tokens for run in runs]))
    mean, tail, pace = (float(np.mean([measure(each) for each in values])) for measure, values in (
        (np.nanmean, ttft), (partial(np.nanpercentile, q=99), ttft), (np.nanmean, between)))
    return f"TTFT {mean:.3f} s, p99 {tail:.2f} s, TPOT {1000 * pace:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=6)
    parser.add_argument("--horizon", type=float, default=300.0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for question in QUESTIONS:
        pools, whole = ask(question), ask_peer(question)
        print(f"\n{question.text}\n  peer: {pools.counts[0]} prefill TP {pools.gpus[0]}, {pools.counts[1]} decode TP "
              f"{pools.gpus[1]}: {pools.rate:.2f}/s, {pools.rate / pools.all_gpus:.3f} a GPU; together "
              f"{whole.rate / whole.gpus:.3f}; TTFT {pools.ttft:.3f} s, TPOT {1000 * pools.tpot:.1f} ms", flush=True)
        for law in (False, True):
            pair = kinds(question, pools, law)
            edge = most_tandem(question.mix, *([each] for each in pair), *([count] for count in pools.counts))
            machine = Machine(question, whole.gpus, SHARE[question.gpu])
            alone = solve(question.mix, machine.replica(machine.law if law else machine.kernels)).max_rate_scale
            seen = ("more than the edge" if pools.rate >= edge.factor else
                    simulated(question, pools, pair, options.replications, options.horizon))
            print(f"  by {'the law' if law else 'its steps'}: edge {edge.factor:.2f}/s, {edge.binds} binds, "
                  f"{edge.factor / pools.all_gpus:.3f} a GPU; together {alone / whole.gpus:.3f}\n"
                  f"    at its rate {seen}", flush=True)


if __name__ == "__main__":
    main()
