r"""The transform of the entry queue by Spitzer's identity, and its inversion: no root is looked for, no product taken.

Q_K has the law of max(0, S_1, ..., S_K), S_m = Poisson(m a) - m n, whose step has psi(z) = z^{-n} e^{a (z - 1)}. So

    sum_K s^K E z^{Q_K} = exp( sum_{j >= 1} c_j(s) (z^j - 1) ) / (1 - s),   c_j(s) = [z^j] -log(1 - s psi(z))

because sum_m s^m P(S_m = j)/m = c_j. With z_k(s) the n roots of z^n = s e^{a (z - 1)} inside the disc, the logarithm
is that of prod_k (1 - z_k(s)/z), a series in 1/z, and that of a function without zeros in the disc, a series in z; the
latter is what the c_j, j >= 0, make. So the right side is the product of the roots, as its value 1/(1 - s) at z = 1
confirms, and at s -> 1, times 1 - s, gives the stationary law:

    prod_k (z - z_k(s))/(1 - z_k(s)) / (z^n - s e^{a (z - 1)}),
    E z^Q = (n - a)(z - 1)/(z^n - e^{a (z - 1)}) prod_{k=1}^{n-1} (z - z_k)/(1 - z_k)          a < n, z_0 = 1

The tests hold both against it. Here the c_j come from one FFT of the logarithm on a circle |z| = r, E z^Q from another:
no product of n factors cancels, and the cost does not grow with n.

**Circle.** r = max(1, n/a). For a < n this is the saddle of psi, |psi| <= e^{-I} on it, I = a - n - n ln(a/n), and the
probabilities come out as p_j r^j: small tails keep relative accuracy. N points alias coefficients that fall like
(r/z_+)^j and (z_-/r)^{-j}, z_+- = -(n/a) W_{-1,0}(-exp(-1 - (I - ln s)/n)) the roots of s psi = 1 next to the circle; N
makes both less than e^{-E}, E = 37.

**Inversion of s.** With s = e^{-p}, E z^{Q_K} = (1/2 pi i) int G e^{p K} dp over a path from -i pi to i pi that has the
singularities of G (the left side above) on its left: the pole 0, the cut p <= -I and, for a > n, the poles
p = a (z - 1) - n ln z of the circle, which lie left of p = i y - y^2/(4 I). The path is the parabola

    K p = sigma + i y - y^2/(4 kappa),    sigma = 8,    kappa = sigma for a <= n, sigma + K I for a > n

and the trapezoidal rule in y. The integrand is analytic for Im y < b, b - b^2/(4 kappa) = sigma: steps h <= 2 pi b/48
leave e^{-48}, the end at Re K p = -E leaves e^{-37}; rounding is magnified by e^sigma = 3,000. (The lattice-Poisson
formula of Abate and Whitt, Oper. Res. Letters 12, 1992, is this rule on a straight line; there an error e^{-A} costs
e^{A/2} in rounding, which leaves ten digits, and more points.) The parabola has to close before |Im p| = pi: K > 64.

Measured against the convolution of the recursion: 2e-13 in each probability. Sources: Spitzer, Trans. AMS 82, 1956;
Weideman and Trefethen, Math. Comp. 76, 2007 (parabolas). See mathematics, section 11.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft, ifft, next_fast_len
from scipy.special import lambertw

from fluid.arrays import Bools, Floats
from fluid.errors import InputError
from thresholds.delay.bulk_queue import tail_exponent

LOST = 37.0  # e^-37 = 9e-17 is left out, of every law and at every end
LEFT_OF_PATH = 8.0  # sigma
MOST_POINTS = 2**23

Complexes = NDArray[np.complex128]


def stationary_probabilities(n: int, a: float) -> Floats:
    """P(Q = j) for a < n, as far as P(Q > j) exceeds e^-37."""
    states = support(n, a)
    circle = _Circle.around(n, a, np.zeros(1, np.complex128), states)
    return circle.coefficients(circle.transform(0j), states)


def transient_probabilities(n: int, a: float, services: int) -> Floats:
    """P(Q_K = j) for more than 64 services, K I not much above 37 if a > n."""
    states = support(n, a, services)
    p, weight = _parabola(services, tail_exponent(n, a) if a > n else 0.0)
    circle = _Circle.around(n, a, p, states)
    total = np.zeros(len(circle.step), np.complex128)
    for each, w in zip(p, weight, strict=True):
        total += w / -np.expm1(-each) * circle.transform(each)
    return circle.coefficients(total, states)


def support(n: int, a: float, services: int | None = None) -> int:
    """The least count of states with P(Q_K >= count) <= e^-37: by Doob min_v exp(K ln psi(e^v) - v x), psi(e^v) >= 1.

    The minimum is at x = K (a e^v - n), K a (1 + (v - 1) e^v) = 37; where psi(e^v) < 1 the stationary e^{-v x} is left.
    """
    stationary = float(_next_roots(n, a, np.zeros(1))[1][0]) if a < n else 0.0
    v = max(0.0, 1 + float(lambertw((LOST / (services * a) - 1) / math.e).real)) if services else 0.0
    states = services * (a * math.exp(v) - n) if services and v >= stationary else LOST / stationary
    return _affordable(states + 1)


def _affordable(points: float) -> int:
    if points > MOST_POINTS:
        raise InputError("queue", f"short enough for a law on {MOST_POINTS:,} points", points)
    return math.ceil(points)


def _next_roots(n: int, a: float, p: Complexes | Floats) -> tuple[Floats, Floats]:
    """ln |z_-| and ln |z_+|, z = (n/a) e^v the roots of z^n = e^{a (z - 1) - p} on both sides of n/a, for Im p >= 0."""
    q = (p + tail_exponent(n, a)) / n
    saddle = math.log(n / a)
    return saddle + _side(q, -1).real, saddle + _side(q, 1).real


def _side(q: Complexes | Floats, side: int) -> Complexes:
    """The root of e^v - 1 - v = q with v near side sqrt(2 q): its series, polished by Newton, or Lambert's W."""
    t = side * np.sqrt(2 * q + 0j)
    v = np.where(abs(t) < 1, t - t**2 / 6 + t**3 / 36, -1 - q - lambertw(-np.exp(-1 - q), min(0, -side)))
    for _ in range(4):
        v = v - (np.expm1(v) - v - q) / np.expm1(v)
    root: Complexes = v
    return root


