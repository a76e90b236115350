"""The iteration time of a replica from measured batches.

    seconds ~ max_i [ d0_i + d1_i KV + d2_i prefill + d3_i size ]        d0_i > 0, the others >= 0

fitted to relative errors, robustly, by `fluid.calibration.regression`: slow iterations (another process, a garbage
collection, a compilation) are set aside as outliers and listed. A coefficient that the rows do not tell from those
before it, in the order overhead, prefill, KV, size, is fixed at 0, without an interval, and a note says so. Intervals:
`fluid.calibration.coefficient_intervals`.

Several lines are given where they forecast held-out batches better (`fluid.calibration.held_out`), errors by region of
batches (`fluid.calibration.regions`). A fit that describes all rows, those set aside among them, worse than a constant,

    mean |ln(seconds / fitted)| > 1.1 mean |ln(seconds / median seconds)|

is refused: the rows of two settings of an engine, say, of which it fits one. Source: mathematics, section 14.4.
"""

from __future__ import annotations

import math

import numpy as np

from fluid.arrays import Floats
from fluid.calibration.batches import Batches
from fluid.calibration.calibration import Calibration, LineIntervals
from fluid.calibration.coefficient_intervals import intervals
from fluid.calibration.held_out import choose
from fluid.calibration.notes import notes_on
from fluid.calibration.regions import regions_of
from fluid.calibration.regression import FEWEST, FINEST, fit, fit_largest
from fluid.errors import InputError, one_line, whole
from fluid.replica import IterationTime

MOST_PIECES = 8
WORSE, AS_GOOD = 1.1, 0.95  # times the mean error of a constant
VARIES = 0.05  # the mean error of a constant, above which times vary by more than measurements do
BETTER = 0.9  # of the mean error of one line: what two must be below to be worth it in `lines_through`
REGRESSION_ORDER = np.array([0, 2, 1, 3])  # of the coefficients of a Line: overhead, prefill, KV, size; its own inverse


def calibrate(batches: Batches, pieces: int = 1) -> Calibration:
    """Fit the iteration time to measured batches, as the largest of at most `pieces` lines.

    Fewer lines are given, and a note says so, where more do not forecast held-out rows better or no partition of the
    rows leaves 8 for each. Raises InputError for fewer than 8 different rows a line (copies of one say nothing of the
    noise), and where a constant fits better.

    >>> sizes = [1, 2, 4, 8, 16, 32, 64, 96, 128, 160]
    >>> measured = Batches.from_arrays(sizes, [500 * n for n in sizes], [0.01 + 2e-4 * n for n in sizes])
    >>> line, = calibrate(measured).pieces
    >>> round(line.overhead, 9), round(line.per_kv_token, 12)
    (0.01, 4e-07)
    """
    pieces = whole("pieces", pieces, unit="lines", most=MOST_PIECES)
    fewest = FEWEST * pieces
    if len(batches) < fewest:
        raise InputError("batches", f"at least {fewest} rows, {FEWEST} for each line", len(batches), _where(batches))
    rows = _design_matrix(batches)
    if (different := _different(rows, batches.seconds, fewest)) < fewest:
        raise InputError("batches", f"at least {fewest} different rows, {FEWEST} for each line", different,
                         _where(batches))
    choice = choose(rows, batches.seconds, regions_of(batches), pieces)
    found = choice.found
    fitted = found.fitted(rows)
    beside_constant = _beside_a_constant(batches, fitted)
    order = np.ix_(np.lexsort(-found.lines.T[::-1]), REGRESSION_ORDER)
    lines, bounds = found.lines[order], intervals(found, rows, batches.seconds)[order]
    notes = [*notes_on(batches, choice, fitted, lines, found.estimated[order], pieces), *beside_constant]
    one = _iteration_time(choice.one.lines[:, REGRESSION_ORDER]) if len(lines) > 1 else None
    return Calibration(batches, _iteration_time(lines), tuple(map(_line_intervals, bounds)), found.kept, found.scale,
                       tuple(dict.fromkeys(notes)), choice.held_out, one)


def _different(rows: Floats, seconds: Floats, enough: int) -> int:
    """How many of the rows differ, in what they hold or in their seconds; `enough` or more where there are so many."""
    for some in (64 * enough, len(rows)):  # most files need not be sorted as a whole
        found = len(np.unique(np.column_stack([rows[:some], seconds[:some]]), axis=0))
        if found >= enough:
            break
    return found


def lines_through(batches: Batches) -> tuple[IterationTime, float]:
    """One line, or the larger of two where that lowers the mean error by a tenth, and the mean relative error.

    For batches without noise, such as tables: without intervals, outliers are not set aside in the error.

    >>> sizes = [1, 2, 4, 8, 16, 32, 64, 96, 128, 160]
    >>> rows = Batches.from_arrays(sizes, [500 * n for n in sizes], [0.01 + 2e-4 * n for n in sizes])
    >>> round(lines_through(rows)[0].pieces[0].overhead, 9)
    0.01
    """
    rows, seconds = _design_matrix(batches), batches.seconds
    one, two = fit(rows, seconds), fit_largest(rows, seconds, 2)
    errors = [float(np.abs(each.fitted(rows) / seconds - 1).mean()) for each in (one, two) if each is not None]
    chosen = 1 if two is not None and errors[1] < BETTER * errors[0] else 0
    found = two if two is not None and chosen else one
    return _iteration_time(found.lines[:, REGRESSION_ORDER]), errors[chosen]


def _beside_a_constant(batches: Batches, fitted: Floats) -> tuple[str, ...]:
    """A note where a constant fits as well; raises InputError where it fits better."""
    of_fit, of_constant = (float(np.abs(np.log(batches.seconds / each)).mean())
                           for each in (fitted, np.median(batches.seconds)))
    if of_fit > WORSE * of_constant + FINEST:
        raise InputError("the fit", f"no worse than a constant, {100 * math.expm1(of_constant):.3g}% off in the mean: "
                         "do the batches come from one setting of one engine?",
                         f"{100 * math.expm1(of_fit):.3g}%", _where(batches))
    follow = of_fit < AS_GOOD * of_constant or of_constant < VARIES
    return () if follow else ("the times of these batches follow none of their counts: a constant fits them as well",)


def _where(batches: Batches) -> str:
    return one_line(batches.source)


def _design_matrix(batches: Batches) -> Floats:
    features = (np.ones(len(batches)), batches.kv_read, batches.prefill_tokens, batches.sequences)
    return np.column_stack([features[i] for i in REGRESSION_ORDER])


def _iteration_time(lines: Floats) -> IterationTime:
    return IterationTime.largest(*(IterationTime(*map(float, line)) for line in lines))


def _line_intervals(bounds: Floats) -> LineIntervals:
    return LineIntervals(*(None if math.isnan(low) else (float(low), float(high)) for low, high in bounds))
