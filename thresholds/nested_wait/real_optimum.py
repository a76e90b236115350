r"""Real thresholds for given segments: the ratios that need least memory, by Newton's method.

Over n_1 > n_2 > ... > n_L with p_k < n_k/n_{k-1} the required memory of `thresholds.nested_wait.segments` is to be
least,

    minimise    sum_k n_k a_k + sum_{k>=2} buffer_k(n_{k-1}, n_k)    subject to    Lambda Delta(n) < n_1

With ratios q_k = n_k/n_{k-1} and Q_k = q_2 ... q_k drift holds above n_1 = max_i d0_i Lambda/(1 - Lambda sum_k c_ik
Q_k). In y = ln q the base n_1 sum_k (a_k + b_k) Q_k is convex (its logarithm is), and so is b_k B/theta_k up to some
ratio q_c(p_k) < 1. Newton's method starts inside, sets the few concave second derivatives to 0 and halves a step until
the memory falls (at a kink between pieces of the iteration time it may stop early). An optimum with q_k -> 1 says that
boundary k is better dropped. Thresholds exist only if Lambda sum_k c_ik p_2 ... p_k < 1. Source: mathematics, section
5.8.
"""

from __future__ import annotations

import numpy as np

from fluid.arrays import Floats
from thresholds.nested_wait.decay_rate import slopes
from thresholds.nested_wait.segments import DecodeSegments

MOST_FIRST = 4096  # whole n_1 are looked for up to here, or to four times the real one


def real_thresholds(segments: DecodeSegments) -> Floats | None:
    """Return the real thresholds n_1..n_L that need least memory, with drift on its edge; None if none drift."""
    y = _start(segments)
    if y is None:
        return None
    value, gradient, hessian = _memory(segments, y)
    for _ in range(60):
        step: Floats = np.linalg.solve(hessian, -gradient).astype(np.float64)
        fall = -float(step @ gradient)
        if fall <= 1e-11 * value:
            break
        size = _room(segments, y, step)
        while size > 1e-9 and _value(segments, y + size * step) > value - 1e-4 * size * fall:
            size *= 0.5
        if size <= 1e-9:
            break
        y = y + size * step
        value, gradient, hessian = _memory(segments, y)
    products = _products(y)
    return _first(segments, products) * products


def _start(segments: DecodeSegments) -> Floats | None:
    """Ln q = t ln p for the first t = 1/2, 3/4, 7/8, ... at which drift is possible; None where hardly any prompt ends.

    Thresholds fall by whole prompts, so n_{k-1} > 1/(1 - p_k): a segment in which one in MOST_FIRST^2 ends is no use.
    """
    logs = np.log(segments.continuation[1:])
    if logs.max(initial=-1.0) > -(MOST_FIRST**-2.0):
        return None
    for halvings in range(1, 30):
        y = (1.0 - 0.5**halvings) * logs
        if np.isfinite(_first(segments, _products(y))):
            return y
    return None


def _products(y: Floats) -> Floats:
    """Q_1 = 1, Q_2, ..., Q_L."""
    products: Floats = np.exp(np.concatenate([[0.0], np.cumsum(y)]))
    return products


def _first(segments: DecodeSegments, products: Floats) -> float:
    """n_1 = max_i d0_i Lambda/(1 - Lambda c_i Q), infinite where a load reaches 1."""
    loads = segments.rate * (segments.time @ products)
    return float(np.max(segments.overheads * segments.rate / (1.0 - loads))) if loads.max() < 1 else np.inf


def _value(segments: DecodeSegments, y: Floats) -> float:
    products, waiting = _products(y), segments.queue_prices[0]
    tails = segments.tails(np.exp(y), segments.continuation[1:])
    return float(_first(segments, products) * ((segments.kv + waiting) @ products) + waiting[1:] @ tails)


def _memory(segments: DecodeSegments, y: Floats) -> tuple[float, Floats, Floats]:
    """The memory as a function of y = ln q, its gradient, and its Hessian without concave buffers."""
    products, waiting = _products(y), segments.queue_prices[0]
    loads = segments.rate * (segments.time @ products)
    piece = int(np.argmax(segments.overheads / (1.0 - loads)))
    spread = 1.0 / (1.0 - loads[piece])
    first, total = segments.overheads[piece] * segments.rate * spread, (segments.kv + waiting) @ products
    held = _tails((segments.kv + waiting) * products)
    growth = _tails(spread * segments.rate * segments.time[piece] * products)
    inverse, slope, curve = slopes(np.exp(y), segments.continuation[1:])
    price = waiting[1:] * segments.allowance
    index = np.arange(y.size)
    last = np.maximum.outer(index, index)
    gradient = first * (held + total * growth) + price * slope
    cross = np.outer(held, growth)
    hessian = first * (held[last] + cross + cross.T + total * (growth[last] + 2.0 * np.outer(growth, growth)))
    hessian[index, index] += price * np.maximum(curve, 0.0)
    return float(first * total + price @ inverse), gradient, hessian


def _tails(weights: Floats) -> Floats:
    """The sums over j >= k of the weights, for k = 2..L."""
    return np.cumsum(weights[::-1])[::-1][1:]


def _room(segments: DecodeSegments, y: Floats, step: Floats) -> float:
    """The step size that keeps nine tenths of the way to ln p < y < 1e-8 ln p, at most 1."""
    bound = np.where(step > 0, 1e-8, 1.0) * np.log(segments.continuation[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(step == 0, np.inf, (bound - y) / step)
    return float(min(1.0, 0.9 * reach.min(initial=np.inf)))


def multiplier(segments: DecodeSegments, real: Floats) -> Floats:
    """Tokens per second of iteration time at the real optimum, sum_k n_k (a_k + b_k)/d0, on the piece that binds.

    Scaling all thresholds by 1 + e costs e sum_k n_k (a_k + b_k) tokens and frees e d0 seconds: Delta(n) = n_1/Lambda.
    """
    piece = int(np.argmax(segments.overheads + segments.time @ real))
    price = float(real @ (segments.kv + segments.queue_prices[0])) / segments.overheads[piece]
    return np.where(np.arange(segments.overheads.size) == piece, price, 0.0)
