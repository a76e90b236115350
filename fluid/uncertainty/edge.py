r"""The edge of the region in the worst case: by which factor all rates can grow, whichever of a set they are.

    e_U = max_i sigma_U(h_i),        factor 1/e_U                          (`fluid.uncertainty.worst`)

is the largest s such that s u lies in the region for every u of the set: exact, as a half-space holds over a set if and
only if it holds at its worst point. What is paid for it is the nominal factor less this one, in requests/s.

**With a stated probability** one half-space is enough. Let i* be the one on which the true edge load e = max_i h_i .
lambda lies: a fixed one, though nobody knows which. If sigma(h) >= h . lambda with probability 1 - alpha for each h,

    P(e_U >= e) >= P(sigma(h_i*) >= h_i* . lambda) >= 1 - alpha

without a share of alpha for each half-space.

**The iteration time.** At given rates the load of a limit of X with contents x_j is linear in the coefficients d of a
line, g . d with g = (sum lambda_j x_j/X, sum lambda_j r_j, sum lambda_j l_j, sum lambda_j S_j) (`fluid.region`): the
same, with coefficients in place of rates. Source: mathematics, section 18.1.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Floats
from fluid.errors import InputError
from fluid.region import Region
from fluid.replica import Replica
from fluid.stages import StageProfile, stage_profile
from fluid.uncertainty.worst import UncertaintySet
from fluid.workload import Workload


@dataclass(frozen=True, eq=False)
class RobustEdge:
    """The factor `scale` for all of a set beside the `nominal` one; `limit` binds, along `slope` (J,), at `point` (J,).

    `bound` is the dual of the worst load: with `slope @ point` it proves the factor from both sides.
    """

    scale: float
    nominal: float
    limit: str
    row: int
    slope: Floats
    point: Floats
    bound: float

    def __repr__(self) -> str:
        return f"RobustEdge({self.scale:.4g} of {self.nominal:.4g}, {self.price:.2%} less; {self.limit})"

    @property
    def price(self) -> float:
        """The share of the nominal factor that certainty costs."""
        return 1 - self.scale / self.nominal if self.nominal else 0.0


def robust_edge(region: Region, rates: ArrayLike, possible: UncertaintySet) -> RobustEdge:
    """Return the largest factor on all rates at which every rate of a set is inside; `rates` (J,) are the nominal ones.

    >>> from fluid import IterationTime, PromptType, Replica, stability_region
    >>> from fluid.uncertainty import Box
    >>> mix, replica = Workload([PromptType(512, 20, 20.0)]), Replica(137_000, IterationTime(0.0106, 4.013e-7))
    >>> found = robust_edge(stability_region(mix, replica), mix.rates, Box.around(mix.rates, 0.1))
    >>> round(found.nominal / found.scale, 9), found.limit
    (1.1, 'memory')
    """
    nominal = np.asarray(rates, dtype=np.float64)
    return _edge(region.half_spaces, region.limits, region.max_rate_scale(nominal), possible)


def coefficient_edge(workload: Workload, replica: Replica, possible: UncertaintySet) -> RobustEdge:
    """Return the same for a set of coefficients (d0, d1, d2, d3), line after line: shape (4 I,).

    A law's covariance V at 95% is `Ellipsoid(coefficients, V, 1.645)`.

    >>> from fluid import IterationTime, PromptType
    >>> from fluid.uncertainty import Box
    >>> mix, replica = Workload([PromptType(512, 20, 20.0)]), Replica(137_000, IterationTime(0.0106, 4.013e-7))
    >>> found = coefficient_edge(mix, replica, Box.around(replica.iteration_time.coefficients.ravel(), 0.1))
    >>> round(found.nominal / found.scale, 9)
    1.1
    """
    profile = stage_profile(workload, replica)
    if np.any(profile.peak > replica.kv_capacity):
        raise InputError("workload", "of types that fit the cache", workload.names, "coefficient_edge")
    slopes, limits = _slopes(profile, replica, workload.rates)
    given = replica.iteration_time.coefficients.ravel()
    return _edge(slopes, limits, 1.0 / float((slopes @ given).max()), possible)


def _edge(rows: Floats, limits: tuple[str, ...], nominal: float, possible: UncertaintySet) -> RobustEdge:
    worst = [possible.worst(row) for row in rows]
    row = max(range(len(worst)), key=lambda i: worst[i].value)
    found = worst[row]
    scale = 0.0 if nominal == 0 else 1.0 / found.value if found.value > 0 else sys.float_info.max
    return RobustEdge(scale, nominal, limits[row], row, rows[row], found.point, found.bound)


def _slopes(profile: StageProfile, replica: Replica, rates: Floats) -> tuple[Floats, tuple[str, ...]]:
    """g of each limit and line, the coefficients of all lines side by side: shape (limits I, 4 I)."""
    shares = {"memory": profile.kv_work / replica.kv_capacity}
    if replica.max_num_seqs is not None:
        shares["sequences"] = profile.stages / replica.max_num_seqs
    if replica.max_num_batched_tokens is not None:
        shares["tokens"] = profile.tokens / replica.max_num_batched_tokens
    lines = len(replica.iteration_time.pieces)
    work = [float(rates @ each) for each in (profile.kv_read, profile.prefilled, profile.stages)]
    rows, limits = np.zeros((len(shares) * lines, 4 * lines)), []
    for place, (limit, share) in enumerate(shares.items()):
        for i in range(lines):
            rows[place * lines + i, 4 * i: 4 * i + 4] = [float(rates @ share), *work]
            limits.append(limit)
    return rows, tuple(limits)
