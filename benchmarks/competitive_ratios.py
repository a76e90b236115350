"""How far policies are from the optimum on [J]'s synthetic instances: total latency over the hindsight optimum's.

    python benchmarks/competitive_ratios.py [--instances 200] [--time-limit 20] [--folder DIR]

Each instance is solved by `verification.hindsight.hindsight` within the limit, and played by every policy. A ratio is
to the best schedule found; where that is not proved optimal the true ratio may be larger, up to the gap. Published
(arXiv 2502.07115): MC-SF 1.005 all at once and 1.047 over time, 200 instances each. With a folder solved instances are
kept, and the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from fluidwait.progress import counting, note
from verification import t_interval
from verification.hindsight import hindsight
from verification.rounds import (
    MCSF,
    AMin,
    Clearing,
    Instance,
    MCBenchmark,
    Protected,
    RoundPolicy,
    SortedF,
    all_at_once,
    over_time,
    overestimated,
    play,
    two_sided,
    underestimated,
)
from verification.store.program import program
from verification.store.question import Question
from verification.store.store import Store, opened
from verification.store.table import Table

LAWS: dict[str, Callable[[int], Instance]] = {
    "all at once": lambda seed: all_at_once(seed),
    "all at once, equal prompts": lambda seed: all_at_once(seed, equal_prompts=True),
    "over time": lambda seed: over_time(seed),
    "over time, equal prompts": lambda seed: over_time(seed, equal_prompts=True),
}
Seen = Callable[[Instance, int], Instance]
EXACT: Seen = lambda instance, seed: instance  # noqa: E731
POLICIES: dict[str, tuple[RoundPolicy, Seen]] = {
    "mc_sf": (MCSF(), EXACT),
    "mc_sf_twice": (MCSF(), lambda instance, seed: overestimated(instance, 2.0, seed)),
    "mc_sf_error": (MCSF(), lambda instance, seed: two_sided(instance, 0.5, seed)),
    "sorted_f": (SortedF("exact"), EXACT),
    "sorted_f_sweep": (SortedF("sweep"), EXACT),
    "a_min": (AMin(), lambda instance, seed: underestimated(instance, 3.0, seed)),
    "mc_benchmark": (MCBenchmark(), EXACT),
    "clearing": (Clearing(0.2, 0.2), EXACT),
    "protected": (Protected(0.3), EXACT),
}
WORDS = {"mc_sf": "MC-SF", "mc_sf_twice": "MC-SF, lengths taken for up to twice as long",
         "mc_sf_error": "MC-SF, lengths wrong by up to a half", "sorted_f": "Sorted-F, exact",
         "sorted_f_sweep": "Sorted-F, nine orders",
         "a_min": "A_min, bounds from a third of the length", "mc_benchmark": "MC-Benchmark",
         "clearing": "protection 0.2, clearing 0.2", "protected": "protection 0.3"}
TABLE = Table("instances", (("law", "TEXT"), ("seed", "INTEGER"), ("requests", "INTEGER"), ("status", "TEXT"),
                            ("objective", "INTEGER"), ("bound", "INTEGER"), ("seconds", "REAL"),
                            *((name, "INTEGER") for name in POLICIES), ("rescues", "INTEGER")), ("law", "seed"))


def main() -> None:
    """Solve what is missing and print a table for each law."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=200, help="of each law")
    parser.add_argument("--time-limit", type=float, default=20.0, help="seconds for the optimum of an instance")
    parser.add_argument("--folder", type=Path, default=None, help="where solved instances are kept")
    given = parser.parse_args()
    wanted = [(law, seed) for law in LAWS for seed in range(given.instances)]
    with kept(given.folder, given.time_limit) as store:
        rows = {} if store is None else {row[:2]: row for row in store.rows}
        missing = [each for each in wanted if each not in rows]
        jobs = (delayed(solved)(*each, given.time_limit) for each in missing)
        with counting("solving instances") as progress:
            for done, row in enumerate(Parallel(n_jobs=-1, return_as="generator_unordered")(jobs), 1):
                rows[row[:2]] = row
                if store is not None:
                    store.add([row])
                progress(done, len(missing))
    for law in LAWS:
        show(law, [rows[law, seed] for seed in range(given.instances)])


@contextmanager
def kept(folder: Path | None, time_limit: float) -> Iterator[Store | None]:
    """The store of a folder, if any."""
    if folder is None:
        yield None
        return
    question = Question.of(time_limit=time_limit, program=program("ratios 2"))
    with opened(folder, "ratios.sqlite", question, TABLE, note) as store:
        yield store


def solved(law: str, seed: int, time_limit: float) -> tuple[object, ...]:
    """One instance: its optimum, and what every policy costs."""
    instance = LAWS[law](seed)
    best = hindsight(instance, time_limit=time_limit)
    played = [play(policy, seen(instance, seed), seed=seed) for policy, seen in POLICIES.values()]
    return (law, seed, len(instance), best.status, best.objective, best.bound, best.seconds,
            *(schedule.total_latency for schedule in played), played[-1].rescues)


def show(law: str, rows: list[tuple[object, ...]]) -> None:
    """The ratios of one law."""
    columns = dict(zip(TABLE.names, zip(*rows, strict=True), strict=True))
    objective, bound = (np.array(columns[name], dtype=float) for name in ("objective", "bound"))
    gaps, seconds = 1 - bound / objective, np.array(columns["seconds"], dtype=float)
    print(f"\n{law}: {len(rows)} instances of {min(columns['requests'])} to {max(columns['requests'])} requests, "
          f"{np.mean(objective == bound):.0%} proved optimal, gap {gaps.mean():.2%} on average, {gaps.max():.2%} at "
          f"most; median {np.median(seconds):.1f} s, longest {seconds.max():.1f} s")
    print("| policy | mean ratio | 95% interval | largest | at the optimum |\n|---|---|---|---|---|")
    for name in POLICIES:
        ratios = np.array(columns[name], dtype=float) / objective
        mean, low, high = t_interval(ratios)
        print(f"| {WORDS[name]} | {mean:.3f} | [{low:.3f}, {high:.3f}] | {ratios.max():.3f} | "
              f"{np.mean(ratios <= 1):.0%} |")
    for_ever = np.mean(np.array(columns["rescues"]) > 0)
    print(f"protection 0.3 repeats itself for ever, but for a rescue, on {for_ever:.0%} of the instances")


if __name__ == "__main__":
    main()
