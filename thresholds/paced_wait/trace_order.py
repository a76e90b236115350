r"""Windows that fit one trace in its own order: a bound on every path of its replay, and no chance about it.

Requests i = 1..m of a trace enter in the order of their arrival, at most N in any g consecutive iterations, and are
never paused. At any moment the residents are requests in a row, the later ones younger. Cut the ages into blocks of g:
those in block b entered within g consecutive iterations, so they are n_b <= N requests in a row, and older blocks hold
earlier ones. With h_b(i) = max_{a in b} x_i(a), x_i(a) the KV of request i at age a (0 once it is over),

    KV <= max over j, n_0, n_1, .. <= N of sum_b sum_{i in group b} h_b(i)       group 0 ends with j, group 1 before it

whatever the moments of arrival and whoever else is waiting: a request that is over holds nothing wherever it is put.
The maximum is found by dynamic programming, from the oldest block to the youngest,

    V_b(j) = max_{0 <= n <= N} [ V_{b+1}(j - n) + sum_{i=j-n+1}^{j} h_b(i) ]

as a sliding maximum of V_{b+1}(j) less the prefix sums of h_b: O(m A/g) for a longest life of A iterations. The trace
is taken for a circle, as a replay that outlasts it begins anew: the recursion goes round until nothing grows any more.

**The largest window.** More entries never need less, so N is found by bisection for each g; widths a quarter apart are
tried until bunching has cost more than they gain by rounding. It says that this trace fits in this order; of other
traffic, or of these requests in another order, it says nothing. Source: derived here; mathematics, section 12.7.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from fluid import StageProfile
from fluid.arrays import Ints
from fluid.compiled import jit
from thresholds.paced_wait.block_scores import arrays_of, held

MOST_STEPS = 2 * 10**9  # of the recursions for one width: wider blocks where a trace is long and its lives are
BUNCHED = 0.97  # the share of the best N/g below which wider blocks are not looked at


def order_bound(profile: StageProfile, types: Ints, entries: int, g: int) -> int:
    """Return the most KV units residents can hold while a trace is replayed in its order behind a window (N, g).

    `types` are the requests in the order of arrival, indices into the profile, shape (m,).
    """
    prompts, kinds = arrays_of(profile)
    lives = profile.stages[types]
    return int(_order_bound(types, lives, *prompts, kinds, entries, g))


def window_in_order(profile: StageProfile, types: Ints, capacity: int, rate: float) -> tuple[int, int]:
    """Return the window (N, g) of the largest N/g <= `rate` that is found to keep KV at `capacity` units or below.

    One prompt at a time is the least that is answered; it fits where every request does.
    """
    ages = int(profile.stages[types].max())
    best = (1, ages)
    g = max(1, math.ceil(len(types) * ages * 12 / MOST_STEPS))
    while g <= ages:
        limit = math.floor(min(g * rate * (1 + 1e-12), len(types)))
        entries = _most(profile, types, capacity, g, limit)
        if entries * best[1] > best[0] * g:
            best = (entries, g)
        elif (entries + 1) * best[1] < BUNCHED * best[0] * g:
            break
        g = max(g + 1, g * 5 // 4)
    return best


def _most(profile: StageProfile, types: Ints, capacity: int, g: int, limit: int) -> int:
    """The most entries whose bound is within the capacity, at most `limit`: doubling, then bisection."""
    low, high = 0, 1
    while high <= limit and order_bound(profile, types, high, g) <= capacity:
        low, high = high, 2 * high
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if order_bound(profile, types, middle, g) <= capacity else (low, middle)
    return low


@partial(jit, nogil=True)
def _order_bound(types: Ints, lives: Ints, base: Ints, prefill: Ints, chunk: Ints, stages: Ints, kinds: Ints,
                 entries: int, g: int) -> int:
    count = len(types)
    blocks = -(-np.max(lives) // g)
    older, younger = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    ring, value = np.empty(count + entries, dtype=np.int64), np.empty(count + entries, dtype=np.int64)
    for b in range(blocks - 1, -1, -1):
        # j runs over the requests before the first, so that every group may lie across the seam
        first, last, total = 0, 0, 0
        for j in range(-entries, count):
            # before request j: V_{b+1} of those up to j - 1, less their prefix sum
            place = (j - 1) % count
            key = older[place] - total
            while last > first and value[last - 1] <= key:
                last -= 1
            ring[last], value[last] = j - 1, key
            last += 1
            i = j % count
            kind = types[i]
            if lives[i] > b * g:
                total += held(min(b * g + g, lives[i]) - 1, base[kind], prefill[kind], chunk[kind], kinds)
            while first < last and ring[first] < j - entries:
                first += 1
            if j >= 0:
                younger[i] = max(older[i], value[first] + total)
        older, younger = younger, older
    return int(np.max(older))
