"""The synthetic instances of [J], section 5.1, and models of the error of predicted output lengths.

All at once ([J], arrival model 1), with U{a..b} uniform on the whole numbers from a to b:

    n ~ U{40..60}, M ~ U{30..50}, a_i = 0, s_i ~ U{1..5}, o_i ~ U{1..M - s_i}

Over time (arrival model 2): T ~ U{40..60} rounds, rate lambda ~ U[0.5, 1.5], M ~ U{30..50}; in each round 0..T - 1
Poisson(lambda) requests come, with lengths as above. An instance without a single request is drawn again. The text of
[J] was not open to us: we draw s for each request; `equal_prompts` draws one for all, as its theorems and the code that
accompanies it have it.

Predictions, one independent error for each request. alpha >= 1 is a ratio, epsilon in [0, 1) a relative error:

    overestimated     otilde uniform on the whole numbers o..floor(alpha o)       never short, as [J] assumes
    underestimated    otilde uniform on ceil(o/alpha)..o                          a lower bound, for A_min
    two_sided         otilde uniform on ceil((1 - epsilon) o)..floor((1 + epsilon) o)

The laws are ours; [J] is reported to try relative errors epsilon of 0.2, 0.5 and 0.8. Every prediction is at most M -
s, which a policy knows to hold of o, and at least 1. All randomness comes from the seed that is given; the same seed
gives the same instance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluid.arrays import TOLERANCE, Floats, Ints
from fluid.errors import InputError, real
from verification.rounds.instance import Instance

Seed = int | np.random.SeedSequence | np.random.Generator


def all_at_once(seed: Seed, *, equal_prompts: bool = False) -> Instance:
    """Draw an instance of [J]'s arrival model 1: 40 to 60 requests, all there at round 0.

    >>> instance = all_at_once(0)
    >>> 40 <= len(instance) <= 60, int(instance.arrivals.max())
    (True, 0)
    """
    generator = np.random.default_rng(seed)
    requests, memory = int(generator.integers(40, 61)), int(generator.integers(30, 51))
    return _with_lengths(np.zeros(requests, dtype=np.int64), memory, equal_prompts, generator)


def over_time(seed: Seed, *, equal_prompts: bool = False) -> Instance:
    """Draw an instance of [J]'s arrival model 2: Poisson arrivals, 0.5 to 1.5 a round, over 40 to 60 rounds.

    >>> instance = over_time(0)
    >>> 30 <= instance.memory <= 50, int(instance.arrivals.max()) < 60
    (True, True)
    """
    generator = np.random.default_rng(seed)
    rounds, rate = int(generator.integers(40, 61)), generator.uniform(0.5, 1.5)
    memory, arrivals = int(generator.integers(30, 51)), np.zeros(0, dtype=np.int64)
    while not arrivals.size:
        arrivals = np.repeat(np.arange(rounds), generator.poisson(rate, rounds))
    return _with_lengths(arrivals, memory, equal_prompts, generator)


def _with_lengths(arrivals: Ints, memory: int, equal_prompts: bool, generator: np.random.Generator) -> Instance:
    n = len(arrivals)
    prompts = np.full(n, generator.integers(1, 6)) if equal_prompts else generator.integers(1, 6, n)
    return Instance(arrivals, prompts, generator.integers(1, memory - prompts + 1), memory)


def overestimated(instance: Instance, alpha: float, seed: Seed) -> Instance:
    """Return the instance with otilde uniform on o..floor(alpha o), at most M - s; raises InputError for alpha < 1.

    >>> overestimated(all_at_once(0), 2.0, seed=1).never_short
    True
    """
    ratio = _ratio(alpha, "overestimated")
    return _between(instance, instance.outputs, _floor(ratio * instance.outputs), seed)


def underestimated(instance: Instance, alpha: float, seed: Seed) -> Instance:
    """Return the instance with otilde uniform on ceil(o/alpha)..o; raises InputError for alpha < 1.

    >>> instance = underestimated(all_at_once(0), 2.0, seed=1)
    >>> bool((instance.predicted <= instance.outputs).all())
    True
    """
    ratio = _ratio(alpha, "underestimated")
    return _between(instance, -_floor(-(instance.outputs / ratio)), instance.outputs, seed)


def two_sided(instance: Instance, epsilon: float, seed: Seed) -> Instance:
    """Return the instance with otilde uniform on ceil((1 - epsilon) o)..floor((1 + epsilon) o), at most M - s.

    Raises InputError unless 0 <= epsilon < 1.

    >>> two_sided(all_at_once(0), 0.0, seed=1).exact
    True
    """
    error = real("epsilon", epsilon, "two_sided", zero=True)
    if error >= 1:
        raise InputError("epsilon", "a relative error in [0, 1)", epsilon, "two_sided")
    low, high = -_floor(-(1 - error) * instance.outputs), _floor((1 + error) * instance.outputs)
    return _between(instance, low, high, seed)


def _ratio(alpha: float, where: str) -> float:
    if real("alpha", alpha, where) < 1:
        raise InputError("alpha", "a ratio of at least 1", alpha, where)
    return float(alpha)


def _floor(values: NDArray[np.floating[Any]]) -> Floats:
    """The floor, of a number that should be whole that number, however it was rounded."""
    floors: Floats = np.floor(values + TOLERANCE * np.maximum(np.abs(values), 1.0))
    return floors


def _between(instance: Instance, low: Floats | Ints, high: Floats | Ints, seed: Seed) -> Instance:
    """Predictions uniform on the whole numbers from `low` to `high`, cut to 1..M - s."""
    least = np.maximum(low, 1).astype(np.int64)
    most = np.minimum(high, instance.memory - instance.prompts).astype(np.int64)
    return instance.seen_as(np.random.default_rng(seed).integers(least, np.maximum(most, least) + 1))
