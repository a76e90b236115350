r"""How large the mean of a bounded number may be, given some draws of it: a bound that holds with confidence.

Draws F_1..F_m of an F that is never above M, independent of each other, and a stake 0 < c < 1 that was chosen without
looking at them. For every g < M

    W(g) = prod_i [ 1 + c (g - F_i)/(M - g) ]

is what a bet of the share c on "F is below g" makes of 1. Its factors are positive, and have mean at most 1 if
E F >= g. So P(W(g) >= 1/alpha) <= alpha there (Markov; Ville where draws go on), and as W grows with g,

    E F <= g* = sup { g : W(g) < 1/alpha }        with probability at least 1 - alpha

whatever the law of F. Where nothing is near M, g* is about the mean plus (M - mean) ln(1/alpha)/(c m): no bound can
rule out that a share ln(1/alpha)/m of all draws are M, because that law shows none of them with probability alpha. For
many draws a smaller stake, about (M - g) sqrt(2 ln(1/alpha)/(m V)), makes it mean + sqrt(2 V ln(1/alpha)/m).

This is the one-sided Kullback-Leibler ball around the empirical law, {Q : KL(empirical, Q) <= ln(1/alpha)/m, Q below
M}, at one multiplier: the ball's bound is that of the best stake after the fact (Honda and Takemura 2010), which costs
ln(m) in the radius; one chosen on other draws costs nothing. Sources: Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", JRSS B 86 (2024), section 4; Honda and Takemura, COLT 2010, theorem 8. See
mathematics, section 12.3.
"""

from __future__ import annotations

import math

import numpy as np

from fluid.arrays import Floats

STAKES = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
HALVINGS = 200


def upper_mean(values: Floats, counts: Floats, most: float, stake: float, confidence: float) -> float:
    """Return g*: at least E F with probability `confidence`, from draws `values`, each seen `counts` times.

    `most` M is at least every possible value. Two shares of 100 draws, none of them 1:

    >>> round(upper_mean(np.array([0.0, 0.2]), np.array([60.0, 40.0]), 1.0, 0.95, 0.95), 3)
    0.113
    """
    room = most - values
    below = _room_of_mean(room, counts, stake, -math.log1p(-confidence))
    return most - below


def best_stake(values: Floats, counts: Floats, most: float, draws: int, confidence: float) -> tuple[float, float]:
    """Return the stake that is best for so many draws of the law of these, and the bound that it would then give."""
    scaled = counts * (draws / counts.sum())
    bounds = [upper_mean(values, scaled, most, stake, confidence) for stake in STAKES]
    i = int(np.argmin(bounds))
    return STAKES[i], bounds[i]


def _room_of_mean(room: Floats, counts: Floats, stake: float, events: float) -> float:
    """The M - g at which ln W = `events`, from below: W falls as it grows, from infinity at 0."""
    low, high = 0.0, float(room.max())
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high) if low > 0 else high * 2.0**-30
        if not low < middle < high:
            break
        if counts @ np.log1p(stake * (room / middle - 1.0)) >= events:
            low = middle
        else:
            high = middle
            if low == 0 and high < 1e-300:
                break
    return low
