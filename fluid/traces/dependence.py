r"""Whether the lengths of a trace are independent in the order of arrival: a permutation test of their block sums.

Bounds on the chance of an overflow take each length for a draw of its own. Long requests that come together break them:
the KV of all residents then varies more than that of as many draws. Take the KV works w_1..w_N in the order of arrival,
and their ranks (which a few huge ones do not drown). For h = 2, 4, 8, .. up to N/8, with w centred,

    B_h = sum over blocks of h consecutive requests of (sum of w over the block)^2

If the order tells nothing, every order is as likely, and B_h has the mean and the deviation that random orders give it.
Its distance from that mean, in deviations, is taken for each h, for works and for ranks, and the largest of them in
absolute value, T, is compared with the T of 199 random orders, each standardised alike:

    p = (orders, its own included, with a T at least as large) / (orders)

Under exchangeable requests, so under independent ones, P(p <= level) <= level exactly, whatever the law of lengths.
Short h see neighbours that are alike, long ones stretches of long requests, at any distance up to an eighth of the
trace. Above 100,000 requests sums over a few in a row take the place of single ones. A p above the level does not prove
independence. Derived here; permutation tests are Fisher's. See mathematics, section 12.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Floats

LEVEL = 0.01
ORDERS = 199  # random ones: the least p is 0.005
MANY = 100_000
LEAST_BLOCKS = 8


@dataclass(frozen=True)
class Dependence:
    """The answer of the test: `p_value`, and the `block` h (requests) whose sums vary least like those of draws.

    `excess` is the variance of those sums over that of random orders: above 1 where long requests come together.
    """

    p_value: float
    block: int = 1
    excess: float = 1.0

    @property
    def found(self) -> bool:
        """Whether independence is refused, at the level of 1%."""
        return self.p_value <= LEVEL

    @property
    def reason(self) -> str:
        """What was found, for a sentence."""
        if not self.found:
            return f"no dependence of lengths in the order of arrival (permutation test, p = {self.p_value:.2g})"
        return (f"lengths depend on each other in the order of arrival: sums over {self.block:,} requests in a row "
                f"vary {self.excess:,.1f} times as much as in random orders (permutation test, p = {self.p_value:.2g})")


def dependence(values: ArrayLike, seed: int = 0) -> Dependence:
    """Test numbers in the order of arrival, shape (N,), for dependence; below 16 of them nothing can be told: p = 1.

    >>> dependence([1.0] * 40 + [9.0] * 40).found, dependence([1.0, 9.0]).p_value
    (True, 1.0)
    """
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < 2 * LEAST_BLOCKS or np.ptp(numbers) == 0:
        return Dependence(1.0)
    from scipy.stats import rankdata  # scipy.stats takes longer to load than all of fluid

    single = -(-len(numbers) // MANY)
    numbers = numbers[: len(numbers) // single * single].reshape(-1, single).mean(axis=1)
    both = np.stack([numbers / numbers.max(), rankdata(numbers) / len(numbers)])
    both -= both.mean(axis=1, keepdims=True)
    generator = np.random.default_rng(seed)
    orders = (generator.permutation(len(numbers)) for _ in range(ORDERS))
    found = np.array([_squares(both), *(_squares(both[:, order]) for order in orders)])
    spread = found.std(axis=0)
    distance = np.abs(found - found.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    largest = distance.max(axis=(1, 2))
    place = np.unravel_index(np.argmax(distance[0]), distance[0].shape)
    row, scale = int(place[0]), int(place[1])
    excess = float(found[0, row, scale] / found[1:, row, scale].mean())
    return Dependence(float(np.mean(largest >= largest[0] * (1 - 1e-12))), single * 2 ** (scale + 1), excess)


def _squares(both: Floats) -> Floats:
    """B_h for h = 2, 4, .. of each row: shape (2, scales); what is left over after whole blocks is left out."""
    sums, found = both, []
    while sums.shape[1] >= 2 * LEAST_BLOCKS:
        sums = sums[:, : sums.shape[1] // 2 * 2].reshape(2, -1, 2).sum(axis=2)
        found.append(np.einsum("ij,ij->i", sums, sums))
    return np.array(found).T
