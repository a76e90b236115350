"""How many lines an iteration time has: as many as forecast batches better that the fit has not seen.

More lines always fit closer, and may forecast worse: a second line through the few longest prefills sets what a loaded
server sustains. So each number of lines is judged on held-out rows. The distinct batches, in the order of their counts,
are dealt into 5 parts (all measurements of one batch into the same), each part is forecast by a fit to the other four,
and a row's error is

    h_r = min(|y_r / f_r - 1|, 5 s)          f_r of the fit without r's part, s of one line fitted to all rows

A fit to four parts starts from the partition of the fit to all. The mean of h in each region that has rows
(`fluid.calibration.regions`) counts alike, whatever its number of rows: H = mean over regions of mean_r h_r. Of two
numbers of lines the larger is chosen where

    H falls by more than 2 standard errors of the fall, and in no region h grows by both more than 2 standard errors
    and a tenth

with standard errors from the differences of the two h at the same rows, sqrt(sum_regions var_region / n_region) over
the number of regions. Source: Hastie, Tibshirani, Friedman, The Elements of Statistical Learning (2009), section 7.10.
See mathematics, section 14.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fluid.arrays import Floats, Ints
from fluid.calibration.regions import REGIONS
from fluid.calibration.regression import FEWEST, SIGMAS, MaxAffine, TooFewRowsError, fit, fit_largest, fitted_from

PARTS = 5
SURE = 2.0  # standard errors
WORSE = 0.1  # of a region's error


class HeldOut(NamedTuple):
    """The error on held-out rows of so many lines: H, and the mean of h in each region that has rows."""

    pieces: int
    error: float
    regions: dict[str, float]


@dataclass(frozen=True, eq=False)
class Choice:
    """The fit chosen, that of one line, and the held-out errors of the numbers of lines tried, if more than one."""

    found: MaxAffine
    one: MaxAffine
    held_out: tuple[HeldOut, ...] = ()


def choose(rows: Floats, measured: Floats, region: Ints, most: int) -> Choice:
    """The fit of 1 to `most` lines to rows (n, p) and measurements (n,) that forecasts held-out rows best.

    >>> x = np.repeat(np.arange(1.0, 41.0), 2)
    >>> rows, y = np.column_stack([np.ones(80), x]), np.maximum(30.0, 10.0 + 2.0 * x)
    >>> choice = choose(rows, y, np.zeros(80, int), 2)
    >>> len(choice.found.lines), [each.pieces for each in choice.held_out]
    (2, [1, 2])
    """
    one = found = fit(rows, measured)
    if most == 1:
        return Choice(one, one)
    cap, parts = SIGMAS * one.scale, _parts(rows)
    best = np.minimum(_forecast_errors(one, rows, measured, parts), cap)
    tried = [_summary(1, best, region)]
    for lines in range(2, most + 1):
        several = fit_largest(rows, measured, lines)
        if several is None:
            break
        errors = np.minimum(_forecast_errors(several, rows, measured, parts), cap)
        tried.append(_summary(lines, errors, region))
        if _better(errors, best, region):
            found, best = several, errors
    return Choice(found, one, tuple(tried))


def _parts(rows: Floats) -> Ints:
    parts: Ints = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1) % PARTS
    return parts


def _forecast_errors(found: MaxAffine, rows: Floats, measured: Floats, parts: Ints) -> Floats:
    """|y / f - 1| of every row by the fit without its part; infinite where the others do not carry such a fit."""
    errors = np.full(measured.size, np.inf)
    for part in range(PARTS):
        held, others = parts == part, parts != part
        if others.sum() < FEWEST:
            continue
        try:
            refitted = fitted_from(rows[others], measured[others], found.owner[others], len(found.lines))
        except TooFewRowsError:
            continue
        errors[held] = np.abs(measured[held] / refitted.fitted(rows[held]) - 1.0)
    return errors


def _summary(lines: int, errors: Floats, region: Ints) -> HeldOut:
    means = {REGIONS[i]: float(errors[region == i].mean()) for i in np.unique(region)}
    return HeldOut(lines, sum(means.values()) / len(means), means)


def _better(errors: Floats, best: Floats, region: Ints) -> bool:
    """Whether the first errors are lower, for certain, and not higher in some region by more than a tenth."""
    falls, variance = [], 0.0
    for i in np.unique(region):
        fall = (best - errors)[region == i]
        spread = float(fall.var()) / fall.size
        falls.append(float(fall.mean()))
        variance += spread
        if -falls[-1] > max(SURE * math.sqrt(spread), WORSE * float(best[region == i].mean())):
            return False
    return sum(falls) > SURE * math.sqrt(variance)
