"""The largest demand that a fleet carries: by which factor all rates can grow.

    max theta     sum_j h^k_ij x_kj <= n_k for every row,    sum_k x_kj = theta lambda_j

**Certificate.** The rates x prove the factor, checked by sums. Prices y >= 0 prove that no routing carries more: as
theta sum_j lambda_j mu_j <= sum_k a_k n_k (`fluid.planning.kinds`),

    theta <= sum_k a_k n_k / sum_j lambda_j mu_j

Both are made of a solver's answer by repair: shares are cut off at 0 and scaled to sum to 1, the factor is what the
fullest row leaves; prices are cut off at 0, mu is recomputed. So neither depends on a solver's tolerance, only how near
they are does. With one kind theta = n / max_i sum_j lambda_j h_ij, `Region.max_rate_scale`. Source: mathematics,
section 16.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Floats
from fluid.errors import InputError
from fluid.planning.kinds import MOST_REPLICAS, Kind, Rows, rows_of
from fluid.planning.margins import Margins, Residuals, gained
from fluid.planning.sifting import largest
from fluid.workload import Workload


@dataclass(frozen=True, eq=False)
class Carried:
    """What a fleet of `counts` (K,) carries: `factor` on all rates, proved by `rates` (K, J), at most `bound`.

    `prices` (R,) are those of the rows, scaled so that a second's demand is worth 1.
    """

    workload: Workload
    kinds: tuple[Kind, ...]
    counts: Floats
    factor: float
    bound: float
    rates: Floats
    prices: Floats

    def __repr__(self) -> str:
        fleet = " + ".join(f"{n:g} x {each.name}" for n, each in zip(self.counts, self.kinds, strict=True) if n)
        return f"Carried({self.factor:.6g} of {self.workload.rate:g} requests/s by {fleet or 'nobody'})"

    def check(self) -> Residuals:
        """Recompute the certificate from the half-spaces: feasibility of the rates and prices, and the gap."""
        rows, below = rows_of(self.workload, self.kinds), max(0.0, float(-self.prices.min()))
        if self.factor == 0:
            worthless = float(rows.of_kinds(self.prices) @ self.counts)
            return Residuals(float(np.abs(self.rates).max()), below, worthless)
        primal = excess(rows, self.rates, self.counts, self.factor * self.workload.rates)
        worth = float(np.sum(self.workload.rates * rows.worth(self.prices)))
        bound = float(rows.of_kinds(self.prices) @ self.counts) / worth
        return Residuals(primal, below, bound / self.factor - 1)

    @property
    def margins(self) -> tuple[Margins, ...]:
        """How the factor moves with the data of each kind, and with one more of its replicas."""
        return gained(rows_of(self.workload, self.kinds), self.kinds, self.prices, self.rates)


def most_demand(workload: Workload, kinds: Sequence[Kind], counts: ArrayLike) -> Carried:
    """Return the largest factor theta on all rates that counts (K,) of the kinds carry, with its certificate.

    It is 0 where a type fits none of them. Raises InputError unless counts are K nonnegative numbers.

    >>> from fluid import IterationTime, PromptType, Replica, stability_region
    >>> mix, replica = Workload([PromptType(512, 20, 20.0)]), Replica(137_000, IterationTime(0.0106, 4.013e-7))
    >>> found = most_demand(mix, [Kind("a100", replica)], [3])
    >>> round(found.factor / stability_region(mix, replica).max_rate_scale(mix.rates), 9), found.check().holds()
    (3.0, True)
    """
    rows, fleet = rows_of(workload, kinds), checked_counts(counts, len(kinds))
    return carried(workload, tuple(kinds), rows, fleet)


def carried(workload: Workload, kinds: tuple[Kind, ...], rows: Rows, counts: Floats) -> Carried:
    """The same for rows that are known."""
    there = replace(rows, fits=rows.fits & (counts > 0)[:, None])
    if not there.served.all():
        prices = (counts == 0)[rows.kind].astype(np.float64)
        return Carried(workload, kinds, counts, 0.0, 0.0, np.zeros(rows.fits.shape), prices)
    found = largest(there, workload.rates, counts)
    rates = workload.rates * found.shares / found.shares.sum(axis=0)
    needs = rows.fullest(rates)
    used = needs > 0
    factor = float(np.min(counts[used] / needs[used]))
    return Carried(workload, kinds, counts, factor, *_bounded(workload, rows, counts, found.prices, rates * factor))


def _bounded(workload: Workload, rows: Rows, counts: Floats, prices: Floats, rates: Floats,
             ) -> tuple[float, Floats, Floats]:
    """The bound of prices, the rates, and the prices scaled.

    Kinds of which there is none get a price at which they are the cheapest for no type.
    """
    there = replace(rows, fits=rows.fits & (counts > 0)[:, None])
    worth, raised = there.worth(prices), prices.copy()
    for k in np.flatnonzero(counts == 0):
        mine, own = rows.kind == k, rows.fits[k]
        raised[mine] = _out_of_reach(rows.values[mine][:, own], worth[own])
    total = float(np.sum(workload.rates * rows.worth(raised)))
    if total == 0:  # a kind to which too few may go has no price: nothing is proved
        return np.inf, rates, raised
    return float(rows.of_kinds(raised) @ counts) / total, rates, raised / total


def _out_of_reach(values: Floats, worth: Floats) -> Floats:
    """Prices of a kind's rows (R_k, J) at which no type costs less there than it is worth: the cheapest of one row."""
    prices = np.zeros(len(values))
    if len(worth):
        alone = np.max(np.where(values > 0, worth / np.where(values > 0, values, 1.0), 0.0), axis=1)
        alone = np.where(np.all(values > 0, axis=1), alone, np.inf)  # each type must pay
        row = int(np.argmin(alone))
        prices[row] = alone[row]
    return prices


def excess(rows: Rows, rates: Floats, counts: Floats, demand: Floats) -> float:
    """The largest relative excess of a row, of a rate below 0 or astray, and of a type's total off its demand."""
    over = float(np.max((rows.fullest(rates) - counts) / np.maximum(counts, 1.0)))
    off = float(np.max(np.abs(rates.sum(axis=0) / demand - 1)))
    astray = float(np.max(np.where(rows.fits, -rates, rates) / demand))
    return max(0.0, over, off, astray)


def checked_counts(counts: ArrayLike, kinds: int) -> Floats:
    """The counts of a fleet, whole or not; raises InputError unless they are K numbers from 0 on."""
    found = np.asarray(counts, dtype=np.float64)
    good = found.shape == (kinds,) and bool(np.all(np.isfinite(found) & (found >= 0) & (found <= MOST_REPLICAS)))
    if not good:
        raise InputError("counts", f"{kinds} numbers from 0 to {MOST_REPLICAS:,}, one per kind", counts, "fleet")
    return found
