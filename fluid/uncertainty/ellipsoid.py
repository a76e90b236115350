r"""An ellipsoid: numbers off together no further than a radius, in units of their covariance.

    U = { u : (u - c)' V^-1 (u - c) <= r^2 },        sigma(h) = h . c + r sqrt(h' V h)

attained at c + r V h / sqrt(h' V h); that nothing is larger is Cauchy and Schwarz's inequality for V. With u normal of
mean c and covariance V, h . u is at most sigma(h) with probability Phi(r), for each h: r = 1.645 at 95%.

**From counts.** n_j requests of type j arrive in T seconds of Poisson streams. Then sum_j h_j n_j/T has the variance
sum_j h_j^2 lambda_j/T, estimated by sum_j h_j^2 n_j/T^2: the ellipsoid with c_j = n_j/T and V = diag(n_j)/T^2. Where
arrivals are I times as dispersed as Poisson (mathematics, section 12.1) V is I times that. **Approximation**, the
normal one: good where hundreds of requests carry the load. An ellipsoid that reaches below 0 holds rates that cannot
be, so its worst case is on the safe side. Source: mathematics, section 18.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Floats
from fluid.errors import InputError, real
from fluid.uncertainty.worst import Worst, numbers, one_sided


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """The numbers around `centre` (J,) within `radius` of a `covariance` (J, J), or (J,) where it is diagonal.

    Raises InputError unless the shapes agree and the covariance is symmetric and nonnegative.

    >>> worst = Ellipsoid([1.0, 1.0], [0.01, 0.04], 2.0).worst([1.0, 0.0])
    >>> round(worst.value, 9), worst.point.round(9).tolist()
    (1.2, [1.2, 1.0])
    """

    centre: Floats
    covariance: Floats
    radius: float

    def __post_init__(self) -> None:
        centre = numbers("centre", self.centre, "ellipsoid")
        spread = np.asarray(self.covariance, dtype=np.float64)
        size = centre.size
        good = spread.shape in ((size,), (size, size)) and bool(np.all(np.isfinite(spread)))
        if good:
            least = float(spread.min()) if spread.ndim == 1 else float(np.linalg.eigvalsh(spread)[0])
            good = least >= -1e-9 * float(np.abs(spread).max(initial=0.0)) and (
                spread.ndim == 1 or np.allclose(spread, spread.T, rtol=1e-9, atol=0.0))
        if not good:
            raise InputError("covariance", f"{size} variances, or a symmetric nonnegative matrix ({size}, {size})",
                             self.covariance, "ellipsoid")
        object.__setattr__(self, "centre", centre)
        object.__setattr__(self, "covariance", spread)
        object.__setattr__(self, "radius", real("radius", self.radius, "ellipsoid", zero=True))

    @classmethod
    def of_counts(cls, counts: ArrayLike, seconds: float, confidence: float = 0.95,
                  dispersion: float = 1.0) -> Ellipsoid:
        """The rates behind `counts` (J,) of requests in so many seconds, at a confidence for each half-space."""
        seen = numbers("counts", counts, "ellipsoid")
        time, index = real("seconds", seconds, "ellipsoid", unit="seconds"), real("dispersion", dispersion, "ellipsoid")
        return cls(seen / time, index * seen / time**2, one_sided(confidence, "ellipsoid"))

    def worst(self, slope: ArrayLike) -> Worst:
        """The largest h . u, and the bound h . c + r sqrt(h' V h)."""
        h = numbers("slope", slope, "ellipsoid", self.centre.size)
        push = self.covariance * h if self.covariance.ndim == 1 else self.covariance @ h
        length = math.sqrt(max(0.0, float(h @ push)))
        point = self.centre + (self.radius / length * push if length > 0 else 0.0)
        return Worst(float(h @ point), point, float(h @ self.centre) + self.radius * length)
