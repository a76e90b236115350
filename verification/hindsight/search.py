"""A good schedule soon: requests placed one after the other as early as they fit, and the order annealed.

**Placing.** Given an order of the requests, each is started at the first moment t >= a_i from which its whole ramp
s_i + 1, ..., s_i + o_i fits beside all that were placed before it. If at moment u the others hold U_u and the ramp from
t does not fit, U_u + s_i + u - t > M, then no start before min(u, U_u + s_i + u - M) fits either: the ramp from an
earlier start is higher at u as long as it reaches u. So t jumps to there. Every order gives a feasible schedule; not
every optimal schedule comes from an order, since waiting with an idle memory can pay (ramps that start later are
lower).

**Annealing.** From the order in which MC-SF, shortest outputs or smallest volumes start, a step moves one request to
another place or exchanges two; the new order is kept if its total latency is at most T (-ln U) above, U uniform on
(0, 1), with T falling linearly to 0. It starts at a twentieth of a mean latency. The best order met is
returned. Kirkpatrick, Gelatt and Vecchi 1983; placing is the serial schedule generation scheme of project
scheduling.
"""

from __future__ import annotations

import numpy as np

from fluid.arrays import Ints
from fluid.compiled import jit
from verification.rounds.engine import play
from verification.rounds.instance import Instance
from verification.rounds.mc_sf import MCSF

NO_CUT = 2**62


def mc_sf(instance: Instance) -> Ints:
    """The starts of MC-SF that knows the output lengths, shape (N,)."""
    return play(MCSF(), instance.seen_as(instance.outputs)).started


def total_latency(instance: Instance, starts: Ints) -> int:
    """sum_i (t_i + o_i - a_i), rounds."""
    return int((starts + instance.outputs - instance.arrivals).sum())


def improved(instance: Instance, steps: int, seed: int | np.random.Generator = 0) -> Ints:
    """Return the starts of the best schedule met in `steps` steps of annealing, never worse than MC-SF, shape (N,).

    >>> instance = Instance([0, 0], [1, 1], [3, 2], memory=4)
    >>> improved(instance, steps=10).tolist()
    [2, 0]
    """
    best = mc_sf(instance)
    if len(instance) < 2:
        return best
    s, o = instance.prompts, instance.outputs
    rng = np.random.default_rng(seed)
    for key in (best, o, s * o + o * (o + 1) // 2):
        order = np.argsort(key, kind="stable")
        heat = 0.05 * total_latency(instance, best) / len(instance)
        found = _anneal(order, instance.arrivals, s, o, instance.memory, steps // 3, heat, rng)
        best = min(best, found, key=lambda starts: total_latency(instance, starts))
    return best


@jit
def place(order: Ints, a: Ints, s: Ints, o: Ints, memory: int, used: Ints, starts: Ints, cut: float) -> int:
    """Place all in order; returns the total latency, or what it was when it reached `cut`. `used` is scratch."""
    used[:] = 0
    total = 0
    for i in order:
        t, u = a[i], o[i] + a[i]
        while u > t:
            excess = used[u] + s[i] + u - t - memory
            if excess > 0:
                t = min(t + excess, u)
                u = t + o[i]
            else:
                u -= 1
        starts[i] = t
        for j in range(1, o[i] + 1):
            used[t + j] += s[i] + j
        total += t + o[i] - a[i]
        if total >= cut:
            break
    return total


@jit
def _anneal(order: Ints, a: Ints, s: Ints, o: Ints, memory: int, steps: int, heat: float,
            rng: np.random.Generator) -> Ints:
    n = len(order)
    used, starts = np.zeros(a.max() + o.sum() + o.max() + 2, dtype=np.int64), np.zeros(n, dtype=np.int64)
    cost = place(order, a, s, o, memory, used, starts, NO_CUT)
    least, best, new = cost, order.copy(), order.copy()
    for step in range(steps):
        _change(order, new, rng)
        cut = cost - heat * (1 - step / steps) * np.log(1.0 - rng.random()) + 0.5
        found = place(new, a, s, o, memory, used, starts, cut)
        if found < cut:
            cost, order[:] = found, new
            if cost < least:
                least, best[:] = cost, new
    place(best, a, s, o, memory, used, starts, NO_CUT)
    return starts


@jit
def _change(order: Ints, new: Ints, rng: np.random.Generator) -> None:
    """Exchange two, or move one; half of the time within five places."""
    n = len(order)
    x, y = int(rng.integers(0, n)), int(rng.integers(0, n))
    if rng.random() < 0.5:
        y = x + int(rng.integers(max(-5, -x), min(6, n - x)))
    new[:] = order
    if rng.random() < 0.5:
        new[x], new[y] = order[y], order[x]
    else:
        step = 1 if y > x else -1
        for k in range(x, y, step):
            new[k] = order[k + step]
        new[y] = order[x]
