"""How fast the simulator is: requests per second, its cost beside a C loop and how it grows, peak memory.

    python benchmarks/simulator.py [--requests 1000000] [--repeats 7]

Seconds depend on the machine, ratios within one run much less, so the report leads with them; every ratio is the median
of ratios of timings taken right after one another. All runs on one core, so seconds are processor time.

**Requests per second.** Every policy at 512+20 tokens with C = 137,000 and at 512+1000 tokens with C = 4,000,000, where
literal WAIT is feasible; d0 = 10.6 ms, d1 = 0.401 us; at 80% of the region's edge or of the largest rate at which WAIT
is feasible, whichever is lower. Nested WAIT has a single segment, since all outputs are alike; A_min bounds of one
token. Timed are

    simulate    as a user calls it: Poisson arrivals, arrays, kernel, result
    arrivals    drawing the arrivals alone
    kernel      the compiled decision rule alone, its arrays made before the clock starts
    C loop      `yardstick.c`: greedy without eviction for one type, compiled with `cc -O2`, on the same arrivals. It
                serves as the unit for the others too. Its mean latency must agree with the greedy kernel's to 1e-9.

Peak memory is that of a fresh process per line that makes one full `simulate` call; beside it the peak of a process
that imports everything and loads the compiled code, and of one that compiles it. A result keeps 40 bytes a request:
moment of arrival, type, three moments more.

**Growth.** `benchmarks/growth.py` says what grows and how; its tables are printed too.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from dataclasses import dataclass
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from growth import measure, print_growth
from workbench import (
    LONG,
    POLICIES,
    SHARE,
    SHORT,
    Load,
    build_yardstick,
    in_a_fresh_process,
    near_the_edge,
    rule,
    say,
    timed,
    yardstick,
)

from verification import simulate
from verification.engine.state import make_state

TIMED = ("simulate", "arrivals", "kernel", "C loop")


@dataclass(frozen=True)
class Line:
    """Seconds of each round by what is timed, counts, and the peak memory (MiB) before and after a full run."""

    load: Load
    policy: str
    requests: int
    iterations: int
    evictions: int
    loaded: float
    peak: float
    seconds: dict[str, list[float]]

    def typical(self, what: str) -> float:
        return median(self.seconds[what])

    def ratio(self, what: str) -> float:
        return median(a / b for a, b in zip(self.seconds[what], self.seconds["C loop"], strict=True))


def peak_memory() -> float:
    """The largest resident size of this process so far, MiB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**20 if sys.platform == "darwin" else used / 2**10


def million(load: Load, name: str, requests: int, repeats: int, library: str | None) -> Line:
    """Time one cell, in a process of its own."""
    policy, workload, replica = load.policy(name), load.workload, load.replica
    horizon = requests / load.rate
    simulate(policy, workload, replica, horizon=min(horizon, 1000 / load.rate))
    loaded = peak_memory()
    run = simulate(policy, workload, replica, horizon=horizon)
    counts, peak = (len(run.arrivals), run.iterations, run.evictions), peak_memory()
    problem = load.problem(run.arrivals)
    seconds: dict[str, list[float]] = {what: [] for what in TIMED}
    for _ in range(repeats):
        state, finished = make_state(problem, 0), np.full(len(problem.times), np.nan)
        seconds["simulate"].append(timed(lambda: simulate(policy, workload, replica, horizon=horizon)))
        seconds["arrivals"].append(timed(lambda: load.arrivals(requests)))
        seconds["kernel"].append(timed(rule(policy, problem, state)))
        if library:
            seconds["C loop"].append(timed(yardstick(library, load, problem, finished)))
        if library and name == "greedy":
            agree(load, state.finished, finished, problem.times)
    return Line(load, name, *counts, loaded, peak, seconds)


def agree(load: Load, ours: np.ndarray, theirs: np.ndarray, times: np.ndarray) -> None:
    """Stop unless both loops have one mean latency."""
    latency, expected = float(np.mean(ours - times)), float(np.mean(theirs - times))
    if not abs(latency - expected) <= 1e-9 * expected:
        raise SystemExit(f"mean latency at {load}: simulator {latency!r} s, C loop {expected!r} s")


def compile_all() -> tuple[float, float]:
    """Seconds to compile all rules and the peak memory (MiB) after it."""
    spent = timed(lambda: [simulate(SHORT.policy(name), SHORT.workload, SHORT.replica, horizon=10.0)
                           for name in POLICIES])
    return spent, peak_memory()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the simulator against a plain C loop.")
    parser.add_argument("--requests", type=int, default=1_000_000, help="requests in each cell, on average")
    parser.add_argument("--repeats", type=int, default=7, help="rounds after the warm-up, of which the median counts")
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        os.environ["NUMBA_CACHE_DIR"] = folder  # of the child processes: the first of them compiles
        library = build_yardstick(folder)
        say("compiling")
        compiled = in_a_fresh_process(compile_all)
        lines = []
        for load in (near_the_edge(SHORT), near_the_edge(LONG)):
            for name in POLICIES:
                say(f"{name} at {load}")
                lines.append(in_a_fresh_process(million, load, name, asked.requests, asked.repeats, library))
        grown = in_a_fresh_process(measure, max(asked.requests // 5, 10), max(asked.repeats // 2, 1), library)
    print_ratios(lines)
    print_growth(grown)
    print_loads(lines)
    print_seconds(lines, compiled)


def print_ratios(lines: list[Line]) -> None:
    print("Ratios to the C loop on the same arrivals (median of rounds)\n")
    if not lines[0].seconds["C loop"]:
        print("left out: no C compiler (cc) here")
        return
    print(f"{'tokens':>9} {'policy':>12} {'simulate':>9} {'kernel':>7}")
    for line in lines:
        print(f"{line.load!s:>9} {line.policy:>12} {line.ratio('simulate'):9.2f} {line.ratio('kernel'):7.2f}")


def print_loads(lines: list[Line]) -> None:
    print()
    for load in dict.fromkeys(line.load for line in lines):
        edge, feasible = load.edge, load.most_under_wait
        lower = "the region's edge" if edge <= feasible else "WAIT's largest feasible rate"
        print(f"{load}, C = {load.capacity:,}: {load.rate:.4g} requests/s, {SHARE:.0%} of {lower} "
              f"(edge {edge:.4g}, WAIT {feasible:.4g})")


def print_seconds(lines: list[Line], compiled: tuple[float, float]) -> None:
    columns = f"{'simulate':>9} {'arrivals':>9} {'kernel':>9} {'C loop':>9} {'iterations':>11} {'evictions':>9}"
    print(f"\n{'tokens':>9} {'policy':>12} {'requests/s':>11} {columns} {'peak MiB':>9} {'B/request':>9}")
    for line in lines:
        loop = f"{1e3 * line.typical('C loop'):6.1f} ms" if line.seconds["C loop"] else "-"
        spent = " ".join(f"{1e3 * line.typical(what):6.1f} ms" for what in ("simulate", "arrivals", "kernel"))
        print(f"{line.load!s:>9} {line.policy:>12} {line.requests / line.typical('simulate'):11,.0f} {spent} {loop:>9} "
              f"{line.iterations:11,} {line.evictions:9,} {line.peak:9.0f} "
              f"{(line.peak - line.loaded) * 2**20 / line.requests:9.0f}")
    loaded = median(line.loaded for line in lines)
    print(f"\nbaseline: {loaded:.0f} MiB with all imported and the compiled code loaded; compiling all rules takes "
          f"{compiled[0]:.0f} s and {compiled[1]:.0f} MiB")


if __name__ == "__main__":
    main()
