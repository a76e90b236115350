"""Small instances of the discrete rounds, one for each seed, with exact or erring predictions; and brute force."""

from __future__ import annotations

from itertools import product

import numpy as np

from verification.rounds import (
    MCSF,
    AMin,
    Clearing,
    Instance,
    MCBenchmark,
    Protected,
    Schedule,
    SortedF,
    overestimated,
    two_sided,
    underestimated,
)

LOOKING_AHEAD = [MCSF(), MCSF(0.1), MCBenchmark(), MCBenchmark(0.25), SortedF(), SortedF("sweep")]
POLICIES = [*LOOKING_AHEAD, Protected(0.3), Protected(0.0), Clearing(0.2, 0.2), Clearing(0.1, 0.5), Clearing(0.1, 1.0),
            AMin()]


def exact(seed: int, most: int = 12, at_once: bool = False) -> Instance:
    """1 to `most` requests within a dozen rounds, for a memory of 6 to 25 tokens; half of the time all at once."""
    generator = np.random.default_rng([seed, 1])
    n, memory = int(generator.integers(1, most + 1)), int(generator.integers(6, 26))
    arrivals = np.sort(generator.integers(0, 12, n)) * (generator.random() < 0.5) * (not at_once)
    prompts = generator.integers(0, 5, n)
    return Instance(arrivals, prompts, generator.integers(1, memory - prompts + 1), memory)


def erring(seed: int) -> Instance:
    """Such an instance with predictions: exact, too long, on both sides or too short, by turns."""
    instance = exact(seed)
    kinds = [instance, overestimated(instance, 2.0, seed), two_sided(instance, 0.6, seed),
             underestimated(instance, 3.0, seed)]
    return kinds[seed % 4]


def tiny(seed: int) -> Instance:
    """1 to 3 requests within three rounds, for a memory of 3 to 8 tokens."""
    generator = np.random.default_rng([seed, 2])
    n, memory = int(generator.integers(1, 4)), int(generator.integers(3, 9))
    prompts = generator.integers(0, 3, n)
    return Instance(np.sort(generator.integers(0, 3, n)), prompts, generator.integers(1, memory - prompts + 1), memory)


def least_by_brute_force(instance: Instance) -> int:
    """The least total latency: every vector of start moments up to the horizon is tried, nothing is cleared."""
    best, shift = 2**62, int((instance.outputs - instance.arrivals).sum())
    for starts in product(*(range(a, instance.horizon) for a in instance.arrivals.tolist())):
        if sum(starts) + shift < best and not of_starts(instance, starts).violations:
            best = sum(starts) + shift
    return best


def of_starts(instance: Instance, starts: tuple[int, ...]) -> Schedule:
    """The schedule in which each request starts once, at these moments."""
    order = np.argsort(starts, kind="stable")
    moments = np.array(starts)[order]
    return Schedule(instance, order, moments, moments + instance.outputs[order])