def _parabola(services: int, exponent: float) -> tuple[Complexes, Complexes]:
    """The points p of the upper half of the path, and weights whose real part sums both halves."""
    kappa = LEFT_OF_PATH + services * exponent
    strip = 2 * LEFT_OF_PATH / (1 + math.sqrt(1 - LEFT_OF_PATH / kappa))
    h = min(1.3, 2 * math.pi * strip / 48)
    y = np.arange(h / 2, math.sqrt(4 * kappa * (LEFT_OF_PATH + LOST)), h)
    path = LEFT_OF_PATH + 1j * y - y**2 / (4 * kappa)
    weight: Complexes = h / (math.pi * services) * (1 + 1j * y / (2 * kappa)) * np.exp(path)
    return np.asarray(path / services, np.complex128), weight


@dataclass(frozen=True, eq=False)
class _Circle:
    """The points of the circle |z| = e^log_radius: psi - 1 on them, and how many coefficients c_j are kept."""

    log_radius: float
    step: Complexes
    near: Bools
    ahead: int

    @classmethod
    def around(cls, n: int, a: float, p: Complexes, states: int) -> _Circle:
        inner, outer = _next_roots(n, a, p)
        log_r = max(0.0, math.log(n / a))
        ahead = max(states, LOST / float(np.min(outer) - log_r))
        behind = LOST / float(log_r - np.max(inner))
        points = next_fast_len(_affordable(ahead + behind) + 64)
        log_psi = _log_psi(n, a, points)
        return cls(log_r, np.expm1(log_psi), log_psi.real > -LOST, math.ceil(ahead))

    def transform(self, p: complex) -> Complexes:
        """exp(sum_j c_j (z^j - 1)) on the circle at s = e^-p."""
        logarithm = np.zeros(len(self.step), np.complex128)
        logarithm[self.near] = -np.log(-np.expm1(-p) - np.exp(-p) * self.step[self.near])
        c = fft(logarithm, norm="forward", overwrite_x=True)
        c[0] = 0
        c[self.ahead + 1 :] = 0
        at_one = c[: self.ahead + 1] @ self._shrinking(self.ahead + 1)
        transform: Complexes = np.exp(ifft(c, norm="forward", overwrite_x=True) - at_one)
        return transform

    def coefficients(self, transform: Complexes, states: int) -> Floats:
        """The first coefficients of a function on the circle, none below 0."""
        scaled = fft(transform, norm="forward")[:states].real
        coefficients: Floats = np.maximum(scaled * self._shrinking(states), 0.0)
        return coefficients

    def _shrinking(self, count: int) -> Floats:
        powers: Floats = np.exp(-self.log_radius * np.arange(count))
        return powers


def _log_psi(n: int, a: float, points: int) -> Complexes:
    """ln psi(r e^{i theta}) = ln psi(r) + a r (e^{i theta} - 1) - i n theta for theta in (-pi, pi]."""
    theta = 2 * np.pi / points * np.arange(points)
    theta[points // 2 + 1 :] -= 2 * np.pi
    slope = max(float(n), a)  # a r
    at_radius = -tail_exponent(n, a) if a < n else 0.0
    exponent: Complexes = (
        at_radius - 2 * slope * np.sin(theta / 2) ** 2 + 1j * (slope * (np.sin(theta) - theta) + (slope - n) * theta)
    )
    return exponent
