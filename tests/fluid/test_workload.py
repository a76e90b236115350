"""Workloads as values: two ways in, one meaning; every bad input refused by name."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import sampled, workloads

from fluid import FluidwaitError, InputError, PromptType, Workload


@sampled
@given(workloads())
def test_types_and_arrays_make_the_same_workload(mix: Workload) -> None:
    again = Workload.from_arrays(mix.prompt_tokens, mix.output_tokens, mix.rates, mix.names)
    assert again == mix == Workload(mix.types)
    assert hash(again) == hash(mix)


@sampled
@given(workloads(), st.floats(1e-3, 1e3))
def test_scaling_multiplies_every_rate_and_nothing_else(mix: Workload, factor: float) -> None:
    scaled = mix.scaled(factor)
    assert np.array_equal(scaled.rates, mix.rates * factor)
    assert np.array_equal(scaled.prompt_tokens, mix.prompt_tokens)
    assert np.array_equal(scaled.output_tokens, mix.output_tokens)
    assert scaled.names == mix.names


@sampled
@given(workloads())
def test_the_total_rate_is_the_sum_of_the_rates(mix: Workload) -> None:
    assert mix.rate == pytest.approx(math.fsum(each.rate for each in mix.types), rel=1e-14)
    assert len(mix) == len(mix.types) == len(mix.names)


def test_a_total_beyond_the_floats_is_held_at_the_largest_one() -> None:
    assert Workload.from_arrays([1, 1], [1, 1], [1.5e308, 1.5e308]).rate == np.finfo(np.float64).max


def test_a_type_without_a_name_is_called_after_its_lengths() -> None:
    mix = Workload([PromptType(512, 20, 1.0), PromptType(7, 8, 1.0, "chat")])
    assert mix.names == ("512+20", "chat")
    assert Workload.from_arrays([3], [4], [1.0]).names == ("3+4",)


@pytest.mark.parametrize("other", [
    Workload.from_arrays([10, 20], [5, 6], [1.0, 2.0], ["a", "c"]),
    Workload.from_arrays([10, 20], [5, 6], [1.0, 3.0], ["a", "b"]),
    Workload.from_arrays([10, 20], [5, 7], [1.0, 2.0], ["a", "b"]),
    Workload.from_arrays([11, 20], [5, 6], [1.0, 2.0], ["a", "b"]),
    Workload.from_arrays([20, 10], [6, 5], [2.0, 1.0], ["b", "a"]),
    [PromptType(10, 5, 1.0, "a"), PromptType(20, 6, 2.0, "b")],
])
def test_workloads_that_differ_anywhere_are_not_equal(other: object) -> None:
    assert Workload.from_arrays([10, 20], [5, 6], [1.0, 2.0], ["a", "b"]) != other


def test_a_workload_cannot_be_changed_and_keeps_its_own_copy() -> None:
    rates = np.array([1.0, 2.0])
    mix = Workload.from_arrays([1, 2], [3, 4], rates)
    rates[0] = 9.0
    assert mix.rates.tolist() == [1.0, 2.0]
    for array in (mix.rates, mix.prompt_tokens, mix.output_tokens):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_workloads_and_errors_survive_pickling_and_copying() -> None:
    mix = Workload([PromptType(5, 6, 1.0, "chat")])
    assert pickle.loads(pickle.dumps(mix)) == copy.deepcopy(mix) == mix
    error = InputError("rate", "positive", -2.0, 'prompt type "chat"')
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_whole_numbers_may_come_as_floats_or_numpy_scalars() -> None:
    each = PromptType(np.int32(5), 6.0, np.float32(2.0))  # type: ignore[arg-type]
    assert each == PromptType(5, 6, 2.0)
    assert [type(value) for value in (each.prompt_tokens, each.output_tokens, each.rate)] == [int, int, float]
    assert Workload.from_arrays([5.0], np.array([6], dtype=np.uint8), 2) == Workload([each])


LENGTH = f"a whole number of tokens from 1 to {2**24}"
RATE = "a positive finite number of requests/s"


@pytest.mark.parametrize(("fields", "complaint"), [
    ({"prompt_tokens": 0}, f'prompt_tokens must be {LENGTH} (got 0) in prompt type "chat"'),
    ({"prompt_tokens": 2**24 + 1}, f'prompt_tokens must be {LENGTH} (got 16777217) in prompt type "chat"'),
    ({"prompt_tokens": "12"}, f"prompt_tokens must be {LENGTH} (got '12') in prompt type \"chat\""),
    ({"output_tokens": 0}, f'output_tokens must be {LENGTH} (got 0) in prompt type "chat"'),
    ({"output_tokens": 1.5}, f'output_tokens must be {LENGTH} (got 1.5) in prompt type "chat"'),
    ({"output_tokens": True}, f'output_tokens must be {LENGTH} (got True) in prompt type "chat"'),
    ({"rate": 0}, f'rate must be {RATE} (got 0) in prompt type "chat"'),
    ({"rate": -2.0}, f'rate must be {RATE} (got -2.0) in prompt type "chat"'),
    ({"rate": math.inf}, f'rate must be {RATE} (got inf) in prompt type "chat"'),
    ({"rate": math.nan}, f'rate must be {RATE} (got nan) in prompt type "chat"'),
    ({"rate": None}, f'rate must be {RATE} (got None) in prompt type "chat"'),
    ({"rate": -2.0, "name": ""}, f"rate must be {RATE} (got -2.0)"),
])
def test_a_bad_field_of_a_prompt_type_is_named_with_its_requirement_and_value(
        fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        PromptType(**{"prompt_tokens": 512, "output_tokens": 20, "rate": 1.0, "name": "chat", **fields})
    assert str(caught.value) == complaint
    assert isinstance(caught.value, FluidwaitError)


def test_an_integer_too_large_for_a_float_is_refused_on_one_line_of_80_characters() -> None:
    with pytest.raises(InputError, match="rate must be a positive finite number") as caught:
        PromptType(1, 1, 10**400)
    quoted = str(caught.value).split("(got ")[1].removesuffix(")")
    assert len(quoted) == 80
    assert quoted.endswith("...")


@pytest.mark.parametrize(("prompt", "output", "rates", "start"), [
    ([], [], [], "types must be at least one prompt type (got [])"),
    ([1, 0], [1, 1], [1, 1], "prompt_tokens[1] must be"),
    ([1, 2**24 + 1], [1, 1], [1, 1], "prompt_tokens[1] must be"),
    ([1, 1.5], [1, 1], [1, 1], "prompt_tokens[1] must be"),
    ([1, math.nan], [1, 1], [1, 1], "prompt_tokens[1] must be"),
    ([1, 1], [math.inf, 1], [1, 1], "output_tokens[0] must be"),
    ([1, 1], [-1, 1], [1, 1], "output_tokens[0] must be"),
    ([1], [1], ["fast"], "rates must be"),
    ([1], [1], [True], "rates must be"),
    ([1], [1], [[1.0]], "rates must be"),
    ([1], [1], None, "rates must be"),
    ([1, 1], [1, 1], [1.0, 0.0], "rates[1] must be"),
    ([1, 1], [1, 1], [1.0, math.nan], "rates[1] must be"),
    ([1, 1], [1, 1], [1.0, math.inf], "rates[1] must be"),
    ([1, 1], [1], [1.0, 1.0], "prompt_tokens, output_tokens and rates must be of one shape"),
    ([[1], [1, 2]], [1], [1.0], "prompt_tokens must be"),
])
def test_a_bad_array_is_refused_with_the_place_of_its_first_fault(
        prompt: Any, output: Any, rates: Any, start: str) -> None:
    with pytest.raises(InputError) as caught:
        Workload.from_arrays(prompt, output, rates)
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(" in Workload")


def test_names_must_be_one_per_type() -> None:
    with pytest.raises(InputError, match=r"names must be 2 names, one per type \(got 1\) in Workload"):
        Workload.from_arrays([1, 2], [1, 2], [1.0, 2.0], ["only"])


@pytest.mark.parametrize("types", [[], [1], [(512, 20, 1.0)], [PromptType(1, 1, 1.0), None]])
def test_a_workload_takes_prompt_types_and_at_least_one(types: list[Any]) -> None:
    with pytest.raises(InputError, match="types must be"):
        Workload(types)


@pytest.mark.parametrize("factor", [0, -1.0, math.nan, math.inf, "2", True])
def test_a_workload_is_scaled_by_a_positive_finite_factor_only(factor: Any) -> None:
    with pytest.raises(InputError, match="factor must be a positive finite number"):
        Workload([PromptType(1, 1, 1.0)]).scaled(factor)


@pytest.mark.parametrize("factor", [1e-300, 1e300])
def test_a_scaled_rate_that_leaves_the_floats_is_refused(factor: float) -> None:
    """1e-300 times 1e-300 is 0 and 1e300 times 1e300 is infinite: neither is a rate."""
    with pytest.raises(InputError, match=r"rates\[0\] must be"):
        Workload([PromptType(1, 1, factor)]).scaled(factor)


def test_an_integer_python_will_not_print_is_refused_all_the_same() -> None:
    """repr of an int beyond 4300 digits raises ValueError."""
    with pytest.raises(InputError, match="prompt_tokens must be"):
        PromptType(10**5000, 1, 1.0)


def test_names_may_come_as_a_numpy_array() -> None:
    """A trace's names are often a column."""
    mix = Workload.from_arrays([1, 2], [1, 2], [1.0, 2.0], np.array(["a", "b"]))  # type: ignore[arg-type]
    assert mix.names == ("a", "b")


@sampled
@given(workloads(), st.data())
def test_some_types_are_those_of_the_mix(mix: Workload, data: st.DataObject) -> None:
    """By a mask as by numbers, names and cached prefixes kept; at the rates of the mix, or at others by type."""
    kept = data.draw(st.sets(st.integers(0, len(mix) - 1), min_size=1))
    numbers = np.array(sorted(kept))
    mask = np.isin(np.arange(len(mix)), numbers)
    chosen = Workload([mix.types[j] for j in numbers])
    assert mix.some(mask) == mix.some(numbers) == chosen
    assert mix.some(mask, 2 * mix.rates) == chosen.scaled(2.0)
