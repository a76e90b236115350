"""How the cost of a simulation grows: with the number of requests, the load, the output length, the types.

    python benchmarks/growth.py [--requests 200000] [--repeats 3]

A request costs what happens to it: its arrival, admission, first token, completion, and a share of the decisions. What
it decodes in between costs next to nothing, so the cost of one should hardly depend on any of these. For each policy
one of them grows, the others stay, and the exponent is the slope of ln(processor time of a request under `simulate`,
arrivals included) over ln(what grows):

    requests   a tenth of the number asked for, up to ten times it, at 512+20, C = 137,000, 80% of the edge
    load       512+1000, C = 137,000, from 0.5% to 70% of the edge. From some 2% on requests share the GPU; below, one
               is alone, and an iteration is a request's own: the C loop, which steps through them, is shown beside it
    output     from 20 to 5,120 tokens, at n* = 1.6 prompts per stage throughout, on a cache that takes them
    types      from 1 to 10,000, prompts 512 and outputs 200 +- 80% of it, at 60% of the edge, C = 1,000,000; WAIT is
               left out: it needs a cohort of each type
    crowd      a hundredth of the requests asked for, up to all of them, of 1,000 such types, at twice the edge of a
               cache of 137,000 tokens: at the end about half of them wait. For rules that look ahead

Every figure is the median over rounds in which all policies take their turn. Beside the exponent stands the largest
cost of a request over the smallest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from workbench import (
    LONG,
    LOOKING_AHEAD,
    POLICIES,
    SHORT,
    Load,
    build_yardstick,
    near_the_edge,
    say,
    timed,
    yardstick,
)

from verification import simulate

C_LOOP = "C loop"
Point = tuple[float, Load, int]  # what grows, the load, the requests


def growing_requests(requests: int) -> list[Point]:
    load = near_the_edge(SHORT)
    return [(n, load, n) for n in (requests // 10, requests, 10 * requests)]


def growing_load(requests: int) -> list[Point]:
    load = Load(LONG.prompt, LONG.output, SHORT.capacity)
    shares = (0.005, 0.02, 0.08, 0.3, 0.7)
    return [(share, load.at(share * load.edge), requests // 4) for share in shares]


def growing_output(requests: int) -> list[Point]:
    outputs = (20, 80, 320, 1280, 5120)
    return [(o, Load(512, o, 10**9).with_inventory(1.6), requests) for o in outputs]


def growing_types(requests: int) -> list[Point]:
    loads = (Load(512, 200, 1_000_000, types=types) for types in (1, 10, 100, 1000, 10_000))
    return [(load.types, load.at(0.6 * load.edge), requests) for load in loads]


def growing_crowd(requests: int) -> list[Point]:
    load = Load(512, 200, SHORT.capacity, types=1000)
    return [(n, load.at(2 * load.edge), n) for n in (requests // 100, requests // 10, requests)]


SERIES: dict[str, tuple[Callable[[int], list[Point]], tuple[str, ...]]] = {
    "requests": (growing_requests, POLICIES),
    "load": (growing_load, tuple(name for name in POLICIES if name != "WAIT")),  # infeasible there
    "output": (growing_output, POLICIES),
    "types": (growing_types, tuple(name for name in POLICIES if name != "WAIT")),
    "crowd": (growing_crowd, LOOKING_AHEAD),
}


def costs(points: Sequence[Point], names: Sequence[str], repeats: int, library: str | None) -> dict[str, list[float]]:
    """Nanoseconds of a request, by policy and point; of the C loop where one type makes it apply."""
    found: dict[str, list[float]] = {}
    for _, load, requests in points:
        for name in names:
            policy, horizon = load.policy(name), requests / load.rate
            seconds = []
            for turn in range(repeats + 1):  # the first warms up
                spent = timed(lambda: simulate(policy, load.workload, load.replica, horizon=horizon))  # noqa: B023
                seconds += [spent] if turn else []
            found.setdefault(name, []).append(1e9 * median(seconds) / requests)
        if library and load.types == 1:
            problem = load.problem(load.arrivals(requests))
            loop = yardstick(library, load, problem, np.full(len(problem.times), np.nan))
            found.setdefault(C_LOOP, []).append(1e9 * median(timed(loop) for _ in range(repeats)) / requests)
    return found


def measure(requests: int, repeats: int, library: str | None) -> dict[str, tuple[list[Point], dict[str, list[float]]]]:
    found = {}
    for series, (points_of, names) in SERIES.items():
        say(f"growth with {series}")
        points = points_of(requests)
        found[series] = (points, costs(points, names, repeats, library))
    return found


def exponent(points: Sequence[Point], cost: Sequence[float]) -> float:
    return float(np.polyfit(np.log([x for x, _, _ in points]), np.log(cost), 1)[0])


def print_growth(found: dict[str, tuple[list[Point], dict[str, list[float]]]]) -> None:
    print("\nGrowth of the cost of a request: exponent (largest cost / smallest)\n")
    print(f"{'policy':>12} " + " ".join(f"{series:>16}" for series in found))
    for name in (*POLICIES, C_LOOP):
        cells = []
        for points, cost in found.values():
            mine = cost.get(name, [])
            shown = f"{exponent(points, mine):+.2f} ({max(mine) / min(mine):.1f})" if len(mine) == len(points) else "-"
            cells.append(f"{shown:>16}")
        print(f"{name:>12} " + " ".join(cells))
    points, cost = found["load"]
    if C_LOOP in cost:
        print("\n512+1000, C = 137,000: `simulate` over the C loop, by share of the edge\n")
        print(f"{'policy':>12} " + " ".join(f"{share:>8.1%}" for share, _, _ in points))
        for name in cost:
            ratios = (a / b for a, b in zip(cost[name], cost[C_LOOP], strict=True))
            print(f"{name:>12} " + " ".join(f"{ratio:8.2f}" for ratio in ratios))


def main() -> None:
    parser = argparse.ArgumentParser(description="How the cost of a simulation grows.")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        print_growth(measure(asked.requests, asked.repeats, build_yardstick(folder)))


if __name__ == "__main__":
    main()
