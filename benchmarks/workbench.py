"""What the benchmarks of the simulator share: loads, every policy on them, the C loop, a clock.

Seconds are processor time: those of an idle machine, whoever else uses this one.
"""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import thresholds
from fluid import IterationTime, PromptType, Replica, Workload, solve, stage_profile
from thresholds import NestedWaitPolicy, PacedPolicy
from verification import (
    MCSF,
    AMin,
    Arrivals,
    Clearing,
    Greedy,
    MCBenchmark,
    Protected,
    Sarathi,
    SortedF,
    VllmV0,
    VllmV1,
    poisson_arrivals,
)
from verification.engine.state import NO_CAP, Problem, State, make_problem
from verification.policies import Policy
from verification.rules import rule_of
from verification.traffic.arrivals import stream

D0, D1 = 0.0106, 0.401e-6
LOOKING_AHEAD = ("MC-SF", "MC-Benchmark", "A_min", "Sorted-F")
POLICIES = ("WAIT", "paced", "greedy", "vLLM V1", "vLLM v0", "Sarathi", "nested", *LOOKING_AHEAD, "protected",
            "clearing")
MADE: dict[str, Policy] = {
    "greedy": Greedy(0.0), "vLLM V1": VllmV1(2048), "vLLM v0": VllmV0(0.0), "Sarathi": Sarathi(2048, 0.0),
    "MC-SF": MCSF(), "MC-Benchmark": MCBenchmark(), "A_min": AMin(bound=1), "Sorted-F": SortedF(),
    "protected": Protected(), "clearing": Clearing(),
}
SHARE = 0.8  # of the edge


@dataclass(frozen=True)
class Load:
    """Prompts of `prompt` tokens with `output` tokens, in `types` types around them, at `rate` requests/s in all."""

    prompt: int
    output: int
    capacity: int
    rate: float = 1.0
    types: int = 1

    @property
    def workload(self) -> Workload:
        if self.types == 1:
            return Workload([PromptType(self.prompt, self.output, self.rate)])
        spread = np.linspace(0.2, 1.8, self.types)
        outputs = np.rint(self.output * spread).astype(np.int64).clip(1)
        prompts = np.random.default_rng(0).permutation(np.rint(self.prompt * spread).astype(np.int64).clip(1))
        return Workload.from_arrays(prompts, outputs, np.full(self.types, self.rate / self.types))

    @property
    def replica(self) -> Replica:
        return Replica(self.capacity, IterationTime(D0, D1))

    def __str__(self) -> str:
        return f"{self.prompt}+{self.output}"

    def at(self, rate: float) -> Load:
        return replace(self, rate=rate)

    @property
    def edge(self) -> float:
        """Requests/s at the region's edge."""
        unit = self.at(1.0)
        return solve(unit.workload, unit.replica).max_rate_scale

    @property
    def most_under_wait(self) -> float:
        """Requests/s up to which WAIT is feasible."""
        unit = self.at(1.0)
        return thresholds.wait(unit.workload, unit.replica).max_rate_scale

    def with_inventory(self, prompts: float) -> Load:
        """The load at the rate whose equilibrium is n* prompts per stage: lambda = n* / (d0 + n* c)."""
        work = stage_profile(self.at(1.0).workload, self.replica).time_work(self.replica.iteration_time)[0].mean()
        return self.at(float(prompts / (D0 + prompts * work)))

    def policy(self, name: str) -> Policy:
        """The policy of a name for this load: thresholds where they exist, else one prompt of each type."""
        if name in MADE:
            return MADE[name]
        workload = self.workload
        if name == "WAIT":
            return thresholds.wait(workload, self.replica)
        inventory = solve(workload, self.replica).inventory.sum()
        if name == "paced":
            return PacedPolicy((max(math.ceil(20 * inventory * 1.1), 1),), (20,))
        return self._nested(workload, inventory)

    def _nested(self, workload: Workload, inventory: float) -> NestedWaitPolicy:
        """Three segments, a tenth and more above what flows through each; one where all outputs are alike."""
        longest = int(workload.output_tokens.max())
        cuts = (longest,) if self.types == 1 else (longest // 3, 2 * longest // 3, longest)
        beyond = [float(workload.rates[workload.output_tokens > cut].sum() / self.rate) for cut in (0, *cuts[:-1])]
        return NestedWaitPolicy(cuts, tuple(max(math.ceil(inventory * share * 1.1 * 1.05**k), 1)
                                            for k, share in enumerate(beyond)))

    def arrivals(self, requests: int) -> Arrivals:
        return poisson_arrivals(self.workload, requests / self.rate, stream(0, 0))

    def problem(self, arrivals: Arrivals) -> Problem:
        return make_problem(arrivals, stage_profile(self.workload, self.replica), self.replica, math.inf)


SHORT, LONG = Load(512, 20, 137_000), Load(512, 1000, 4_000_000)


def near_the_edge(load: Load) -> Load:
    """The load at 80% of the region's edge or of the most WAIT is feasible at, whichever is lower."""
    return load.at(SHARE * min(load.edge, load.most_under_wait))


def timed(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def rule(policy: Policy, problem: Problem, state: State) -> Callable[[], None]:
    """The compiled rule from the empty system to the end, its arrays made."""
    kernel = rule_of(policy).kernel(policy, problem)
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


def in_a_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def say(text: str) -> None:
    print(text, "...", file=sys.stderr, flush=True)
