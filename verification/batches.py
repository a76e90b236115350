"""Batch means: how sure a mean, or a percentile, is that comes from one run alone.

N values in a row depend on each other, so they are cut into b = 32 batches of N/b in a row, whose means x_i hardly do.
With X the mean of all (of a percentile: that of all, "sectioning") the interval is

    X +- t_{31} s / sqrt(32),    s^2 = sum_i (x_i - X)^2 / 31

It is honest where the run is long enough for what it measures. With sigma^2 = (N/b) s^2, the estimate of the asymptotic
variance, that means N >= 400 sigma^2 / X^2 (the interval is then within 10% of the mean), or batches in which von
Neumann's test finds no correlation: eta = sum (x_{i+1} - x_i)^2 / sum (x_i - X)^2 has mean 2 and variance
4 (b - 2)/(b^2 - 1) for independent normal batches, less where neighbours are alike; it passes with a chance of at least
0.2 of a smaller one.

Regenerative intervals, from cycles that start in an empty system, are not offered: they need 2,000 cycles, and the
loads worth asking about hardly ever empty a GPU. Independent replications need none of this: they are the default.
Sources: model.md section 9; von Neumann, Annals of Mathematical Statistics 12 (1941), 367; Asmussen and Glynn,
Stochastic Simulation, section IV.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtrit

from fluid.errors import InputError
from verification import measures
from verification.estimators import LEVEL, Interval
from verification.measures import Window
from verification.run import Run

BATCHES = 32
ENOUGH = 400.0
CHANCE = 0.2
Statistic = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class BatchMeans:
    """An interval from inside one run; `long_enough` and `uncorrelated` say whether it can be trusted."""

    interval: Interval
    long_enough: bool
    uncorrelated: bool

    @property
    def valid(self) -> bool:
        """The run is long enough, or its batches show no correlation."""
        return self.long_enough or self.uncorrelated


def batch_interval(values: ArrayLike, statistic: Statistic = np.mean, level: float = LEVEL) -> BatchMeans:
    """Return the interval of a statistic of values in a row, shape (N,), by default their mean.

    Raises InputError for fewer than two values a batch.

    >>> batch_interval(np.arange(6400) % 10).interval.mean
    4.5
    """
    path = np.asarray(values, dtype=np.float64)
    if len(path) < 2 * BATCHES:
        raise InputError("values", f"at least {2 * BATCHES}, two a batch", len(path), "batch means")
    path = path[len(path) % BATCHES:]
    return of_batches(float(statistic(path)), [float(statistic(part)) for part in path.reshape(BATCHES, -1)], level)


def of_batches(whole: float, parts: list[float], level: float = LEVEL) -> BatchMeans:
    """Return the interval of a statistic from its value over all and over each batch."""
    size, batches = len(parts), np.array(parts)
    spread = math.sqrt(float(np.sum((batches - whole) ** 2)) / (size - 1))
    half = float(stdtrit(size - 1, 0.5 + level / 2)) * spread / math.sqrt(size)
    return BatchMeans(Interval(whole, whole - half, whole + half),
                      bool(size * whole**2 >= ENOUGH * spread**2), bool(von_neumann(batches) >= CHANCE))


def von_neumann(values: np.ndarray) -> float:
    """Return the chance that independent normal values are as much like their neighbours as these, shape (b,)."""
    size, deviations = len(values), values - values.mean()
    total = float(deviations @ deviations)
    if total == 0:
        return 1.0
    ratio = float(np.sum(np.diff(values) ** 2)) / total
    return float(ndtr((ratio - 2) / math.sqrt(4 * (size - 2) / (size**2 - 1))))


@dataclass(frozen=True)
class Inside:
    """Batch means of a single run after its warm-up: throughput in output tokens/s, delays in seconds."""

    throughput: BatchMeans
    latency: BatchMeans
    latency_p99: BatchMeans
    ttft: BatchMeans

    @property
    def valid(self) -> bool:
        """Whether all of them can be trusted."""
        return all(each.valid for each in vars(self).values())


def inside(run: Run, window: Window) -> Inside | None:
    """Return the batch means of a run inside a window; None where it holds fewer than two requests a batch."""
    times = run.arrivals.times
    part = slice(*np.searchsorted(times, [window.start, window.last_arrival]))
    fits = run.fits[part]
    if np.count_nonzero(fits) < 2 * BATCHES:
        return None
    age = run.end_time - times[part][fits]
    latency, ttft = (np.where(np.isnan(delay[part][fits]), age, delay[part][fits]) for delay in (run.latency, run.ttft))
    rates = [measures.throughput(run, piece) for piece in Window(window.start, window.end, window.end).split(BATCHES)]
    return Inside(of_batches(float(np.mean(rates)), rates), batch_interval(latency),
                  batch_interval(latency, p99), batch_interval(ttft))


def p99(values: np.ndarray) -> float:
    """The 99th percentile, the smallest value that 99% do not exceed."""
    return float(np.quantile(values, 0.99, method="higher"))
