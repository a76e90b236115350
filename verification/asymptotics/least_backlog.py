r"""What every rule leaves undone: the lower bounds of the order 1 and of the order of the root.

Let D_j be the type-j requests that complete within [0, T). An iteration takes at least a_i + (its work by line i) and
holds at most C KV tokens, so there are at least sum_j D_j w_j / C iterations, and with h of `fluid.region`, by each of
its rows i, on every path and whatever the rule (pausing, evicting, looking ahead),

    sum_j h_ij D_j <= T        so that        B_T = max_i sum_j h_ij (A_j - D_j)  >=  ( max_i sum_j h_ij A_j - T )^+

where A_j have arrived: B_T is the backlog, the seconds that a replica at the edge of the region would take for what is
not done. Poisson arrivals make X = sum_j h_ij A_j compound Poisson with mean e T, e the load of the edge, and so

    E B_T >= E(X - T)^+  >=  (e - 1) T                     beyond the edge: a share of all traffic, Omega(1)
    E B_T >= E(X - T)^+  ~   sqrt(T sum_j lambda_j h_ij^2 / (2 pi))           on the edge, e = 1: the square root

No rule has a smaller order; WAIT on the boundary of load balance with C = M*, whose queue is reflected at 0, has twice
the root. The mean is an inversion integral on the line c + iu, c = 1/sigma, sigma^2 the variance of X,

    E(X - T)^+ = (1/pi) int_0^U Re exp(K(z) - z T) / z^2 du,     K(z) = T sum_j lambda_j (exp(h_ij z) - 1),  z = c + iu

cut at U = 4,000/sigma, an error below 2e-4 sigma; on the line -c + iu it is E(T - X)^+, which is taken where E X > T
and added to E X - T. Rules that override the replica's prefill (Sarathi's chunks) have
stages of other numbers: the bound is for those that take the replica's. Sources: [A] states lower
bounds of these two orders; the half-spaces are those of mathematics, section 2.2, constants and formula are derived
here (section 10.6).
"""

from __future__ import annotations

import numpy as np

from fluid import Replica, Workload, stability_region
from fluid.arrays import Floats
from fluid.errors import InputError, real
from fluid.region import Region, region_of
from verification.run import Run

REACH = 4_000.0  # U sigma
STEP = 0.01  # of u sigma: the transform of X is smooth on the scale of 1/sigma


def least_backlog(workload: Workload, replica: Replica, horizon: float) -> float:
    """Return max_i E(sum_j h_ij A_j - T)^+, seconds: no rule leaves less undone on average after `horizon` T (s).

    Types that never fit are left out, as in runs. Raises InputError for a horizon that is not positive.

    >>> from fluid import IterationTime, PromptType
    >>> mix, replica = Workload([PromptType(1, 1, 1.0)]), Replica(3, IterationTime(1.0, 0.0))   # a request a second
    >>> round(least_backlog(mix, replica, 1.0), 3)                                              # 1/e
    0.368
    """
    T = real("horizon", horizon, "least_backlog", unit="seconds")
    region = stability_region(workload, replica)
    fits = np.setdiff1d(np.arange(len(workload)), region.never_fits)
    return max(_mean_excess(row[fits], workload.rates[fits] * T, T) for row in _proved(region))


def backlog(run: Run, replica: Replica) -> float:
    """Return max_i sum_j h_ij (A_j - D_j) of a run, seconds: what is not done at its end, at the edge's pace.

    Raises InputError for a replica with another KV capacity than that of the run.

    >>> from fluid import IterationTime, PromptType, Workload
    >>> from verification import Arrivals, Greedy, simulate
    >>> mix, replica = Workload([PromptType(1, 1, 1.0)]), Replica(3, IterationTime(1.0, 0.0))
    >>> backlog(simulate(Greedy(), mix, replica, arrivals=Arrivals([0.0], [0])), replica)
    0.0
    """
    if replica.kv_capacity != run.kv_capacity:
        raise InputError("kv_capacity", f"{run.kv_capacity:,}, that of the run", replica.kv_capacity, "backlog")
    left = run.fits & ~np.isfinite(run.finished)
    counts = np.bincount(run.arrivals.types[left], minlength=len(run.profile.output))
    return float(np.max(_proved(region_of(run.profile, replica)) @ counts))


def _proved(region: Region) -> Floats:
    """The rows that hold to the last digit: those of time alone carry the tolerance of a strict inequality."""
    rows: Floats = region.half_spaces[np.array(region.limits) != "time"]
    return rows


def _mean_excess(jumps: Floats, means: Floats, level: float) -> float:
    """E(X - level)^+ of X = sum_j jumps_j Poisson(means_j)."""
    sigma = float(np.sqrt(means @ jumps**2))
    if sigma == 0.0:
        return 0.0
    sure = max(0.0, float(means @ jumps) - level)
    u = np.arange(0.0, REACH, STEP) + STEP / 2
    z = ((-1.0 if sure else 1.0) + 1j * u) / sigma
    cumulant = -z * level
    for jump, mean in zip(jumps, means, strict=True):
        cumulant = cumulant + mean * np.expm1(jump * z)
    return sure + float((np.exp(cumulant) / z**2).real.sum() * STEP / (np.pi * sigma))
