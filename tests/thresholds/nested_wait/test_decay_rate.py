"""theta(q, p): the positive root of ln(1 - p + p e^theta) = theta q, its bounds and its limits."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from fluid import InputError
from thresholds.nested_wait.decay_rate import roots, slopes, theta

SHARES = np.linspace(0.02, 0.98, 13)
PAIRS = [(q, p) for p in (1e-9, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.95, 1 - 1e-6) for q in p + (1 - p) * SHARES]


def exact(q: float, p: float) -> mpmath.mpf:
    """The root in 60 digits, by bisection between [A]'s bound and ln(1/p)/(1 - q)."""
    with mpmath.workdps(60):
        p, q = mpmath.mpf(p), mpmath.mpf(q)
        low, high = 8 * (q - p) * (1 - mpmath.mpf(10) ** -20), -mpmath.log(p) / (1 - q)
        for _ in range(160):
            middle = (low + high) / 2
            below = mpmath.log(1 - p + p * mpmath.exp(middle)) < middle * q
            low, high = (middle, high) if below else (low, middle)
        return low


@pytest.mark.parametrize(("q", "p"), PAIRS)
def test_the_root_satisfies_the_equation(q: float, p: float) -> None:
    """The residual, in 60 digits, is within rounding of theta q (a few ulps of each of its terms)."""
    root = theta(q, p)
    with mpmath.workdps(60):
        residual = mpmath.log(1 - mpmath.mpf(p) + mpmath.mpf(p) * mpmath.exp(root)) - root * mpmath.mpf(q)
    assert root > 0
    assert abs(residual) <= 1e-13 * root * q


@pytest.mark.parametrize(("q", "p"), PAIRS)
def test_the_bounds_of_the_paper_and_of_kearns_and_saul_hold(q: float, p: float) -> None:
    """8 (q - p) <= 4 (q - p) ln((1-p)/p)/(1 - 2p) <= theta <= ln(1/p)/(1 - q); at p = 1/2 the middle is 8 (q - p)."""
    factor = 8.0 if p == 0.5 else 4.0 * math.log((1 - p) / p) / (1 - 2 * p)
    kearns_saul = (q - p) * factor
    slack = 1 + 1e-12
    assert 8 * (q - p) <= kearns_saul * slack
    assert kearns_saul <= theta(q, p) * slack
    assert theta(q, p) <= -math.log(p) / (1 - q) * slack


@pytest.mark.parametrize("p", [1e-12, 0.01, 0.2, 0.4, 0.499])
def test_the_root_is_known_at_one_half(p: float) -> None:
    """q = 1/2: (1 - p + p e^t)^2 = e^t has the roots 1 and ((1 - p)/p)^2 in e^t, so theta = 2 ln((1 - p)/p)."""
    assert theta(0.5, p) == pytest.approx(2 * math.log((1 - p) / p), rel=1e-13)


@pytest.mark.parametrize("p", [1e-4, 0.3, 0.5, 0.9, 1 - 1e-5])
def test_near_p_the_root_vanishes_linearly(p: float) -> None:
    """K = p t + p (1-p) t^2/2 + O(t^3): theta ~ 2 (q - p)/(p (1 - p)), relatively to order (q - p)/(p (1 - p))."""
    distance = 1e-7 * p * (1 - p)
    q = p + distance
    assert theta(q, p) == pytest.approx(2 * (q - p) / (p * (1 - p)), rel=2e-7)


@pytest.mark.parametrize("p", [1e-4, 0.3, 0.5, 0.9, 0.999])
def test_near_one_the_root_grows_like_the_upper_bound(p: float) -> None:
    """theta (1 - q) = -ln(p + (1 - p) e^-theta) -> ln(1/p), the difference of order e^-theta/p."""
    q = 1 - 1e-6 * (1 - p)
    assert theta(q, p) * (1 - q) == pytest.approx(-math.log(p), rel=1e-9)


@pytest.mark.parametrize(("q", "p"), [(p + (1 - p) * x, p) for p in (1e-8, 0.25, 0.75, 1 - 1e-8)
                                      for x in (1e-9, 1e-6, 1e-3, 0.5, 1 - 1e-3, 1 - 1e-6)])
