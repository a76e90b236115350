"""The summary of a trace: lengths, mean KV work with its uncertainty, its concentration, and how bursty arrivals are.

Quantiles interpolate linearly between the sorted values, as numpy and pandas do. The mean KV work of N requests is a
ratio of sums over B = min(N, 1000) blocks of consecutive requests, of equal length to within one,

    mean w = sum_b W_b / sum_b n_b,      W_b the KV work and n_b the requests of block b,

and its 95% interval is the BCa bootstrap over the blocks: correlation between requests up to N / B apart widens it, and
a long trace costs no more than a thousand numbers. Where all blocks agree the interval is a point; for a single request
there is none. Sources: Efron, Tibshirani, An Introduction to the Bootstrap (1993), chapter 14; Carlstein (Ann.
Statist. 1986) for blocks. See mathematics, section 12.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fluid.arrays import Floats, Ints
from fluid.replica import Replica
from fluid.traces.burstiness import PoissonTest, dispersion, poisson_test
from fluid.traces.dependence import Dependence, dependence
from fluid.traces.trace import Trace

BLOCKS, RESAMPLES, BATCH = 1000, 2000, 100


class LengthStatistics(NamedTuple):
    """Tokens per request over a trace: mean, median, 99% quantile, maximum."""

    mean: float
    median: float
    p99: float
    max: int


class MeanEstimate(NamedTuple):
    """A mean with its 95% confidence interval; `low` and `high` are None where there is one request only."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class TraceSummary:
    """A trace in numbers: seconds, tokens, requests/s, token-iterations; None where there are no times, or too few.

    `pairs` counts the distinct length pairs; `top_1_percent` and `top_10_percent` are the shares of the KV work that
    the requests with most of it hold; `repeated_share` is the share of prompt tokens that an earlier prompt began with,
    None where the trace does not tell; `dispersion` maps windows (s) to I(w); `poisson` is Fisher's test of arrivals,
    `order` that of KV works in the order of arrival.
    """

    format: str
    requests: int
    skipped: int
    failed: int
    pairs: int
    duration: float | None
    rate: float | None
    prompt_tokens: LengthStatistics
    output_tokens: LengthStatistics
    kv_work: MeanEstimate
    top_1_percent: float
    top_10_percent: float
    repeated_share: float | None
    dispersion: dict[float, float]
    poisson: PoissonTest | None
    order: Dependence


def summarise(trace: Trace, *, replica: Replica | None = None, seed: int = 0) -> TraceSummary:
    """Return the summary of a trace, its KV work that on a replica (without one, see `Trace.kv_work`).

    >>> summary = summarise(Trace([10, 20, 30], [4, 4, 4]))
    >>> summary.prompt_tokens, summary.kv_work.mean, round(summary.top_10_percent, 3)
    (LengthStatistics(mean=20.0, median=20.0, p99=29.8, max=30), 110.0, 0.485)
    """
    work = trace.kv_work(replica)
    low, high = block_interval(work, np.random.default_rng(seed))
    return TraceSummary(
        format=trace.format, requests=len(trace), skipped=trace.skipped, failed=trace.failed,
        pairs=len(trace.pairs.counts), duration=trace.duration, rate=trace.rate,
        prompt_tokens=_lengths(trace.prompt_tokens), output_tokens=_lengths(trace.output_tokens),
        kv_work=MeanEstimate(trace.mean_kv_work(replica), low, high),
        top_1_percent=share_of_largest(work, 100), top_10_percent=share_of_largest(work, 10),
        repeated_share=None if trace.repeated_tokens is None else float(
            trace.repeated_tokens.sum() / trace.prompt_tokens.sum()),
        dispersion={} if trace.times is None else dispersion(trace.times),
        poisson=None if trace.times is None else poisson_test(trace.times), order=dependence(work))


def block_interval(work: Ints | Floats, generator: np.random.Generator) -> tuple[float | None, float | None]:
    """Return the 95% bootstrap interval of the mean of a sequence, over at most 1,000 blocks of it."""
    if len(work) == 1:
        return None, None
    blocks = min(len(work), BLOCKS)
    edges = np.arange(blocks + 1) * len(work) // blocks
    sums, sizes = np.add.reduceat(work.astype(np.float64), edges[:-1]), np.diff(edges).astype(np.float64)
    means = sums / sizes
    if np.ptp(means) <= 1e-12 * means[0]:
        return float(means[0]), float(means[0])
    from scipy import stats  # scipy.stats takes longer to load than all of fluid

    found = stats.bootstrap((sums, sizes), _ratio, paired=True, vectorized=True, n_resamples=RESAMPLES, batch=BATCH,
                            confidence_level=0.95, method="BCa", random_state=generator)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def share_of_largest(work: Ints | Floats, one_in: int) -> float:
    """Return the share of the sum held by the largest values, one in `one_in` of all, their number rounded up."""
    count = -(-len(work) // one_in)
    largest = np.partition(work, len(work) - count)[len(work) - count :]
    return float(largest.sum(dtype=np.float64) / work.sum(dtype=np.float64))


def _ratio(sums: Floats, sizes: Floats, axis: int = -1) -> Any:
    return sums.sum(axis=axis) / sizes.sum(axis=axis)


def _lengths(tokens: Ints) -> LengthStatistics:
    median, p99 = np.quantile(tokens, (0.5, 0.99)).tolist()
    return LengthStatistics(int(tokens.sum()) / len(tokens), median, p99, int(tokens.max()))
