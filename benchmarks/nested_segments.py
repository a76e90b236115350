"""Memory that nested WAIT needs by number of segments, for three ways to choose the boundaries.

    python benchmarks/nested_segments.py [--load 0.6] [--scale 1] [--most 32] [--distribution lognormal]

Prompts of 58 tokens, output lengths from 1 to 500, C = 137,000 tokens, d0 = 10.6 ms, d1 = 0.4013 us (Llama-2-7B on an
A100-80GB), overflow probability 1e-3 over one hour. `--scale z` is a replica with z times the memory, its bandwidth and
its traffic: C z, d1/z, rate z; M*/C stays as it is and thresholds grow by z. `--load` is the rate as a share of the
largest that fits (M* = C).

Columns: real thresholds with equal widths, quantile cuts, and optimised boundaries (KV tokens, and percent above the
last); the best whole thresholds found, and their n_1. "-": the drift conditions cannot be met. Below each table: the
least number of segments that drifts, the best, and the least KV cache in which paced WAIT carries the same rate with
the same promise, lengths unknown too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.stats import norm

from fluid import IterationTime, Replica, Workload, solve
from thresholds.nested_wait.boundary_search import BoundarySearch
from thresholds.nested_wait.real_optimum import real_thresholds
from thresholds.nested_wait.segments import DecodeSegments, UnknownLengths, equal_widths, quantiles
from thresholds.paced_wait.unknown import paced_unknown

LONGEST, PROMPT, MEAN = 500, 58, 147.0
OUTPUTS = np.arange(1, LONGEST + 1)


def lognormal() -> NDArray[np.float64]:
    """Lognormal of mean 147 and sigma 0.8, rounded to tokens, given that it is at most 500."""
    sigma = 0.8
    scores = (np.log(OUTPUTS + 0.5) - np.log(MEAN) + sigma**2 / 2) / sigma
    return np.diff(norm.cdf(scores), prepend=0.0)


def geometric() -> NDArray[np.float64]:
    """Geometric of mean 147, given that it is at most 500."""
    return (1 - 1 / MEAN) ** OUTPUTS


def uniform() -> NDArray[np.float64]:
    """Uniform on 1..500."""
    return np.ones(LONGEST)


DISTRIBUTIONS = {each.__name__: each for each in (lognormal, geometric, uniform)}


def real_memory(lengths: UnknownLengths, rule: Callable[[UnknownLengths, int], NDArray[np.int64]],
                number: int) -> float | None:
    """Tokens that real thresholds need with boundaries by this rule."""
    segments = DecodeSegments(lengths, rule(lengths, number))
    counts = real_thresholds(segments)
    return None if counts is None else segments.required(counts)


def row(lengths: UnknownLengths, search: BoundarySearch, number: int) -> tuple[str, float | None, float | None]:
    """One line of the table, with the real and the whole optimum."""
    found = search.real(number)
    best = None if found is None else found[0].required(found[1])
    cells = []
    for rule in (equal_widths, quantiles):
        memory = real_memory(lengths, rule, number)
        excess = f"+{100 * (memory / best - 1):.1f}%" if memory and best else ""
        cells.append(f"{memory:,.0f} {excess:>8}" if memory else "-")
    whole = search.best(number)
    last = f"{whole.required:,.0f} {whole.counts[0]:>6}" if whole else "-"
    text = f"{number:>4} {cells[0]:>22} {cells[1]:>22} {f'{best:,.0f}' if best else '-':>13} {last:>20}"
    return text, best, whole.required if whole else None


def table(name: str, load: float, scale: float, numbers: list[int]) -> None:
    """Print the table of one distribution."""
    weights = DISTRIBUTIONS[name]()
    mix = Workload.from_arrays(np.full(LONGEST, PROMPT), OUTPUTS, weights)
    replica = Replica(round(137_000 * scale), IterationTime(0.0106, 4.013e-7 / scale))
    workload = mix.scaled(load * solve(mix, replica).max_rate_scale)
    fluid = solve(workload, replica)
    lengths = UnknownLengths.of(workload, replica, 3600.0, 1e-3)
    search = BoundarySearch(lengths)
    print(f"\n{name}: mean output {weights @ OUTPUTS / weights.sum():.0f} tokens, {workload.rate:.4g} requests/s, "
          f"C = {replica.kv_capacity:,}, M* = {fluid.kv_required:,.0f}")
    print(f"{'L':>4} {'equal widths':>22} {'quantiles':>22} {'optimised':>13} {'whole':>13} {'n_1':>6}")
    real, whole = {}, {}
    for number in numbers:
        print(f"{name}: {number} segments ...", end="\r", file=sys.stderr)
        text, real[number], whole[number] = row(lengths, search, number)
        print(text)
    for label, found in (("real", real), ("whole", whole)):
        known = {number: memory for number, memory in found.items() if memory}
        if known and fluid.kv_required is not None:
            best = min(known, key=known.__getitem__)
            print(f"{label} thresholds: least L that drifts {min(known)}, best L {best}, "
                  f"{known[best] / fluid.kv_required:.2f} M*, {known[best] / replica.kv_capacity:.2f} C")


    least = paced_memory(workload, replica)
    print(f"paced WAIT, lengths unknown: {least:,} tokens, {least / (fluid.kv_required or 1.0):.2f} M*")


def paced_memory(workload: Workload, replica: Replica) -> int:
    """The least KV cache, to 0.2%, whose best window carries the load with overflow probability 1e-3 over an hour."""
    low, high = 1, 64 * replica.kv_capacity
    while high - low > 0.002 * high:
        middle = (low + high) // 2
        fits = paced_unknown(workload, replace(replica, kv_capacity=middle)).feasible
        low, high = (low, middle) if fits else (middle, high)
    return high


def main(load: Annotated[float, typer.Option(help="rate, as a share of the largest that fits")] = 0.6,
         scale: Annotated[float, typer.Option(help="replica and traffic, times this")] = 1.0,
         most: Annotated[int, typer.Option(help="largest number of segments, at most 64")] = 32,
         distribution: Annotated[list[str] | None, typer.Option(help="one of the three")] = None) -> None:
    """Print the memory nested WAIT needs by number of segments."""
    numbers = [n for n in (*range(1, 13), 14, 16, 20, 24, 32, 48, 64) if n <= most]
    for name in distribution or DISTRIBUTIONS:
        table(name, load, scale, numbers)


if __name__ == "__main__":
    typer.run(main)
