r"""One window for unknown lengths whose chance of overflow is bounded by sums anyone can redo: Chernoff's alone.

Over windows of k iterations, with y(e) what a prompt of type j holds at age e (were it to last that long) for e up to
S_j + k - 2, and 0 from there on, blocks of g ages cut at an offset, and n iterations in the horizon
(`thresholds.paced_wait.overflow`, `tail_bounds`),

    P(KV > C within the horizon) <= m exp(-theta C + N sum_b max_{e in b} ln E exp(theta y(e))),
    m = ceil(n (1 + (g - 1)/S_min)/k)

`thresholds.paced` installs windows whose bound may be a convolution, which is a little sharper (up to some percent of
N) and takes a transform to check. Here N is the largest of the plain bound: the whole proof is theta, k, the offset and
m. It is evaluated age by age, whatever steps the search took. Source: mathematics, sections 4.7 and 18.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fluid import Equilibrium
from thresholds.paced_wait.overflow import OverflowProblem, overflow_problem
from thresholds.paced_wait.random_prompt import LengthMix
from thresholds.paced_wait.tail_bounds import WIDEST, BlockChernoff, block_sums
from thresholds.policies import PacedPolicy
from thresholds.proved.window import ProvedWindows, with_proof

FINER = 1.05  # ratio of the widths tried


@dataclass(frozen=True, eq=False)
class Chance:
    """A window for the mix, and the bound on its overflow: `theta` per KV token, `window` k, `offset`, `terms` m.

    `probability` is that of KV > C at some iteration of `horizon` seconds, at most `iterations` n.
    """

    windows: ProvedWindows
    theta: float
    window: int
    offset: int
    terms: int
    iterations: float
    horizon: float
    probability: float


@dataclass(frozen=True)
class _Found:
    entries: int
    g: int
    window: int
    theta: float


def chance_window(equilibrium: Equilibrium, horizon: float, probability: float) -> Chance | None:
    """Return the window of the largest N/g found whose bound is at most `probability`; None where a type never fits.

    >>> from fluid import IterationTime, PromptType, Replica, Workload, solve
    >>> mix = Workload([PromptType(512, 20, 4.0), PromptType(512, 300, 1.0)])
    >>> found = chance_window(solve(mix, Replica(137_000, IterationTime(0.0106, 4.013e-7))), 3600.0, 1e-3)
    >>> found.probability <= 1e-3 and found.windows.factor > 1
    True
    """
    if equilibrium.limit == "length":
        return None
    problem = overflow_problem(equilibrium, horizon=horizon, overflow_probability=probability)
    found = _largest(problem)
    if found is None:
        return None
    ages = LengthMix.of(equilibrium.profile, equilibrium.workload.rates)  # every age, whatever the steps of the search
    sums = block_sums(ages.log_mgf(found.theta, found.window)[None, :], found.g)[0]
    offset, terms = int(np.argmin(sums)), _terms(problem, found.g, found.window)
    each, room = float(sums[offset]), found.theta * problem.capacity - math.log(terms) + math.log(problem.probability)
    entries = math.floor(min(room / each, problem.rate * found.g * (1 + 1e-12)))
    if entries < 1:
        return None
    chance = math.exp(min(0.0, math.log(terms) - found.theta * problem.capacity + entries * each))
    windows = with_proof(equilibrium, PacedPolicy((entries,), (found.g,), False), equilibrium.replica.kv_capacity)
    return Chance(windows, found.theta * ages.layout.unit, found.window, offset, terms, problem.iterations, horizon,
                  chance)


def _largest(problem: OverflowProblem) -> _Found | None:
    """The pair with the largest N/g over widths in a fixed ratio, at the window k that allows most."""
    mix, capacity = problem.mix, problem.capacity
    every = BlockChernoff.of(mix, capacity)
    theta, _ = every.best(1, capacity, _log_share(problem, mix.step, 1))
    best, rate, window = None, 0.0, 1
    while window <= WIDEST:
        found, carried = _at(problem, every.near(theta, window))
        if carried <= rate:
            break
        best, rate, window = found, carried, 2 * window
    return best


def _at(problem: OverflowProblem, chernoff: BlockChernoff) -> tuple[_Found | None, float]:
    """The best pair over windows of k iterations, and its N/g."""
    mix, best, rate = problem.mix, None, 0.0
    steps = np.unique(np.rint(FINER ** np.arange(math.ceil(math.log(mix.steps + 1) / math.log(FINER)) + 1)))
    for h in steps.astype(np.int64).clip(max=mix.steps).tolist():
        g = h * mix.step
        share = _log_share(problem, g, chernoff.window)
        most = min(chernoff.most_entries(h, problem.capacity, share), problem.rate * g * (1 + 1e-12))
        entries = math.floor(most)
        if entries / g > rate:
            theta, _ = chernoff.best(h, problem.capacity, share)
            best, rate = _Found(entries, g, chernoff.window, theta), entries / g
        elif most / g < 0.9 * rate:
            break
    return best, rate


def _terms(problem: OverflowProblem, g: int, window: int) -> int:
    return math.ceil(problem.iterations * (1 + (g - 1) / int(problem.mix.stages[0])) / window)


def _log_share(problem: OverflowProblem, g: int, window: int) -> float:
    return math.log(problem.probability) - math.log(_terms(problem, g, window))

