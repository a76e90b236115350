"""Processes with known answers: single-server queues by Lindley's recursion, autoregressive paths."""

from __future__ import annotations

import math

import numpy as np

EXPONENTIAL, DETERMINISTIC = "exponential", "deterministic"


def single_server(generator: np.random.Generator, load: float, shape: tuple[int, int],
                  service: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of customers from empty: arrival times, waits and services; mean service 1, Poisson arrivals at `load`.

    W' = (W + S - A)^+, which is the walk of the steps S - A above its least value so far.
    """
    gaps = generator.exponential(1 / load, shape)
    services = generator.exponential(1.0, shape) if service == EXPONENTIAL else np.ones(shape)
    walk = np.cumsum(services[:, :-1] - gaps[:, 1:], axis=1)
    walk = np.concatenate([np.zeros((shape[0], 1)), walk], axis=1)
    return np.cumsum(gaps, axis=1), walk - np.minimum.accumulate(walk, axis=1), services


def mean_wait(load: float, service: str) -> float:
    """Pollaczek and Khinchine: rho E[S^2]/(2 (1 - rho)), E[S^2] = 2 or 1."""
    return load / (1 - load) / (1 if service == EXPONENTIAL else 2)


def autoregressive(generator: np.random.Generator, weight: float, shape: tuple[int, int]) -> np.ndarray:
    """Rows of x' = 1 + weight (x - 1) + e from its stationary law: normal, mean 1, variance 1/(1 - weight^2)."""
    paths = generator.standard_normal(shape)
    paths[:, 0] /= math.sqrt(1 - weight**2)
    for i in range(1, shape[1]):
        paths[:, i] += weight * paths[:, i - 1]
    return 1 + paths
