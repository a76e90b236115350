r"""The longest that iterations can take on average, given what batches hold on average and at most.

f(K, P, n) = max_i [ d0_i + d1_i K + d2_i P + d3_i n ] is convex: of batches with the same means the mean time is least
if they are all alike (that is Delta, the largest of the means) and larger the more they differ. With 0 <= K <= K',
0 <= P <= P', 0 <= n <= n' in every batch, the mean of f over any sequence of batches is at most

    f^(K, P, n) = max { sum_v p_v f(v) : sum_v p_v v = (K, P, n),  p a distribution on the corners v of the box }

at their means, the concave envelope of f over the box. It is concave and, as f is, nondecreasing, so it holds of upper
bounds of the means too. With one line f^ = f = Delta. Four corners suffice (three means and sum p = 1): of the box as a
unit cube the simplices that have corners of it as vertices are 58, their inverses are known once for all, and f^ is the
largest over those that contain the point.

**Why windows carry the load.** At most x_j K + O(1) prompts of type j enter in K iterations, so these take at most
K f^(x) + O(1), and x_j K - O(1) enter while type j queues. If lambda_j f^(x) < x_j then queue j falls whenever it is
long, for every j apart: it is stable on arrivals with that rate. Source: derived here; mathematics, section 4.3.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from fluid import IterationTime
from fluid.arrays import Floats


class Batch(NamedTuple):
    """KV tokens read, prompt tokens prefilled, sequences: of a batch, or the most of each."""

    kv: float
    prefill: float
    sequences: float


def longest_mean(iteration_time: IterationTime, mean: Batch, most: Batch) -> float:
    """Return f^ (s) of batches with these means at most, none of them beyond `most`.

    >>> time = IterationTime.largest(IterationTime(1.0, 0.0), IterationTime(0.5, 0.0, 1.0))
    >>> time(kv=0, prefill=0.4)                                # at most 2 tokens are prefilled together, 0.4 on average
    1.0
    >>> longest_mean(time, Batch(0, 0.4, 0), Batch(0, 2, 0))   # 2 tokens in a fifth of the batches: 0.2 2.5 + 0.8 1
    1.3
    """
    lines = iteration_time.coefficients
    if len(lines) == 1:
        return float(lines[0] @ np.array([1.0, *mean]))
    inverses, corners, chosen = _simplices()
    width = np.array(most, dtype=np.float64)
    point = np.where(width > 0, np.array(mean) / np.where(width > 0, width, 1.0), 0.0)
    weights = inverses @ np.append(1.0, np.clip(point, 0.0, 1.0))
    values = np.max(lines[:, 0] + (corners * width) @ lines[:, 1:].T, axis=1)
    inside = weights.min(axis=1) >= -1e-12
    return float(np.max((weights * values[chosen]).sum(axis=1)[inside]))


@cache
def _simplices() -> tuple[Floats, Floats, Floats]:
    """Matrices that give the weights of four corners from (1, point), the eight corners, and which four each has."""
    corners = np.array(list(product((0.0, 1.0), repeat=3)))
    chosen = np.array([four for four in combinations(range(8), 4)
                       if abs(np.linalg.det(np.column_stack([np.ones(4), corners[list(four)]]))) > 0.5])
    matrices = [np.column_stack([np.ones(4), corners[four]]).T for four in chosen]
    return np.linalg.inv(np.array(matrices)), corners, chosen
