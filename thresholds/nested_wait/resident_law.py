r"""Laws of the KV at one iteration of nested WAIT, as sums of independent parts: `thresholds.nested_wait.buffers`.

The queue of segment k is at most D_k = X_k + n_k - 1 + W_k in law (`thresholds.nested_wait.boundary_queue`), with

    ln E e^(t D) = n' ln(1 - p + p e^t) + (n - 1) t - ln(1 - sum_i g_i (e^(t i) - 1)/(1 - sum g))        0 <= t < theta

**Convolution** of the laws of b'_k D_k, each cut where less than 1e-18 is left, which is added to the tail. Weights are
rounded up to a grid of tokens so that about 2^20 points suffice: the level can only rise. Fast Fourier transforms leave
errors below 1e-13 in a tail, which are added to it; targets below 1e-11 are left to Chernoff's bound.

**Chernoff.** Every s with s b'_k < theta_k for all k gives a level that is enough, [ln E e^(s KV) + ln(N/delta)]/s;
the search for the least one need not be exact. See mathematics, section 5.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.optimize import minimize_scalar

from fluid.arrays import Floats, Ints
from thresholds.nested_wait.boundary_queue import BoundaryQueue
from thresholds.nested_wait.segments import DecodeSegments

MOST_POINTS = 2**20
LEAST_TARGET = 1e-11
CUT, ROUNDING = 1e-18, 1e-13  # probabilities added to tails


def joint_level(segments: DecodeSegments, counts: Ints, queues: Sequence[BoundaryQueue]) -> float:
    """A level with P(inside + sum_k b'_k D_k > level) <= delta/N, every stage inside segments full: tokens."""
    joining, events = segments.queue_prices[1], segments.lengths.events
    inside, weights = float(segments.kv @ counts - joining @ counts), joining[1:]
    if not queues:
        return inside
    level = chernoff_level(lambda s: _queues_moment(queues, weights, s), _end(queues, weights), events)
    if math.exp(-events) >= LEAST_TARGET:
        level = min(level, _quantile(queues, weights, math.exp(-events), level))
    return inside + level


def thinned_level(segments: DecodeSegments, counts: Ints, queues: Sequence[BoundaryQueue]) -> float:
    """The least level by Chernoff's bound, of prompts inside segments that are there still and of the queues."""
    inside = [_inside(segments, k) for k in range(counts.size)]
    joining = segments.queue_prices[1][1:]

    def log_moment(s: float) -> float:
        stages = sum(n * _bernoulli(kv, stay, s) for n, (kv, stay) in zip(counts.tolist(), inside, strict=True))
        return float(stages) + _queues_moment(queues, joining, s)

    return chernoff_level(log_moment, _end(queues, joining), segments.lengths.events)


def chernoff_level(log_moment: Callable[[float], float], end: float, events: float) -> float:
    """min over 0 < s < end of [ln E e^(s Y) + events]/s: Y exceeds it with probability at most e^-events.

    `end` may be infinite, where Y is bounded.
    """
    def level(logit: float) -> float:
        s = end / (1.0 + math.exp(-logit)) if math.isfinite(end) else math.exp(logit)
        return (log_moment(s) + events) / s

    bounds = (-30.0, 12.0) if math.isfinite(end) else (-30.0, 6.0)
    return float(minimize_scalar(level, bounds=bounds, method="bounded", options={"xatol": 1e-5}).fun)


def _queues_moment(queues: Sequence[BoundaryQueue], weights: Floats, s: float) -> float:
    return sum(_queue_moment(queue, s * float(weight)) for queue, weight in zip(queues, weights, strict=True))


def _queue_moment(queue: BoundaryQueue, t: float) -> float:
    """ln E e^(t D); infinite from theta on."""
    p, heights = queue.continuation, queue.ladder
    moment = queue.before * _log_moment(p, t) + (queue.after - 1) * t
    if heights.size == 0:
        return moment
    if t >= queue.theta:
        return math.inf
    left = 1.0 - heights @ np.expm1(t * np.arange(1, heights.size + 1)) / (1.0 - heights.sum())
    return moment - math.log(left) if left > 0.0 else math.inf


def _log_moment(p: float, t: float) -> float:
    """ln(1 - p + p e^t)."""
    return float(np.logaddexp(math.log1p(-p), math.log(p) + t))


def _bernoulli(kv: Floats, stay: Floats, s: float) -> float:
    """sum over stages of ln(1 - P + P e^(s kv))."""
    with np.errstate(divide="ignore"):
        return float(np.logaddexp(np.log1p(-stay), np.log(stay) + s * kv).sum())


def _end(queues: Sequence[BoundaryQueue], weights: Floats) -> float:
    """The s at which the moment generating function becomes infinite."""
    return min((queue.theta / float(weight) for queue, weight in zip(queues, weights, strict=True)), default=math.inf)


def _inside(segments: DecodeSegments, k: int) -> tuple[Floats, Floats]:
    """KV of a prompt at each stage inside segment k, and the chance that one that entered it gets there.

    Of later segments the entry stage is the queue's; prefill stages come before any prompt ends.
    """
    kv = np.asarray(segments.profile.stage_kv(k), dtype=np.float64)
    start, end, lengths = int(segments.starts[k]), int(segments.boundaries[k]), segments.lengths
    left = lengths.beyond(np.arange(start, end)) / lengths.beyond(np.array([start]))
    if k > 0:
        return kv[1:], left[1:]
    return kv, np.concatenate([np.ones(kv.size - left.size), left])


def _quantile(queues: Sequence[BoundaryQueue], weights: Floats, target: float, most: float) -> float:
    """The least y on the grid with P(sum_k b'_k D_k > y) <= target."""
    laws = [_law(queue) for queue in queues]
    grid = max(1, math.ceil(most / MOST_POINTS))
    steps = np.ceil(weights / grid).astype(np.int64)
    size = next_fast_len(int(sum(step * (law.size - 1) for step, law in zip(steps, laws, strict=True))) + 1, real=True)
    spectrum = np.ones(size // 2 + 1, dtype=np.complex128)
    for step, law in zip(steps.tolist(), laws, strict=True):
        spread = np.zeros(size)
        spread[: step * law.size : step] = law
        spectrum *= rfft(spread)
    tails = np.cumsum(irfft(spectrum, size)[::-1])[::-1]  # P(sum >= y)
    error = len(queues) * CUT + ROUNDING
    return float(grid * int(np.flatnonzero(np.append(tails, 0.0) + error > target)[-1]))


def _law(queue: BoundaryQueue) -> Floats:
    """P(D = x), cut where at most CUT is left."""
    reach = math.ceil(-math.log(CUT) / queue.theta) if math.isfinite(queue.theta) else 0
    tails = queue.tail_at_any_service(np.arange(2 * queue.after + queue.before + reach))
    return -np.diff(tails, prepend=1.0)
