r"""The exact law of the queue at a boundary of nested WAIT, at each service of the segment before it.

Segment k - 1 holds n' = n_{k-1} prompts in each stage and segment k is served with n = n_k. **What the rule does**
(`verification.reference.rules`, `_nested_batch`): with Q prompts waiting at the boundary when segment k - 1 is served,
n of them enter segment k if Q >= n, and none otherwise; then the iteration runs; then those of the cohort at the end of
segment k - 1 that go on join the queue. So with X the number that go on,

    Q' = Q - n 1{Q >= n} + X

and Q is what holds KV during the iteration, the n that are being served included. Between two services of segment
k - 1 nothing moves: segment k is never served without it, and nobody joins without it.

**The X are independent and Binomial(n', p).** A cohort stays together and queues are first come, first served. So the
prompts that enter segment k - 1 are those of more than r_{k-2} decode stages in order of arrival, and cohort c is the
c-th n' of them. Whether a prompt goes on is a property of its length, which the scheduler never looks at: the X are
those of independent lengths, whatever the arrivals and iteration times were. (Lengths that depend on each other in the
order of arrival break this.) Nothing joins in the first services, as many as segment k - 1 has stages, less one.

**Law.** Let p n' < n < n', A(z) = (1 - p + p z)^n' and W the limit of W' = (W + X - n)^+, W_0 = 0. The stationary pgf
is pi(z) = A(z) [P(z) (1 - z^-n) + z^-n pi(z)] with P of degree n - 1, whose n - 1 zeros are the roots of z^n = A(z)
inside the disc. What is left is a product over the roots Z_j outside it,

    pi(z) = A(z)  (z^n - 1)/(n (z - 1))  prod_j (Z_j - 1)/(Z_j - z)          Q = X + U + W, independent,

U uniform on 0..n-1. Mean: p n' + (n - 1)/2 + E[W].

**Tails of W without cancellation.** W is a geometric sum of ladder heights: with g_i, i = 1..n'-n, the chance that the
walk of steps X - n first rises above 0 to i (sum g < 1),

    P(W > x) = sum_{i > x} g_i + sum_{i <= x} g_i P(W > x - i)          sum_i g_i e^(theta i) = 1

All terms are positive, so a tail of 1e-200 has the same relative accuracy as one of 0.1. The g come from eliminating
the states of W from the top (Grassmann, Taksar and Heyman's form of Gaussian elimination, no subtraction); rows look
alike far from 0, so it stops when g does not change by more than 1e-15 relatively. That takes some ten standard
deviations of X, or n' states where these are fewer, also where theta is small: 26 to 31 at (n', n) = (20, 11) for p
from 0.5 to 0.549999, where E[W] was 6e-11 off, 199 at (2000, 1050) and p = 0.52.

**Exponent.** theta of `thresholds.theta` is per prompt: P(Q > x + 1)/P(Q > x) -> e^-theta.

**From empty.** Q' = Q - n 1{Q >= n} + X is not monotone in Q, so the stationary tail need not bound the tail at every
service. But Q_m = X + V_m with W_m <= V_m <= W_m + n - 1 (by induction), X independent of V_m, and W_m from 0 grows in
law to W. Hence at every service P(Q_m > x) <= P(X + n - 1 + W > x), and for x >= 0 by (W + X - n)^+ ~ W

    P(Q_m > 2n - 1 + x) <= P(W > x) <= e^(-theta (x + 1)) <= e^(-theta x)          (x whole; the last is the theorem's)

Source: mathematics, section 5.5; Asmussen, Applied Probability and Queues, chapters VIII and III.4 for ladder heights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import TOLERANCE, Floats, Ints
from fluid.errors import InputError, probability, whole
from fluid.tables import Tabular
from thresholds.nested_wait.decay_rate import theta

MOST_PROMPTS = 4096  # in a stage
SETTLED = 1e-15  # relative change of the ladder heights at which elimination stops
SHOWN = 1e-12  # the table goes to the first tail below this


@dataclass(frozen=True)
class BoundaryQueue(Tabular):
    """The queue between segments of thresholds n' = `before` and n = `after`, each prompt going on with chance p.

    p is `continuation`. Needs p n' < n; raises InputError otherwise (the queue grows without bound). As a table:
    the stationary P(Q = x) and P(Q > x), and the bound of [A, Theorem 2].

    >>> queue = BoundaryQueue(before=2, after=1, continuation=0.2)     # P(W > x) = ((1/5) / (4/5))^(2 (x + 1))
    >>> queue.excess_tail([0, 1]).round(6).tolist(), round(queue.mean, 6)
    ([0.0625, 0.003906], 0.466667)
    """

    before: int
    after: int
    continuation: float

    def __post_init__(self) -> None:
        where = "BoundaryQueue"
        for field in ("before", "after"):
            count = whole(field, getattr(self, field), where, unit="prompts", most=MOST_PROMPTS)
            object.__setattr__(self, field, count)
        p = probability("continuation", self.continuation, where)
        if p * self.before >= self.after * (1 - TOLERANCE):
            raise InputError("after", f"above {p * self.before:.6g} prompts, those that join at each service",
                             self.after, where)

    @cached_property
    def theta(self) -> float:
        """The decay rate per prompt; infinite where n >= n', since then W = 0."""
        return theta(self.after / self.before, self.continuation)

    @property
    def mean(self) -> float:
        """E[Q] in the long run, at a moment when segment k - 1 is served: prompts, those that are served included."""
        heights = self.ladder
        excess = heights @ np.arange(1, heights.size + 1) / (1.0 - heights.sum())
        return float(self.before * self.continuation + (self.after - 1) / 2 + excess)

    @cached_property
    def joining(self) -> Floats:
        """P(X = x) for x = 0..n': those who go on."""
        from scipy.stats import binom  # scipy.stats takes longer to load than all of fluid

        law: Floats = binom.pmf(np.arange(self.before + 1), self.before, self.continuation)
        return law

    @cached_property
    def ladder(self) -> Floats:
        """g_1..g_{n'-n}: the chances that the walk of steps X - n first rises above 0 to i."""
        return _ladder(self.joining, self.after)

    def excess_tail(self, prompts: ArrayLike) -> Floats:
        """P(W > x), W the excess of the queue over a full service; 1 for x < 0. Shape as given."""
        x = _levels(prompts)
        return np.where(x < 0, 1.0, self._excess(int(x.max(initial=0)))[np.maximum(x, 0)])

    def tail(self, prompts: ArrayLike) -> Floats:
        """P(Q > x) in the long run, at a service of segment k - 1: Q = X + U + W. Shape as given."""
        return self._above(prompts, np.convolve(self.joining, np.full(self.after, 1.0 / self.after)))

    def tail_at_any_service(self, prompts: ArrayLike) -> Floats:
        """P(X + n - 1 + W > x), at least P(Q > x) at each service of a system that began empty. Shape as given."""
        return self._above(prompts, np.concatenate([np.zeros(self.after - 1), self.joining]))

    def bound(self, prompts: ArrayLike) -> Floats:
        """e^(-theta (x - 2n + 1)), at most 1: the bound of [A, Theorem 2] on P(Q > x)."""
        beyond = np.maximum(np.asarray(prompts, dtype=np.float64) - 2 * self.after + 1, 0.0)
        with np.errstate(invalid="ignore"):
            falling: Floats = np.where(beyond > 0, np.exp(-self.theta * beyond), 1.0)
        return falling

    def law_after(self, services: int) -> Floats:
        """P(Q = x), x = 0, 1, .., after so many services from empty; entries below 1e-30 together are left out."""
        law = np.ones(1)
        for _ in range(whole("services", services, "BoundaryQueue", unit="services", least=0)):
            left = law[: self.after].copy()
            entered = law[self.after :]
            kept = np.zeros(max(left.size, entered.size))
            kept[: left.size] = left
            kept[: entered.size] += entered
            law = _trimmed(np.convolve(kept, self.joining))
        return law

    def columns(self) -> dict[str, Ints | Floats]:
        """Queue, probability, tail and bound, up to the first tail below 1e-12."""
        x = np.arange(self._until(SHOWN) + 1)
        tails = self.tail(x)
        return {"queue, prompts": x, "P(Q = x)": -np.diff(tails, prepend=1.0), "P(Q > x)": tails,
                "bound of the theorem": self.bound(x)}

    def _until(self, share: float) -> int:
        """An x at which the tail is below `share`, by the bound."""
        reach = math.log(1.0 / share) / self.theta if math.isfinite(self.theta) else 0.0
        return 2 * self.after + math.ceil(reach)

    def _above(self, prompts: ArrayLike, start: Floats) -> Floats:
        """P(B + W > x) of an independent B with law `start`; relatively accurate."""
        x = _levels(prompts)
        most = int(x.max(initial=0))
        excess = np.concatenate([np.ones(start.size), self._excess(most)])  # P(W > y) for y = -size..most
        tails = np.convolve(excess, start, mode="valid")  # at x = -1..most
        return np.where(x < 0, 1.0, tails[np.maximum(x, -1) + 1])

    def _excess(self, most: int) -> Floats:
        """P(W > x) for x = 0..most."""
        from scipy.signal import lfilter  # as above

        above = np.zeros(most + 1)
        beyond = np.cumsum(self.ladder[::-1])[::-1][1:]  # sum of g_i over i > x, x = 1..
        above[: min(self.ladder.size, most + 1)] = np.append(self.ladder.sum(), beyond)[: most + 1][: self.ladder.size]
        tails: Floats = lfilter([1.0], np.concatenate([[1.0], -self.ladder]), above)
        return tails


