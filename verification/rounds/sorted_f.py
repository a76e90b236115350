"""Sorted-F: waiting requests are cut into batches that fit together, those with many short outputs first.

For a set X of requests that fit the memory side by side, sum_{i in X} (s_i + otilde_i) <= M, let

    F(X) = sum_{i in X} otilde_i / |X|^2           mean length over size: small for many short requests

The order of the waiting: X_1 minimises F over the sets that fit, X_2 over those of the others, and so on; batches in
this order, inside a batch by ascending otilde. Then as MC-SF does: offer a start in this order, to whoever fits at
every predicted completion to come; the first that fails ends the round's admissions, and later batches overlap the
tails of earlier ones.

**The least F of a given size** k is that of the least sum of otilde: a knapsack with k things. Two ways to search:

- "exact": dynamic programming, least[k][w] = the least sum of otilde over k requests whose peaks s + otilde add up to w
  tokens. N requests of which at most K fit side by side take N K M steps and bytes a batch; above 2^28 of them it is
  refused (InputError).
- "sweep": the k first, for every k that fits, of the requests sorted by (8 - j) otilde + j min(s + otilde, M), for
  j = 0..8. Each of these minimises sum otilde + lambda sum (s + otilde), for lambda = j/(8 - j), over all sets of its
  size, so that it is the best of those that are no larger: the lower convex envelope, at nine slopes. For thousands of
  waiting requests. Ties in an order by otilde, then the peak; of equal F and size the smaller j.

**With equal prompts it is MC-SF.** The k shortest have the least sum of otilde and of peaks alike, so every batch takes
the shortest that are left, and the batches one after the other are the order by length.

Of equal F the larger set is taken (quotients of whole numbers below 2^53: equal ones come out equal). Ties in otilde:
the request that came first. In continuous time the sweep is `verification.rules.memory_constrained.sorted_f`. Source:
Wang, Ye, Zhou, arXiv 2508.06133; the bodies of its algorithms were not open to us, so that the following are choices:
peaks side by side as the meaning of "fits" in a batch, the order inside a batch, the test that carries out the order,
and, since the source knows only requests that are all there at the start, ordering all that wait anew whenever requests
come (or come back, cleared: `verification.rounds.mc_sf` says who goes where predictions fall short). See mathematics,
section 7.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fluid.arrays import Ints
from fluid.compiled import jit
from fluid.errors import InputError, one_of
from verification.rounds.instance import Instance
from verification.rounds.state import BATCHES, BATCHES_SWEEP, WAITING, Answers, Problem, State, ascending, inner

MOST_CELLS = 2**28  # of the dynamic program
SLOPES = 8
UNREACHED = 2**62


@dataclass(frozen=True)
class SortedF:
    """Sorted-F; `search` is how a batch of least F is found, "exact" or "sweep".

    Raises InputError for another search. The two short requests are the first batch, and the long one waits for them.

    >>> from verification.rounds import Instance, play
    >>> play(SortedF(), Instance([0, 0, 0], [1, 1, 1], [5, 2, 2], memory=6)).started.tolist()
    [2, 0, 0]
    """

    search: str = "exact"
    name: ClassVar[str] = "sorted-f"
    label: ClassVar[str] = "batches of many short requests first (Sorted-F)"

    def __post_init__(self) -> None:
        one_of("search", self.search, ("exact", "sweep"), "SortedF")

    def answers(self, memory: int) -> Answers:
        """By batches, looking ahead."""
        return Answers(BATCHES if self.search == "exact" else BATCHES_SWEEP, True, memory)


def check_size(instance: Instance) -> None:
    """Raise InputError where the dynamic program for all requests at once would take more than 2^28 cells."""
    side_by_side = np.cumsum(np.sort(instance.prompts + instance.predicted)) <= instance.memory
    cells = len(instance) * max(int(np.count_nonzero(side_by_side)), 1) * instance.memory
    if cells > MOST_CELLS:
        raise InputError("search", f'"sweep" for an instance of {cells:,} cells, more than {MOST_CELLS:,}', "exact",
                         "SortedF")


def batches(prompts: Ints, outputs: Ints, memory: int, search: str = "exact") -> list[list[int]]:
    """Return X_1, X_2, ... as lists of indices, each by ascending output; `prompts` and `outputs` (tokens), shape (N,).

    >>> batches(np.array([1, 1, 1]), np.array([5, 2, 2]), memory=6)
    [[1, 2], [0]]
    """
    peaks, left, found = np.minimum(prompts + outputs, memory), np.arange(len(prompts)), list[list[int]]()
    while left.size:
        chosen = _best(outputs, peaks, memory, left, search == "exact")
        found.append(left[chosen][np.argsort(outputs[left[chosen]], kind="stable")].tolist())
        left = left[~chosen]
    return found


@inner
def rank(problem: Problem, state: State, exact: bool) -> None:
    """Order the waiting by batches; a request's key is its place."""
    outputs, left = state.estimate, state.waiting[: state.counts[WAITING]].copy()
    left = left[ascending(left)]
    peaks, place = np.minimum(problem.prompts + outputs, problem.memory), 0
    while len(left) > 0:
        chosen = _best(outputs, peaks, problem.memory, left, exact)
        batch = left[chosen]
        for i in batch[ascending(outputs[batch])]:
            state.waiting[place], state.key[i] = i, place
            place += 1
        left = left[~chosen]


