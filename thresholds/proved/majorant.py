r"""A line above every batch: how long iterations take on average, proved by eight inequalities.

Let no batch be beyond the box [0, K'] x [0, P'] x [0, n'] of KV tokens read, prompt tokens and sequences. If

    b_0 + b_1 K + b_2 P + b_3 n  >=  f(K, P, n) = max_i [ d0_i + d1_i K + d2_i P + d3_i n ]        at its eight corners

it is so on the whole box, as f is convex; so batches with means (K, P, n) take at most b_0 + b_1 K + b_2 P + b_3 n on
average. The least of these at given means is f^, the concave envelope of `thresholds.mean_time`: a linear program in
the four numbers b, whose solution is repaired here to be exactly above the corners. With b_1, b_2, b_3 >= 0 it holds of
upper bounds of the means, too. With one line b is that line. Source: mathematics, section 18.3.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.optimize import linprog

from fluid import IterationTime
from fluid.arrays import Floats
from thresholds.mean_time import Batch

ROUNDING = 1e-13


def majorant(iteration_time: IterationTime, mean: Batch, most: Batch) -> Floats:
    """Return b, shape (4,): the line above f on the box of `most` that is least at the `mean`.

    >>> time = IterationTime.largest(IterationTime(1.0, 0.0), IterationTime(0.5, 0.0, 1.0))
    >>> b = majorant(time, Batch(0, 0.4, 0), Batch(0, 2, 0))       # through f(0) = 1 and f(2) = 2.5
    >>> b[[0, 2]].round(9).tolist()
    [1.0, 0.75]
    """
    lines = iteration_time.coefficients
    if len(lines) == 1:
        return np.array(lines[0])
    width = np.array(most, dtype=np.float64)
    corners = np.array(list(product((0.0, 1.0), repeat=3)))
    values = np.max(lines[:, 0] + (corners * width) @ lines[:, 1:].T, axis=1)
    share = np.where(width > 0, np.array(mean) / np.where(width > 0, width, 1.0), 0.0)
    unit, rows = float(values.max()), np.column_stack([np.ones(8), corners])
    found = linprog(np.append(1.0, share), A_ub=-rows, b_ub=-values / unit, bounds=[(0.0, None)] * 4, method="highs")
    scaled = np.maximum(found.x, 0.0) if found.success else np.array([1.0, 0.0, 0.0, 0.0])
    scaled[0] += max(0.0, float(np.max(values / unit - rows @ scaled))) + ROUNDING
    line = scaled * unit
    line[1:] = np.where(width > 0, line[1:] / np.where(width > 0, width, 1.0), 0.0)
    return line
