r"""The iterations that a stream of requests needs because what they hold must fit together, whatever the policy.

Every stage of every request is executed in some iteration, holding its KV, and what is held in one iteration is at most
C: the stages are items of sizes z = kv/C, packed into iterations as into bins. A function phi on [0, 1] is *dual
feasible* if sum phi(z) <= 1 over every set of items with sum z <= 1. So under any policy, evicting or not, recomputing
or not (each output token is made once, beside the KV of all tokens before it),

    iterations per second  >=  sum_j lambda_j sum_s phi(kv_js / C)

phi(z) = z is the half-space of memory of `fluid.region`. Where requests are large against C others say more:

    u_k(z)  =  z where (k+1) z is whole, else floor((k+1) z)/k          k = 1, 2, ...
    v_e(z)  =  1 where z > 1 - e,  0 where z < e,  else z               0 < e <= 1/2

u_k counts how many fit: items above C/(k+1) go k at a time. Of many types those of most KV work are taken, the others
count as nothing, which only weakens the bound. Source: Fekete, Schepers, "New classes of fast lower bounds for bin
packing problems", Mathematical Programming 91 (2001), for u_k and v_e; the use of them here. See mathematics, section
10.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fluid.arrays import Floats, Ints
from fluid.stages import StageProfile

MOST_TYPES = 32
MOST_STAGES = 2**20  # of all types looked at, together
COUNTS = 16  # k = 1..16
CUTS = 16  # values of e


class Packing(NamedTuple):
    """Iterations/s needed, by which rule: "u" at k = `number`, or "v" at e = `number`/32; "" where none says anything.

    `each` (J,) are the iterations that a request of each type needs, sum_s phi; 0 for types that are left out.
    """

    need: float
    rule: str
    number: int
    each: Floats


def packing_need(profile: StageProfile, rates: Floats, kv_capacity: int) -> float:
    """Return iterations/s that requests at these rates (requests/s, shape (J,)) need under any policy.

    The largest of sum_j lambda_j sum_s phi(kv_js/C) over u_k and v_e; 0 where every request is small beside C, as
    phi(z) = z says more there. `kv_capacity` in tokens; every type is to fit it.

    >>> from fluid import IterationTime, PromptType, Replica, Workload, stage_profile
    >>> mix = Workload([PromptType(6, 4, 1.0)])                    # 6, 7, 8, 9, 10 tokens: never two in 11
    >>> profile = stage_profile(mix, Replica(11, IterationTime(1.0, 0.0)))
    >>> packing_need(profile, mix.rates, 11)
    5.0
    """
    return packing(profile, rates, kv_capacity).need


def packing(profile: StageProfile, rates: Floats, kv_capacity: int) -> Packing:
    """Return the same with the function that proves it."""
    order, each = _weighty(profile, rates), np.zeros(len(rates))
    if not order.size or profile.peak.max() * (COUNTS + 1) <= kv_capacity:
        return Packing(0.0, "", 0, each)
    held = np.concatenate([profile.units_held(int(j)) for j in order])
    weight, starts = np.repeat(rates[order], profile.stages[order]), np.cumsum(profile.stages[order])
    every = _feasible(held, kv_capacity * profile.layout.unit)
    rule, number, phi = max(every, key=lambda tried: float(weight @ tried[2]))
    each[order] = np.add.reduceat(phi, np.append(0, starts[:-1]))
    return Packing(float(weight @ phi), rule, number, each)


def _weighty(profile: StageProfile, rates: Floats) -> Ints:
    """The types with most KV work, as many as are looked at."""
    order: Ints = np.argsort(-(rates * profile.kv_work), kind="stable")[:MOST_TYPES]
    return order[np.cumsum(profile.stages[order]) <= MOST_STAGES]


def _feasible(held: Ints, capacity: int) -> Iterator[tuple[str, int, Floats]]:
    """Every phi tried, at the items, with its name."""
    share = held / capacity
    for k in range(1, COUNTS + 1):
        count, rest = np.divmod((k + 1) * held, capacity)
        yield "u", k, np.where(rest == 0, share, count / k)
    for cut in range(1, CUTS + 1):
        small = cut * capacity // (2 * CUTS)
        yield "v", cut, np.where(held > capacity - small, 1.0, np.where(held < small, 0.0, share))
