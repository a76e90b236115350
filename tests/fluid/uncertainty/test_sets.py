"""Worst cases over sets: points that attain them, bounds that prove them, another solver's answers."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest

from fluid.errors import InputError
from fluid.uncertainty import Bootstrap, Box, ChiSquareBall, Ellipsoid


def drawn(seed: int, size: int = 6) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    """A generator, positive numbers, and a slope of both signs."""
    generator = np.random.default_rng(seed)
    return generator, generator.uniform(0.2, 2.0, size), generator.normal(size=size)


def ball_by_solver(shares: np.ndarray, radius: float, slope: np.ndarray) -> float:
    """max h.q over the chi-square ball, by a conic solver."""
    q = cp.Variable(shares.size, nonneg=True)
    distance = cp.sum_squares(cp.multiply(q - shares, 1 / np.sqrt(shares)))
    problem = cp.Problem(cp.Maximize(slope @ q), [cp.sum(q) == 1, distance <= radius])
    return float(problem.solve(solver=cp.CLARABEL))


@pytest.mark.parametrize("seed", range(5))
def test_a_box_is_worst_at_a_corner_that_no_other_corner_beats(seed: int) -> None:
    """The point lies in the box, its value is the dual bound, and all 64 corners have at most that."""
    _, centre, slope = drawn(seed)
    box = Box.around(centre, 0.3)
    found = box.worst(slope)
    corners = np.array(np.meshgrid(*zip(box.low, box.high, strict=True))).reshape(6, -1)
    assert np.all((found.point >= box.low) & (found.point <= box.high))
    assert found.value == pytest.approx(found.bound, rel=1e-12) == pytest.approx((slope @ corners).max(), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_an_ellipsoid_is_worst_on_its_surface_and_no_drawn_point_is_worse(seed: int) -> None:
    """The point has the distance of the radius, its value is the bound, random points of the surface have less."""
    generator, centre, slope = drawn(seed)
    root = generator.normal(size=(6, 6))
    ellipsoid = Ellipsoid(centre, root @ root.T, 1.7)
    found = ellipsoid.worst(slope)
    away = found.point - centre
    assert away @ np.linalg.solve(root @ root.T, away) == pytest.approx(1.7**2)
    assert found.value == pytest.approx(found.bound, rel=1e-12)
    directions = generator.normal(size=(2000, 6))
    surface = centre + 1.7 * (directions / np.linalg.norm(directions, axis=1, keepdims=True)) @ root.T
    assert (surface @ slope).max() <= found.value * (1 + 1e-9) + 1e-9


def test_a_diagonal_ellipsoid_is_the_one_with_that_matrix() -> None:
    """Variances and the diagonal matrix of them give the same."""
    _, centre, slope = drawn(3)
    one, other = (Ellipsoid(centre, each, 2.0).worst(slope) for each in (centre**2, np.diag(centre**2)))
    assert one.value == pytest.approx(other.value, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("radius", [1e-4, 0.05, 0.6, 3.0, 40.0])
def test_a_chi_square_ball_is_worst_where_another_solver_finds_it(seed: int, radius: float) -> None:
    """The point is a mix in the ball, its value is the dual bound, and both are the conic program's optimum."""
    _, shares, slope = drawn(seed)
    ball = ChiSquareBall(shares, radius)
    found = ball.worst(slope)
    assert found.point.sum() == pytest.approx(1.0)
    assert found.point.min() >= 0
    assert np.sum((found.point - ball.shares) ** 2 / ball.shares) <= radius * (1 + 1e-6)
    assert found.value == pytest.approx(found.bound, rel=1e-9, abs=1e-9)
    assert found.value == pytest.approx(ball_by_solver(ball.shares, radius, slope), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_a_small_ball_is_mean_and_deviation(seed: int) -> None:
    """While all shares stay positive the worst case is mean + sqrt(rho variance)."""
    _, shares, slope = drawn(seed)
    ball = ChiSquareBall(shares, 1e-3, rate=7.0)
    mean = ball.shares @ slope
    deviation = np.sqrt(ball.shares @ (slope - mean) ** 2)
    assert ball.worst(slope).value == pytest.approx(7 * (mean + np.sqrt(1e-3) * deviation), rel=1e-9)


def test_sets_of_no_width_are_their_centre() -> None:
    """A box within 0, an ellipsoid and a ball of radius 0 leave one point, and its value is the nominal one."""
    _, centre, slope = drawn(1)
    assert Box.around(centre, 0.0).worst(slope).value == pytest.approx(slope @ centre)
    assert Ellipsoid(centre, np.ones(6), 0.0).worst(slope).value == pytest.approx(slope @ centre)
    ball = ChiSquareBall(centre, 0.0, rate=float(centre.sum()))
    assert ball.worst(slope).value == pytest.approx(slope @ centre)
    assert ball.worst(slope).bound == pytest.approx(slope @ centre)


def test_larger_sets_are_worse() -> None:
    """The worst case grows with the width, the radius and the confidence."""
    _, centre, slope = drawn(2)
    positive = np.abs(slope)
    widths = [Box.around(centre, each).worst(positive).value for each in (0.0, 0.1, 0.2)]
    radii = [ChiSquareBall(centre, each).worst(positive).value for each in (0.0, 0.1, 1.0, 10.0)]
    types = np.random.default_rng(0).integers(0, 6, 500)
    quantiles = [Bootstrap(types, confidence=each).worst(positive).value for each in (0.6, 0.9, 0.99)]
    for values in (widths, radii, quantiles):
        assert values == sorted(values)


def test_the_bootstrap_point_is_a_mix_that_has_its_value() -> None:
    """The draw with the quantile has rates of the whole, and h . rates is the quantile."""
    types, slope = np.random.default_rng(0).integers(0, 4, 999), np.array([1.0, 5.0, 2.0, 0.0])
    found = Bootstrap(types, rate=12.0, block=10).worst(slope)
    assert found.point.sum() == pytest.approx(12.0)
    assert found.value == pytest.approx(found.bound, rel=1e-12)


def test_the_bootstrap_is_wider_where_neighbours_are_alike() -> None:
    """Requests in runs of 50 of a type leave its share less certain than the same requests shuffled."""
    runs = np.repeat(np.random.default_rng(1).integers(0, 2, 200), 50)
    shuffled = np.random.default_rng(2).permutation(runs)
    wide, narrow = (Bootstrap(each, block=100).worst([0.0, 1.0]).value for each in (runs, shuffled))
    assert wide > narrow > runs.mean()


@pytest.mark.parametrize("wrong", [
    lambda: Box([1.0], [0.5]), lambda: Box([1.0], [1.0, 2.0]), lambda: Box([np.nan], [1.0]),
    lambda: Ellipsoid([1.0, 1.0], [[1.0, 2.0], [2.0, 1.0]], 1.0), lambda: Ellipsoid([1.0], [1.0], -1.0),
    lambda: Ellipsoid([1.0], [1.0, 1.0], 1.0), lambda: ChiSquareBall([1.0, 0.0], 0.1),
    lambda: ChiSquareBall.of_counts([5, 5], confidence=0.2), lambda: Bootstrap([1]), lambda: Bootstrap([0.5, 1.0]),
    lambda: Bootstrap([0, 1], confidence=1.5), lambda: Bootstrap([0, 3]).worst([1.0]),
])
def test_what_is_no_set_is_refused(wrong: object) -> None:
    """Empty intervals, matrices that are no covariance, shares of 0, too few requests: one sentence each."""
    with pytest.raises(InputError, match="must be"):
        wrong()  # type: ignore[operator]