def test_the_root_is_accurate_up_to_both_ends(q: float, p: float) -> None:
    """Against bisection in 60 digits on the same floating-point q and p: 1e-12 relatively, however close to an end."""
    if p < q < 1:
        assert theta(q, p) == pytest.approx(float(exact(q, p)), rel=1e-12)


def test_outside_the_interval_there_is_no_root() -> None:
    """Without drift (q <= p) the queue grows: 0. With q >= 1 a move is never positive: infinity."""
    assert [theta(q, 0.3) for q in (0.0, 0.29, 0.3)] == [0.0] * 3
    assert [theta(q, 0.3) for q in (1.0, 1.5)] == [math.inf] * 2


@pytest.mark.parametrize(("q", "p", "field"), [
    (0.5, 0.0, "continuation"), (0.5, 1.0, "continuation"), (0.5, -0.1, "continuation"),
    (0.5, math.nan, "continuation"), (-0.1, 0.5, "ratio"), (math.inf, 0.5, "ratio"), (math.nan, 0.5, "ratio"),
    ("0.5", 0.5, "ratio"),
])
def test_unusable_arguments_are_refused_by_name(q: float, p: float, field: str) -> None:
    """p must lie in (0, 1), q be a finite number that is not negative."""
    with pytest.raises(InputError, match=f"^{field} must be"):
        theta(q, p)


def test_theta_increases_with_the_ratio_and_falls_with_the_continuation() -> None:
    """A larger share that leaves, or a smaller share that comes, makes long queues rarer."""
    p = np.linspace(0.05, 0.9, 18)
    q = np.linspace(0.1, 0.95, 18)
    table = roots(q[None, :], p[:, None])
    inside = np.isfinite(table) & (table > 0)
    assert np.all(np.diff(table, axis=1)[inside[:, 1:]] > 0)
    assert np.all(np.diff(table, axis=0)[inside[:-1]] < 0)


def test_arrays_give_the_same_bits_as_single_values() -> None:
    """`roots` broadcasts; what a pair gives does not depend on its neighbours."""
    rng = np.random.default_rng(1)
    q, p = rng.uniform(0.001, 1.1, 300), rng.uniform(0.001, 0.999, 300)
    np.testing.assert_array_equal(roots(q, p), [theta(*pair) for pair in zip(q, p, strict=True)])


def test_the_slopes_are_the_derivatives_of_the_inverse() -> None:
    """Central differences of 1/theta in ln q with step h are off by h^2 times the third derivative, here below 1e-5."""
    q, p, h = np.array([0.3, 0.5, 0.75, 0.9]), np.array([0.1, 0.35, 0.7, 0.6]), 1e-4
    inverse, slope, curve = slopes(q, p)
    up, down = 1 / roots(q * np.exp(h), p), 1 / roots(q * np.exp(-h), p)
    np.testing.assert_allclose((up - down) / (2 * h), slope, rtol=1e-4)
    np.testing.assert_allclose((up + down - 2 * inverse) / h**2, curve, rtol=1e-4)


@pytest.mark.parametrize(("share", "before", "after"), [(0.3, 10, 4), (0.6, 5, 4), (0.8, 20, 17)])
def test_long_queues_are_as_rare_as_theta_says(share: float, before: int, after: int) -> None:
    """The stationary law of Q' = (Q + Binomial(n', p) - n)^+ has P(Q >= x) <= e^(-theta x) (Kingman), and that rate.

    The law is iterated on 0..400 to convergence. As x grows P(Q >= x) e^(theta x) tends to a constant (Cramer and
    Lundberg), so successive tails fall by e^-theta.
    """
    pmf = np.array([math.comb(before, k) * share**k * (1 - share) ** (before - k) for k in range(before + 1)])
    law = np.zeros(401)
    law[0] = 1.0
    for _ in range(4000):
        moved = np.convolve(law, pmf)
        law = np.append(moved[: after + 1].sum(), moved[after + 1 : after + 401])
    tails = law[::-1].cumsum()[::-1]
    root = theta(after / before, share)
    x = np.arange(60)
    seen = tails[x] > 1e-9
    assert np.all(tails[x][seen] <= np.exp(-root * x[seen]) * (1 + 1e-9))
    last = np.flatnonzero(seen)[-1]
    assert tails[last] / tails[last - 1] == pytest.approx(math.exp(-root), rel=1e-3)