@jit
def _best(outputs: Ints, peaks: Ints, memory: int, left: Ints, exact: bool) -> np.ndarray:
    """Which of `left` make a batch of least F, as a mask."""
    if exact:
        return _exact(outputs[left], peaks[left], memory)
    return _sweep(outputs[left], peaks[left], memory)


@inner
def _exact(outputs: Ints, peaks: Ints, memory: int) -> np.ndarray:
    """least[k, w] over the first i requests, and `taken` whether it takes request i."""
    n, most = len(outputs), max(_side_by_side(peaks, memory), 1)
    least = np.full((most + 1, memory + 1), UNREACHED)
    taken = np.zeros((n, most + 1, memory + 1), dtype=np.bool_)
    least[0, 0] = 0
    for i in range(n):
        for k in range(min(i + 1, most), 0, -1):
            for w in range(memory, peaks[i] - 1, -1):
                value = least[k - 1, w - peaks[i]] + outputs[i]
                if value < least[k, w]:
                    least[k, w], taken[i, k, w] = value, True
    size, weight = _least_ratio(least)
    return _taken(taken, peaks, size, weight)


@inner
def _side_by_side(peaks: Ints, memory: int) -> int:
    """How many fit at most: the smallest peaks."""
    count, total = 0, 0
    for i in ascending(peaks):
        total += peaks[i]
        if total > memory:
            break
        count += 1
    return count


@inner
def _least_ratio(least: Ints) -> tuple[int, int]:
    """The size k and the tokens w of the least F = least[k, w]/k^2; the larger set of equal F."""
    size, weight = 1, int(np.argmin(least[1]))
    for k in range(2, len(least)):
        w = int(np.argmin(least[k]))
        if least[k, w] < UNREACHED and least[k, w] / (k * k) <= least[size, weight] / (size * size):
            size, weight = k, w
    return size, weight


@inner
def _taken(taken: np.ndarray, peaks: Ints, size: int, weight: int) -> np.ndarray:
    """The set behind least[size, weight]: from the last request backwards."""
    chosen = np.zeros(len(peaks), dtype=np.bool_)
    for i in range(len(peaks) - 1, -1, -1):
        if taken[i, size, weight]:
            chosen[i] = True
            size, weight = size - 1, weight - peaks[i]
    return chosen


@inner
def _sweep(outputs: Ints, peaks: Ints, memory: int) -> np.ndarray:
    """The first k by one of the nine orders: the least F that fits."""
    best, size, least = np.zeros(len(outputs), dtype=np.int64), 0, np.inf
    by_peak = ascending(peaks)
    shortest = by_peak[ascending(outputs[by_peak])]
    for j in range(SLOPES + 1):
        order = shortest[ascending((SLOPES - j) * outputs[shortest] + j * peaks[shortest])]
        weight, length = 0, 0
        for k in range(len(order)):
            weight, length = weight + peaks[order[k]], length + outputs[order[k]]
            if weight > memory:
                break
            ratio = length / (k + 1) ** 2
            if ratio < least or (ratio == least and k + 1 > size):
                best, size, least = order, k + 1, ratio
    chosen = np.zeros(len(outputs), dtype=np.bool_)
    chosen[best[:size]] = True
    return chosen
