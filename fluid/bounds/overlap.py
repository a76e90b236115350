r"""Completions that cannot overlap: how many iterations lie between them, for whoever keeps what he admits.

A request that completes in iteration t, its S stages run since it last started, is at stage S - 1 - x or later in
iteration t - x, as it moves on by at most a stage in each, and KV never falls from stage to stage: it holds at least

    f(x) = kv_{S-1-x}   for x < S,      f(x) = 0 beyond         f does not increase

Let t_0 <= t_1 <= ... be the iterations of completions of one type. All that complete from t_k on hold KV in it:

    sum_{i >= 0} f(t_{k+i} - t_k) <= C        for every k                                                       (1)

**Least spans.** Let g_m be such that t_{k+m} - t_k >= g_m for every k, g_0 = 0. The completion k + i, 0 < i <= m, is at
least g_{m-i} before the one k + m, so at most t_{k+m} - t_k - g_{m-i} after the one k. As f does not increase (1) gives

    f(0) + sum_{i=1}^{m} f(max(0, t_{k+m} - t_k - g_{m-i})) <= C

and the least whole span that meets this is g_m. Hence at most 1 completion in lim g_m/m iterations. What follows
depends on the g's less than S back only; as they are whole numbers the increments are periodic from some m on, and the
limit is the mean over a period, exactly. For C = l + o it is S; in the cases tried (`benchmarks/proved_limits.py`) it
is often the pace of the best windows to the last digit, and then both are the truth.

**Several types.** (1) holds of the completions of any set A of types with f_A = min_{j in A} f_j: iterations per second
are at least (sum_{j in A} lambda_j) gap(f_A). Another bound keeps the lengths apart. Let F_j(x) = peak_j (1 - x/S_j)
on [0, S_j], 0 beyond: it is convex and below f_j, because KV in blocks of one token is concave in the stage counted
from the end. Averaging (1) over all completions of A, for each i apart, by Jensen's inequality, the successors i places
later being of type j with share q_j and at mean distances d_j with sum_j q_j d_j = i/r,

    sum_i G(i/r) <= C,     G(d) = min { sum_j q_j F_j(d_j) : sum_j q_j d_j = d }

with r the completions of A per iteration. The sum falls as r does, so r is at most where it is C; as G is convex it is
at least r int G + G(0)/2, which is easier to count where many are resident:

    iterations per second  >=  (sum_A lambda) d,    sum_i G(i d) = C,    d >= int G / (C - G(0)/2)

**Who is bound.** Policies that never evict, and those whose evicted requests start again ([A]'s). An engine that
recomputes what it evicted may begin the last pass late, at a late stage: (1) is not true of it. Source: derived here;
mathematics, section 10.5.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from fluid.arrays import Floats, Ints
from fluid.stages import StageProfile

MOST_TYPES = 6  # looked at one by one, and in groups of the largest
MOST_RESIDENTS = 300  # beyond, memory's own half-space says the same to a part in a thousand
MOST_TOGETHER = 4  # completions per iteration
MOST_STAGES = 2**16
MOST_SPANS = 4000
HALVINGS = 30


def overlap_need(profile: StageProfile, rates: Floats, kv_capacity: int) -> float:
    """Return iterations/s that requests at these rates (requests/s, shape (J,)) need where nobody is recomputed.

    The largest over the sets of types looked at; `kv_capacity` C in tokens, which every type is to fit.

    >>> from fluid import IterationTime, PromptType, Replica, Workload, stage_profile
    >>> mix = Workload([PromptType(1, 1000, 1.0)])
    >>> profile = stage_profile(mix, Replica(1001, IterationTime(1.0, 0.0)))
    >>> overlap_need(profile, mix.rates, 1001)                      # one request at a time, for all of its stages
    1001.0
    """
    most = np.argsort(-(rates * profile.kv_work), kind="stable")[:MOST_TYPES]
    most = most[np.argsort(-profile.peak[most], kind="stable")]
    everyone = np.arange(len(rates))
    need = max(_triangles(profile, rates, group, kv_capacity) for group in [everyone, *_groups(most)])
    memory, capacity = float(rates @ profile.kv_work) / kv_capacity, kv_capacity * profile.layout.unit
    for group in _groups(most):
        if profile.stages[group].max() <= MOST_STAGES:
            held, rate = _least_held(profile, group), float(rates[group].sum())
            if rate * _reached_gap(held, capacity) > max(need, memory):
                need = max(need, rate * least_gap(held, capacity))
    return float(need)


def least_gap(held: Ints, capacity: int) -> float:
    """Return lim g_m/m, iterations between completions of requests that hold `held` at their stages, shape (S,).

    0 where requests are so small that memory's own half-space is as good: more than 300 residents, or more than 4
    completions in an iteration.

    >>> least_gap(np.array([1, 2, 3]), 3), least_gap(np.array([1, 2, 3]), 4), least_gap(np.array([1, 2, 3]), 6)
    (3.0, 2.0, 1.0)
    """
    stages = len(held)
    work = float(held.sum())
    if capacity * stages > MOST_RESIDENTS * work or capacity > MOST_TOGETHER * work:
        return 0.0
    before = np.append(held[::-1], 0)  # f
    spans, seen, gap, step = [0], dict[tuple[int, ...], tuple[int, int]](), 0.0, 0
    for m in range(1, MOST_SPANS + 1):
        back = np.array(spans[bisect_right(spans, spans[-1] - stages):], dtype=np.int64)
        span = _least_span(before, capacity, back, spans[-1] + step)
        step = span - spans[-1]
        spans.append(span)
        gap = max(gap, span / m)
        state = tuple((span - back[span - back < stages]).tolist())
        if state in seen:
            earlier, at = seen[state]
            return max(gap, (span - at) / (m - earlier))
        seen[state] = m, span
    return gap


def _reached_gap(held: Ints, capacity: int) -> float:
    """A gap that can be kept: N requests every g iterations hold at most N (w/g + peak), f being nonincreasing."""
    work, peak = int(held.sum()), int(held[-1])
    gaps = [-(-n * work // (capacity - n * peak)) / n for n in (1, 2, 4, 8, 16, 32) if n * peak < capacity]
    return min(gaps, default=float(len(held)))


def _least_span(before: Ints, capacity: int, back: Ints, guess: int) -> int:
    """The least g >= g_{m-1} with f(0) + sum_j f(g - g_j) <= C: steps doubled up or down from a guess, then halved."""
    most, room = len(before) - 1, capacity - int(before[0])

    def fits(span: int) -> bool:
        return int(before[np.minimum(span - back, most)].sum()) <= room

    low, high, step = int(back[-1]) - 1, guess, 1  # nothing up to low is one
    while not fits(high):
        low, high, step = high, high + step, 2 * step
    step = 1
    while high - step > low and fits(high - step):
        high, step = high - step, 2 * step
    low = max(low, high - step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _groups(order: Ints) -> Iterator[Ints]:
    """Each type by itself, and the largest two, three, ..."""
    yield from (order[k : k + 1] for k in range(len(order)))
    yield from (order[:k] for k in range(2, len(order) + 1))


def _least_held(profile: StageProfile, group: Ints) -> Ints:
    """f_A, by stages counted so that the last is the completion: the pointwise least of the group, units."""
    held = [profile.units_held(int(j))[::-1] for j in group]
    shortest = min(len(each) for each in held)
    least: Ints = np.min([each[:shortest] for each in held], axis=0)[::-1]
    return least


def _triangles(profile: StageProfile, rates: Floats, group: Ints, kv_capacity: int) -> float:
    """(sum lambda) d with d the least distance at which sum_i G(i d) <= C, or a lower bound of it."""
    peak, stages, total = _smooth_peak(profile, group), profile.stages[group], float(rates[group].sum())
    share = rates[group] / total
    order = np.argsort(-peak / stages, kind="stable")
    drop, length = (share * peak)[order], (share * stages)[order]
    height = drop[::-1].cumsum()[::-1]  # G at the start of each segment
    place = np.append(0.0, length.cumsum())
    room = max(kv_capacity - 0.5 * float(height[0]), 0.5 * kv_capacity)
    low, high = float((length * (height - 0.5 * drop)).sum()) / room, float(place[-1])
    if high > MOST_RESIDENTS * low:
        return total * low
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        at = np.arange(0.0, high + middle, middle)
        fits = np.interp(at, place, np.append(height, 0.0)).sum() <= kv_capacity
        low, high = (low, middle) if fits else (middle, high)
    return total * low


def _smooth_peak(profile: StageProfile, group: Ints) -> Floats:
    """KV at the last stage in blocks of one token: tokens."""
    layout = profile.layout
    peak: Floats = layout.held(profile.prompt[group] + profile.decode[group], block=1) / layout.unit
    return peak
