"""What one more of something is worth: prices of rows, times how the rows move.

At an optimum with prices y and rates x the value V of a program over sum_j h_ij x_j <= n moves with its data as its
Lagrangian does (envelope theorem): dV = - sum_ij y_i x_j dh_ij where V is a maximum, + where it is a least cost. By
(2.3) and (2.4) h is linear in the coefficients of line p, and in 1/C; with sums over the rates sent to a kind, of KV
work W = sum_j x_j w_j, sequences S, tokens t, KV read r, prefilled l,

    dh x per     KV token of cache         overhead d0   per_kv_token   per_prefill_token   per_sequence
    memory       -d0 W / C^2               W / C         r              l                   S
    sequences    0                         S / B         r              l                   S
    tokens       0                         t / q         r              l                   S
    time         0                         0             r              l                   S      (by 1 + 3e-9)
    tpot         0                         w tau/(tau - d0)^2     r, l, S, by tau/(tau - d0)
    link         0                         0             0              0                   0

Where KV is held for transfers (`fluid.planning.parts`) a token of cache is worth H / C^2 more. In the row of TPOT w is
d1 r + d2 l + d3 S, and per second of tau it moves by -w d0/(tau - d0)^2. All but the last row are divided by `use`.
The derivative is one-sided where several sets of prices are optimal. Source: mathematics, section 16.5.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.arrays import TOLERANCE, Floats
from fluid.planning.kinds import TPOT, Kind, Rows


class Margins(NamedTuple):
    """Derivatives of an optimal value for one kind: per KV token of cache, and per second of each coefficient.

    The coefficients are raised in every line of the iteration time at once; `replica` is what one more replica is worth
    (its price of rows: replicas of a kind at price a_k cost nothing more); `tpot` that of a second between tokens more.
    """

    kv_token: float
    overhead: float
    per_kv_token: float
    per_prefill_token: float
    per_sequence: float
    replica: float
    tpot: float = 0.0


class Residuals(NamedTuple):
    """How far a certificate is from exact: relative excess of the rows, of the prices, and the gap between bounds.

    All are of the order of rounding where the answer is optimal; computed from the half-spaces anew, by sums alone.
    """

    primal: float
    dual: float
    gap: float

    def holds(self, tolerance: float = 1e-6) -> bool:
        """Whether all three are within a tolerance."""
        return max(self.primal, self.dual, self.gap) <= tolerance


def moved(rows: Rows, kinds: tuple[Kind, ...], prices: Floats, rates: Floats) -> tuple[Margins, ...]:
    """Return sum_ij y_i x_j dh_ij per kind and datum: how a least cost moves (a maximum: `gained`).

    `prices` (R,) of the rows, `rates` (K, J) of the relaxed optimum.
    """
    worth = rows.of_kinds(prices)
    return tuple(_of_kind(rows, each, k, prices, rates[k], float(worth[k])) for k, each in enumerate(kinds))


def gained(rows: Rows, kinds: tuple[Kind, ...], prices: Floats, rates: Floats) -> tuple[Margins, ...]:
    """The same of a maximum."""
    return tuple(Margins._make([*(0.0 - value for value in each[:5]), each.replica, 0.0 - each.tpot])
                 for each in moved(rows, kinds, prices, rates))


def _of_kind(rows: Rows, kind: Kind, k: int, prices: Floats, rates: Floats, worth: float) -> Margins:
    profile, replica = rows.profiles[k], kind.replica
    total = {"memory": rates @ profile.kv_work, "sequences": rates @ profile.stages, "tokens": rates @ profile.tokens}
    room = {"memory": replica.kv_capacity, "sequences": replica.most_sequences, "tokens": replica.most_tokens}
    work = np.array([rates @ profile.kv_read, rates @ profile.prefilled, rates @ profile.stages])
    slopes, looser = np.zeros(5), 0.0
    for i in np.flatnonzero(rows.kind == k):
        limit, price = rows.limit[i], prices[i] / (1.0 if rows.limit[i] == TPOT else kind.use)
        if limit == "link":
            continue
        line = replica.iteration_time.coefficients[rows.piece[i]]
        if limit == TPOT and kind.tpot is not None:
            slower = price * float(line[1:] @ work) / (kind.tpot - line[0]) ** 2
            slopes[1] += slower * kind.tpot
            slopes[2:] += price * work * kind.tpot / (kind.tpot - line[0])
            looser -= slower * line[0]
            continue
        slopes[2:] += price * work * (1 + 3 * TOLERANCE * (limit == "time"))
        if limit != "time":
            slopes[1] += price * total[limit] / room[limit]
        if limit == "memory":
            held = 0.0 if kind.part is None else float(rates @ kind.part.held(profile))
            slopes[0] -= price * (line[0] * total[limit] + held) / replica.kv_capacity**2
    return Margins._make([*slopes.tolist(), worth, float(looser)])
