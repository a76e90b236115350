"""The least total latency by dynamic programming over all that can happen in a round: for a handful of requests.

A state is the moment (while anybody is still to come) and, for each request, -1 (not started) or the tokens made. In
each round any subset of those that wait may start; each request that has come and is not finished adds 1 to the total
latency. It knows no start, no ramp and no horizon, and shares nothing with the integer program.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import chain, combinations, combinations_with_replacement, product

import numpy as np

from verification.rounds import Instance

Made = tuple[int, ...]


def least_total_latency_of_all(instance: Instance) -> int:
    """sum_i (C_i - a_i) of the best schedule."""
    a, s, o = (each.tolist() for each in (instance.arrivals, instance.prompts, instance.outputs))
    last = max(a)

    def after(made: Made, chosen: Made) -> Made:
        return tuple(1 if i in chosen else made[i] + 1 if 0 <= made[i] < o[i] else made[i] for i in range(len(o)))

    @cache
    def cost(moment: int, made: Made) -> float:
        here = [i for i in range(len(o)) if a[i] <= moment and made[i] < o[i]]
        if not here and moment == last:
            return 0
        waiting = [i for i in here if made[i] < 0]
        best = math.inf
        for chosen in chain.from_iterable(combinations(waiting, k) for k in range(len(waiting) + 1)):
            new = after(made, chosen)
            active = [i for i in here if new[i] > made[i]]
            idle = not active and moment == last  # nothing would ever change
            if not idle and sum(s[i] + new[i] for i in active) <= instance.memory:
                best = min(best, len(here) + cost(min(moment + 1, last), new))
        return best

    return int(cost(0, (-1,) * len(o)))


def small_instances(size: int, memory: int, prompts: int = 2, outputs: int = 3,
                    arrivals: int = 0) -> Iterator[Instance]:
    """Every instance of `size` requests, once: prompts 1.., outputs 1.., arrivals 0.. up to these, s + o <= memory."""
    kinds = [(a, s, o) for a, s, o in product(range(arrivals + 1), range(1, prompts + 1), range(1, outputs + 1))
             if s + o <= memory]
    for chosen in combinations_with_replacement(kinds, size):
        yield Instance(*np.array(chosen).T, memory)


def some_of(instances: Iterator[Instance], count: int, seed: int) -> list[Instance]:
    """`count` of them by chance, or all."""
    found = list(instances)
    chosen = np.random.default_rng(seed).permutation(len(found))[:count]
    return [found[k] for k in chosen]
