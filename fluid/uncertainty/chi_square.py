r"""A chi-square ball: the mixes of types that are near an empirical one.

The shares p_j of J types, seen in n requests; with total rate Lambda

    U = { Lambda q : q >= 0, sum_j q_j = 1, sum_j (q_j - p_j)^2/p_j <= rho }

**Worst case.** Put w_j = q_j/p_j: then E_p w = 1 and E_p w^2 <= 1 + rho. For every eta, as w >= 0,

    h . q = eta + E_p w (h - eta) <= eta + E_p w (h - eta)+ <= eta + sqrt((1 + rho) E_p [(h - eta)+]^2)

by Cauchy and Schwarz: a bound for each eta, and it is attained at w in proportion to (h - eta)+ where

    E_p [(h - eta)+]^2 = (1 + rho) (E_p (h - eta)+)^2

whose left side over the right rises from 1/(1 + rho) to that of the types of largest h alone: a root, found by
bisection to the last bit. Where these types have p >= 1/(1 + rho) together they may be all there is, and sigma is
their h. Where w stays positive it is the familiar mean + sqrt(rho variance).

**The radius.** rho = z^2/n, with z the normal quantile of the confidence: sigma(h) is then, to first order, the upper
end of the usual interval for the mean of h over n independent requests. It is one half-space that counts: that on which
the true edge lies, whichever it is (`fluid.uncertainty.edge`), so nothing is paid for how many types or half-spaces
there are. **Approximation** of large n; a length that was never seen is not in the ball. Sources: Duchi, Glynn and
Namkoong, "Statistics of robust optimization", Mathematics of Operations Research 46 (2021); Ben-Tal et al., Management
Science 59 (2013); mathematics, section 18.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Floats
from fluid.errors import InputError, real
from fluid.uncertainty.worst import Worst, numbers, one_sided

HALVINGS = 200


@dataclass(frozen=True, eq=False)
class ChiSquareBall:
    """Rates `rate` q (requests/s, shape (J,)) with shares q within `radius` rho of `shares` p.

    Raises InputError unless shares are positive; they are divided by their sum.

    >>> ball = ChiSquareBall([0.5, 0.5], 0.04)
    >>> ball.worst([1.0, 3.0]).point.round(9).tolist(), round(ball.worst([1.0, 3.0]).bound, 9)    # 2 + sqrt(0.04 x 1)
    ([0.4, 0.6], 2.2)
    """

    shares: Floats
    radius: float
    rate: float = 1.0

    def __post_init__(self) -> None:
        shares = numbers("shares", self.shares, "chi-square ball")
        if np.any(shares <= 0):
            raise InputError("shares", "positive", self.shares, "chi-square ball")
        object.__setattr__(self, "shares", shares / shares.sum())
        object.__setattr__(self, "radius", real("radius", self.radius, "chi-square ball", zero=True))
        object.__setattr__(self, "rate", real("rate", self.rate, "chi-square ball", unit="requests/s"))

    @classmethod
    def of_counts(cls, counts: ArrayLike, rate: float = 1.0, confidence: float = 0.95) -> ChiSquareBall:
        """The ball around the shares of `counts` (J,) of requests, with a confidence for each half-space."""
        seen = numbers("counts", counts, "chi-square ball")
        z = one_sided(confidence, "chi-square ball")
        return cls(seen, z * z / max(float(seen.sum()), 1.0), rate)

    def eta(self, slope: ArrayLike) -> float:
        """The multiplier of the best bound."""
        h, low = self._slope(slope)
        high = float(h.max())
        if float(self.shares[h >= high].sum()) * (1 + self.radius) >= 1 or self.radius == 0:
            return high if self.radius else low
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            if not low < middle < high:
                break
            over = np.maximum(h - middle, 0.0)
            first, second = float(self.shares @ over), float(self.shares @ over**2)
            low, high = (middle, high) if second < (1 + self.radius) * first**2 else (low, middle)
        return low

    def worst(self, slope: ArrayLike) -> Worst:
        """The largest h . u, the rates that attain it, and the bound of `eta`."""
        h, _ = self._slope(slope)
        eta = self.eta(h)
        over = np.maximum(h - eta, 0.0)
        weight = over if over.any() else (h >= h.max()).astype(np.float64)
        if self.radius == 0:
            weight = np.ones(h.size)
        shares = self.shares * weight
        point = self.rate * shares / shares.sum()
        second = float(self.shares @ over**2)
        bound = self.rate * (eta + math.sqrt((1 + self.radius) * second))
        return Worst(float(h @ point), point, bound if self.radius else float(self.rate * (h @ self.shares)))

    def _slope(self, slope: ArrayLike) -> tuple[Floats, float]:
        """The slope, and an eta below the root: there w - 1 is small against the room that rho leaves."""
        h = numbers("slope", slope, "chi-square ball", self.shares.size)
        mean = float(self.shares @ h)
        spread = math.sqrt(max(0.0, float(self.shares @ (h - mean) ** 2)))
        return h, mean - spread / math.sqrt(self.radius) * (1 + 1e-9) if self.radius else mean
