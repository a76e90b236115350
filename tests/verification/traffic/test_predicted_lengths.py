"""Predicted output lengths: the nearest type by hand and in fractions, confusion in closed form and drawn."""

from __future__ import annotations

import doctest
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import sampled

from fluid import InputError, IterationTime, PromptType, Replica, Workload
from thresholds import paced, wait
from verification import poisson_arrivals
from verification.traffic import predicted_lengths as predictions
from verification.traffic import same_prompt_length as lookalikes
from verification.traffic.arrivals import stream
from verification.traffic.predicted_lengths import (
    LogNormalError,
    Misclassified,
    Overestimate,
    Predictor,
    confusion,
    seen_types,
    seen_workload,
)
from verification.traffic.same_prompt_length import Lookalikes

ONE_AND_FOUR = Workload.from_arrays([10, 10], [1, 4], [1.0, 3.0])
MIXED = Workload.from_arrays([10, 20, 10, 10, 20, 10, 30], [40, 7, 5, 40, 9, 90, 3], [1.0, 2.0, 3.0, 0.5, 1.0, 4.0, 1])
TRUTH = [LogNormalError(0.0), Overestimate(1.0), Misclassified(0.0)]
WRONG = [LogNormalError(0.4), LogNormalError(1.5, bias=0.6), Overestimate(1.3), Overestimate(20.0), Misclassified(0.3),
         Misclassified(1.0)]


def alike_mixes(most_types: int = 8) -> st.SearchStrategy[Workload]:
    """Types that share two prompt lengths, some of them output lengths too."""
    kinds = st.builds(PromptType, st.sampled_from([10, 20]), st.integers(1, 40), st.floats(1e-3, 1e3))
    return st.lists(kinds, min_size=1, max_size=most_types).map(Workload)


def predictors() -> st.SearchStrategy[Predictor]:
    """Errors of every kind, none at all and enormous ones among them."""
    sigmas = st.one_of(st.just(0.0), st.floats(1e-3, 3.0), st.floats(0.0, 1e300))
    ratios = st.one_of(st.just(1.0), st.floats(1.0, 50.0), st.floats(1.0, 1e308))
    return st.one_of(st.builds(LogNormalError, sigmas, st.floats(1e-3, 1e3)), st.builds(Overestimate, ratios),
                     st.builds(Misclassified, st.floats(0.0, 1.0)))


def nearest_by_hand(mix: Workload, own: int, predicted: Fraction) -> int:
    """The rule word for word: |ln R - ln R~| compares as max(R/R~, R~/R), which a fraction holds exactly."""
    lengths = [Fraction(int(tokens)) for tokens in mix.output_tokens]
    alike = [k for k in range(len(mix)) if mix.prompt_tokens[k] == mix.prompt_tokens[own]]
    away = {k: max(lengths[k] / predicted, predicted / lengths[k]) for k in alike}
    nearest = [k for k in alike if away[k] == min(away.values())]
    longest = [k for k in nearest if lengths[k] == max(lengths[i] for i in nearest)]
    return own if own in longest else longest[0]


def all_types(mix: Workload, times: int = 1) -> np.ndarray:
    return np.repeat(np.arange(len(mix)), times)


def test_the_examples_in_the_docstrings_run() -> None:
    assert doctest.testmod(predictions).failed == doctest.testmod(lookalikes).failed == 0


@sampled
@given(alike_mixes(), st.integers(1, 200), st.integers(1, 40))
def test_the_nearest_type_is_the_one_that_exact_fractions_find(mix: Workload, fourths: int, part: int) -> None:
    """Predictions n/4 R are exact in a float. Those by n/(4 m) are rounded, and the fractions take the rounded number:
    as (n R)^2/(4 m)^2 differs from R R' by 0 or by at least 1/(4 m)^2, an irrational edge is never within rounding."""
    for bias in (fourths / 4, fourths / (4 * part)):
        expected = [nearest_by_hand(mix, j, Fraction(float(mix.output_tokens[j] * bias))) for j in range(len(mix))]
        predictor = LogNormalError(0.0, bias)
        assert seen_types(mix, all_types(mix), predictor, np.random.default_rng(0)).tolist() == expected
        assert confusion(mix, predictor).toarray().tolist() == np.eye(len(mix))[expected].tolist()


