"""Names beside lines: they never touch, keep their order, and move no further than they must."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.optimize import minimize
from strategies import sampled

from fluidwait.figures.labels import name_lines, spread


@sampled
@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(0.5, 9.0)), max_size=12))
def test_boxes_do_not_overlap_and_keep_their_order(boxes: list[tuple[float, float]]) -> None:
    """Neighbours are half their heights apart at least; who stands alone does not move."""
    places, heights = np.array([place for place, _ in boxes]), np.array([height for _, height in boxes])
    moved = spread(places.tolist(), heights.tolist())
    order = np.argsort(places, kind="stable")
    apart = (heights[order][1:] + heights[order][:-1]) / 2
    assert np.all(np.diff(moved[order]) >= apart - 1e-9)
    if len(boxes) and np.all(np.diff(places[order]) > apart):
        assert moved == pytest.approx(places)


def test_the_moves_are_the_least() -> None:
    """The same as a quadratic program with the gaps as constraints."""
    places, heights = [0.0, 0.4, 0.5, 3.0, 3.1], [1.0, 2.0, 1.0, 1.0, 1.0]
    apart = (np.array(heights[1:]) + heights[:-1]) / 2
    best = minimize(lambda x: np.square(x - places).sum(), np.arange(5.0) * 2, method="SLSQP", tol=1e-12,
                    constraints={"type": "ineq", "fun": lambda x: np.diff(x) - apart})
    assert spread(places, heights) == pytest.approx(best.x, abs=1e-5)


def test_lines_are_named_at_their_visible_ends() -> None:
    """A line with a label inside the axes gets its name; one without a label, or outside, none."""
    axes = Figure().subplots()
    axes.plot([0, 1], [0, 1], label="rises")
    axes.plot([0, 1], [1, 1.05], label="high\ntwo lines")
    axes.plot([0, 1], [0.5, 0.5])
    axes.plot([5, 6], [0, 1], label="elsewhere")
    axes.set(xlim=(0, 1), ylim=(0, 1.2))
    name_lines(axes)
    assert {text.get_text() for text in axes.texts} == {"rises", "high\ntwo lines"}
