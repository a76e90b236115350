r"""The queue behind a threshold in heavy traffic: reflected Brownian motion, and its correction for discrete steps.

The walk S_m = Poisson(m a) - m n has drift mu = a - n and variance a per service; Q_K has the law of its maximum over
0..K. Let M_K be the maximum over [0, K] of Brownian motion with the same drift and variance, Phi and phi the normal
distribution function and density, d = mu sqrt(K/a). Then

    P(M_K > x) = Phi((mu K - x)/sqrt(a K)) + e^{2 mu x/a} Phi((-mu K - x)/sqrt(a K))                  x >= 0
    E[M_K]     = sqrt(a K) (d Phi(d) + phi(d) + (Phi(d) - 1/2)/d)             sqrt(2 a K/pi) at d = 0

(the mean is int_0^K E[(mu t + sqrt(a t) Z)^+]/t dt, Spitzer's identity in continuous time); for a < n, K -> infinity,
P(M > x) = e^{-2 (n - a) x/a}, E[M] = a/(2 (n - a)): Kingman's bound.

**Corrected.** The walk overshoots a high level by E[H^2]/(2 E[H]) on average, H its ladder height: beta sqrt(a) + 1/6
to O(a^{-1/2}), beta = -zeta(1/2)/sqrt(2 pi) = 0.5826 and 1/6 = E[S^3]/(6 E[S^2]) from the skewness of a Poisson step;
half a prompt less over a whole level, which H hits more often than a point between. So its maximum lies lower than
M_K by that much, and Q_K > x is Q_K >= x + 1 for a whole x:

    P(Q_K > x) ~ P(M_K > x + 2/3 + beta sqrt(a)),      E[Q_K] ~ E[M_K] - beta sqrt(a)

(in the mean the skewness of S_K itself takes the 1/6 back, and the midpoint rule the half).
The error left in the mean is O(1) where the plain one is O(sqrt(n)). Sources: Siegmund, Sequential Analysis, 1985,
chapter X (the law); Chang and Peres, Annals of Probability 25, 1997 (the mean); Harrison, Brownian Motion and
Stochastic Flow Systems, 1985, section 1.8 (M_K). See mathematics, section 11.4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import erf, log_ndtr, ndtr

from fluid.errors import InputError, real, whole
from thresholds.delay.bulk_queue import MEAN_OVERSHOOT, MOST_BATCH


@dataclass(frozen=True)
class ReflectedWalk:
    """The maximum over K = `services` of Brownian motion with drift a - n and variance a (None: over all time).

    `overshoot` (prompts) is what the walk's maximum lacks, `lattice` what its law lacks besides; 0 for Brownian motion.
    Made by `reflected_brownian` and `corrected_brownian`. Raises InputError without services unless a < n.
    """

    batch: int
    arrivals: float
    services: int | None = None
    overshoot: float = 0.0
    lattice: float = 0.0

    def __post_init__(self) -> None:
        whole("batch", self.batch, unit="prompts", most=MOST_BATCH)
        real("arrivals", self.arrivals, unit="prompts per service")
        real("overshoot", self.overshoot, unit="prompts", zero=True)
        real("lattice", self.lattice, unit="prompts", zero=True)
        if self.services is not None:
            whole("services", self.services, unit="services")
        elif self.arrivals >= self.batch:
            raise InputError("arrivals", f"below the batch of {self.batch:,} for a stationary law", self.arrivals)

    @property
    def mean(self) -> float:
        """E[M_K] - overshoot in prompts, at least 0."""
        return max(0.0, self._brownian_mean() - self.overshoot)

    def tail(self, x: float) -> float:
        """P(M_K > x + lattice + overshoot) for finite x; 1 for x < 0."""
        if not math.isfinite(x):
            raise InputError("x", "finite", x)
        return self._brownian_tail(x + self.lattice + self.overshoot) if x >= 0 else 1.0

    def _brownian_mean(self) -> float:
        a, drift = self.arrivals, self.arrivals - self.batch
        d = -math.inf if self.services is None else drift * math.sqrt(self.services / a)
        if self.services is None or d == -math.inf:  # no time, or so few arrivals that it makes no difference
            return a / (-2 * drift)
        last = erf(d / math.sqrt(2)) / (2 * d) if d else 1 / math.sqrt(2 * math.pi)
        density = math.exp(-d * d / 2) / math.sqrt(2 * math.pi)
        return math.sqrt(a * self.services) * float(d * ndtr(d) + density + last)

    def _brownian_tail(self, x: float) -> float:
        a, drift = self.arrivals, self.arrivals - self.batch
        if self.services is None:
            return math.exp(2 * drift * x / a)
        spread = math.sqrt(a * self.services)
        below = float(log_ndtr((-drift * self.services - x) / spread))
        reflected = math.exp(2 * drift * x / a + below) if math.isfinite(below) else 0.0
        return min(1.0, float(ndtr((drift * self.services - x) / spread)) + reflected)


def reflected_brownian(batch: int, arrivals: float, services: int | None = None) -> ReflectedWalk:
    """Return the Brownian limit of Q_K: drift a - n, variance a, started empty; stationary without `services`.

    Raises InputError as `ReflectedWalk` does.

    >>> round(reflected_brownian(1, 1.0, 100).mean, 6)                    # sqrt(2 a K/pi)
    7.978846
    """
    return ReflectedWalk(batch, arrivals, services)


def corrected_brownian(batch: int, arrivals: float, services: int | None = None) -> ReflectedWalk:
    """Return the Brownian limit of Q_K lowered by the mean overshoot 0.5826 sqrt(a), its tail also by 2/3 prompt.

    Raises InputError as `ReflectedWalk` does.

    >>> round(corrected_brownian(1, 1.0, 100).mean, 6)                    # sqrt(2 a K/pi) - 0.5826 sqrt(a)
    7.396248
    """
    overshoot = MEAN_OVERSHOOT * math.sqrt(real("arrivals", arrivals, unit="prompts per service"))
    return ReflectedWalk(batch, arrivals, services, overshoot, 2 / 3)