def test_a_tie_is_taken_for_the_longer() -> None:
    """Predicted 2, the output lengths 1 and 4 are both a factor of 2 away; a little less and it is 1."""
    for bias, expected in ((2.0, 1), (math.nextafter(2.0, 0.0), 0)):
        assert seen_types(ONE_AND_FOUR, [0], LogNormalError(0.0, bias), np.random.default_rng(0)).tolist() == [expected]


def test_a_tie_of_the_longest_lengths_is_decided_exactly() -> None:
    """Lengths 4 a^2 and 4 b^2 tie at 4 a b; with b = 2048 the longer is 2^24, the most there is, with a = 2047 the tie
    is at 16,769,024. Half a token less is nearer to the shorter."""
    mix = Workload.from_arrays([1, 1], [4 * 2047**2, 4 * 2048**2], [1.0, 1.0])
    tie = 4 * 2047 * 2048
    alike = Lookalikes.of(mix)
    assert alike.nearest(np.array([0, 0, 1, 1]), np.array([tie, tie - 0.5] * 2)).tolist() == [1, 0, 1, 0]


def test_types_with_equal_lengths_are_taken_for_themselves_and_others_for_the_first_of_them() -> None:
    """Types 1 and 2 are 10 + 8; type 0, 10 + 2, is predicted as 8; type 3, 10 + 50, as 200, which nothing is nearer."""
    mix = Workload.from_arrays([10, 10, 10, 10], [2, 8, 8, 50], [1.0, 1.0, 1.0, 1.0])
    assert seen_types(mix, [0, 3], LogNormalError(0.0, 4.0), np.random.default_rng(0)).tolist() == [1, 3]
    assert seen_types(mix, [1, 2], LogNormalError(0.0), np.random.default_rng(0)).tolist() == [1, 2]
    assert np.flatnonzero(confusion(mix, LogNormalError(0.5)).toarray()[0]).tolist() == [0, 1, 3]
    assert np.flatnonzero(confusion(mix, LogNormalError(0.5)).toarray()[2]).tolist() == [0, 2, 3]


@sampled
@given(alike_mixes(), predictors())
def test_a_request_is_taken_for_some_type_with_its_prompt_length(mix: Workload, predictor: Predictor) -> None:
    found = confusion(mix, predictor).toarray()
    assert found.sum(axis=1) == pytest.approx(np.ones(len(mix)), abs=1e-14)
    assert np.all(found >= 0)
    assert np.all(found[mix.prompt_tokens[:, None] != mix.prompt_tokens] == 0)
    types = all_types(mix, 20)
    seen = seen_types(mix, types, predictor, np.random.default_rng(0))
    assert np.array_equal(mix.prompt_tokens[seen], mix.prompt_tokens[types])


@pytest.mark.parametrize("predictor", TRUTH)
@sampled
@given(mix=alike_mixes())
def test_without_an_error_every_request_is_taken_for_its_own_type(predictor: Predictor, mix: Workload) -> None:
    types = all_types(mix, 3)
    assert np.array_equal(seen_types(mix, types, predictor, np.random.default_rng(0)), types)
    assert np.array_equal(confusion(mix, predictor).toarray(), np.eye(len(mix)))
    assert seen_workload(mix, predictor) == mix


@pytest.mark.parametrize("predictor", WRONG)
def test_drawn_types_are_as_frequent_as_the_confusion_says(predictor: Predictor) -> None:
    """Of n requests of type j a share p is taken for k, so n p of them, within four standard errors sqrt(n p (1 - p));
    where that is below 3, so n p below 10, counts are Poisson and 40 more has a chance below 1e-17; 0 is never."""
    n = 40_000
    seen = seen_types(MIXED, all_types(MIXED, n), predictor, np.random.default_rng(11)).reshape(len(MIXED), n)
    counts = np.array([np.bincount(row, minlength=len(MIXED)) for row in seen])
    expected = confusion(MIXED, predictor).toarray()
    spread = np.sqrt(n * expected * (1 - np.minimum(expected, 1.0)))
    often = spread > 3
    assert np.all(np.abs(counts - n * expected)[often] < 4 * spread[often])
    assert np.all(counts[expected == 0] == 0)
    assert np.all(np.abs(counts - n * expected)[~often] < 40)


