"""Array types, sums that do not overflow, and the one relative tolerance with which the toolkit compares numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_TOKENS = 2**24  # of a prompt, and of an output
TOLERANCE = 1e-9  # relative, of every comparison of measures that decides a yes or no; counts are compared exactly

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def at_most(value: float, bound: float) -> bool:
    """value <= bound: exactly where the value is an `int`, a count, else to the relative tolerance of 1e-9."""
    return bool(value <= bound if isinstance(value, int) else value <= bound * (1 + TOLERANCE))


def below_one(load: float) -> bool:
    """load < 1, to the same tolerance, so that a load of exactly 1 counts as 1 however it was rounded."""
    return bool(load < 1 - TOLERANCE)


def bounded(values: Floats) -> Floats:
    """The values, with those that overflowed replaced by the largest float."""
    return np.minimum(values, np.finfo(np.float64).max)


def finite_sum(values: Floats) -> float:
    """The sum of nonnegative numbers, or the largest float where the sum would overflow."""
    with np.errstate(over="ignore"):
        return float(min(np.sum(values), np.finfo(np.float64).max))


def over_gaps(seconds: Floats, output_tokens: Ints) -> Floats:
    """Return the time from first to last token over the R - 1 gaps between them; NaN for a single output token."""
    gaps = (output_tokens - 1).astype(np.float64)
    between: Floats = np.full(gaps.shape, np.nan)
    return np.divide(seconds, gaps, out=between, where=gaps > 0)
