"""95% intervals of the coefficients that `fluid.calibration.regression` fits.

Which rows belong to which line is taken as given. With z_r = x_r / f_r and u_r = e_r / s the rows of a line have
sum psi(u_r) z_r = 0, so its b has the covariance V = s^2 A^-1 B A^-1 with

    A = mean(psi') Z'Z,    B = sum (psi(u_r) / (1 - h_r))^2 z_r z_r',    h_r the leverage (HC3).

The interval is b_j +- t se_j, se_j^2 = V_jj, cut at 0, with the se of the fit without b >= 0: where a sign binds, b is
nearer the truth than that fit and the interval covers the truth more often than 95%. The least overhead is a sign too:
where it binds, the interval reaches down to 0.

With several lines a row may pass from one to another as b moves. To first order that does not matter, for f is
continuous where two lines cross. It does where the rows that identify a coefficient lie at a crossing: the other line
fits them as well, and the coefficient may have any value that keeps its own line below. So each end v is held against
the profile of Huber's objective,

    Q(b) = sum over the rows kept of rho((y_r - max_i x_r b_i) / (f_r s))               f and s those of the fit
    z(v)^2 = 2 [min {Q(b): b_ij = v} - Q(fit)] s^2 [A^-1]_jj / V_jj

where the minimum is over the other coefficients, and rows may pass between lines. z is |v - b_ij| / se where no row
does, and less where some do. While z(v) < t the end moves out, by t / z, at most twice as far at a time; never inwards.
The minimum is local (steps (*) of `fluid.calibration.regression` from the fit, until Q falls by less than 0.001) and so
at least the true one: an end can stop too early, not too late. Which coefficients are estimated is taken from the fit.
Where noise decides whether a line has the rows to estimate one, the intervals given cover the truth less often than
95%; the share of all fits that give an interval without the truth stays near 5% (benchmarks/calibration.py).

Sources: Huber, Robust Statistics (1981), sections 7.6-7.8; MacKinnon, White (J. Econometrics 1985), HC3; Bates, Watts,
Nonlinear Regression Analysis (1988), chapter 6, the profile t; Kent (Biometrika 1982), its scale V_jj. See mathematics,
section 14.4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fluid.arrays import Floats, Ints
from fluid.calibration.regression import FEWEST, HUBER, MaxAffine, least_squares

UPPER_TAIL = 0.975  # of a two-sided interval of 95%
STEPS, FALL = 40, 1e-3  # in the search for a minimum of Q: the most steps, and the least fall that is worth another
WAYS = (1.0, 0.5, 0.25, 0.125)  # of a step towards its goal
MOVES, NEAR = 8, 1.05  # of an end: the most moves, and the least factor that is worth another
ROUNDING = 1e-9  # half a length below this share of the coefficient


class Spread(NamedTuple):
    """Of the coefficients estimated for a line: standard errors, their ratio to those of the profile, and t."""

    errors: Floats
    ratio: Floats
    quantile: float


@dataclass(frozen=True, eq=False)
class Profile:
    """Huber's objective Q around the fit `found`: the rows kept, Z, and their measurements, u, both divided by f s."""

    found: MaxAffine
    Z: Floats
    u: Floats

    @classmethod
    def around(cls, found: MaxAffine, rows: Floats, measured: Floats) -> Profile:
        """The profile of a fit to rows (n, p) and measurements (n,)."""
        unit = (found.fitted(rows) * found.scale)[found.kept]
        return cls(found, rows[found.kept] / unit[:, None], measured[found.kept] / unit)

    def rise(self, i: int, j: int, value: float) -> float:
        """min {Q(b): b_ij = value} - Q(fit), at least 0."""
        least = self._objective(self.found.lines)
        b = self._goal(self.found.lines, self.found.owner[self.found.kept], i, j, value)
        now = self._objective(b)
        for _ in range(STEPS):
            goal = self._goal(b, (self.Z @ b.T).argmax(axis=1), i, j, value)
            ways = (b + way * (goal - b) for way in WAYS)
            lower = next(((there, low) for there in ways if (low := self._objective(there)) < now - FALL), None)
            if lower is None:
                break
            b, now = lower
        return max(now - least, 0.0)

    def _objective(self, b: Floats) -> float:
        far = np.abs(self.u - (self.Z @ b.T).max(axis=1))
        near = np.minimum(far, HUBER)
        return float(near @ (far - near / 2.0))

    def _goal(self, b: Floats, owner: Ints, i: int, j: int, value: float) -> Floats:
        """The weighted least squares of each line over its rows, b_ij held fixed; a line with too few rows stays."""
        root = np.sqrt(HUBER / np.maximum(np.abs(self.u - (self.Z @ b.T).max(axis=1)), HUBER))
        goal = b.copy()
        for line, may in enumerate(self.found.estimated):
            mine, free, target = owner == line, may.copy(), self.u
            if line == i:
                free[j], target = False, self.u - value * self.Z[:, j]
            rows = self.Z[mine] * root[mine, None]
            if len(rows) >= FEWEST:
                goal[line], _ = least_squares(rows, (target * root)[mine], free)
        goal[i, j] = value
        return goal


