r"""Prices of rounds: the linear relaxation of the integer program from its dual side, a bound for any prices at all.

Let moment u cost v_u >= 0 for a token held at it, and w_ku >= 0 for a claim of it (`verification.hindsight.turns`).
Starting request i at t then costs

    r_i(t) = t + o_i + sum_{j=1}^{o_i} v_{t+j} (s_i + j) + sum_k sum_{u=t+o_i-b_ki}^{t+o_i+f_ki} w_ku

**Theorem.** The total latency of every feasible schedule is at least

    L(v, w) = sum_i (min_{t >= a_i} r_i(t) - a_i) - M sum_u v_u - sum_k k sum_u w_ku

Proof. In a feasible schedule at most M tokens are held and at most k claims made at u, so what is paid for moments is
at most M sum v + sum_k k sum w; the sum of r_i(t_i) less that is at most sum_i (t_i + o_i). Each r_i(t_i) is at least
the minimum. The same proof with r_i(t) in place of the minimum for one i shows

    a schedule that starts i at t costs at least   L + r_i(t) - min r_i                     (fixing)

Prices live on moments 1..H. Beyond them nothing is paid and r_i(t) = t + o_i, so t <= H is enough for the minimum, and
there is no horizon to assume. max_{v, w} L is the value of the linear relaxation (strong duality).

**How prices are found.** For up to some dozens of requests from the dual solution of the relaxation
(`verification.hindsight.program`). For thousands by subgradient ascent: with t_i where r_i is least, d_u = KV at u - M
(and claims - k) is a subgradient; prices move by theta (U - L)/|d|^2 times d, U the cost of a known schedule, theta
halved after ten steps without a gain (Polyak), d with seven tenths of the last direction added. The best L met is
reported: it is a bound wherever the ascent ends. A step looks at each pair (s, o) once, not at each request: r through
prefix sums of v, u v_u and w. See mathematics, section 7.7.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fluid.arrays import TOLERANCE, Floats, Ints
from verification.hindsight.turns import Turns, families
from verification.rounds.instance import Instance

FIRST_STEP, LAST_STEP, PATIENCE, MEMORY = 1.0, 1e-3, 10, 0.7


@dataclass(frozen=True, eq=False)
class Market:
    """Pairs (s, o) of an instance, once each: `prompts`, `outputs` and their `turns`; the `pair` of each request.

    `horizon` is H, the last moment that has a price; `arrivals` are those of the requests.
    """

    memory: int
    horizon: int
    arrivals: Ints
    pair: Ints
    prompts: Ints
    outputs: Ints
    turns: tuple[Turns, ...]

    @classmethod
    def of(cls, instance: Instance, horizon: int) -> Market:
        """The market of an instance with prices on moments 1..`horizon`."""
        pairs, pair = np.unique(np.stack([instance.prompts, instance.outputs]), axis=1, return_inverse=True)
        found = tuple(families(pairs[0], pairs[1], instance.memory))
        return cls(instance.memory, horizon, instance.arrivals, pair.ravel(), pairs[0], pairs[1], found)

    @property
    def limits(self) -> Floats:
        """M, then k of each family: how much of a moment there is, shape (1 + families,)."""
        return np.array([self.memory, *(each.together for each in self.turns)], dtype=np.float64)

    def costs(self, prices: Floats) -> Floats:
        """r of each pair at starts 0..H, shape (pairs, H + 1); `prices` are v and each w, shape (1 + families, H)."""
        H, s, o = self.horizon, self.prompts[:, None], self.outputs[:, None]
        t = np.arange(H + 1)
        sums = np.concatenate([np.zeros((len(prices), 1)), np.cumsum(prices, axis=1)], axis=1)
        moments = np.concatenate([[0.0], np.cumsum(prices[0] * t[1:])])
        end = np.minimum(t + o, H)
        cost: Floats = t + o + (s - t) * (sums[0][end] - sums[0][t]) + (moments[end] - moments[t])
        for each, paid in zip(self.turns, sums[1:], strict=True):
            first, last = self._claimed(each, t + o)
            cost += np.where(each.members[:, None], paid[last] - paid[first], 0.0)
        return cost

    def _claimed(self, turns: Turns, finish: Ints) -> tuple[Ints, Ints]:
        """The moments claimed are those after the first, up to the last."""
        first = np.clip(finish - turns.before[:, None] - 1, 0, self.horizon)
        return first, np.maximum(first, np.clip(finish + turns.after[:, None], 0, self.horizon))

    def used(self, starts: Ints) -> Floats:
        """KV and claims at each moment if the requests start at `starts`, shape (1 + families, H)."""
        H, s, o = self.horizon, self.prompts[self.pair], self.outputs[self.pair]
        end, ones = np.minimum(starts + o, H), np.ones(len(starts))
        count = _running(starts, end, ones, H)
        rows = [_running(starts, end, (s - starts).astype(np.float64), H) + np.arange(1, H + 1) * count]
        for each in self.turns:
            first = np.clip(starts + o - each.before[self.pair] - 1, 0, H)
            last = np.maximum(first, np.clip(starts + o + each.after[self.pair], 0, H))
            rows.append(_running(first, last, each.members[self.pair].astype(np.float64), H))
        return np.stack(rows)

    def answer(self, prices: Floats) -> tuple[float, Ints]:
        """L and, for each request, the first start at or after its arrival where r is least."""
        cost = self.costs(prices)
        least = np.minimum.accumulate(cost[:, ::-1], axis=1)[:, ::-1]
        here = np.where(cost <= least, np.arange(self.horizon + 1), self.horizon)
        starts = np.minimum.accumulate(here[:, ::-1], axis=1)[:, ::-1][self.pair, self.arrivals]
        paid = float(self.limits @ prices.sum(axis=1))
        return float((least[self.pair, self.arrivals] - self.arrivals).sum()) - paid, starts


def ascend(market: Market, known: int, steps: int,
           go_on: Callable[[], bool] = lambda: True) -> tuple[float, Floats]:
    """Return the best L met in `steps` steps from prices 0, and its prices; `known` is the cost of some schedule.

    `go_on` is asked after each step.

    >>> instance = Instance([0, 0], [1, 1], [1, 1], memory=2)
    >>> round(ascend(Market.of(instance, 2), known=3, steps=50)[0], 6)
    3.0
    """
    prices = np.zeros((len(market.limits), market.horizon))
    best, kept, step, idle = -np.inf, prices, FIRST_STEP, 0
    moved, scale = np.zeros_like(prices), market.limits[:, None]  # in shares: so memory and claims weigh the same
    for _ in range(steps):
        value, starts = market.answer(prices)
        idle = 0 if value > best + 1e-4 * (known - best) else idle + 1
        if value > best:
            best, kept = value, prices
        if idle >= PATIENCE:
            step, idle, prices, moved = step / 2, 0, kept, np.zeros_like(prices)
            value, starts = market.answer(prices)
        slope = market.used(starts) / scale - 1.0
        slope[(prices <= 0) & (slope < 0)] = 0.0
        moved = slope + MEMORY * moved
        size = float(np.square(moved).sum())
        if step < LAST_STEP or size == 0 or rounded_up(best) >= known or not go_on():
            break
        prices = np.maximum(0.0, prices + step * (known - value) / size * moved / scale)
    return best, kept


def rounded_up(bound: float) -> int:
    """The least whole number not below a bound that is a sum of floats (relative error below 1e-9), at least 0."""
    return max(0, math.ceil(bound - max(1e-6, TOLERANCE * abs(bound))))


def _running(first: Ints, last: Ints, weight: Floats, horizon: int) -> Floats:
    """The sum of the weights at each moment 1..H: a weight counts after `first`, up to `last`."""
    change = np.bincount(first, weight, horizon + 2) - np.bincount(last, weight, horizon + 2)
    total: Floats = np.cumsum(change)[:horizon]
    return total
