r"""A box: each number within its own interval, all of them at their worst together.

    U = { u : low_j <= u_j <= high_j },      sigma(h) = sum_j max(h_j low_j, h_j high_j) = h . m + |h| . (high - low)/2

m the middle. Half-spaces of the region have h >= 0, so the worst rates are the upper corner, of all half-spaces at
once: what a fleet, a window or an edge needs there is exactly what it needs over the box. Source: mathematics, section
18.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Floats
from fluid.errors import InputError, real
from fluid.uncertainty.worst import Worst, numbers


@dataclass(frozen=True, eq=False)
class Box:
    """The numbers between `low` and `high`, both of shape (J,); raises InputError where an interval is empty.

    >>> worst = Box([0.9, 1.8], [1.1, 2.2]).worst([1.0, 0.5])
    >>> round(worst.value, 9), worst.point.tolist()
    (2.2, [1.1, 2.2])
    """

    low: Floats
    high: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", numbers("low", self.low, "box"))
        object.__setattr__(self, "high", numbers("high", self.high, "box", self.low.size))
        if np.any(self.low > self.high):
            raise InputError("low", "at most high", self.low.tolist(), "box")

    @classmethod
    def around(cls, centre: ArrayLike, within: float) -> Box:
        """The box of numbers within a share of each of those of the `centre` (J,)."""
        middle, share = numbers("centre", centre, "box"), real("within", within, "box", zero=True)
        half = share * np.abs(middle)
        return cls(middle - half, middle + half)

    def worst(self, slope: ArrayLike) -> Worst:
        """The largest h . u, at the corner that the signs of h choose."""
        h = numbers("slope", slope, "box", self.low.size)
        corner = np.where(h >= 0, self.high, self.low)
        middle, half = 0.5 * (self.low + self.high), 0.5 * (self.high - self.low)
        return Worst(float(h @ corner), corner, float(h @ middle + np.abs(h) @ half))
