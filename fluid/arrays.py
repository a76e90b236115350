"""Arrays of tokens, requests and seconds: their types, sums that do not overflow, comparisons all yes and no share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_TOKENS = 2**24  # of a prompt, and of an output
TOLERANCE = 1e-9  # relative, of every yes and no

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def at_most(value: float, bound: float) -> bool:
    """value <= bound, to the relative tolerance every yes or no of the toolkit shares."""
    return bool(value <= bound * (1 + TOLERANCE))


def below_one(load: float) -> bool:
    """load < 1, to the same tolerance: a load that should be exactly 1 counts as 1 however it was rounded."""
    return bool(load < 1 - TOLERANCE)


def bounded(values: Floats) -> Floats:
    """The values, held at the largest float where they overflowed."""
    return np.minimum(values, np.finfo(np.float64).max)


def finite_sum(values: Floats) -> float:
    """Sum of nonnegative numbers, held at the largest float where it would overflow."""
    with np.errstate(over="ignore"):
        return float(min(np.sum(values), np.finfo(np.float64).max))
