"""How irregular arrivals are: the variance of counts against their mean, and whether they may be Poisson.

Counts c_1..c_n of the arrivals in n consecutive windows of w seconds, with mean m, have the index of dispersion

    I(w) = sum (c_i - m)^2 / ((n - 1) m)        Poisson: 1;  even spacing: near 0;  batches of b, Poisson: b

Poisson counts have (n - 1) I(w) close to chi^2 with n - 1 degrees of freedom (Fisher). The p-value is that of the
two-sided test, twice the smaller tail, at the shortest window of 1, 2, 5, 10, ... (and 0.5, 0.2, ...) seconds in which
at least 5 arrivals are expected, where chi^2 is a close approximation. The test also detects rates that drift over
minutes, as there are many windows; burstiness that only longer windows show is in I(w).

Windows begin at the first arrival, which is not counted: what follows an arrival of a Poisson stream is Poisson again.
Only windows that end before the last arrival count, and at least 20. Times are often rounded, to seconds say; a window
is then a multiple of the rounding, and an arrival stays in its window, so counts are as before (all windows moved by
half a second if times were rounded to the nearest). Sources: Cox, Lewis, Statistical Analysis of Series of Events
(1966), sections 4.5 and 6.3; Fisher, Statistical Methods for Research Workers, section 16. See mathematics, section
12.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import chdtr, chdtrc

from fluid.arrays import Floats, Ints

LADDER = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)
TEST_LADDER = tuple(float(f"{digit}e{power}") for power in range(-3, 9) for digit in (1, 2, 5))
ROUNDINGS = (1.0, 0.1, 0.01, 0.001)
FEWEST_WINDOWS = 20
EARLY = 1e-3  # windows open by this share of their length early: a time at an edge stays on its side of it


class PoissonTest(NamedTuple):
    """Fisher's test: the `window` in seconds and the two-sided `p_value`."""

    window: float
    p_value: float


def dispersion(times: Floats) -> dict[float, float]:
    """Return I(w) by window w, of arrival times in seconds from the first: for 1, 10, 60, 600, 3600 s and others.

    A window is left out where less than one arrival is expected in it, where the trace is shorter than 20 such windows,
    and where times are rounded more coarsely than it is long.
    """
    return {window: _index(found) for window, found in _counted(times, LADDER, least=1.0)}


def poisson_test(times: Floats) -> PoissonTest | None:
    """Return Fisher's test of arrival times in seconds from the first; None where there are too few.

    >>> poisson_test(np.arange(1000.0)).p_value < 1e-6
    True
    """
    for window, found in _counted(times, TEST_LADDER, least=5.0):
        squares = (len(found) - 1) * _index(found)
        smaller = min(chdtr(len(found) - 1, squares), chdtrc(len(found) - 1, squares))
        return PoissonTest(window, min(1.0, 2 * float(smaller)))
    return None


def counts(times: Floats, window: float) -> Ints:
    """Return the number of arrivals in each whole window after the first arrival, which is not counted."""
    whole = _whole_windows(times, window)
    places = np.floor(times[1:] / window + EARLY)
    return np.bincount(places[places < whole].astype(np.int64), minlength=whole)


def _counted(times: Floats, windows: Sequence[float], least: float) -> Iterator[tuple[float, Ints]]:
    """The windows that are long enough, and not too long, with their counts."""
    rounding = _rounding(times)
    for window in windows:
        expected = (len(times) - 1) * window >= least * times[-1]
        if expected and window >= rounding and _whole_windows(times, window) >= FEWEST_WINDOWS:
            found = counts(times, window)
            if found.any():  # else all arrivals came at the very end
                yield window, found


def _index(found: Ints) -> float:
    return float(found.var(ddof=1) / found.mean())


def _whole_windows(times: Floats, window: float) -> int:
    return int(times[-1] / window + EARLY)


def _rounding(times: Floats) -> float:
    """The coarsest of 1, 0.1, ... seconds that divides all times; 0 if none does."""
    for step in ROUNDINGS:
        steps = times / step
        if np.all(np.abs(steps - np.round(steps)) < EARLY):
            return step
    return 0.0
