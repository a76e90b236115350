r"""A law of whole numbers put together into few of them, its mean and its variance kept exactly.

Neighbouring lengths make a cell; the cells are as many as are asked for, their edges at equal shares of the sum of
P(k)^(1/3), which makes the variance inside all of them least as they become many (Panter and Dite, 1951). In a cell
from a to c, with chance p, mean m and variance v, the lengths become three: u, and two neighbours x, x + 1 above the
mean,

    u = m - v^(1/2), rounded, and kept from a to m - v/(c - m)
    x = m + v/(m - u), rounded down: two lengths u and m + v/(m - u) would have the mean and the variance of the cell
    P(u) = p (v + (m - x)(m - x - 1)) / ((x - u)(x + 1 - u)), P(x), P(x + 1) alike: the weights of Lagrange

which have its chance, mean and variance. They are never negative: the first because no law of whole numbers varies less
than v >= (m - x)(x + 1 - m), the others because x <= m + v/(m - u) <= x + 1. u is at least a, x + 1 at most c, so no
length leaves its cell. A cell of at most three lengths stays as it is.

With E X and E X^2 of prompts and outputs, independent of each other, also the means of R, l, l R and R^2 are kept, so
those of everything linear in them: of KV work, KV read and time work (whole prefill, blocks of one token). Quantiles
move, each inside its cell. Derived here; mathematics, section 15.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from fluid.arrays import Floats, Ints

PER_CELL = 3  # lengths
SINGLE = 1e-9  # tokens^2: a variance below is rounding


def in_cells(tokens: Ints, chances: Floats, cells: int) -> tuple[Ints, Floats]:
    """Return at most three lengths for each of so many cells of a law, and their chances."""
    if len(tokens) <= PER_CELL * cells:
        return tokens, chances
    parts = list(_parts(tokens, chances, cells))
    kept, weights = (np.concatenate(each) for each in zip(*parts, strict=True))
    found, places = np.unique(kept, return_inverse=True)
    together = np.bincount(places, weights).astype(np.float64)
    some: Ints = found[together > 0]
    return some, together[together > 0]


def _parts(tokens: Ints, chances: Floats, cells: int) -> Iterator[tuple[Ints, Floats]]:
    shares = np.cumsum(np.cbrt(chances))
    number = np.minimum((cells * (shares - shares[0] / 2) / shares[-1]).astype(np.int64), cells - 1)
    for cell in np.split(np.arange(len(tokens)), np.flatnonzero(np.diff(number)) + 1):
        mine, held = tokens[cell], chances[cell]
        yield (mine, held) if len(cell) <= PER_CELL else _three(mine, held)


def _three(tokens: Ints, chances: Floats) -> tuple[Ints, Floats]:
    """Three lengths with the chance, the mean and the variance of a cell."""
    held, least, most = chances.sum(), int(tokens[0]), int(tokens[-1])
    if held == 0:
        return tokens[:1], chances[:1]
    mean = least + float(chances @ (tokens - least) / held)
    variance = float(chances @ (tokens - mean) ** 2 / held)
    if variance < SINGLE:
        return np.array([round(mean)]), np.array([held])
    highest = max(math.floor(mean - variance / (most - mean)), least)
    low = min(max(round(mean - math.sqrt(variance)), least), highest)
    middle = min(math.floor(mean + variance / (mean - low)), most - 1)
    three = ((low, middle, middle + 1), (middle, low, middle + 1), (middle + 1, low, middle))
    weights = [(variance + (mean - b) * (mean - c)) / ((a - b) * (a - c)) for a, b, c in three]
    return np.array([a for a, _, _ in three]), held * np.maximum(np.array(weights), 0.0)
