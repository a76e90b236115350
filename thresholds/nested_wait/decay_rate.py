r"""The decay rate theta of a boundary queue in nested WAIT: a page of [A, Theorem 2], with bounds.

Each time a segment is served n' prompts leave it, each going on with probability p, and, if n of them wait, n enter
the next one. While at least n wait, the queue between them moves by Binomial(n', p) - n; with q = n/n' and
K(theta) = ln(1 - p + p e^theta), the moment generating function of a move is 1 at

    theta > 0:     K(theta) = theta q              0 < p < q < 1

(K is strictly convex, K(0) = 0, K'(0) = p < q < 1 = K'(inf): one root). By Kingman's inequality the queue exceeds
2n - 1 + x with probability at most e^(-theta x) at each service. For q <= p there is no such theta (0 is returned), for
q >= 1 every theta will do (infinity).

**Bounds.**    8 (q - p)  <=  4 (q - p) ln((1-p)/p)/(1 - 2p)  <=  theta  <=  ln(1/p)/(1 - q)

Left: [A]'s bound. Middle: Kearns and Saul, K(theta) <= p theta + theta^2 (1 - 2p)/(4 ln((1-p)/p)), exact at q = 1/2,
where theta = 2 ln((1-p)/p). Right: K(theta) >= ln p + theta. Limits: theta ~ 2 (q - p)/(p (1 - p)) as q -> p, and
theta (1 - q) -> ln(1/p) as q -> 1.

**Newton.** psi(theta) = K(theta) - theta q is convex, least at theta_m = ln(q(1-p)/(p(1-q))), and 0 at the root: a
Newton step from any point beyond theta_m lands at the root or right of it. The start is the right bound or one step
from 2 theta_m, whichever is less (2 theta_m is the root at q = 1/2 and in the limit q -> p); from there the steps
decrease monotonically to the root. They stop when a step no longer decreases theta: psi is then within rounding of 0.

**Without cancellation.** psi = h(theta) - (q - p) theta with h = K - p theta >= 0, and h(theta; p) = h(-theta; 1 - p):
p may be taken at most 1/2. h is log1p(p expm1(theta)) - p theta, for |theta| < 0.01 its cumulant series; for
theta > 30, psi = (1 - q) theta + log(p + (1 - p) e^-theta) is as good. Source: mathematics, section 5.3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Floats
from fluid.errors import probability, real

NEAR, FAR = 0.01, 30.0


def theta(ratio: float, continuation: float) -> float:
    """Return the positive root of ln(1 - p + p e^theta) = theta q: q = `ratio`, p = `continuation`.

    `ratio` is n_k/n_{k-1} (nonnegative), `continuation` the probability p in (0, 1) that a prompt goes on. Returns 0
    where q <= p (no drift: the queue grows), infinity where q >= 1 (it never exceeds 2 n_k - 1); InputError for a p
    outside (0, 1) or a q that is negative or not finite.

    >>> from math import log
    >>> abs(theta(0.5, 0.2) - 2 * log(4.0)) < 1e-12
    True
    """
    q = real("ratio", ratio, "theta", zero=True)
    p = probability("continuation", continuation, "theta")
    return float(roots(q, p))


def roots(ratios: ArrayLike, continuations: ArrayLike) -> Floats:
    """Theta of every pair of ratio and continuation, broadcast; the continuations must lie in (0, 1)."""
    q, p = np.broadcast_arrays(np.asarray(ratios, dtype=np.float64), np.asarray(continuations, dtype=np.float64))
    answer = np.where(q >= 1.0, np.inf, 0.0)
    inside = (p < q) & (q < 1.0)
    answer[inside] = _newton(q[inside], p[inside])
    return answer


def slopes(ratios: Floats, continuations: Floats) -> tuple[Floats, Floats, Floats]:
    """1/theta and its first two derivatives in ln q, for p < q < 1.

    theta' = theta/(K' - q) and theta'' = (2 theta' - K'' theta'^2)/(K' - q) by differentiating K(theta) = theta q.
    """
    root = roots(ratios, continuations)
    rise = _rise(root, ratios, continuations)
    first = root / rise
    second = (2.0 * first - (ratios + rise) * (1.0 - ratios - rise) * first**2) / rise
    inverse = 1.0 / root
    slope = -ratios * first * inverse**2
    return inverse, slope, slope + (ratios * inverse) ** 2 * (2.0 * first**2 * inverse - second)


def _newton(q: Floats, p: Floats) -> Floats:
    middle = 2.0 * np.log1p((q - p) / (p * (1.0 - q)))
    root: Floats = np.minimum(-np.log(p) / (1.0 - q), middle - _psi(middle, q, p) / _rise(middle, q, p))
    moving = np.arange(root.size)
    while moving.size:
        at, ratio, where = root[moving], q[moving], p[moving]
        lower = at - _psi(at, ratio, where) / _rise(at, ratio, where)
        better = lower < at
        moving = moving[better]
        root[moving] = lower[better]
    return root


def _psi(root: Floats, q: Floats, p: Floats) -> Floats:
    """K(theta) - theta q."""
    mirrored, far = p > 0.5, root > FAR
    t, half = np.where(mirrored, -root, root), np.where(mirrored, 1.0 - p, p)
    h = np.log1p(half * np.expm1(np.minimum(t, FAR))) - half * t
    near = root < NEAR
    h[near] = _cumulants(t[near], half[near])
    value: Floats = h - (q - p) * root
    x, c = root[far], 1.0 - p[far]
    tail = np.where(mirrored[far], np.log1p(c * np.expm1(-x)), np.log(p[far] + c * np.exp(-x)))
    value[far] = (1.0 - q[far]) * x + tail
    return value


def _rise(root: Floats, q: Floats, p: Floats) -> Floats:
    """K'(theta) - q, from K' - p or, far out, from 1 - K': K' = p/(p + (1 - p) e^-theta)."""
    fall = np.exp(-root)
    total = p + (1.0 - p) * fall
    near = p * (1.0 - p) * -np.expm1(-root) / total - (q - p)
    return np.where(root > FAR, (1.0 - q) - (1.0 - p) * fall / total, near)


def _cumulants(t: Floats, p: Floats) -> Floats:
    """h as the series sum_{r=2}^{6} kappa_r t^r / r!, kappa_r the cumulants of a Bernoulli(p)."""
    v, skew = p * (1.0 - p), 1.0 - 2.0 * p
    higher = skew * (1.0 - 12.0 * v) / 120.0 + t * (1.0 - 30.0 * v + 120.0 * v * v) / 720.0
    series: Floats = v * t**2 * (0.5 + t * (skew / 6.0 + t * ((1.0 - 6.0 * v) / 24.0 + t * higher)))
    return series
