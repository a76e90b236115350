"""Two policies on the same arrivals: their difference, with an interval that the arrivals do not blur.

Replication r of a seed brings every policy the same requests (common random numbers). With x_r and y_r what it measures
of each policy, the differences d_r = y_r - x_r are independent over r, and their Student interval

    mean(d) +- t_{R-1} s_d / sqrt(R),      var d = var x + var y - 2 cov(x, y)

is narrower than two intervals side by side suggest, the more alike the two policies suffer from the same bad hour. A
difference is significant where its interval leaves out 0. Source: Law, Simulation Modeling and Analysis, 5th edition,
sections 10.2 and 11.2. See mathematics, section 9.11.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.errors import InputError, one_of
from verification.experiments.verification import ENERGY, MEASURES, Verification
from verification.statistics.intervals import Interval, t_interval


class Difference(NamedTuple):
    """A measure of one policy less that of another, with its 95% interval; NaN limits with one replication."""

    mean: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def paired(first: Verification, second: Verification, measure: str = "latency") -> Difference:
    """Return `measure` of the second policy less that of the first, over replications on the same arrivals.

    `measure` is "throughput", a delay ("latency", "ttft_p99"), "evictions", "iteration_time", "busy_share", "joules"
    or "lost_joules" (of an output token). Raises InputError unless horizon, seed, replications and arrivals agree. In
    closed loops requests wait for answers, so that arrivals are those of the policy: there the same users come to both,
    with other moments.
    """
    one_of("measure", measure, (*MEASURES, *ENERGY), "paired")
    for field in ("horizon", "seed", "replications"):
        ours, theirs = getattr(first, field), getattr(second, field)
        if ours != theirs:
            raise InputError(field, f"the same for both policies, {ours}", theirs, "paired")
    a, b = (each.runs[0].arrivals for each in (first, second))
    alike = first.verdict.closed and second.verdict.closed
    if not (alike or (np.array_equal(a.times, b.times) and np.array_equal(a.types, b.types))):
        raise InputError("arrivals", "the same for both policies", "different ones", "paired")
    found: Interval = t_interval(second.values(measure) - first.values(measure))
    return Difference(*found)
