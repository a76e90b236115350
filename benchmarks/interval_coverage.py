"""How often the intervals that `fluidwait verify` prints hold the truth, and how often they say that they may not.

Single servers whose mean delays are known exactly: one sequence at a time, an iteration of one second, the first token
from the prefill, so that a request of R output tokens is served for R seconds (M/G/1). With rho the load,

    TTFT = lambda E[R^2] / (2 (1 - rho)) + 1 s,    latency = TTFT - 1 s + E[R],    throughput = lambda E[R] tokens/s

(Pollaczek and Khinchine). R is 1, geometric, or Pareto of index 2.5 and 1.5 (cut where a request in 10^6 is longer, and
rounded to grid points 10% apart). Beside them a GPU with chat traffic at 70% of its edge, whose truth is the mean over
all experiments. Each experiment is one `verify`: replications from empty of so many requests, 95% intervals.

Columns: the share of the experiments whose interval holds the truth; the share that are printed without a doubt; how
many of those hold it; the share of all experiments whose interval is printed without a doubt and does not hold it. With
one replication the interval is that of batch means. Verdicts that cannot decide are left undecided: longer horizons
would change no interval.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fluid import IterationTime, PromptType, Replica, Workload, solve
from verification import Greedy, Interval, Verification, verify
from verification.experiments import stability

SERVER = Replica(10**9, IterationTime(1.0, 0.0), max_num_seqs=1, first_token="prefill")
GPU = Replica(137_000, IterationTime(0.0106, 4.013e-7))
CHAT = Workload([PromptType(512, 20, 20.0), PromptType(200, 200, 5.0), PromptType(1000, 50, 5.0)])
MEASURES = ("latency", "ttft", "throughput")
RAREST, STEP = 1e-6, 1.1


class System(NamedTuple):
    """A name, what arrives, where, and the truth of each measure (none: the mean over all experiments)."""

    name: str
    workload: Workload
    replica: Replica
    truth: dict[str, float]


def main() -> None:
    """Print a line for each system and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=300)
    parser.add_argument("--replications", type=int, default=10)
    parser.add_argument("--requests", type=int, default=20_000, help="in a replication, on average")
    parser.add_argument("--only", default="", help="systems whose name contains this")
    options = parser.parse_args()
    stability.DOUBLINGS = 0
    print(f"{options.experiments} experiments of {options.replications} replications of {options.requests:,} requests")
    print(f"{'system':24}{'measure':12}{'holds':>8}{'sure':>8}{'holds where sure':>18}{'sure and wrong':>16}")
    for system in systems():
        if options.only in system.name:
            report(system, options)


def report(system: System, options: argparse.Namespace) -> None:
    """Run the experiments of one system and print what they say."""
    began, found = time.process_time(), []
    for seed in range(options.experiments):
        experiment = verify(Greedy(), system.workload, system.replica, seed=1000 + seed,
                            horizon=options.requests / system.workload.rate, replications=options.replications)
        found.append({name: (interval_of(experiment, name), is_sure(experiment, name)) for name in MEASURES})
    for name in MEASURES:
        truth = system.truth.get(name, float(np.mean([each[name][0].mean for each in found])))
        holds = np.array([each[name][0].holds(truth) for each in found])
        sure = np.array([each[name][1] for each in found])
        where = f"{holds[sure].mean():.1%} ± {1.96 * deviation(holds[sure]):.1%}" if sure.any() else "-"
        print(f"{system.name:24}{name:12}{holds.mean():8.1%}{sure.mean():8.1%}{where:>18}"
              f"{(sure & ~holds).mean():16.1%}", flush=True)
    print(f"{'':24}{time.process_time() - began:.0f} s of processor time", flush=True)


def interval_of(found: Verification, name: str) -> Interval:
    """The interval that is printed: over replications or, of a single one, from inside it."""
    if found.inside is not None:
        return Interval(*getattr(found.inside, name).interval)
    return Interval(*getattr(found, name))


def is_sure(found: Verification, name: str) -> bool:
    """Whether it is printed without a doubt."""
    doubted = getattr(found, "doubted", ())  # programs from before there were doubts have only those of batch means
    valid = found.inside is None or getattr(found.inside, name).valid
    return valid and name not in doubted


def deviation(holds: np.ndarray) -> float:
    """Standard error of a share, at least that of one failure."""
    share = min(float(holds.mean()), 1 - 1 / (len(holds) + 1))
    return math.sqrt(share * (1 - share) / len(holds))


def systems() -> Iterator[System]:
    """M/D/1 at three loads, geometric and Pareto services, the GPU."""
    for load in (0.5, 0.9, 0.98):
        yield single_server(f"M/D/1 at {load:g}", np.array([1]), np.array([1.0]), load)
    for load in (0.5, 0.9):
        geometric = np.arange(1, 200)
        yield single_server(f"geometric at {load:g}", geometric, 0.1 * 0.9 ** (geometric - 1), load)
    for index in (2.5, 1.5):
        yield single_server(f"Pareto {index:g} at 0.5", *pareto(index), 0.5)
    yield System("GPU, chat at 0.7", CHAT.scaled(0.7 * solve(CHAT, GPU).max_rate_scale), GPU, {})


def pareto(index: float) -> tuple[np.ndarray, np.ndarray]:
    """Lengths from 3 on and their shares: P(R > x) = (3/x)^index at grid points."""
    longest = 3 * RAREST ** (-1 / index)
    edges = 3 * STEP ** np.arange(math.ceil(math.log(longest / 3, STEP)) + 1)
    above = (3 / edges) ** index
    lengths, places = np.unique(np.rint(np.sqrt(edges[:-1] * edges[1:])).astype(np.int64), return_inverse=True)
    return lengths, np.bincount(places, weights=above[:-1] - above[1:])


def single_server(name: str, lengths: np.ndarray, shares: np.ndarray, load: float) -> System:
    """M/G/1 at a load, with its exact means."""
    shares = shares / shares.sum()
    mean, square = float(shares @ lengths), float(shares @ lengths.astype(float) ** 2)
    rate = load / mean
    wait = rate * square / (2 * (1 - load))
    workload = Workload.from_arrays(np.ones(len(lengths), dtype=np.int64), lengths, rate * shares)
    return System(name, workload, SERVER, {"latency": wait + mean, "ttft": wait + 1, "throughput": rate * mean})


if __name__ == "__main__":
    main()
