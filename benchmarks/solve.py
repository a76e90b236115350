"""How fast the equilibrium and the WAIT thresholds are, and how they grow with the number of prompt types.

    python benchmarks/solve.py [--repeats 15]

J types with prompts of 1 to 4,096 and outputs of 1 to 1,024 tokens (uniform, seeded), at rates that load the replica to
rho = 0.9; d0 = 10.6 ms, d1 = 0.401 us. The workload is made before the clock starts. Timed are

    solve             `fluid.solve`, with `stable`, `kv_required` and `max_rate_scale` read
    wait              `thresholds.wait`: solve, then the least integer thresholds
    max_rate_scale    of such a design, C twice what it needs: bisection for the largest factor at which WAIT fits; not
                      at 100,000 types, where one call takes ten seconds or more

The unit is one numpy pass over the same arrays, `rates @ work`: a ratio says how many passes the answer costs. With one
type that is the overhead of Python, with 100,000 it is arithmetic. The growth exponent between J and K types is
ln(t_K / t_J) / ln(K / J): 0 is no growth, 1 proportional. All runs in one thread (numpy's libraries too), so seconds
are processor time: those of an idle machine, whoever else uses this one.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from statistics import median

import numpy as np

import thresholds
from fluid import Equilibrium, IterationTime, Replica, Workload, solve, stage_profile

SIZES = (1, 1_000, 100_000)
MOST_SCALED = 1_000
ITERATION_TIME = IterationTime(0.0106, 0.401e-6)
LOAD = 0.9
AT_LEAST = 0.02  # seconds of repetition behind each timing of a fast call


def mix(types: int) -> tuple[Workload, Replica]:
    """A workload of `types` types at rho = 0.9, and a replica with twice the KV its WAIT thresholds need."""
    random = np.random.default_rng(types)
    prompt, output = random.integers(1, 4097, types), random.integers(1, 1025, types)
    weights = random.uniform(0.5, 1.5, types)
    rough = Replica(2**49, ITERATION_TIME)
    unit = Workload.from_arrays(prompt, output, weights)
    workload = unit.scaled(LOAD / solve(unit, rough).load)
    required = thresholds.wait(workload, rough).kv_required
    if required is None:
        raise SystemExit("no thresholds at this load")
    return workload, Replica(2 * required, ITERATION_TIME)


def seconds(call: Callable[[], object]) -> float:
    """Processor time of one call, averaged over enough of them for the clock."""
    calls, start = 0, time.process_time()
    while (spent := time.process_time() - start) < AT_LEAST or calls == 0:
        call()
        calls += 1
    return spent / calls


def answered(workload: Workload, replica: Replica) -> Equilibrium:
    """Solve, and read what is computed on demand."""
    balance = solve(workload, replica)
    _ = balance.stable, balance.kv_required, balance.max_rate_scale
    return balance


def measure(types: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each round, by what is timed."""
    workload, replica = mix(types)
    rates, work = workload.rates, stage_profile(workload, replica).kv_work.astype(np.float64)
    calls: dict[str, Callable[[], object]] = {
        "pass": lambda: rates @ work,
        "solve": lambda: answered(workload, replica),
        "wait": lambda: thresholds.wait(workload, replica),
    }
    if types <= MOST_SCALED:
        calls["max_rate_scale"] = lambda: thresholds.wait(workload, replica).max_rate_scale
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):  # the first warms up
        for name, call in calls.items():
            spent = seconds(call)
            if turn:
                found[name].append(spent)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the equilibrium and the WAIT thresholds against numpy passes.")
    parser.add_argument("--repeats", type=int, default=15, help="rounds after the warm-up, of which the median counts")
    repeats = parser.parse_args().repeats
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # read by the child's numpy
    found = {}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        for types in SIZES:
            print(f"{types:,} types ...", file=sys.stderr, flush=True)
            found[types] = child.submit(measure, types, repeats).result()
    names = tuple(found[SIZES[0]])
    print("Cost in numpy passes over the same arrays (median of ratios within a round)\n")
    print(row("types", names[1:]))
    for types, spent in found.items():
        print(row(f"{types:,}", [f"{passes(spent, name):,.0f}" if name in spent else "-" for name in names[1:]]))
    print(f"\nMicroseconds\n\n{row('types', names)}")
    for types, spent in found.items():
        print(row(f"{types:,}", [f"{1e6 * median(spent[name]):,.1f}" if name in spent else "-" for name in names]))
    print(f"\nGrowth exponents\n\n{row('types', names)}")
    for fewer, more in pairwise(SIZES):
        both = [name if name in found[more] else "-" for name in names]
        print(row(f"{fewer:,} to {more:,}", [
            f"{growth(found[fewer][name], found[more][name], more / fewer):.2f}" if name != "-" else "-"
            for name in both]))


def growth(before: list[float], after: list[float], factor: float) -> float:
    """The growth exponent between two sizes."""
    return math.log(median(after) / median(before)) / math.log(factor)


def passes(spent: dict[str, list[float]], name: str) -> float:
    """The cost in numpy passes."""
    return median(a / b for a, b in zip(spent[name], spent["pass"], strict=True))


def row(first: str, cells: Sequence[str]) -> str:
    return f"{first:>17}" + "".join(f"{cell:>16}" for cell in cells)


if __name__ == "__main__":
    main()
