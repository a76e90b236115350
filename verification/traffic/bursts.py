r"""Arrivals that come in bursts: stationary processes of a workload's rate lambda, with their index of dispersion.

    GammaBursts   gaps of a Gamma law with shape b, mean 1/lambda: `vllm bench serve --burstiness b`. A renewal process:
                  I = c^2 = 1/b; b = 1 is Poisson, below it requests come in bursts, above it evenly
    OnOff         Poisson while on, silent while off, periods exponential with means T_on, T_off: an interrupted Poisson
                  process, on average lambda. Its rate forgets in T_c = T_on T_off / (T_on + T_off), and
                  I = 1 + 2 lambda T_off^2 / (T_on + T_off)

Both begin in their stationary state, so that E N(T) = lambda T at every T: the first gap is what is left of one (of a
length-biased gap a uniform share), the first period on with probability T_on / (T_on + T_off). Types are drawn with the
shares of the rates, independently. I of OnOff: twice the integral of the covariance of the rate,
(lambda/p)^2 p (1 - p) e^{-t/T_c} with p = T_on/(T_on + T_off), over lambda, and 1 (Cox and Isham, "Point processes",
1980). See mathematics, section 15.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fluid import Workload
from fluid.arrays import Floats
from fluid.errors import real, within
from thresholds import Dispersion
from verification.traffic.arrivals import Arrivals, count_expected, draw_types, stream

LEAST_BURSTINESS, MOST_BURSTINESS = 1e-3, 1e3


@dataclass(frozen=True)
class GammaBursts:
    """Gaps of a Gamma law with shape `burstiness` b: 1 is Poisson, 1/b the index of dispersion.

    Raises InputError unless b is from 0.001 to 1000.

    >>> from fluid import PromptType
    >>> GammaBursts(0.25).dispersion(50.0)
    Dispersion(index=4.0, seconds=0.0)
    """

    burstiness: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "burstiness", within("burstiness", self.burstiness, LEAST_BURSTINESS, MOST_BURSTINESS,
                                                      unit="the shape of a Gamma law"))

    def factor(self) -> float:
        return 1.0

    def dispersion(self, rate: float) -> Dispersion:
        """Return 1/b, whatever the rate (requests/s)."""
        return Dispersion(1 / self.burstiness)

    def draw(self, workload: Workload, horizon: float, seed: int, replication: int) -> Arrivals:
        expected, generator = count_expected(workload, horizon), stream(seed, replication)
        shape, scale = self.burstiness, 1 / (workload.rate * self.burstiness)
        first = generator.random() * generator.standard_gamma(shape + 1)
        gaps = generator.standard_gamma(shape, max(int(expected + 6 * math.sqrt(expected / shape)), 16))
        times = np.cumsum(np.concatenate([[first], gaps])) * scale
        while times[-1] < horizon:
            more = times[-1] + np.cumsum(generator.standard_gamma(shape, len(times))) * scale
            times = np.concatenate([times, more])
        times = times[: np.searchsorted(times, horizon)]
        return Arrivals.made(times, draw_types(workload, len(times), generator))


@dataclass(frozen=True)
class OnOff:
    """Poisson arrivals while on, none while off: periods exponential with means `on` and `off`, seconds.

    Raises InputError unless both are positive.

    >>> OnOff(on=10.0, off=30.0).dispersion(2.0)
    Dispersion(index=91.0, seconds=7.5)
    """

    on: float
    off: float

    def __post_init__(self) -> None:
        for field in ("on", "off"):
            object.__setattr__(self, field, real(field, getattr(self, field), unit="seconds"))

    @property
    def share(self) -> float:
        """The share of the time that is on."""
        return self.on / (self.on + self.off)

    def factor(self) -> float:
        return 1.0

    def dispersion(self, rate: float) -> Dispersion:
        """Return 1 + 2 rate off^2/(on + off), and the seconds on off/(on + off); `rate` in requests/s."""
        return Dispersion(1 + 2 * rate * self.off**2 / (self.on + self.off), self.on * self.off / (self.on + self.off))

    def draw(self, workload: Workload, horizon: float, seed: int, replication: int) -> Arrivals:
        count_expected(workload, horizon)
        generator = stream(seed, replication)
        starts, ends = self._periods(horizon, generator)
        before = np.concatenate([[0.0], np.cumsum(ends - starts)])  # time on before each period, and in all
        count = generator.poisson(before[-1] * workload.rate / self.share)
        moments = np.sort(generator.random(count) * before[-1])
        period = np.minimum(np.searchsorted(before, moments, side="right") - 1, max(len(starts) - 1, 0))
        times = np.minimum(starts[period] + (moments - before[period]), np.nextafter(horizon, 0.0))
        return Arrivals.made(np.maximum.accumulate(times), draw_types(workload, count, generator))

    def _periods(self, horizon: float, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """When the periods that are on begin and end, within [0, horizon]."""
        begins_on = generator.random() < self.share
        means = np.array([self.on, self.off] if begins_on else [self.off, self.on])
        edges = np.zeros(1)
        while edges[-1] < horizon:
            more = 2 * (16 + int((horizon - edges[-1]) / (self.on + self.off)))
            lengths = generator.standard_exponential(more) * np.tile(means, more // 2)
            edges = np.concatenate([edges, edges[-1] + np.cumsum(lengths)])
        edges = np.minimum(edges, horizon)[0 if begins_on else 1:]
        edges = edges[: len(edges) // 2 * 2]
        return edges[0::2], edges[1::2]


Bursts = GammaBursts | OnOff
