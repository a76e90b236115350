"""Arrivals: when each request comes and of which prompt type it is.

Poisson arrivals of a workload over [0, T): exponential gaps at the total rate, types drawn with the shares of the
rates. The arrivals of replication r of seed s come from their own stream, so policies compared at one seed see the
same requests (common random numbers) and the number of worker processes changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from fluid import Workload
from fluid.arrays import Floats, Ints
from fluid.compiled import jit
from fluid.errors import InputError

MOST_REQUESTS = 2**31
MOST_INDEX = 2**63 - 1  # of a prompt type, as it is kept


@dataclass(frozen=True, eq=False)
class Arrivals:
    """`times` (seconds, sorted, from 0 on) and `types` (index of the prompt type), each of shape (N,).

    `seen` is the type that each request is taken for on arrival: `types` itself unless lengths are only predicted
    (`verification.traffic.predicted_lengths`). Raises InputError unless the times are finite, sorted and nonnegative
    and each has one index of a type, and of one it is seen as.

    >>> len(Arrivals([0.0, 0.5, 0.5], [0, 1, 0]))
    3
    """

    times: Floats
    types: Ints
    seen: Ints

    def __init__(self, times: ArrayLike, types: ArrayLike, seen: ArrayLike | None = None) -> None:
        moments = np.array(times, dtype=np.float64)
        kinds = type_indices("types", types, "arrivals")
        looks = kinds if seen is None else type_indices("seen", seen, "arrivals")
        shapes = (moments.shape, kinds.shape, looks.shape)
        if moments.ndim != 1 or len(set(shapes)) > 1:
            raise InputError("times, types and seen", "one-dimensional and of one length", shapes, "arrivals")
        if moments.size and not (np.all(np.isfinite(moments)) and moments[0] >= 0 and np.all(np.diff(moments) >= 0)):
            raise InputError("times", "finite seconds, sorted, from 0 on", _first_bad(moments), "arrivals")
        self._keep(moments, kinds, looks)

    def _keep(self, times: Floats, types: Ints, seen: Ints) -> None:
        for field, array in (("times", times), ("types", types), ("seen", seen)):
            array.flags.writeable = False
            object.__setattr__(self, field, array)

    @classmethod
    def made(cls, times: Floats, types: Ints, seen: Ints | None = None) -> Arrivals:
        """Arrivals of arrays known to be right, which nobody else will change: neither checked nor copied."""
        arrivals = cls.__new__(cls)
        arrivals._keep(times, types, types if seen is None else seen)
        return arrivals

    def __len__(self) -> int:
        return len(self.times)

    def check(self, workload: Workload) -> None:
        """Raise InputError when a type index has no prompt type in the workload."""
        for field, types in (("types", self.types), ("seen", self.seen)):
            if len(self) and types.max() >= len(workload):
                raise InputError(field, f"indices below {len(workload)}, the number of prompt types", int(types.max()),
                                 "arrivals")


def type_indices(field: str, types: ArrayLike, where: str, count: int | None = None) -> Ints:
    """Return a copy of indices of prompt types, shape (N,); raises InputError unless they are, below `count` if given.

    >>> type_indices("types", [0, 2, 2], "a test").tolist()
    [0, 2, 2]
    """
    indices = np.array(types)
    if indices.ndim == 1 and not indices.size:
        return indices.astype(np.int64)
    most, end = (MOST_INDEX, "on") if count is None else (count - 1, f"to {count - 1}")
    if indices.ndim != 1 or indices.dtype.kind not in "iu" or indices.min() < 0 or indices.max() > most:
        raise InputError(field, f"indices of prompt types, from 0 {end}", types, where)
    return indices.astype(np.int64)


def poisson_arrivals(workload: Workload, horizon: float, generator: np.random.Generator) -> Arrivals:
    """Draw Poisson arrivals over [0, horizon) seconds, each type at its rate.

    >>> from fluid import PromptType, Workload
    >>> arrivals = poisson_arrivals(Workload([PromptType(1, 1, 2.0)]), 10.0, np.random.default_rng(0))
    >>> bool(arrivals.times.max() < 10.0)
    True
    """
    expected = count_expected(workload, horizon)
    times = generator.standard_exponential(max(int(expected + 6 * math.sqrt(expected)), 16))
    last = _add_up(times, 0.0, 1.0 / workload.rate)
    while last < horizon:
        more = generator.standard_exponential(16)
        last = _add_up(more, last, 1.0 / workload.rate)
        times = np.concatenate([times, more])
    times = times[: np.searchsorted(times, horizon)]
    return Arrivals.made(times, draw_types(workload, len(times), generator))


@partial(jit, nogil=True)
def _add_up(gaps: Floats, start: float, scale: float) -> float:
    """Turn gaps into moments, in place; return the last. `np.cumsum` takes three times as long."""
    total = 0.0
    for i in range(len(gaps)):
        total += scale * gaps[i]
        gaps[i] = start + total
    return start + total


def count_expected(workload: Workload, horizon: float) -> float:
    """Return the mean number of requests over a horizon (s); raises InputError where no memory would hold them."""
    expected = workload.rate * horizon
    if not expected < MOST_REQUESTS:
        raise InputError("horizon", f"short enough for fewer than {MOST_REQUESTS} requests", horizon, "simulation")
    return expected


def draw_types(workload: Workload, count: int, generator: np.random.Generator) -> Ints:
    """Draw the types of so many requests, independently, with the shares of the rates."""
    if len(workload) == 1:
        return np.zeros(count, dtype=np.int64)
    edges = np.cumsum(workload.rates / workload.rates.max())
    drawn: Ints = np.searchsorted(edges, generator.random(count) * edges[-1], side="right").clip(max=len(workload) - 1)
    return drawn


def _first_bad(times: Floats) -> float:
    previous = np.concatenate([np.zeros(1), times[:-1]])
    return float(times[np.flatnonzero(~(np.isfinite(times) & (times >= previous)))[0]])


def stream(seed: int, replication: int) -> np.random.Generator:
    """Return the random stream of one replication: PCG64 seeded by (seed, replication)."""
    return np.random.default_rng([seed, replication])
