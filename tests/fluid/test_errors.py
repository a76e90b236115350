"""The checks of arguments: what they take, and the one line they refuse the rest with."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fluid.errors import InputError, probability


@pytest.mark.parametrize("value", [1e-300, 1e-3, 0.5, math.nextafter(1.0, 0.0)])
def test_a_probability_lies_between_0_and_1(value: float) -> None:
    """Both ends are left out: what is certain needs no bound."""
    assert probability("overflow_probability", value) == value


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, math.nan, math.inf, "half", None, True])
def test_what_is_no_probability_is_refused_in_one_line(value: Any) -> None:
    """The line names the field, the requirement, the value found and where."""
    with pytest.raises(InputError) as refusal:
        probability("overflow_probability", value, "paced")
    line = str(refusal.value)
    assert line.startswith("overflow_probability must be a probability above 0 and below 1 (got ")
    assert line.endswith("in paced")
    assert "\n" not in line
