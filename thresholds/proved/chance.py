r"""One window for unknown lengths whose chance of overflow is bounded by sums anyone can redo: Chernoff's alone.

Over windows of k iterations, with y(e) what a prompt of type j holds at age e (were it to last that long) for e up to
S_j + k - 2, and 0 from there on, blocks of g ages cut at an offset, and n iterations in the horizon
(`thresholds.paced_wait.overflow`, `tail_bounds`),

    P(KV > C within the horizon) <= m exp(-theta C + N sum_b max_{e in b} ln E exp(theta y(e))),
    m = ceil(n (1 + (g - 1)/S_min)/k)

`thresholds.paced` installs windows whose bound may be a convolution, which is a little sharper (up to some percent of
N) and takes a transform to check. Here N is the largest of the plain bound: the whole proof is theta, k, the offset and
m. It is evaluated age by age, whatever steps the search took.

**For all mixes of a set.** The exponent is concave in the mix q: with phi_bj = max_{e in b} exp(theta y_j(e)) of type j
and u_b the mean of phi_b at the stated mix, ln E phi_b <= ln u_b - 1 + E phi_b/u_b, so that

    sum_b max_{e in b} ln E_q exp(theta y) <= sum_j q_j F_j,     F_j = sum_b [ ln u_b - 1 + phi_bj/u_b ]

one mean of one number, largest over rates u of a set U at the t with sigma_U(F - t) = 0, as q = u/sum u. N is then the
largest with which the bound holds at t. Source: mathematics, sections 4.7, 12.4 and 18.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from fluid import Equilibrium
from fluid.arrays import Floats
from fluid.uncertainty.worst import UncertaintySet
from thresholds.paced_wait.block_scores import block_means, scores
from thresholds.paced_wait.overflow import OverflowProblem, overflow_problem
from thresholds.paced_wait.random_prompt import LengthMix
from thresholds.paced_wait.tail_bounds import WIDEST, BlockChernoff, block_sums
from thresholds.policies import PacedPolicy
from thresholds.proved.window import ProvedWindows, with_proof

FINER = 1.05  # ratio of the widths tried
WIDER = (1, 2, 3, 4, 6, 8)  # times the width found, where it is to hold for a set: whole N are coarse
HALVINGS = 60


@dataclass(frozen=True, eq=False)
class Chance:
    """A window for the mix, and the bound on its overflow: `theta` per KV token, `window` k, `offset`, `terms` m.

    `probability` is that of KV > C at some iteration of `horizon` seconds, at most `iterations` n; `worst` the same for
    all mixes of the set it was made for, at the largest mean `tangent` t of F, the `score` (J,), else None.
    """

    windows: ProvedWindows
    theta: float
    window: int
    offset: int
    terms: int
    iterations: float
    horizon: float
    probability: float
    worst: float | None = None
    tangent: float | None = None
    score: Floats | None = None


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
    return chance_windows(equilibrium, horizon, probability)[0]


def chance_windows(equilibrium: Equilibrium, horizon: float, probability: float,
                   possible: UncertaintySet | None = None) -> tuple[Chance | None, Chance | None]:
    """Return that window for the stated mix, and one whose bound holds for the mixes of all `possible` rates."""
    if equilibrium.limit == "length":
        return None, None
    problem = overflow_problem(equilibrium, horizon=horizon, overflow_probability=probability)
    found = _largest(problem)
    if found is None:
        return None, None
    ages = LengthMix.of(equilibrium.profile, equilibrium.workload.rates)  # every age, whatever the steps of the search
    stated = _evaluated(equilibrium, problem, ages, found, None)
    if possible is None:
        return _made(equilibrium, problem, horizon, found, stated), None
    tried = [_evaluated(equilibrium, problem, ages, replace(found, g=found.g * times), possible) for times in WIDER
             if times == 1 or found.g * times <= ages.ages]
    hedged = max(tried, key=lambda each: each.entries / each.g)
    return (_made(equilibrium, problem, horizon, found, stated), _made(equilibrium, problem, horizon, found, hedged))


def _made(equilibrium: Equilibrium, problem: OverflowProblem, horizon: float, found: _Found,
          best: _Evaluated) -> Chance | None:
    """The window with its proof; None where not even one prompt may enter."""
    if best.entries < 1:
        return None
    windows = with_proof(equilibrium, PacedPolicy((best.entries,), (best.g,), False), equilibrium.replica.kv_capacity)
    worst = None if best.tangent is None else best.bound(best.tangent)
    return Chance(windows, found.theta * problem.mix.layout.unit, found.window, best.offset, best.terms,
                  problem.iterations, horizon, best.bound(best.mean), worst, best.tangent, best.score)


class _Evaluated(NamedTuple):
    """A window with its bound: m, theta C, the sum over blocks at the stated mix, and the largest over a set."""

    entries: int
    g: int
    offset: int
    terms: int
    room: float
    mean: float
    tangent: float | None
    score: Floats | None

    def bound(self, mean: float) -> float:
        """m exp(-theta C + N mean), at most 1."""
        return math.exp(min(0.0, math.log(self.terms) - self.room + self.entries * mean))


def _evaluated(equilibrium: Equilibrium, problem: OverflowProblem, ages: LengthMix, found: _Found,
               possible: UncertaintySet | None) -> _Evaluated:
    """The largest N for a width, age by age."""
    sums = block_sums(ages.log_mgf(found.theta, found.window)[None, :], found.g)[0]
    offset, terms = int(np.argmin(sums)), _terms(problem, found.g, found.window)
    mean, room = float(sums[offset]), found.theta * problem.capacity
    score = None if possible is None else _score(equilibrium, found, offset)
    tangent = None if score is None or possible is None else _largest_mean(score, possible)
    most = (room - math.log(terms) + math.log(problem.probability)) / max(mean, tangent or 0.0)
    entries = math.floor(min(most, problem.rate * found.g * (1 + 1e-12)))
    return _Evaluated(entries, found.g, offset, terms, room, mean, tangent, score)


def _score(equilibrium: Equilibrium, found: _Found, offset: int) -> Floats:
    """F of each type."""
    profile, rates = equilibrium.profile, equilibrium.workload.rates
    blocks = (found.theta, found.g, found.window, offset)
    means = 1.0 + block_means(profile, rates / rates.sum(), *blocks)
    score: Floats = float(np.sum(np.log(means) - 1.0 + 1.0 / means)) + scores(profile, 1.0 / means, *blocks)
    return score


def _largest_mean(score: Floats, possible: UncertaintySet) -> float:
    """The largest mean of F over the mixes of the rates that are possible, from above."""
    low, high = float(score.min()), float(score.max())
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if possible.worst(score - middle).value > 0 else (low, middle)
    return high


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

