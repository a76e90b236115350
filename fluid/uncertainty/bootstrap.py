r"""The bootstrap: rates that a trace might as well have shown, drawn from its own blocks.

Cut the N requests, in the order of arrival, into at most `MOST_BLOCKS` blocks of neighbours, so that what hangs
together stays together. A draw takes as many blocks, with replacement; its load along h is

    rate . (sum of h over its requests) / (its requests)        or, with seconds, (sum of h) / (its seconds)

the second where the rate, too, is known from the trace only. Along h the "worst" is the quantile of the draws at the
confidence, and its point the rates of the draw that has it: the percentile bootstrap, for which no set of rates is
named, and no dual bound exists. **Approximation**, of many blocks; it asks nothing of the law of lengths, and takes
correlation within blocks with it. Sources: Efron and Tibshirani (1993), Kuensch, Annals of Statistics 17 (1989);
mathematics, section 18.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Floats, Ints
from fluid.errors import InputError, probability, real, whole
from fluid.uncertainty.worst import Worst, numbers

MOST_BLOCKS = 1000
LEAST_ROWS = 2


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Draws from requests of `types` (N,), indices of the rates' types, in the order of arrival.

    `rate` in requests/s is that of the whole mix, known, unless `times` (N,), seconds, are given: then the rate is that
    of the trace, and drawn with it. Raises InputError for fewer than two requests.

    >>> coins = Bootstrap([0, 1] * 200, rate=2.0, block=1)
    >>> 1.0 < coins.worst([0.0, 1.0]).value < 1.2               # 1 request/s of each: 1.645 deviations are 0.08
    True
    """

    types: Ints
    rate: float = 1.0
    confidence: float = 0.95
    times: Floats | None = None
    draws: int = 2000
    block: int | None = None
    seed: int = field(default=0)

    def __post_init__(self) -> None:
        types = np.asarray(self.types)
        if types.ndim != 1 or types.dtype.kind not in "iu" or types.size < LEAST_ROWS or types.min() < 0:
            raise InputError("types", f"indices of types of at least {LEAST_ROWS} requests", self.types, "bootstrap")
        object.__setattr__(self, "types", types.astype(np.int64))
        object.__setattr__(self, "rate", real("rate", self.rate, "bootstrap", unit="requests/s"))
        object.__setattr__(self, "confidence", probability("confidence", self.confidence, "bootstrap"))
        object.__setattr__(self, "draws", whole("draws", self.draws, "bootstrap", unit="draws", most=10**5))
        if self.block is not None:
            object.__setattr__(self, "block", whole("block", self.block, "bootstrap", unit="requests",
                                                    most=types.size))
        if self.times is not None:
            object.__setattr__(self, "times", numbers("times", self.times, "bootstrap", types.size))

    @cached_property
    def starts(self) -> Ints:
        """The first request of each block."""
        length = self.block or -(-self.types.size // MOST_BLOCKS)
        return np.arange(0, self.types.size, length)

    @cached_property
    def weights(self) -> Ints:
        """How often each draw has each block: shape (draws, blocks)."""
        blocks = self.starts.size
        return np.random.default_rng(self.seed).multinomial(blocks, np.full(blocks, 1 / blocks), size=self.draws)

    @cached_property
    def _size(self) -> Floats:
        """What the sums of each draw are divided by: shape (draws,)."""
        if self.times is None:
            sizes = np.diff(self.starts, append=self.types.size).astype(np.float64)
            return np.asarray(self.weights @ sizes / self.rate)
        mean = float(self.times[-1] - self.times[0]) / max(self.types.size - 1, 1)
        ends = np.append(self.times[self.starts], self.times[-1] + mean)
        return np.asarray(np.maximum(self.weights @ np.diff(ends), 1e-300))

    def worst(self, slope: ArrayLike) -> Worst:
        """The quantile of the draws along h, and the rates of the draw that has it."""
        h = numbers("slope", slope, "bootstrap")
        if int(self.types.max()) >= h.size:
            raise InputError("slope", f"{int(self.types.max()) + 1} numbers, one per type", slope, "bootstrap")
        loads = self.weights @ np.add.reduceat(h[self.types], self.starts) / self._size
        place = min(math.ceil(self.confidence * (self.draws + 1)), self.draws) - 1
        draw = int(np.argsort(loads, kind="stable")[place])
        each = np.repeat(self.weights[draw], np.diff(self.starts, append=self.types.size))
        point = np.bincount(self.types, each, h.size) / self._size[draw]
        return Worst(float(h @ point), point, float(loads[draw]))
