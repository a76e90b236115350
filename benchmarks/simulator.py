"""How fast the simulator is: requests per second, cost per iteration, peak memory.

    python benchmarks/simulator.py [--requests 1000000] [--repeats 7]

Seconds depend on the machine, ratios within one run much less, so the report leads with them; every ratio is the median
of ratios of timings taken right after one another. All runs on one core, so seconds are processor time: those of an
idle machine, whoever else uses this one.

**Requests per second.** WAIT and greedy (watermark 0) at 512+20 tokens with C = 137,000 and at 512+1000 tokens with
C = 4,000,000, where literal WAIT is feasible; d0 = 10.6 ms, d1 = 0.401 us; at 80% of the region's edge or of the
largest rate at which WAIT is feasible, whichever is lower. Timed are

    simulate    as a user calls it: Poisson arrivals, arrays, kernel, result
    arrivals    drawing the arrivals alone
    kernel      the compiled decision rule alone, its arrays made before the clock starts
    C loop      `yardstick.c`: greedy without eviction for one type, compiled with `cc -O2`, on the same arrivals. It
                serves as the unit for WAIT too. Its mean latency must agree with the greedy kernel's to 1e-9.

Peak memory is that of a fresh process per line that makes one full `simulate` call; beside it the peak of a process
that imports everything and loads the compiled code, and of one that compiles it.

**Cost per iteration.** Iterations of the four cells above are not alike: at 512+20 some five requests enter in each, at
512+1000 a tenth of one, and requests that enter or leave are what an iteration costs. So the long and the short
workload are compared at the same number of entering requests: the rates are chosen such that the equilibrium has
n* = 1.6 prompts per stage in both, which makes the WAIT threshold 2 in both. Then two requests enter each WAIT
iteration, and 1.6 on average a greedy one. The four kernels are timed in turn in one process.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import thresholds
from fluid import IterationTime, PromptType, Replica, Workload, solve, stage_profile
from thresholds import WaitPolicy
from verification import Arrivals, Greedy, poisson_arrivals, simulate
from verification.arrivals import stream
from verification.engine import EVICTIONS, ITERATION, NO_CAP, Problem, State, make_problem, make_state
from verification.simulate import RULES, Policy

SHARE = 0.8  # of the edge
INVENTORY = 1.6  # prompts per stage, for the cost per iteration
D0, D1 = 0.0106, 0.401e-6
POLICIES = ("WAIT", "greedy")


@dataclass(frozen=True)
class Load:
    """One prompt type at a rate (requests/s) on a replica of `capacity` KV tokens."""

    prompt: int
    output: int
    capacity: int
    rate: float = 1.0

    @property
    def workload(self) -> Workload:
        return Workload([PromptType(self.prompt, self.output, self.rate)])

    @property
    def replica(self) -> Replica:
        return Replica(self.capacity, IterationTime(D0, D1))

    def __str__(self) -> str:
        return f"{self.prompt}+{self.output}"

    def policy(self, name: str) -> WaitPolicy | Greedy:
        return thresholds.wait(self.workload, self.replica) if name == "WAIT" else Greedy(watermark=0.0)

    def arrivals(self, requests: int) -> Arrivals:
        return poisson_arrivals(self.workload, requests / self.rate, stream(0, 0))

    def problem(self, arrivals: Arrivals) -> Problem:
        profile = stage_profile(self.workload, self.replica)
        return make_problem(arrivals, profile, self.replica, math.inf)


SHORT, LONG = Load(512, 20, 137_000), Load(512, 1000, 4_000_000)


def limits(load: Load) -> tuple[float, float]:
    """Requests/s at the region's edge, and the most at which WAIT is feasible."""
    unit = Load(load.prompt, load.output, load.capacity)
    return (solve(unit.workload, unit.replica).max_rate_scale,
            thresholds.wait(unit.workload, unit.replica).max_rate_scale)


def near_the_edge(load: Load) -> Load:
    """The load at 80% of the lower of its two limits."""
    return Load(load.prompt, load.output, load.capacity, SHARE * min(limits(load)))


def with_inventory(load: Load) -> Load:
    """The load at the rate whose equilibrium is n*: lambda = n* / (d0 + n* c)."""
    work = stage_profile(load.workload, load.replica).time_work(load.replica.iteration_time)[0, 0]
    return Load(load.prompt, load.output, load.capacity, INVENTORY / (D0 + INVENTORY * work))


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

    def ratio(self, what: str, to: str) -> float:
        return median(a / b for a, b in zip(self.seconds[what], self.seconds[to], strict=True))


