"""Completions that cannot overlap, and stages that must fit together."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import sampled

from fluid import IterationTime, PromptType, Replica, Workload, stage_profile
from fluid.bounds.overlap import least_gap, overlap_need
from fluid.bounds.packing import packing_need


def fits(times: list[int], held: np.ndarray, capacity: int) -> bool:
    """Whether completions at these iterations, none before its S stages are over, keep KV within C at each of them."""
    life = len(held)
    return all(sum(int(held[life - 1 - (t - now)]) for t in times if 0 <= t - now < life) <= capacity for now in times)


@pytest.mark.parametrize(("held", "capacity"), [([1, 2, 3], 3), ([1, 2, 3], 5), ([1, 1, 4], 5), ([2, 3, 4, 5], 9),
                                                ([1, 2, 3, 4], 10), ([3, 3, 3], 7), ([1, 5], 6)])
def test_it_is_the_least_period_of_any_periodic_schedule(held: list[int], capacity: int) -> None:
    """All multisets of up to four completions in a period of up to ten, repeated: none is denser than the bound."""
    stages, best = np.array(held), np.inf
    for period in range(1, 11):
        for count in range(1, 5):
            for offsets in product(range(period), repeat=count - 1):
                times = [t + k * period for k in range(5) for t in (0, *offsets)]
                middle = [t for t in times if t < 5 * period]
                if period / count < best and fits(middle, stages, capacity):
                    best = period / count
    gap = least_gap(stages, capacity)
    assert gap <= best
    assert gap == pytest.approx(best, rel=0.25)


@sampled
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(1, 9), st.integers(0, 30))
def test_equal_spacing_that_fits_is_never_denser_than_the_bound(growth: list[int], first: int, room: int) -> None:
    """One completion every g iterations holds sum_b kv_{S-1-bg} at each."""
    held = first + np.cumsum(growth)
    capacity = int(held[-1]) + room
    spaced = min(g for g in range(1, len(held) + 1) if held[::-1][::g].sum() <= capacity)
    assert least_gap(held, capacity) <= spaced


def test_a_larger_cache_never_makes_completions_rarer() -> None:
    held = np.arange(5, 40)
    gaps = [least_gap(held, capacity) for capacity in range(39, 400, 7)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(gaps))


def test_two_types_that_fill_the_cache_take_turns() -> None:
    """Peaks of C = 10: whoever completes is alone, so 4 lambda_1 + 9 lambda_2 iterations are needed a second."""
    mix = Workload([PromptType(7, 3, 2.0), PromptType(2, 8, 1.0)])
    profile = stage_profile(mix, Replica(10, IterationTime(1.0, 0.0)))
    assert overlap_need(profile, mix.rates, 10) == pytest.approx(2 * 4 + 9, rel=1e-8)


@pytest.mark.parametrize(("capacity", "together"), [(11, 1), (20, 2), (29, 2), (35, 3), (60, 6)])
def test_requests_of_equal_size_are_packed_as_many_as_fit(capacity: int, together: int) -> None:
    """Whole prefill of 9 tokens and one output token: stages of 9 and 10 tokens, C//10 to C//9 at a time."""
    mix = Workload([PromptType(9, 1, 1.0)])
    need = packing_need(stage_profile(mix, Replica(capacity, IterationTime(1.0, 0.0))), mix.rates, capacity)
    assert need <= 2 / together + 1e-12
    assert need >= 2 / (capacity // 9) - 1e-12
