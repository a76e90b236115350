"""What a promise costs where the law of lengths is known by so many rows, and how often it is broken without that.

    python benchmarks/few_rows.py [--designs 30] [--seed 0]

Chat-like requests: prompts lognormal with mean 58 and median 21 tokens, outputs with mean 147 and median 117, both cut
at half of L = 4,096 tokens. C = 137,000 tokens, d0 = 10.6 ms, d1 = 0.4013 us; KV may exceed C within an hour with
probability at most 1e-3, with confidence 95% over the rows. The first table has the share of the fluid limit that one
window keeps, the mean over three draws of m rows:

    law of the rows   as if the m rows were the law, the tight bound: what is carried, not what is promised
    with longest      the same for that law with a share ln(20)/m of requests of L tokens: such a law shows none of them
                      in m rows with probability 5%, so that a promise with confidence 95% must hold for it
    one mean          `thresholds.paced_wait.confident_window`: one bounded number, at all ages at once
    each stage        the tight bound for the cautious law of `thresholds.rows`, its prompts as short as they are:
                      confidence for the chance to go on at every stage by itself

The second counts the designs that break their promise: from as many draws of m rows, the chance of an overflow under
the true law (400,000 pairs), bounded from both sides. From below: N prompts enter together every g iterations; the KV
at one moment is a sum of independent numbers, whose law is an N-fold convolution, exact up to rounding; moments as far
apart as the longest life are independent. From above: the block Chernoff bound for the true law. `open` lies between.
"""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

import numpy as np

from fluid import Equilibrium, IterationTime, Replica, Workload, solve, stage_profile
from fluid.arrays import Ints
from thresholds.paced_wait.confident_window import confident_window
from thresholds.paced_wait.overflow import OverflowProblem, overflow_problem
from thresholds.paced_wait.random_prompt import LengthMix
from thresholds.rows import Rows, cautious

LONGEST, CONFIDENCE, HORIZON, PROBABILITY = 4096, 0.95, 3600.0, 1e-3
REPLICA = Replica(137_000, IterationTime(0.0106, 4.013e-7), max_model_len=LONGEST)
MEAN_AND_MEDIAN = ((58, 21), (147, 117))
PRICED, BROKEN = (100, 300, 1000, 3000, 10_000), (100, 300, 1000)
TRUTH, CELLS = 400_000, 2**18


class Window(NamedTuple):
    """At most N in any g iterations."""

    entries: int
    iterations: int


