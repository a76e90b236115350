"""The powers of [A, Theorem 1] measured: gap and wait of WAIT against zeta T, at the boundary and with a slack.

    python benchmarks/heavy_traffic.py [--width 0.02] [--folder DIR]

From empty, 13 sizes over three decades from 100 iterations on, replications added until each slope is known to the
width. With a folder finished replications are kept there, and the same command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fluid import IterationTime, PromptType, Replica, Workload, solve
from fluidwait.progress import counting
from thresholds import WaitPolicy, balanced_rates, batch_time
from verification.asymptotics import experiment, slope

REPLICA = Replica(137_000, IterationTime(overhead=0.0106, per_kv_token=4.013e-7))
SHORT, LONGER = PromptType(512, 20, 1.0), PromptType(100, 60, 1.0)
SYSTEMS = {
    "512 + 20, n = 2": (WaitPolicy((2,)), Workload([SHORT])),
    "512 + 20, n = 10": (WaitPolicy((10,)), Workload([SHORT])),
    "512 + 20 and 100 + 60, n = (3, 2)": (WaitPolicy((3, 2)), Workload([SHORT, LONGER])),
}
PLACES = {"boundary": 0.0, "slack 10%": 0.1}
THEORY = {"boundary": {"gap": -0.5, "wait": 0.5}, "slack 10%": {"gap": -1.0, "wait": 0.0}}


def main() -> None:
    """Print a row for each system, place and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=0.02, help="half the width of a slope's interval")
    parser.add_argument("--folder", type=Path, default=None, help="where finished replications are kept")
    given = parser.parse_args()
    print("| system | place | measure | theory | slope | 95% interval | bend | fit p | replications |")
    print("|---|---|---|---|---|---|---|---|---|")
    for number, (name, (policy, lengths)) in enumerate(SYSTEMS.items()):
        for place, slack in PLACES.items():
            rates = balanced_rates(policy, lengths, REPLICA, slack=slack)
            delta = batch_time(solve(rates, REPLICA), np.array(policy.thresholds, dtype=float))
            folder = None if given.folder is None else given.folder / f"{number}-{slack:g}"
            with counting(f"{name}, {place}") as progress:
                found = experiment(policy, rates, REPLICA, np.logspace(0, 3, 13), 100 * delta, 100, width=given.width,
                                   folder=folder, progress=progress)
            for measure, power in THEORY[place].items():
                law = slope(found, measure)
                print(f"| {name} | {place} | {measure} | {power:+g} | {law.value.mean:+.3f} | "
                      f"[{law.value.low:+.3f}, {law.value.high:+.3f}] | {law.bend.mean:+.3f} | {law.fit:.2g} | "
                      f"{found.replications} |", flush=True)


if __name__ == "__main__":
    main()