def test_the_error_of_a_log_normal_prediction_is_a_tail_of_the_normal_distribution() -> None:
    """sigma = ln 2 and a bias of 2^(1 - z): an output of 1 is taken for 4 if 2^(1 - z) 2^Z >= 2, so Z >= z, a chance of
    erfc(z/sqrt 2)/2, which keeps its digits far out; beyond the least float it is 0."""
    for z in (1, 8, 30, 40):
        found = confusion(ONE_AND_FOUR, LogNormalError(math.log(2), 2.0 ** (1 - z))).toarray()
        assert found[0, 1] == pytest.approx(math.erfc(z / math.sqrt(2)) / 2, rel=1e-11, abs=0)


def test_an_error_without_end_finds_the_shortest_or_the_longest() -> None:
    """As sigma grows R~ is below every length or above, each with a chance of 1/2."""
    mix = Workload.from_arrays([1, 1, 1], [1, 2, 3], [1.0, 1.0, 1.0])
    assert confusion(mix, LogNormalError(1e300)).toarray() == pytest.approx(np.array([[0.5, 0.0, 0.5]] * 3))
    assert set(seen_types(mix, all_types(mix, 50), LogNormalError(1e300), np.random.default_rng(0))) == {0, 2}


@sampled
@given(alike_mixes(), st.one_of(st.floats(1.0, 20.0), st.floats(1.0, 1e308)))
def test_a_length_never_underestimated_is_never_taken_for_a_shorter_one(mix: Workload, ratio: float) -> None:
    """R' < R <= R~ makes R nearer to R~ than R' is."""
    output = mix.output_tokens
    assert np.all(confusion(mix, Overestimate(ratio)).toarray()[output[:, None] > output] == 0)
    types = all_types(mix, 20)
    assert np.all(output[seen_types(mix, types, Overestimate(ratio), np.random.default_rng(0))] >= output[types])


@pytest.mark.parametrize(("bias", "nearest"), [(1e-300, 0), (1e308, 1)])
def test_a_prediction_below_one_token_is_the_shortest_type_and_one_beyond_floats_the_longest(bias: float,
                                                                                             nearest: int) -> None:
    """1e308 times 2 or 3 is infinite in a float."""
    mix = Workload.from_arrays([1, 1], [2, 3], [1.0, 1.0])
    assert seen_types(mix, [0, 1], LogNormalError(0.0, bias), np.random.default_rng(0)).tolist() == [nearest] * 2
    assert confusion(mix, LogNormalError(0.0, bias)).toarray()[:, nearest].tolist() == [1.0, 1.0]


@sampled
@given(alike_mixes(), predictors())
def test_the_total_rate_of_every_prompt_length_is_kept(mix: Workload, predictor: Predictor) -> None:
    """Rates lifted to 1e-9 of their own add at most that share."""
    seen = seen_workload(mix, predictor)
    for prompt in np.unique(mix.prompt_tokens):
        here = mix.prompt_tokens == prompt
        assert seen.rates[here].sum() == pytest.approx(mix.rates[here].sum(), rel=2e-9)
    assert seen.names == mix.names


@sampled
@given(alike_mixes(), predictors())
def test_the_rates_seen_are_those_that_the_confusion_makes(mix: Workload, predictor: Predictor) -> None:
    made = mix.rates @ confusion(mix, predictor).toarray()
    assert seen_workload(mix, predictor).rates == pytest.approx(made, rel=1e-12, abs=1e-9 * mix.rates.max())


@sampled
@given(alike_mixes(), st.floats(0.0, 1.0))
def test_types_drawn_anew_by_rate_leave_the_mix_as_it_is(mix: Workload, share: float) -> None:
    """(1 - s) lambda_k + s lambda_k / Lambda sum_j lambda_j = lambda_k."""
    assert seen_workload(mix, Misclassified(share)).rates == pytest.approx(mix.rates, rel=1e-12)


