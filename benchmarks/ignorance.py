"""What certainty and not knowing lengths cost: bounds beside what policies carry, as shares of the fluid limit.

    python benchmarks/ignorance.py [--iterations 30000] [--seeds 3]

C = 137,000 tokens, d0 = 10.6 ms, d1 = 0.4013 us a KV token, prompts always waiting, first come first served.

    bound, sure         `fluid.bounds.ignorance.under_ignorance`: nobody who knows no length and is sure carries more
    while safe          lets a prompt in while, should all residents last longest, they fit at every iteration to come:
                        sure, and as greedy as a sure policy in this order can be; simulated
    bound, reserving    `while_reserving`
    reserves            lets a prompt in while the longest outputs of all residents fit together; simulated
    one window, never   `thresholds.proved.window.sure_windows`: proved
    one window, 1e-3    `thresholds.proved.chance.chance_window`, an overflow in an hour with probability 1e-3 at most

Completions are counted after the first tenth of the iterations; the +- is twice the standard error over the seeds. The
exit status is 1 where a simulated policy passes its bound by more than that.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fluid import Equilibrium, IterationTime, Lengths, Replica, Workload, read_trace, solve
from fluid.arrays import Floats, Ints
from fluid.bounds.ignorance import kinds, under_ignorance, while_reserving
from thresholds.proved.chance import chance_window
from thresholds.proved.window import sure_windows

REPLICA = Replica(137_000, IterationTime(0.0106, 4.013e-7))
REQUESTS = Path(__file__).parents[1] / "examples" / "requests.csv"
PROVED = ("one window, never", "one window, 1e-3")


def workloads() -> dict[str, Workload]:
    """Mixes at a request/s."""
    chat = Lengths.lognormal(mean=147, median=117, max=2048)
    return {"58 + geometric, mean 147": Workload.from_lengths(58, Lengths.geometric(mean=147), 1.0, bins=400),
            "chat-like, to 2,048": Workload.from_lengths(Lengths.lognormal(mean=58, median=21, max=500), chat, 1.0),
            "512 + 500 to 1,500, evenly": Workload.from_lengths(512, Lengths.uniform(500, 1500), 1.0, bins=400),
            "512 + 20, one in ten 1,000": Workload.from_arrays([512, 512], [20, 1000], [0.9, 0.1]),
            "examples/requests.csv": read_trace(REQUESTS).workload(1.0)}


class Kinds(NamedTuple):
    """What the longest of the kind of each type holds at each stage."""

    of_type: Ints
    held: list[Floats]


def kinds_of(equilibrium: Equilibrium) -> Kinds:
    """The kinds of prompts of a mix."""
    of_type, held = np.zeros(len(equilibrium.workload), dtype=np.int64), []
    for types, units in kinds(equilibrium.profile):
        of_type[types] = len(held)
        held.append(units.astype(np.float64))
    return Kinds(of_type, held)


def carried(equilibrium: Equilibrium, safe: bool, iterations: int, seed: int) -> float:
    """Requests/s of a saturated run: of the policy that looks at every iteration to come, or of the one that reserves.

    `ahead` is the KV at each iteration to come, should all residents last longest; of the other its largest stays.
    """
    generator, profile, rates = np.random.default_rng(seed), equilibrium.profile, equilibrium.workload.rates
    found, capacity, share = kinds_of(equilibrium), float(REPLICA.kv_capacity), rates / rates.sum()
    queue = generator.choice(rates.size, p=share, size=iterations).tolist()
    ahead, reserved, longest = np.zeros(int(profile.stages.max()) + 1), 0.0, int(profile.stages.max())
    ends: dict[int, list[tuple[int, int]]] = {}  # by iteration: kind, stages of who is over then
    overhead, per_token = REPLICA.iteration_time.coefficients[0, :2]
    place, done, time, reading, reads = 0, 0, 0.0, 0.0, [profile.stage_read(j).astype(float) for j in range(rates.size)]
    upcoming = np.zeros(longest + 1)  # KV that residents will read at each iteration to come
    for t in range(iterations):
        while True:
            j = queue[place % len(queue)]
            kind = int(found.of_type[j])
            held = found.held[kind]
            fits = np.all(ahead[: held.size] + held <= capacity) if safe else reserved + held[-1] <= capacity
            if not fits:
                break
            ahead[: held.size] += held
            reserved += held[-1]
            upcoming[: reads[j].size] += reads[j]
            ends.setdefault(t + reads[j].size, []).append((kind, reads[j].size))
            place += 1
        reading = upcoming[0]
        ahead, upcoming = np.append(ahead[1:], 0.0), np.append(upcoming[1:], 0.0)
        for kind, stages in ends.pop(t + 1, []):
            held = found.held[kind]
            ahead[: held.size - stages] -= held[stages:]
            reserved -= held[-1]
            done += t >= iterations // 10
        time += (overhead + per_token * reading) * (t >= iterations // 10)
    return done / time


def interval(equilibrium: Equilibrium, safe: bool, iterations: int, seeds: int) -> tuple[float, float]:
    """The mean over the seeds, and twice its standard error."""
    runs = np.array([carried(equilibrium, safe, iterations, seed) for seed in range(seeds)])
    return float(runs.mean()), float(2 * runs.std(ddof=1) / np.sqrt(seeds))


def row(name: str, mix: Workload, iterations: int, seeds: int) -> bool:
    """Print the shares of one mix; whether no policy passes its bound."""
    equilibrium = solve(mix, REPLICA)
    limit, profile = equilibrium.max_rate_scale, equilibrium.profile
    bounds = [found(profile, mix.rates, REPLICA).scale for found in (under_ignorance, while_reserving)]
    runs = [interval(equilibrium, safe, iterations, seeds) for safe in (True, False)]
    never, seldom = sure_windows(equilibrium, known=False), chance_window(equilibrium, 3600.0, 1e-3)
    windows = [0.0 if found is None else found.factor / limit for found in (never, seldom and seldom.windows)]
    cells = [f"{bounds[0] / limit:.1%}", f"{runs[0][0] / limit:.1%} +-{runs[0][1] / limit:.1%}",
             f"{bounds[1] / limit:.1%}", f"{runs[1][0] / limit:.1%} +-{runs[1][1] / limit:.1%}",
             *(f"{each:.1%}" for each in windows)]
    print("  ".join([f"{name:28}", *(f"{cell:>15}" for cell in cells)]))
    return all(mean - error <= bound for (mean, error), bound in zip(runs, bounds, strict=True))


def main() -> int:
    """One row for each mix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=30_000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    heads = ("bound, sure", "while safe", "bound, reserving", "reserves", "window, never", "window, 1e-3")
    print("  ".join([f"{'share of the fluid limit':28}", *(f"{head:>15}" for head in heads)]))
    held = [row(name, mix, arguments.iterations, arguments.seeds) for name, mix in workloads().items()]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
