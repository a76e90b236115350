r"""The worst of a set: where a linear function is largest, and a bound that proves it.

Every half-space of the region is sum_j lambda_j h_ij <= 1 (`fluid.region`), linear in the rates lambda. Over a set U of
rates its worst case is the support function

    sigma_U(h) = max { h . u : u in U }

A set of this room answers with a point of U that attains it, which proves "at least", and with a bound that is computed
another way (a dual), which proves "at most"; they agree up to rounding. Source: Ben-Tal, El Ghaoui and Nemirovski,
"Robust Optimization" (2009), chapter 1; mathematics, section 18.1.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Floats
from fluid.errors import InputError, probability


class Worst(NamedTuple):
    """The largest `value` of a linear function over a set, the `point` (J,) that attains it, the dual `bound`."""

    value: float
    point: Floats
    bound: float


class UncertaintySet(Protocol):
    """What a set must answer: sigma_U(h) for a slope h of shape (J,)."""

    def worst(self, slope: ArrayLike) -> Worst:
        """The largest h . u over the set."""


def numbers(field: str, values: ArrayLike, where: str, size: int | None = None) -> Floats:
    """An array of finite numbers in one dimension, of a size where one is given; raises InputError."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.all(np.isfinite(array)) or size not in (None, array.size):
        many = "numbers" if size is None else f"{size} numbers"
        raise InputError(field, f"{many} in one dimension, all finite", values, where)
    return array


def one_sided(confidence: float, where: str) -> float:
    """z with P(Z <= z) = `confidence` for a standard normal Z; above a half, as an upper bound must be.

    >>> round(one_sided(0.95, "set"), 3)
    1.645
    """
    share = probability("confidence", confidence, where)
    if share < 0.5:
        raise InputError("confidence", "a probability from 0.5 on", confidence, where)
    return NormalDist().inv_cdf(share)
