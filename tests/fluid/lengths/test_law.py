"""Laws of lengths are those of scipy, rounded and clipped; their numbers are the ones they were asked for."""

import math

import numpy as np
import pytest
from scipy import stats

from fluid import InputError, Lengths

Z95, Z99 = 1.6448536269514722, 2.3263478740408408


def scipy_law(law: stats.rv_continuous, least: int, most: int) -> np.ndarray:
    """P(k) for k = least..most by scipy's distribution function: rounded to the nearest, clipped."""
    edges = law.cdf(np.arange(least, most) + 0.5)
    return np.diff(np.concatenate([[0.0], edges, [1.0]]))


@pytest.mark.parametrize(("given", "mu", "sigma"), [
    ({"median": 900, "p95": 4000}, math.log(900), math.log(4000 / 900) / Z95),
    ({"median": 900, "p99": 4000}, math.log(900), math.log(4000 / 900) / Z99),
    ({"mean": 1500, "median": 900}, math.log(900), math.sqrt(2 * math.log(1500 / 900))),
    ({"mean": 300, "cv": 1.2}, math.log(300) - math.log(2.44) / 2, math.sqrt(math.log(2.44))),
    ({"p95": 3000, "cv": 0.5}, math.log(3000) - Z95 * math.sqrt(math.log(1.25)), math.sqrt(math.log(1.25))),
    ({"p95": 3000, "p99": 5000}, math.log(3000) - Z95 * math.log(5 / 3) / (Z99 - Z95), math.log(5 / 3) / (Z99 - Z95)),
])
def test_a_log_normal_law_is_scipys_rounded_and_clipped(given: dict[str, float], mu: float, sigma: float) -> None:
    """The probability of every whole number is the difference of scipy's distribution function at its edges."""
    found = Lengths.lognormal(**given, min=20, max=6000)
    expected = scipy_law(stats.lognorm(sigma, scale=math.exp(mu)), 20, 6000)
    everywhere = np.zeros(5981)
    everywhere[found.tokens - 20] = found.probabilities
    np.testing.assert_allclose(everywhere, expected, rtol=0, atol=1e-14)
    assert found.stated_mean == pytest.approx(math.exp(mu + sigma**2 / 2), rel=1e-12)


@pytest.mark.parametrize(("name", "z", "quantile"), [("p95", Z95, 4000.0), ("p99", Z99, 9000.0)])
def test_a_mean_and_a_quantile_are_those_of_the_law(name: str, z: float, quantile: float) -> None:
    """scipy's law with the mu and sigma that were found has the mean and the quantile, and is the one spread less."""
    found = Lengths.lognormal(mean=1500.0, **{name: quantile}, max=2**20 - 1)
    sigma = z - math.sqrt(z**2 - 2 * math.log(quantile / 1500))
    law = stats.lognorm(sigma, scale=1500 * math.exp(-(sigma**2) / 2))
    assert law.mean() == pytest.approx(1500.0)
    assert law.cdf(quantile) == pytest.approx(0.95 if name == "p95" else 0.99)
    assert found.mean == pytest.approx(1500.0, rel=1e-4)  # rounding to the nearest, hardly anything clipped
    assert abs(found.quantile(float(law.cdf(quantile))) - quantile) <= 1


def test_clipping_takes_from_the_mean_what_lies_beyond() -> None:
    """E min(X, b) of a log-normal law, in closed form: E X Phi(d - sigma) + b (1 - Phi(d)), d = (ln b - mu)/sigma."""
    mu, sigma, most = math.log(1000), 0.8, 3000
    found = Lengths.lognormal(median=1000, p95=1000 * math.exp(Z95 * sigma), max=most)
    d = (math.log(most) - mu) / sigma
    expected = math.exp(mu + sigma**2 / 2) * stats.norm.cdf(d - sigma) + most * stats.norm.sf(d)
    assert found.mean == pytest.approx(expected, abs=0.01)  # rounding to the nearest moves it by far less than a token
    assert found.clipped == pytest.approx(stats.norm.sf((math.log(most + 0.5) - mu) / sigma))


