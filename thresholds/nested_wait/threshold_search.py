r"""Thresholds for given segments: the ratios that need least memory, and the best chain of whole numbers.

Over n_1 > n_2 > ... > n_L with p_k < n_k/n_{k-1} the required memory of `thresholds.nested_wait.segments` is to be
least,

    minimise    sum_k n_k a_k + sum_{k>=2} buffer_k(n_{k-1}, n_k)    subject to    Lambda Delta(n) < n_1

**Real thresholds.** With ratios q_k and Q_k = q_2 ... q_k drift holds from n_1 = max_i d0_i Lambda/(1 - Lambda sum_k
c_ik Q_k) on. In y = ln q the base n_1 sum_k (a_k + b_k) Q_k is convex (its logarithm is), and so is b_k B/theta_k up to
some ratio q_c(p_k) < 1: Newton's method, started inside, the few concave second derivatives set to 0, with steps
halved until the memory falls (at a kink between pieces of the iteration time it may stop early). An optimum with
q_k -> 1 says that boundary k is better dropped. Thresholds exist only if Lambda sum_k c_ik p_2 ... p_k < 1.

**Whole thresholds.** Given n_1, n_k = max(m_k, floor(p_k n_{k-1}) + 1) is the least chain, in every component, m_k
being the least threshold from which a chain can fall to the end: it decides which n_1 can drift, and bounds the
others. A best-first search over partial chains (n_1, ..., n_k) finds the optimum: a chain is ranked by its cost plus
the larger of two lower bounds of the rest, each a shortest path from the end,

    H_0 = least cost of the rest        H_m + m (time over budget so far),  H_m = least cost + m time of the rest

(Lagrange; m near the multiplier of the real optimum); chains that no rest can bring within the budget are dropped.
The first complete chain is the optimum. Every n_k ranges over all values that do not, by the base alone, need more
than a chain already known, but over WIDTH values around that chain at most. Source: model.md section 5.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property
from itertools import count

import numpy as np

from fluid.arrays import TOLERANCE, Floats, Ints
from thresholds.nested_wait.decay_rate import slopes
from thresholds.nested_wait.segments import Flags, Segments, above, buffer

WIDTH, MOST_FIRST = 96, 4096


def real_thresholds(segments: Segments) -> Floats | None:
    """Return the real thresholds n_1..n_L that need least memory, with drift on its edge; None if none drift."""
    y = _start(segments)
    if y is None:
        return None
    value, gradient, hessian = _memory(segments, y)
    for _ in range(60):
        step: Floats = np.linalg.solve(hessian, -gradient).astype(np.float64)
        fall = -float(step @ gradient)
        if fall <= 1e-11 * value:
            break
        size = _room(segments, y, step)
        while size > 1e-9 and _value(segments, y + size * step) > value - 1e-4 * size * fall:
            size *= 0.5
        if size <= 1e-9:
            break
        y = y + size * step
        value, gradient, hessian = _memory(segments, y)
    products = _products(y)
    return _first(segments, products) * products


def _start(segments: Segments) -> Floats | None:
    """Ln q = t ln p for the first t = 1/2, 3/4, 7/8, ... at which drift is possible; None where hardly any prompt ends.

    Thresholds fall by whole prompts, so n_{k-1} > 1/(1 - p_k): a segment in which one in MOST_FIRST^2 ends is no use.
    """
    logs = np.log(segments.continuation[1:])
    if logs.max(initial=-1.0) > -(MOST_FIRST**-2.0):
        return None
    for halvings in range(1, 30):
        y = (1.0 - 0.5**halvings) * logs
        if np.isfinite(_first(segments, _products(y))):
            return y
    return None


def _products(y: Floats) -> Floats:
    """Q_1 = 1, Q_2, ..., Q_L."""
    products: Floats = np.exp(np.concatenate([[0.0], np.cumsum(y)]))
    return products


def _first(segments: Segments, products: Floats) -> float:
    """n_1 = max_i d0_i Lambda/(1 - Lambda c_i Q), infinite where a load reaches 1."""
    loads = segments.rate * (segments.time @ products)
    return float(np.max(segments.overheads * segments.rate / (1.0 - loads))) if loads.max() < 1 else np.inf


def _value(segments: Segments, y: Floats) -> float:
    products, waiting = _products(y), segments.queue_prices[0]
    tails = segments.tails(np.exp(y), segments.continuation[1:])
    return float(_first(segments, products) * ((segments.kv + waiting) @ products) + waiting[1:] @ tails)


def _memory(segments: Segments, y: Floats) -> tuple[float, Floats, Floats]:
    """The memory as a function of y = ln q, its gradient, and its Hessian without concave buffers."""
    products, waiting = _products(y), segments.queue_prices[0]
    loads = segments.rate * (segments.time @ products)
    piece = int(np.argmax(segments.overheads / (1.0 - loads)))
    spread = 1.0 / (1.0 - loads[piece])
    first, total = segments.overheads[piece] * segments.rate * spread, (segments.kv + waiting) @ products
    held = _tails((segments.kv + waiting) * products)
    growth = _tails(spread * segments.rate * segments.time[piece] * products)
    inverse, slope, curve = slopes(np.exp(y), segments.continuation[1:])
    price = waiting[1:] * segments.allowance
    index = np.arange(y.size)
    last = np.maximum.outer(index, index)
    gradient = first * (held + total * growth) + price * slope
    cross = np.outer(held, growth)
    hessian = first * (held[last] + cross + cross.T + total * (growth[last] + 2.0 * np.outer(growth, growth)))
    hessian[index, index] += price * np.maximum(curve, 0.0)
    return float(first * total + price @ inverse), gradient, hessian


def _tails(weights: Floats) -> Floats:
    """The sums over j >= k of the weights, for k = 2..L."""
    return np.cumsum(weights[::-1])[::-1][1:]


def _room(segments: Segments, y: Floats, step: Floats) -> float:
    """The step size that keeps nine tenths of the way to ln p < y < 1e-8 ln p, at most 1."""
    bound = np.where(step > 0, 1e-8, 1.0) * np.log(segments.continuation[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(step == 0, np.inf, (bound - y) / step)
    return float(min(1.0, 0.9 * reach.min(initial=np.inf)))


def multiplier(segments: Segments, real: Floats) -> Floats:
    """Tokens per second of iteration time at the real optimum, sum_k n_k (a_k + b_k)/d0, on the piece that binds.

    Scaling all thresholds by 1 + e costs e sum_k n_k (a_k + b_k) tokens and frees e d0 seconds: Delta(n) = n_1/Lambda.
    """
    piece = int(np.argmax(segments.overheads + segments.time @ real))
    price = float(real @ (segments.kv + segments.queue_prices[0])) / segments.overheads[piece]
    return np.where(np.arange(segments.overheads.size) == piece, price, 0.0)


def whole_thresholds(segments: Segments, real: Floats) -> Ints | None:
    """Return the whole thresholds that need least memory and drift; None if none do with n_1 up to a few thousand.

    `real` are the real thresholds, which say where to look.
    """
    first = np.arange(1, max(MOST_FIRST, int(4 * real[0])) + 1)
    least = _chains(segments, first, segments.continuation)
    possible = _drifting(segments, least)
    if not possible.any():
        return None
    first, least = first[possible], least[:, possible]
    rounded = _chains(segments, first, np.concatenate([[1.0], real[1:] / real[:-1]]))
    tries = np.concatenate([rounded[:, _drifting(segments, rounded)][:, :48], least[:, :16]], axis=1)
    costs = segments.kv @ tries + segments.buffers(tries).sum(axis=0)
    best = int(np.argmin(costs))
    return _Search(segments, _ranges(segments, least, tries[:, best], costs[best]), real).best(tries[:, best])


def _floors(segments: Segments) -> list[float]:
    """The least n_k from which a chain can fall to the end: m_L = 1, m_{k-1} = max(m_k, floor(p_k/(1 - p_k)) + 1) + 1.

    floor(p n) + 1 < n holds from n > 1/(1 - p) on, which is n - 1 > p/(1 - p).
    """
    floors = [1.0]
    for p in segments.continuation[:0:-1].tolist():
        floors.append(max(floors[-1], np.floor(p / (1.0 - p) * (1 + 4 * TOLERANCE)) + 1.0) + 1.0)
    return floors[::-1]


def _chains(segments: Segments, first: Ints, ratios: Floats) -> Floats:
    """Chains from every n_1, shape (L, V): n_k = max(m_k, floor(q_k n_{k-1}) + 1), at most n_{k-1} - 1 where it may be.

    With ratios p the least chains.
    """
    rows = [first.astype(np.float64)]
    for p, q, floor in zip(segments.continuation[1:], ratios[1:], _floors(segments)[1:], strict=True):
        least = np.maximum(floor, np.floor(p * rows[-1] * (1 + 2 * TOLERANCE)) + 1.0)
        rows.append(np.maximum(least, np.minimum(np.floor(q * rows[-1]) + 1.0, rows[-1] - 1.0)))
    return np.array(rows)


def _drifting(segments: Segments, chains: Floats) -> Flags:
    """Which of the chains, shape (L, V), fall strictly and meet Lambda Delta(n) < n_1."""
    time = np.max(segments.overheads[:, None] + segments.time @ chains, axis=0)
    falling = np.all(chains[1:] < chains[:-1], axis=0)
    drifting: Flags = falling & (segments.rate * time < chains[0] * (1 - TOLERANCE))
    return drifting


def _ranges(segments: Segments, least: Floats, known: Floats, cost: float) -> list[Floats]:
    """The values every n_k may take in a chain whose base costs at most `cost`."""
    low = least[:, 0]
    spare = cost - segments.kv @ low
    ranges: list[Floats] = []
    for k, bottom in enumerate(low):
        top = bottom + np.floor(max(spare, 0.0) / segments.kv[k])
        top = min(top, ranges[-1][-1] - 1.0) if ranges else top
        bottom = max(bottom, min(known[k] - WIDTH // 2, top - WIDTH + 1))
        ranges.append(np.arange(bottom, max(min(top, bottom + WIDTH - 1), known[k]) + 1))
    return ranges


@dataclass(frozen=True, eq=False)
class _Search:
    """Best-first search for the chain of least cost within the ranges, given those of the real optimum."""

    segments: Segments
    ranges: list[Floats]
    real: Floats

    @cached_property
    def costs(self) -> list[Floats]:
        """Price of n_k after n_{k-1}, shape (values of n_{k-1}, values of n_k), infinite where drift forbids."""
        each = self.segments
        prices = [(each.kv[0] * self.ranges[0])[None, :]]
        for k in range(1, len(self.ranges)):
            before, counts = self.ranges[k - 1][:, None], self.ranges[k][None, :]
            allowed = (counts < before) & above(counts, before, each.continuation[k])
            tails = each.tails(np.where(allowed, counts / before, 0.0), each.continuation[k])
            waiting, joining = (price[k] for price in each.queue_prices)
            prices.append(each.kv[k] * counts + buffer(waiting, joining, counts, tails))
        return prices

    @cached_property
    def times(self) -> list[Floats]:
        """Iteration time of n_k, less that which n_1 allows: shape (pieces, values)."""
        each = self.segments
        times = [np.outer(each.time[:, k], counts) for k, counts in enumerate(self.ranges)]
        times[0] = times[0] - (1 - TOLERANCE) / each.rate * self.ranges[0]
        return times

    @cached_property
    def multiplier(self) -> Floats:
        """The multiplier of the drift condition at the real optimum."""
        return multiplier(self.segments, self.real)

    def rest(self, multiplier: Floats, price: float = 1.0) -> list[Floats]:
        """Least price x cost + multiplier x time of the segments after k, for every value of n_k."""
        rests = [np.zeros(self.ranges[-1].size)]
        for cost, time in zip(self.costs[:0:-1], self.times[:0:-1], strict=True):
            paid = price * cost if price else np.where(np.isfinite(cost), 0.0, np.inf)
            step = paid + (multiplier @ time + rests[-1])[None, :]
            rests.append(step.min(axis=1))
        return rests[::-1]

    def best(self, known: Floats) -> Ints:
        """Return the best chain, at worst the known one."""
        limit = self.segments.required(known) * (1 + TOLERANCE)
        cheap, steered = self.rest(0.0 * self.multiplier), self.rest(self.multiplier)
        quick = [self.rest(unit, 0.0) for unit in np.eye(self.multiplier.size)]
        order = count()
        start = (0.0, next(order), 0.0, self.segments.overheads, ())
        heap: list[tuple[float, int, float, Floats, tuple[int, ...]]] = [start]
        while heap:
            _, _, spent, late, chain = heapq.heappop(heap)
            k = len(chain)
            if k == len(self.ranges):
                return np.array([int(values[i]) for values, i in zip(self.ranges, chain, strict=True)])
            cost = spent + self.costs[k][chain[-1] if chain else 0]
            over = late[:, None] + self.times[k]
            rank = cost + np.maximum(cheap[k], steered[k] + self.multiplier @ over)
            fits = np.all(over + np.array([rest[k] for rest in quick]) < 0.0, axis=0) & (rank <= limit)
            for i in np.flatnonzero(fits).tolist():
                heapq.heappush(heap, (float(rank[i]), next(order), float(cost[i]), over[:, i], (*chain, i)))
        return known.astype(np.int64)