def test_a_type_that_is_never_seen_keeps_a_rate_and_gets_the_least_threshold() -> None:
    """Predicted twice as long every 1 is taken for a 4: rates 1 + 3, and 1e-9 of its own for the 1. WAIT's least
    threshold is one, a window's one prompt in at least the two iterations of its life."""
    seen = seen_workload(ONE_AND_FOUR, LogNormalError(0.0, bias=2.0))
    assert seen.rates.tolist() == [1e-9, 4.0]
    replica = Replica(137_000, IterationTime(0.0106, 4.013e-7))
    assert wait(seen, replica).thresholds[0] == 1
    design = paced(seen, replica)
    assert design.entries[0] == 1
    assert design.iterations[0] >= 2


@pytest.mark.parametrize("predictor", WRONG)
def test_a_shorter_horizon_sees_the_same_of_the_same_requests(predictor: Predictor) -> None:
    types = poisson_arrivals(MIXED, 40.0, stream(1, 0)).types
    whole = seen_types(MIXED, types, predictor, np.random.default_rng(5))
    assert np.array_equal(whole[:100], seen_types(MIXED, types[:100], predictor, np.random.default_rng(5)))


@pytest.mark.parametrize("predictor", [*TRUTH, *WRONG])
def test_one_type_is_never_mistaken_and_no_requests_are_no_types(predictor: Predictor) -> None:
    alone = Workload([PromptType(10, 10, 5.0)])
    assert seen_types(alone, [0] * 50, predictor, np.random.default_rng(0)).tolist() == [0] * 50
    assert confusion(alone, predictor).toarray().tolist() == [[1.0]]
    assert seen_workload(alone, predictor) == alone
    assert seen_types(MIXED, [], predictor, np.random.default_rng(0)).tolist() == []


@pytest.mark.parametrize("predictor", WRONG)
def test_pairs_of_types_taken_one_by_one_or_all_at_once_are_the_same(predictor: Predictor,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    found, seen = confusion(MIXED, predictor).toarray(), seen_workload(MIXED, predictor)
    for size in (1, 5, 9):
        monkeypatch.setattr(lookalikes, "BLOCK", size)
        assert np.array_equal(confusion(MIXED, predictor).toarray(), found)
        assert seen_workload(MIXED, predictor).rates == pytest.approx(seen.rates, rel=1e-14)


def test_rates_as_far_apart_as_floats_go_are_still_a_mix() -> None:
    mix = Workload.from_arrays([1, 1, 2, 2], [1, 9, 1, 9], [1e308, 1.7e308, 5e-324, 1e-310])
    for predictor in WRONG:
        assert np.all(np.isfinite(seen_workload(mix, predictor).rates))
        assert confusion(mix, predictor).sum(axis=1) == pytest.approx(np.ones(4))


def test_a_confusion_that_memory_may_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "MOST_ENTRIES", 3)
    with pytest.raises(InputError, match=r"workload must be one with at most 3 ways to take a type for another"):
        confusion(ONE_AND_FOUR, LogNormalError(1.0))


@pytest.mark.parametrize(("model", "numbers", "message"), [
    (LogNormalError, (-0.1,), r"sigma must be a nonnegative finite number \(got -0.1\) in LogNormalError"),
    (LogNormalError, (math.inf,), r"sigma must be a nonnegative finite number \(got inf\) in LogNormalError"),
    (LogNormalError, (0.1, 0.0), r"bias must be a positive finite number \(got 0.0\) in LogNormalError"),
    (LogNormalError, ("0.1",), r"sigma must be a nonnegative finite number \(got '0.1'\) in LogNormalError"),
    (Overestimate, (0.9,), r"ratio must be at least 1 \(got 0.9\) in Overestimate"),
    (Overestimate, (math.nan,), r"ratio must be a positive finite number \(got nan\) in Overestimate"),
    (Misclassified, (1.5,), r"share must be a probability, at most 1 \(got 1.5\) in Misclassified"),
    (Misclassified, (True,), r"share must be a nonnegative finite number \(got True\) in Misclassified"),
])
def test_an_error_that_cannot_be_is_refused(model: Any, numbers: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model(*numbers)


@pytest.mark.parametrize("types", [[7], [-1], [0.0], [[0]], ["a"], np.array([2**64 - 1], dtype=np.uint64)])
def test_types_that_the_workload_lacks_are_refused(types: Any) -> None:
    with pytest.raises(InputError, match=r"types must be indices of prompt types, from 0 to 6 \(got "):
        seen_types(MIXED, types, LogNormalError(0.1), np.random.default_rng(0))
