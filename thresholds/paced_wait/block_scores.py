r"""What one prompt adds to Chernoff's bound in each block of ages: phi_b - 1, summed with weights.

At the age index e = a + k - 1 a prompt whose ages a < S lie in a window of k iterations holds y = held(e), and phi_b =
exp(theta y) at the last such e in block b, as KV never falls while it stays; 1 once it is over before b begins. Blocks
are the e in [s + g (i - 1), s + g i), the first cut at 0. O(blocks that a prompt lives through) for each prompt, and no
table of prompts by blocks. Source: `thresholds.paced_wait.tail_bounds`, `thresholds.rows`.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from fluid import StageProfile
from fluid.arrays import Floats, Ints
from fluid.compiled import jit


def block_means(profile: StageProfile, weights: Floats, theta: float, g: int, window: int, start: int) -> Floats:
    """Return sum_j weights_j (phi_b - 1) for each block b, shape (blocks,); `theta` is per unit of KV."""
    means = np.zeros(1 + (int(profile.stages.max()) + window - 1) // g + 1)
    some = np.flatnonzero(weights)
    prompts, kinds = arrays_of(profile, some)
    _add_means(*prompts, kinds, weights[some], theta, g, window, start, means)
    return means


def scores(profile: StageProfile, weights: Floats, theta: float, g: int, window: int, start: int) -> Floats:
    """Return sum_b weights_b (phi_b - 1) for each prompt, shape (J,)."""
    found = np.zeros(profile.stages.size)
    prompts, kinds = arrays_of(profile)
    _add_scores(*prompts, kinds, weights, theta, g, window, start, found)
    return found


def arrays_of(profile: StageProfile, some: Ints | slice = slice(None)) -> tuple[tuple[Ints, Ints, Ints, Ints], Ints]:
    """Base, prefill stages, chunk and stages of some prompts; and block, window, layers of each kind and state."""
    layout = profile.layout
    base = profile.prompt - profile.prefill_stages + 1
    kinds = np.array([layout.block, layout.window, layout.windowed, layout.everywhere, layout.unit * layout.state])
    return (base[some], profile.prefill_stages[some], profile.chunk[some], profile.stages[some]), kinds


@partial(jit, nogil=True)
def held(age: int, base: int, prefill: int, chunk: int, kinds: Ints) -> int:
    """KV units at an age, were the prompt to last that long."""
    context = chunk * (age + 1) if age < prefill - 1 else base + age
    block = kinds[0]
    held = kinds[2] * (-(-min(context, kinds[1]) // block) * block)
    return int(held + kinds[3] * (-(-context // block) * block) + kinds[4])


@partial(jit, nogil=True)
def _add_means(base: Ints, prefill: Ints, chunk: Ints, stages: Ints, kinds: Ints, weights: Floats, theta: float,
               g: int, window: int, start: int, means: Floats) -> None:
    first = (start if start > 0 else g) - 1
    for j in range(len(base)):
        last = stages[j] + window - 2
        block, end = 0, first
        while True:
            age = min(end, last)
            means[block] += weights[j] * math.expm1(theta * held(age, base[j], prefill[j], chunk[j], kinds))
            if end >= last:
                break
            block, end = block + 1, end + g


@partial(jit, nogil=True)
def _add_scores(base: Ints, prefill: Ints, chunk: Ints, stages: Ints, kinds: Ints, weights: Floats, theta: float,
                g: int, window: int, start: int, found: Floats) -> None:
    first = (start if start > 0 else g) - 1
    for j in range(len(base)):
        last = stages[j] + window - 2
        block, end = 0, first
        while True:
            age = min(end, last)
            found[j] += weights[block] * math.expm1(theta * held(age, base[j], prefill[j], chunk[j], kinds))
            if end >= last:
                break
            block, end = block + 1, end + g
