"""Slopes: exponents of known laws inside their intervals, and a bend that is seen."""

from __future__ import annotations

import numpy as np
import pytest

from fluid.errors import InputError
from verification.asymptotics.slope import power_law

SIZES = np.logspace(2, 5, 13)


def half_normal(exponent: float, replications: int, rng: np.random.Generator) -> np.ndarray:
    """|N| x^exponent: the backlog of a walk without drift looks like this, with a spread of 0.76 of its mean."""
    return np.abs(rng.standard_normal((len(SIZES), replications))) * SIZES[:, None] ** exponent


def test_an_exact_power_has_its_exponent() -> None:
    """Without noise slope and level are those of the law, and the bend is nothing."""
    noise = 1 + 1e-6 * np.array([-1.0, 1.0])
    found = power_law("law", SIZES, 3.0 * SIZES[:, None] ** -0.7 * noise)
    assert found.value.mean == pytest.approx(-0.7, abs=1e-12)
    assert np.exp(found.level) == pytest.approx(3.0, rel=1e-10)
    assert found.bend.mean == pytest.approx(0.0, abs=1e-12)
    assert found.at(SIZES) == pytest.approx(found.means, rel=1e-10)


@pytest.mark.parametrize("exponent", [-1.0, -0.5, 0.0, 0.5])
def test_intervals_hold_the_exponent_as_often_as_they_say(exponent: float) -> None:
    """400 experiments: 95% +- 4.4% (four standard errors); the fit is below 1% in about 1% of them."""
    rng = np.random.default_rng(17)
    found = [power_law("walk", SIZES, half_normal(exponent, 100, rng)) for _ in range(400)]
    assert np.mean([each.value.holds(exponent) for each in found]) == pytest.approx(0.95, abs=0.044)
    assert np.mean([each.bend.holds(0.0) for each in found]) == pytest.approx(0.95, abs=0.044)
    assert np.mean([not each.straight for each in found]) < 0.04


def test_the_width_is_that_of_the_formula() -> None:
    """Equal relative errors e: Var b = e^2/sum (ln x - mean)^2; 13 points over three decades, 100 replications of a
    half-normal, e = sqrt(pi/2 - 1)/10: half a width of 1.984 e/sqrt(62) ... under 0.05, as mathematics, section 9.12
    says.
    """
    found = power_law("walk", SIZES, half_normal(0.5, 100, np.random.default_rng(1)))
    x = np.log(SIZES)
    expected = 1.984 * np.sqrt(np.pi / 2 - 1) / 10 / np.sqrt(np.square(x - x.mean()).sum())
    assert found.half_width == pytest.approx(expected, rel=0.1)
    assert found.half_width < 0.05


def test_a_bend_is_seen() -> None:
    """x^(1/2) + 20, a delay with a service time in it, is no power: the fit says so, and to which side it bends."""
    rng = np.random.default_rng(3)
    found = power_law("latency", SIZES, 20.0 + half_normal(0.5, 400, rng))
    assert not found.straight
    assert found.bend.low > 0
    assert "bends by +" in str(found)


@pytest.mark.parametrize(("sizes", "values", "what"), [
    ([1.0, 2.0], np.ones((2, 3)), "sizes"),
    ([1.0, 2.0, 2.0], np.ones((3, 3)), "sizes"),
    ([-1.0, 0.0, 2.0], np.ones((3, 3)), "sizes"),
    ([1.0, 2.0, 3.0], np.ones((3, 1)), "replications"),
    ([1.0, 2.0, 3.0], np.zeros((3, 4)), "positive on average"),
    ([1.0, 2.0, 3.0], np.ones((3, 4)), "that differ at every size"),
    ([1.0, 2.0, 3.0], np.full((3, 4), np.nan), "finite"),
])
def test_what_has_no_slope_is_refused(sizes: list[float], values: np.ndarray, what: str) -> None:
    """Too few points, too few replications, or a logarithm that does not exist."""
    with pytest.raises(InputError, match=what):
        power_law("gap", sizes, values)