@pytest.mark.parametrize(("mean", "most"), [(300.0, None), (300.0, 500), (1.5, 40), (1.0, None)])
def test_a_geometric_law_is_scipys_and_its_mean_is_known(mean: float, most: int | None) -> None:
    """P(k) = (1 - 1/m)^(k-1)/m below the limit; E min(X, b) = m (1 - (1 - 1/m)^b)."""
    found = Lengths.geometric(mean=mean, max=most)
    inner = found.tokens[:-1]
    np.testing.assert_allclose(found.probabilities[:-1], stats.geom(1 / mean).pmf(inner), rtol=1e-9, atol=1e-15)
    last = int(found.tokens[-1])
    assert found.mean == pytest.approx(mean * (1 - (1 - 1 / mean) ** last), rel=1e-12)


def test_a_uniform_law_and_a_fixed_length_have_the_moments_of_their_names() -> None:
    """Mean (a + b)/2 and variance ((b - a + 1)^2 - 1)/12; one length and no variance."""
    uniform, fixed = Lengths.uniform(100, 300), Lengths.fixed(512)
    assert uniform.mean == pytest.approx(200)
    assert uniform.variance == pytest.approx((201**2 - 1) / 12)
    assert (fixed.mean, fixed.variance, fixed.quantile(0.99)) == (512.0, 0.0, 512)


@pytest.mark.parametrize("law", [
    Lengths.lognormal(mean=700, p95=2000), Lengths.lognormal(median=5, cv=3.0, max=100), Lengths.geometric(mean=30),
    Lengths.uniform(7, 7), Lengths.lognormal(mean=0.2, cv=1.0, min=3, max=9), Lengths.geometric(mean=4, min=6)])
def test_probabilities_are_those_of_a_law(law: Lengths) -> None:
    """They are nonnegative, sum to 1, and lie on whole tokens from the least on."""
    assert law.probabilities.min() > 0
    assert law.probabilities.sum() == pytest.approx(1.0, abs=1e-12)
    assert law.tokens.min() >= 1
    assert (np.diff(law.tokens) > 0).all()


@pytest.mark.parametrize("cv", [0.0, 1e-12, 1e-5])
def test_a_law_without_spread_is_a_fixed_length(cv: float) -> None:
    """As sigma goes to 0 a law becomes its mean."""
    law = Lengths.lognormal(mean=1500, cv=cv, max=9000)
    assert law.tokens.tolist() == [1500]
    assert law.probabilities.tolist() == [1.0]


@pytest.mark.parametrize(("make", "field", "found"), [
    (lambda: Lengths.lognormal(mean=1500), "lognormal", "two of"),
    (lambda: Lengths.lognormal(mean=1500, p95=4000, cv=1), "lognormal", "two of"),
    (lambda: Lengths.lognormal(mean=1500, p95=1400), "p95", "the mean"),
    (lambda: Lengths.lognormal(mean=1500, p95=6000), "p95", "to 5802.2:"),  # 1500 e^(1.64485^2/2)
    (lambda: Lengths.lognormal(mean=1500, median=1600), "mean", "at least 1600, the median"),
    (lambda: Lengths.lognormal(median=1500, p99=1600, max=0), "max", "whole number"),
    (lambda: Lengths.lognormal(median=1000, cv=50.0), "max", "without one this law goes beyond 1,048,576"),
    (lambda: Lengths.geometric(mean=0.5), "mean", "at least 1 token"),
    (lambda: Lengths.uniform(9, 8), "max", "from 9"),
    (lambda: Lengths(np.array([2, 1]), np.array([0.5, 0.5])), "tokens", "ascending"),
    (lambda: Lengths(np.array([1, 2]), np.array([0.5, 0.6])), "probabilities", "1 together"),
])
def test_what_no_law_has_is_refused(make: object, field: str, found: str) -> None:
    """The error names the number, and what it must be."""
    with pytest.raises(InputError, match=found) as caught:
        make()  # type: ignore[operator]
    assert caught.value.field == field
