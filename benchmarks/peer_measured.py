"""Closed loops of a real engine beside the peer of `benchmarks/peer_planner.py`, the law, and the peer's own steps.

    peer/bin/python benchmarks/peer_measured.py [--horizon 1800]        installed as `peer_planner.py` says

Qwen3-32B in 16 bits on 2, 4 and 8 H100s under vLLM, c = 8 to 128 requests at a time of 4,096 + 512 and 1,024 + 512
tokens: rows of the peer's package (`systems/silicon_sample.csv`), vLLM 0.12.0. Measured are mean TTFT and TPOT, from
which c/(TTFT + (o - 1) TPOT) requests/s follow. The peer estimates that batch; the simulator runs c users who do not
think, under vLLM V1's rule, on three iteration times: "law" is fitted to these rows among others, "without" to all rows
but those of this model, "steps" are the peer's, whose tables are of vLLM 0.24.0.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from dataclasses import replace

import numpy as np
from iteration_law import Design, Row, measured
from peer_planner import DEGREES, Machine, Question, closed, peer_at

from fluid import IterationTime, Replica
from fluid.hardware.iteration_law import coefficients, costs
from verification import Effort

QUESTIONS = tuple(Question("qwen3-32b", "h100-80gb", prompt, 512, 0.05) for prompt in (4096, 1024))
SHARE = 0.90  # of the memory, the default of vLLM 0.12
NAMES = ("peer", "law", "without", "steps")


def rows_of(question: Question, gpus: int) -> list[Row]:
    """The measured runs of that shape on so many GPUs."""
    asked = (question.model, question.gpu, "vllm", gpus, 16, question.prompt, question.output)
    return [row for row in measured()
            if asked == (row.model.name, row.gpu.name, row.engine, row.gpus, row.bits, row.prompt, row.output)]


def held_out(machine: Machine) -> Replica:
    """With the law as it is fitted without any row of this model."""
    placement, rows = machine.placement, measured()
    values = Design.of(rows).fit(np.array([row.model.name != machine.question.model for row in rows]))
    table = costs(placement.model, placement.gpu, gpus=machine.gpus, bytes_read=placement.bytes_read,
                  kv_bytes=placement.kv_bytes_per_token, multiplies_in=16, prompt_tokens=float(machine.question.prompt))
    return replace(machine.bare, iteration_time=IterationTime(*map(float, table @ coefficients("vllm", values))))


def beside(question: Question, row: Row, replicas: tuple[Replica, ...], effort: Effort) -> tuple[float, list[float]]:
    """The measured requests/s, and those of NAMES over it; NaN where the peer finds no memory for the batch."""
    users = int(row.concurrency)
    rate = users / (row.ttft + (row.output - 1) * row.tpot)
    try:
        peer = float(peer_at(question, row.gpus, users).raw["seq/s"])
    except RuntimeError:
        peer = float("nan")
    ours = [closed(question, each, users, effort).throughput.mean / question.output for each in replicas]
    return rate, [each / rate for each in (peer, *ours)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--horizon", type=float, default=1800.0)
    effort = Effort(parser.parse_args().horizon)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    found = []
    print(f"{'tokens':>12} {'TP':>3} {'users':>6} {'measured':>9}" + "".join(f"{name:>9}" for name in NAMES))
    for question in QUESTIONS:
        for gpus in DEGREES:
            machine = Machine(question, gpus, SHARE)
            rows = rows_of(question, gpus)
            if not rows:
                continue
            replicas = (machine.replica(machine.law), held_out(machine), machine.replica(machine.kernels))
            for row in rows:
                rate, ratios = beside(question, row, replicas, effort)
                found.append(ratios)
                print(f"{question.prompt:>6} + {question.output} {gpus:>3} {row.concurrency:>6.0f} {rate:>7.3f}/s"
                      + "".join(f"{each - 1:>+9.1%}" for each in ratios), flush=True)
    errors = np.array(found)[~np.isnan(found).any(axis=1)] - 1
    for name, each in (("mean", errors.mean(axis=0)), ("mean error", np.abs(errors).mean(axis=0))):
        print(f"{f'{name}, {len(errors)} rows':>33}" + "".join(f"{one:>+9.1%}" for one in each))


if __name__ == "__main__":
    main()
