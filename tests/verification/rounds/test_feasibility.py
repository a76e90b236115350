"""The test ahead in its three forms, which must say the same."""

from __future__ import annotations

import numpy as np
import pytest
from small_rounds import LOOKING_AHEAD, erring

from verification.rounds import AMin, fits_at_completions, fits_every_round, fits_sorted, needed
from verification.rounds.literal import play_literally


def test_three_requests_by_hand() -> None:
    """(c, r) = (4, 1), (2, 3), (2, 3): K(1) = 5 + 3 + 3 = 11, K(2) = 4 + 4 = 8, K(3) = 5 + 5 = 10."""
    for fits in (fits_every_round, fits_at_completions, fits_sorted):
        assert fits([4, 2, 2], [1, 3, 3], 11)
        assert not fits([4, 2, 2], [1, 3, 3], 10)
    assert needed([4, 2, 2], [1, 3, 3]) == 11


def test_nothing_needs_nothing() -> None:
    """An empty set fits any memory."""
    assert needed([], []) == 0
    assert fits_every_round([], [], 1)
    assert fits_at_completions([], [], 1)


def test_the_three_forms_agree_on_20_000_states() -> None:
    """At the memory that is needed all three say yes, one token below all say no.

    Lengths are short, so that many requests end together: ties are where the sorted form might err.
    """
    generator = np.random.default_rng(0)
    for _ in range(20_000):
        n, longest = int(generator.integers(1, 9)), int(generator.integers(1, 13))
        held, remaining = generator.integers(0, 12, n), generator.integers(1, longest + 1, n)
        memory = needed(held, remaining)
        for tokens, expected in ((memory, True), (memory - 1, False)):
            assert fits_sorted(held, remaining, tokens) is expected
            assert fits_at_completions(held, remaining, tokens) is expected
            assert fits_every_round(held, remaining, tokens) is expected


@pytest.mark.parametrize("policy", [*LOOKING_AHEAD, AMin()], ids=str)
def test_schedules_are_the_same_with_each_form(policy) -> None:
    """The tests at completions and in sorted form decide as the test in every round does, all along."""
    for seed in range(40):
        instance = erring(seed)
        reference = play_literally(policy, instance, fits=fits_every_round)
        for fits in (fits_at_completions, fits_sorted):
            other = play_literally(policy, instance, fits=fits)
            assert np.array_equal(other.requests, reference.requests)
            assert np.array_equal(other.starts, reference.starts)
            assert np.array_equal(other.ends, reference.ends)
