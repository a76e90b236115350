"""Instances whose optimum is known by a proof, in n log n steps.

**Slots.** Let p = s + o, and k the largest number for which the k largest p sum to at most M. If k = n, or if

    p_i + (sum of the k smallest s_j + 1, j != i) > M        for every i

the requests are jobs on k identical machines, o_i rounds each, and nothing else about memory matters. Proof: any k of
them fit whenever they start, since none ever holds more than p. And no k + 1 are ever active at one moment: when the
first of them finishes it holds p_i, and every other is still active and holds s_j + 1 at least. A schedule with at most
k active at once is one on k machines (intervals, colored greedily by start). Then the least total latency is known for

    nothing waits      k = n: all start on arrival
    shortest first     all arrive together: the shortest outputs first on k machines [Conway, Maxwell, Miller 1967, 4-1]
    first come         all outputs are equal: in order of arrival on k machines. Proof: sort the starts of any schedule
                       and give them to the requests in order of arrival; that is feasible, and costs the same. With
                       t_1 <= t_2 <= ..., t_i >= max(a_i, t_{i-k} + o), which list scheduling meets with equality.

Equal requests (s, o) are such a case whenever floor(M/(s + o)) = k and s + o + k (s + 1) > M: always for o = 1.
Requests any two of which exceed M are the case k = 1. Outside of these the problem is hard: with o = 1, all at time 0
and prompts that differ it is min-sum bin packing, which is strongly NP-hard. Of equal requests in general we know no
proof. See mathematics, section 7.8.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from fluid.arrays import Ints
from verification.hindsight.search import total_latency
from verification.rounds.instance import Instance


@dataclass(frozen=True, eq=False)
class Exact:
    """Optimal `starts` (moments, shape (N,)), their total latency (rounds), and the `reason`: which case it is."""

    starts: Ints
    objective: int
    reason: str


def exact(instance: Instance) -> Exact | None:
    """Return the optimum where it is known by a proof, else None.

    >>> exact(Instance([0, 0], [2, 2], [3, 2], memory=5)).starts.tolist()
    [2, 0]
    """
    k = slots(instance)
    if k is None:
        return None
    if k == len(instance):
        return _exact(instance, instance.arrivals, "nothing waits")
    if np.all(instance.arrivals == instance.arrivals[0]):
        return _exact(instance, _listed(instance, np.argsort(instance.outputs, kind="stable"), k), "shortest first")
    if np.all(instance.outputs == instance.outputs[0]):
        return _exact(instance, _listed(instance, np.arange(len(instance)), k), "first come")
    return None


def slots(instance: Instance) -> int | None:
    """Return k where any k requests fit and no k + 1 are ever active together (k = n: all fit), else None.

    >>> slots(Instance([0, 0, 0], [2, 2, 2], [1, 1, 1], memory=7))
    2
    """
    peaks, least = instance.prompts + instance.outputs, instance.prompts + 1
    k = int(np.count_nonzero(np.cumsum(np.sort(peaks)[::-1]) <= instance.memory))
    if k == len(instance):
        return k
    order = np.argsort(least, kind="stable")
    others = np.full(len(instance), least[order[:k]].sum())
    others[order[:k]] = least[order[: k + 1]].sum() - least[order[:k]]
    return k if np.all(peaks + others > instance.memory) else None


def _listed(instance: Instance, order: Ints, machines: int) -> Ints:
    """Each in order on the machine that is free first."""
    free, starts = [0] * machines, np.zeros(len(instance), dtype=np.int64)
    for i in order.tolist():
        starts[i] = max(heapq.heappop(free), int(instance.arrivals[i]))
        heapq.heappush(free, int(starts[i] + instance.outputs[i]))
    return starts


def _exact(instance: Instance, starts: Ints, reason: str) -> Exact:
    return Exact(starts, total_latency(instance, starts), reason)
