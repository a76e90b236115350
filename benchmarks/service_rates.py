"""The service rates of a published study, measured on A100s, beside what the law predicts before any fit to them.

    python benchmarks/service_rates.py [--replications 4]

Nie, Si, Zhou, arXiv 2605.04595: Meta-Llama-3-8B under vLLM V1 with chunks of 512 tokens and M = 131,000 tokens of KV
cache on one A100, or on each of eight, prompts and outputs uniform on 10 to 1,600; other mixes at a mean prompt : mean
output of 2:1 and 1:2, whose ranges were not to be had: here they have the same mean total. Here: the same M, a token
budget of 512, lengths in bins (30 of each), independent; the fluid edge, and what vLLM V1's rule completes in the
simulator under 15% more traffic than that, with its 95% interval.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np

from fluid import PromptType, Replica, Workload, stability_region
from fluid.hardware.catalogue import find_gpu, find_model
from fluid.hardware.placement import Placement
from fluidwait.deployment.timing import mean_prompt
from verification import VllmV1, simulate

M, CHUNK, BINS = 131_000, 512, 30
ONE, MORE, LESS = (10, 1600), (10, 2133), (10, 1067)


class Study(NamedTuple):
    """A measured service rate (requests/s per replica) and the ranges of its prompt and output lengths."""

    name: str
    measured: float
    mixes: tuple[tuple[tuple[int, int], tuple[int, int]], ...]


STUDIES = (
    Study("1:1", 3.387, ((ONE, ONE),)),
    Study("2:1 (assumed)", 3.650, ((MORE, LESS),)),
    Study("1:2 (assumed)", 2.969, ((LESS, MORE),)),
    Study("all three (assumed)", 3.137, ((ONE, ONE), (MORE, LESS), (LESS, MORE))),
    Study("1:1, eight replicas", 26.710 / 8, ((ONE, ONE),)),
)


def lengths(low: int, high: int) -> np.ndarray:
    """The middles of equal bins of the uniform law."""
    edges = np.linspace(low, high, BINS + 1)
    return np.rint((edges[1:] + edges[:-1]) / 2).astype(int)


def workload(study: Study, rate: float) -> Workload:
    pairs = [(int(prompt), int(output)) for prompts, outputs in study.mixes for prompt in lengths(*prompts)
             for output in lengths(*outputs)]
    return Workload([PromptType(prompt, output, rate / len(pairs), name=f"{i}") for i, (prompt, output)
                     in enumerate(pairs)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=4)
    replications = parser.parse_args().replications
    placement = Placement(find_model("llama-3-8b"), find_gpu("a100-80gb"))
    print(f"{'mix':22} {'measured':>9} {'edge':>7} {'':>7} {'vLLM V1, simulated':>22}")
    for study in STUDIES:
        mix = workload(study, 1.0)
        time = placement.time_by_law(mean_prompt(mix)).iteration_time
        replica = Replica(M, time, block=16, first_token="prefill", max_num_seqs=256, max_num_batched_tokens=CHUNK)
        edge = stability_region(mix, replica).max_rate_scale(mix.rates)
        full = workload(study, 1.15 * edge)
        runs = [simulate(VllmV1(), full, replica, horizon=3000.0, seed=seed) for seed in range(replications)]
        rates = np.array([served(run, 1000.0, 3000.0) for run in runs])
        half = 1.96 * rates.std(ddof=1) / np.sqrt(len(rates))
        print(f"{study.name:22} {study.measured:9.3f} {edge:7.3f} {edge / study.measured - 1:+7.1%} "
              f"{rates.mean():8.3f} +- {half:.3f} {rates.mean() / study.measured - 1:+7.1%}")


def served(run: object, start: float, end: float) -> float:
    """Completions a second between two moments."""
    finish = run.arrivals.times + run.latency  # type: ignore[attr-defined]
    return float(np.count_nonzero((finish > start) & (finish <= end)) / (end - start))


if __name__ == "__main__":
    main()