def _ladder(joining: Floats, after: int) -> Floats:
    """The ladder heights of the walk of steps X - n, by eliminating states from the top.

    Row i of `rows` is the state i places below the one eliminated next, its columns the moves -n..n'-n.
    """
    rise = joining.size - 1 - after
    if rise <= 0:
        return np.zeros(0)
    rows = np.tile(joining, (rise + 1, 1))
    place = np.arange(1, rise + 1)
    columns = place[:, None] + np.arange(after)
    heights: Floats = np.zeros(rise)
    while True:
        down, before = rows[0, :after].copy(), heights
        heights = rows[place, after + place] / down.sum()
        rows[place[:, None], columns] += heights[:, None] * down
        if np.all(np.abs(heights - before) <= SETTLED * heights + np.finfo(np.float64).tiny):
            return heights
        rows[:-1] = rows[1:]
        rows[-1] = joining


def _levels(prompts: ArrayLike) -> Ints:
    """Whole levels: a whole number is above x where it is above the floor of x."""
    floors: Floats = np.floor(np.asarray(prompts, dtype=np.float64))
    if not np.isfinite(floors).all():
        raise InputError("prompts", "finite", prompts, "BoundaryQueue")
    return floors.astype(np.int64)


def _trimmed(law: Floats) -> Floats:
    """The law without the end that has less than 1e-30 together."""
    tails = np.cumsum(law[::-1])[::-1]
    kept: Floats = law[: max(1, int(np.count_nonzero(tails > 1e-30)))]
    return kept
