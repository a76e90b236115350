r"""Prices that prove how much no policy can carry.

Iterations fall into classes c by the group of the largest piece that they prefill; class 0 prefills nothing. Let z_k be
the prompt tokens of group k in a batch, K the KV read and H the KV held, n the sequences and d the decodes beside those
that come with prefills, rho_k, h_k, s_k what comes with a token (`fluid.bounds.demand`). Of a batch of class c is known

    time >= d0_i + d1_i (K + sum rho z) + d2_i sum z + d3_i (n + sum s z)     for every line i
    H + sum h z <= C,    n + sum s z <= B,    d + sum z <= q,    z_c >= q_c
    K + sum rho z <= H + sum h z + p (n + sum s z)              nobody reads more than it holds, but for prefixes

With weights theta_ci >= 0 of the lines, sum_i theta_ci = 1, and multipliers >= 0 of the others (alpha_c of C, kappa_c
of B, eta_c of q, beta_c of z_c >= q_c, phi_c of the last), let T = sum_i theta_ci d_i be the class's line (T0, T1, T2,
T3), and R = T1 + phi_c, A = alpha_c - phi_c, N = T3 + kappa_c - p phi_c. If

    T0 + beta_c q_c - alpha_c C - kappa_c B - eta_c q  >=  omega                                              (slack)

then, adding up, every batch of class c takes at least what it does, at the prices

    mu_k = min_c [ R rho_k + T2 + N s_k + A h_k + eta_c - beta_c 1{k = c} ]     a token prefilled
    min_c R   a KV token read        min_c A       a KV token held
    min_c N   a sequence             min_c eta_c   a decode               omega   an iteration

classes c < k, which take no piece of group k, left out of mu_k. A second has one second of iterations. So the arrivals
of a second, times s, are served by some policy only if s times what they are worth is at most 1: `value` is the worth,
1/value the bound. Nothing of this asks where the multipliers come from: made from those of an optimal linear program
(`fluid.bounds.program`), repaired to be exactly feasible, they lose nothing but rounding. Source: derived here;
mathematics, section 10.4.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fluid.arrays import Floats
from fluid.bounds.demand import Demand
from fluid.tables import plain

ROUNDING = 1e-12  # relative, by which the bound is raised against rounding in the sums


class Prices(NamedTuple):
    """Seconds that things are worth: `prefill` a prompt token by group, the others one each."""

    prefill: Floats
    kv_read: float
    kv_held: float
    sequence: float
    decode: float
    iteration: float


class Limits(NamedTuple):
    """Of a batch: C (tokens), B (sequences) and q (tokens computed), infinite where there is none."""

    held: float
    sequences: float
    tokens: float


@dataclass(frozen=True, eq=False)
class Certificate:
    """Multipliers that prove a bound; made by `repaired`, which makes them feasible.

    `lines` has shape (I, 4); `mixture` theta (classes, I), rows that sum to 1; `scarce` (alpha, kappa, eta), shape
    (classes, 3), seconds per unit of `limits`; `presence` beta and `reading` phi (classes,), seconds per token;
    `iteration` omega. There is a class for nothing and one for each group of `demand`, or one class for all batches
    (`presence` 0).
    """

    demand: Demand
    limits: Limits
    lines: Floats
    mixture: Floats
    scarce: Floats
    presence: Floats
    reading: Floats
    iteration: float

    def __repr__(self) -> str:
        return f"Certificate(nobody carries more than {self.scale:.4g} of the rates; {len(self.mixture)} classes)"

    @cached_property
    def slack(self) -> Floats:
        """What each class has left over of its fixed time, seconds: at least 0, shape (classes,)."""
        least = np.concatenate([[0.0], self.demand.sizes])[: len(self.mixture)]
        left: Floats = self.mixture @ self.lines[:, 0] + self.presence * least - self._spent - self.iteration
        return left

    @property
    def _spent(self) -> Floats:
        spent: Floats = _times(self.scarce, np.array(self.limits)).sum(axis=1)
        return spent

    @cached_property
    def prices(self) -> Prices:
        """The least over the classes."""
        _, read, prefill, sequence = (self.mixture @ self.lines).T
        alpha, place, token = self.scarce.T
        demand, classes = self.demand, len(self.mixture)
        read, held = read + self.reading, alpha - self.reading
        sequence = sequence + place - demand.prefix * self.reading
        each = (np.outer(read, demand.read_each) + np.outer(sequence, demand.sequences_each)
                + np.outer(held, demand.held_each) + (prefill + token)[:, None])
        if classes > 1:
            own = np.arange(1, classes)
            each[own, own - 1] -= self.presence[1:]
            each[np.arange(classes)[:, None] <= np.arange(classes - 1)[None, :]] = np.inf
        return Prices(each.min(axis=0), float(read.min()), float(held.min()), float(sequence.min()), float(token.min()),
                      self.iteration)

    @cached_property
    def value(self) -> float:
        """What a second's arrivals are worth, seconds: more than 1 is impossible."""
        demand, prices = self.demand, self.prices
        rest = np.array([demand.read, demand.held, demand.sequences, demand.decodes, demand.iterations])
        with np.errstate(over="ignore"):
            worth = float(demand.tokens @ prices.prefill + rest @ np.array(prices[1:]))
        return worth * (1 - ROUNDING)

    @property
    def scale(self) -> float:
        """The factor on all rates beyond which nothing can carry them."""
        return min(1.0 / self.value, sys.float_info.max) if self.value > 0 else sys.float_info.max

    def to_dict(self) -> dict[str, Any]:
        """Return the prices and, for each class of batches, the multipliers that prove them, in plain values."""
        keys = ("least_piece", "line_weights", "kv_sequence_token", "presence", "reading")
        rows = zip([0.0, *self.demand.sizes], self.mixture, self.scarce, self.presence, self.reading, strict=False)
        answer = {"value": self.value, "lines": self.lines, "limits": self.limits._asdict(),
                  "prices": self.prices._asdict(), "demand": dict(vars(self.demand)),
                  "classes": [dict(zip(keys, row, strict=True)) for row in rows]}
        return plain(answer)  # type: ignore[no-any-return]


def repaired(demand: Demand, limits: Limits, lines: Floats, mixture: Floats, scarce: Floats, presence: Floats,
             reading: Floats, iteration: float) -> Certificate:
    """Return a certificate from multipliers that are feasible but for rounding: cut off at 0, then scaled down."""
    theta = np.maximum(mixture, 0.0)
    total = theta.sum(axis=1, keepdims=True)
    theta = np.where(total > 0, theta / np.where(total > 0, total, 1.0), 1.0 / theta.shape[1])
    rest = np.where(np.isfinite(np.array(limits)), np.maximum(scarce, 0.0), 0.0)
    found = Certificate(demand, limits, lines, theta, rest, np.maximum(presence, 0.0), np.maximum(reading, 0.0),
                        max(0.0, iteration))
    spent = found._spent + found.iteration
    have = found.slack + spent
    shrink = float(np.min(np.where(spent > have, have / np.where(spent > 0, spent, 1.0), 1.0)))
    if shrink == 1.0:
        return found
    shrink *= 1 - ROUNDING
    return replace(found, scarce=rest * shrink, iteration=found.iteration * shrink)


def _times(prices: Floats, limits: Floats) -> Floats:
    """Prices times limits, nothing where there is no limit."""
    return np.where(np.isfinite(limits), prices * np.where(np.isfinite(limits), limits, 0.0), 0.0)