def drawn(rng: np.random.Generator, count: int) -> tuple[Ints, Ints]:
    """Prompt and output tokens of so many requests."""
    lengths = [np.maximum(1, np.rint(rng.lognormal(math.log(median), math.sqrt(2 * math.log(mean / median)), count)))
               for mean, median in MEAN_AND_MEDIAN]
    prompt, output = np.minimum(lengths, LONGEST // 2).astype(np.int64)
    return prompt, output


def law_of(prompt: Ints, output: Ints) -> Workload:
    """Every request equally likely, one a second."""
    return Workload.from_arrays(prompt, output, np.full(prompt.size, 1 / prompt.size))


def problem_of(equilibrium: Equilibrium) -> OverflowProblem:
    """The promise."""
    return overflow_problem(equilibrium, horizon=HORIZON, overflow_probability=PROBABILITY)


def share(window: Window, equilibrium: Equilibrium) -> float:
    """The largest rate that a window carries over the fluid limit, for the law of an equilibrium."""
    rate = window.entries / window.iterations
    work = float(equilibrium.profile.kv_work @ equilibrium.workload.rates)
    line = REPLICA.iteration_time.pieces[0]
    return rate / (line.overhead + line.per_kv_token * work * rate) / equilibrium.max_rate_scale


def windows(prompt: Ints, output: Ints) -> tuple[Window, Window, Equilibrium]:
    """The windows for rows taken for the law, and with confidence over them."""
    seen = solve(law_of(prompt, output), REPLICA)
    problem = problem_of(seen)
    return Window(*problem.tight_pair), Window(*confident_window(rows_of(seen, prompt.size), problem)[:2]), seen


def rows_of(seen: Equilibrium, count: int) -> Rows:
    """The rows behind an equilibrium, taken for independent."""
    return Rows.of(count, seen, CONFIDENCE)


def with_longest(seen: Equilibrium, count: int) -> Window:
    """The window for the law of the rows with the share of longest requests that they do not rule out."""
    mix, added = seen.workload, -math.log(1 - CONFIDENCE) / count
    law = Workload.from_arrays(np.append(mix.prompt_tokens, 1), np.append(mix.output_tokens, LONGEST - 1),
                               np.append((1 - added) * mix.rates / mix.rate, added))
    return Window(*problem_of(solve(law, REPLICA)).tight_pair)


def by_stage(seen: Equilibrium, count: int) -> Window:
    """The window for the cautious law, with the mean prompt in place of the longest possible ones."""
    worse = cautious(rows_of(seen, count), 1.0)
    prompt = int(np.rint(seen.workload.prompt_tokens @ seen.workload.rates))
    lengths = Workload.from_arrays(np.full(len(worse), prompt), worse.output_tokens, worse.rates)
    return Window(*problem_of(solve(lengths, Replica(REPLICA.kv_capacity, REPLICA.iteration_time))).tight_pair)


def print_price(seed: int) -> None:
    """The first table."""
    print(f"share of the fluid limit that one window keeps, L = {LONGEST:,} tokens, confidence {CONFIDENCE:.0%}")
    print(f"{'rows':>8}{'law of the rows':>18}{'with longest':>14}{'one mean':>12}{'each stage':>12}")
    for count in PRICED:
        kept = []
        for draw in range(3):
            rows, one, seen = windows(*drawn(np.random.default_rng([seed, count, draw]), count))
            found = (rows, with_longest(seen, count), one, by_stage(seen, count))
            kept.append([share(each, seen) for each in found])
        without, least, one_mean, stages = np.mean(kept, axis=0)
        print(f"{count:8,}{without:18.1%}{least:14.1%}{one_mean:12.1%}{stages:12.1%}", flush=True)


class Truth:
    """The law that rows are drawn from."""

    def __init__(self, seed: int) -> None:
        workload = law_of(*drawn(np.random.default_rng([seed, TRUTH]), TRUTH))
        self.mix = LengthMix.of(stage_profile(workload, REPLICA), workload.rates)
        self.problem = OverflowProblem(self.mix, REPLICA.kv_capacity, 1 + HORIZON / 0.0106, PROBABILITY)

    def verdict(self, window: Window) -> str:
        """Whether a window keeps the promise: "kept", "broken" or "open"."""
        if self.problem.theorem(*window).overflow_probability <= PROBABILITY:
            return "kept"
        return "broken" if self.least(window) > PROBABILITY else "open"

    def least(self, window: Window) -> float:
        """P(overflow within the hour) at least, with full windows."""
        mix, spectrum = self.mix, np.ones(CELLS // 2 + 1, dtype=np.complex128)
        for age in range(window.iterations - 1, mix.ages, window.iterations):
            alive = mix.stages > age
            tokens = np.bincount((mix.base[mix.kind] + age)[alive], mix.probability[alive], CELLS)
            tokens[0] += mix.probability[~alive].sum()
            spectrum *= np.fft.rfft(tokens)
        chance = float(np.fft.irfft(spectrum**window.entries, CELLS)[REPLICA.kv_capacity + 1:].sum()) - 1e-11
        moments = HORIZON / (0.0106 + 4.013e-7 * REPLICA.kv_capacity) / mix.ages  # iterations are at most so long
        return -math.expm1(moments * math.log1p(-min(max(chance, 0.0), 0.5)))


def print_broken(designs: int, seed: int) -> None:
    """The second table."""
    truth = Truth(seed)
    print(f"\nof {designs} designs: broken for sure, open")
    print(f"{'rows':>8}{'law of the rows':>22}{'one mean':>16}")
    for count in BROKEN:
        verdicts: tuple[list[str], list[str]] = [], []
        for draw in range(designs):
            *found, _ = windows(*drawn(np.random.default_rng([seed, 1, count, draw]), count))
            for each, window in zip(verdicts, found, strict=True):
                each.append(truth.verdict(window))
        cells = [f"{each.count('broken')}, {each.count('open')}" for each in verdicts]
        print(f"{count:8,}{cells[0]:>22}{cells[1]:>16}", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print_price(arguments.seed)
    print_broken(arguments.designs, arguments.seed)


if __name__ == "__main__":
    main()