def timed(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def peak_memory() -> float:
    """The largest resident size of this process so far, MiB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**20 if sys.platform == "darwin" else used / 2**10


def rule(policy: Policy, problem: Problem, state: State) -> Callable[[], None]:
    """The compiled rule from the empty system to the end, its arrays made."""
    kernel = next(rule for each, rule in RULES.items() if isinstance(policy, each))(policy, problem)
    return lambda: kernel(state, NO_CAP)


def yardstick(library: str, load: Load, problem: Problem, finished: np.ndarray) -> Callable[[], None]:
    """The C loop; `finished` receives the completion times."""
    calendar = np.zeros(load.output + 1, dtype=np.int64)
    double, long = ctypes.c_double, ctypes.c_long
    arrays = [array.ctypes.data_as(ctypes.c_void_p) for array in (problem.times, finished, calendar)]
    numbers = [long(load.prompt), long(load.output), long(load.capacity), double(D0), double(D1)]
    function = ctypes.CDLL(library).greedy
    function.restype = long

    def loop() -> None:
        if function(long(len(finished)), *arrays, *numbers) < 0:
            raise SystemExit(f"the C loop met an eviction at {load}")

    return loop


def million(load: Load, name: str, requests: int, repeats: int, library: str | None) -> Line:
    """Time one cell, in a process of its own."""
    policy, workload, replica = load.policy(name), load.workload, load.replica
    horizon = requests / load.rate
    simulate(policy, workload, replica, horizon=min(horizon, 1000 / load.rate))
    loaded = peak_memory()
    run = simulate(policy, workload, replica, horizon=horizon)
    counts, peak = (len(run.arrivals), run.iterations, run.evictions), peak_memory()
    problem = load.problem(run.arrivals)
    seconds: dict[str, list[float]] = {"simulate": [], "arrivals": [], "kernel": [], "C loop": []}
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
    """Seconds to compile both rules and the peak memory (MiB) after it."""
    spent = timed(lambda: [simulate(SHORT.policy(name), SHORT.workload, SHORT.replica, horizon=10.0)
                           for name in POLICIES])
    return spent, peak_memory()


def iterations(requests: int, repeats: int) -> dict[tuple[str, str], tuple[float, list[float]]]:
    """By workload and policy: requests per iteration, and nanoseconds per iteration of each round."""
    problems = {str(load): (load, load.problem(load.arrivals(requests)))
                for load in (with_inventory(SHORT), with_inventory(LONG))}
    found: dict[tuple[str, str], tuple[float, list[float]]] = {}
    for turn in range(repeats + 1):  # the first warms up
        for key in [(workload, name) for name in POLICIES for workload in problems]:
            load, problem = problems[key[0]]
            state = make_state(problem, 0)
            spent = timed(rule(load.policy(key[1]), problem, state))
            if state.counts[EVICTIONS]:
                raise SystemExit(f"{key} met an eviction: its iterations are not alike")
            each = found.setdefault(key, (len(problem.times) / state.counts[ITERATION], []))[1]
            if turn:
                each.append(1e9 * spent / state.counts[ITERATION])
    return found


def in_a_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def build_yardstick(folder: str) -> str | None:
    """Compile the C loop; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = str(Path(folder) / "yardstick.so")
    source = str(Path(__file__).with_name("yardstick.c"))
    # no fused multiply-add: the Python text does not have it either
    subprocess.run([compiler, "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


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
        say("cost per iteration")
        steps = in_a_fresh_process(iterations, asked.requests, asked.repeats)
    print_ratios(lines, steps)
    print_loads(lines)
    print_seconds(lines, compiled)


def say(text: str) -> None:
    print(text, "...", file=sys.stderr, flush=True)


def print_ratios(lines: list[Line], steps: dict[tuple[str, str], tuple[float, list[float]]]) -> None:
    print("Ratios to the C loop on the same arrivals (median of rounds)\n")
    if not lines[0].seconds["C loop"]:
        print("left out: no C compiler (cc) here")
    else:
        print(f"{'tokens':>9} {'policy':>7} {'simulate':>9} {'kernel':>7}")
        for line in lines:
            print(f"{line.load!s:>9} {line.policy:>7} {line.ratio('simulate', 'C loop'):9.2f} "
                  f"{line.ratio('kernel', 'C loop'):7.2f}")
    print(f"\nCost per iteration, {LONG} over {SHORT}, as many requests entering each (n* = {INVENTORY})\n")
    print(f"{'policy':>9} {'ratio':>6} {'ns':>13} {'requests/iteration':>20}")
    for name in POLICIES:
        short, long = (steps[str(load), name] for load in (SHORT, LONG))
        ratio = median(b / a for a, b in zip(short[1], long[1], strict=True))
        print(f"{name:>9} {ratio:6.2f} {f'{median(long[1]):.0f} / {median(short[1]):.0f}':>13} "
              f"{f'{long[0]:.2f} / {short[0]:.2f}':>20}")


def print_loads(lines: list[Line]) -> None:
    print()
    for load in dict.fromkeys(line.load for line in lines):
        edge, feasible = limits(load)
        lower = "the region's edge" if edge <= feasible else "WAIT's largest feasible rate"
        print(f"{load}, C = {load.capacity:,}: {load.rate:.4g} requests/s, {SHARE:.0%} of {lower} "
              f"(edge {edge:.4g}, WAIT {feasible:.4g}); "
              f"WAIT threshold {thresholds.wait(load.workload, load.replica).thresholds[0]}")


def print_seconds(lines: list[Line], compiled: tuple[float, float]) -> None:
    columns = f"{'simulate':>9} {'arrivals':>9} {'kernel':>9} {'C loop':>9} {'iterations':>11} {'evictions':>9}"
    print(f"\n{'tokens':>9} {'policy':>7} {'requests/s':>11} {columns} {'peak MiB':>9} {'B/request':>9}")
    for line in lines:
        loop = f"{1e3 * line.typical('C loop'):6.1f} ms" if line.seconds["C loop"] else "-"
        spent = " ".join(f"{1e3 * line.typical(what):6.1f} ms" for what in ("simulate", "arrivals", "kernel"))
        print(f"{line.load!s:>9} {line.policy:>7} {line.requests / line.typical('simulate'):11,.0f} {spent} {loop:>9} "
              f"{line.iterations:11,} {line.evictions:9,} {line.peak:9.0f} "
              f"{(line.peak - line.loaded) * 2**20 / line.requests:9.0f}")
    loaded = median(line.loaded for line in lines)
    print(f"\nbaseline: {loaded:.0f} MiB with all imported and the compiled code loaded; compiling both rules takes "
          f"{compiled[0]:.0f} s and {compiled[1]:.0f} MiB")


if __name__ == "__main__":
    main()