def intervals(found: MaxAffine, rows: Floats, measured: Floats) -> Floats:
    """95% intervals of shape (k, p, 2); NaN for coefficients that are not estimated."""
    bounds = np.full((*found.lines.shape, 2), np.nan)
    profile = Profile.around(found, rows, measured) if len(found.lines) > 1 else None
    for i, (line, estimated) in enumerate(zip(found.lines, found.estimated, strict=True)):
        spread = _spread(found, rows, measured, i)
        half = spread.errors * spread.quantile
        bounds[i, estimated] = np.column_stack([np.maximum(line[estimated] - half, 0.0), line[estimated] + half])
        if line[0] <= found.least:
            bounds[i, 0, 0] = 0.0
        if profile:
            for j, ratio in zip(np.flatnonzero(estimated), spread.ratio, strict=True):
                bounds[i, j] = [_moved(profile, i, int(j), end, spread.quantile * ratio) for end in bounds[i, j]]
    return bounds


def _moved(profile: Profile, i: int, j: int, end: float, quantile: float) -> float:
    """An end of an interval, moved out while the profile has sqrt(2 rise) < quantile there."""
    middle = float(profile.found.lines[i, j])
    if abs(end - middle) <= ROUNDING * middle:
        return end
    for _ in range(MOVES):
        if end <= 0.0:
            break
        z = math.sqrt(2.0 * profile.rise(i, j, end))
        longer = min(max(quantile / max(z, quantile / 2.0), 1.0), 2.0)
        end = max(middle + longer * (end - middle), 0.0)
        if longer < NEAR:
            break
    return end


def _spread(found: MaxAffine, rows: Floats, measured: Floats, i: int) -> Spread:
    from scipy.special import stdtrit  # takes as long to load as all of fluid

    mine, estimated = found.kept & (found.owner == i), found.estimated[i]
    fitted = rows[mine] @ found.lines[i]
    errors, plain = _standard_errors(rows[np.ix_(mine, estimated)] / fitted[:, None], measured[mine] / fitted - 1.0,
                                     found.scale)
    quantile = float(stdtrit(max(mine.sum() - estimated.sum(), 1), UPPER_TAIL))
    return Spread(errors, errors / plain, quantile)


def _standard_errors(Z: Floats, residual: Floats, scale: float) -> tuple[Floats, Floats]:
    """sqrt V_jj and sqrt(s^2 [A^-1]_jj)."""
    length = np.linalg.norm(Z, axis=0)
    Q, R = np.linalg.qr(Z / length)
    leverage = np.minimum((Q**2).sum(axis=1), 0.99)  # a row that fits itself tells nothing of its error
    psi = np.clip(residual, -HUBER * scale, HUBER * scale) / (1.0 - leverage)
    slope = max(float(np.mean(np.abs(residual) <= HUBER * scale)), 1.0 / len(Z))
    part = np.linalg.solve(R, Q.T * psi) / slope
    plain: Floats = scale * np.linalg.norm(np.linalg.inv(R), axis=1) / np.sqrt(slope) / length
    errors: Floats = np.sqrt((part**2).sum(axis=1)) / length
    return errors, plain
