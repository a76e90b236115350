"""The iteration time of a replica from measured batches.

    seconds ~ max_i [ d0_i + d1_i KV + d2_i prefill + d3_i size ]        d0_i > 0, the others >= 0

fitted to relative errors, robustly, by `fluid.calibration.regression`: slow iterations (another process, a garbage
collection, a compilation) are set aside as outliers and listed. A coefficient that the rows do not tell from those
before it, in the order overhead, prefill, KV, size, is fixed at 0, without an interval, and a note says so. Intervals:
`fluid.calibration.coefficient_intervals`.

    mape    mean |seconds - fitted| / seconds                                    over the rows kept
    r2      1 - sum (seconds - fitted)^2 / sum (seconds - mean seconds)^2        over the rows kept

Several lines are worth their additional coefficients when they lower the mean error: the note "one line is as good" is
given where 2 n ln(error of one / error of several) < (additional coefficients) ln n, the Bayesian information criterion
for errors with a Laplace distribution. A fit says nothing beyond the batches it saw: `outside` and `warnings_for` say
where a batch, or the mean batch of an equilibrium, leaves their range. Source: model.md sections 1 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Bools, Floats
from fluid.calibration.batches import Batches
from fluid.calibration.coefficient_intervals import intervals
from fluid.calibration.regression import FEWEST, MaxAffine, fit, fit_largest, mean_error
from fluid.equilibrium import Equilibrium
from fluid.errors import InputError, one_line, whole
from fluid.replica import IterationTime, Line

MOST_PIECES = 8
WORST = 5
MANY_OUTLIERS = 0.1  # of the rows: more than a few slow iterations
REGRESSION_ORDER = (0, 2, 1, 3)  # of the coefficients of a Line: overhead, prefill, KV, size; its own inverse
FEATURES = ("", "KV tokens", "prompt tokens", "sequences")

Bounds = tuple[float, float]  # lower, upper


class LineIntervals(NamedTuple):
    """95% intervals of the coefficients of a line; None for a coefficient that is not estimated."""

    overhead: Bounds | None
    per_kv_token: Bounds | None
    per_prefill_token: Bounds | None
    per_sequence: Bounds | None


class Covered(NamedTuple):
    """The ranges that the batches kept cover: KV tokens read, prompt tokens, sequences, seconds."""

    kv: Bounds
    prefill: Bounds
    size: Bounds
    seconds: Bounds


class FittedBatch(NamedTuple):
    """A measured batch, its fitted seconds and the relative error, measured / fitted - 1."""

    line: int
    kv: float
    prefill: float
    size: float
    measured: float
    fitted: float
    error: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """An iteration time fitted to `batches`; made by `calibrate`.

    `intervals` are the 95% intervals, one LineIntervals per piece; `kept` says of each batch whether it was used;
    `scale` is the robust standard deviation of the relative error; `notes` are sentences on what to beware
    of.
    """

    batches: Batches
    iteration_time: IterationTime
    intervals: tuple[LineIntervals, ...]
    kept: Bools
    scale: float
    notes: tuple[str, ...]

    @property
    def pieces(self) -> tuple[Line, ...]:
        """The lines, the one with the largest overhead first."""
        return self.iteration_time.pieces

    @property
    def rows(self) -> int:
        """The number of usable rows, including those set aside."""
        return len(self.batches)

    @property
    def outliers(self) -> int:
        """The number of rows set aside."""
        return int((~self.kept).sum())

    @cached_property
    def fitted(self) -> Floats:
        """The fitted seconds of every batch, shape (n,)."""
        return self.predict(self.batches.kv_read, self.batches.prefill_tokens, self.batches.sequences)

    @cached_property
    def mape(self) -> float:
        """Mean |seconds - fitted| / seconds over the rows kept."""
        return float(np.abs(1.0 - self.fitted / self.batches.seconds)[self.kept].mean())

    @cached_property
    def r2(self) -> float:
        """The share of the variance of seconds that the fit explains, over the rows kept; 1 where none varies."""
        seconds, fitted = self.batches.seconds[self.kept], self.fitted[self.kept]
        varies = float(((seconds - seconds.mean()) ** 2).sum())
        return 1.0 - float(((seconds - fitted) ** 2).sum()) / varies if varies else 1.0

    @cached_property
    def outlier_rows(self) -> tuple[FittedBatch, ...]:
        """The rows set aside, in file order."""
        return tuple(map(self._batch, np.flatnonzero(~self.kept)))

    @cached_property
    def worst(self) -> tuple[FittedBatch, ...]:
        """The five rows kept with the largest relative errors, the largest first."""
        error = np.where(self.kept, np.abs(self.batches.seconds / self.fitted - 1.0), -1.0)
        return tuple(self._batch(row) for row in np.argsort(-error, kind="stable")[:WORST] if self.kept[row])

    @cached_property
    def covered(self) -> Covered:
        """The ranges that the rows kept cover."""
        batches = self.batches
        columns = (batches.kv_read, batches.prefill_tokens, batches.sequences, batches.seconds)
        return Covered(*((float(each[self.kept].min()), float(each[self.kept].max())) for each in columns))

    def predict(self, kv: ArrayLike, prefill: ArrayLike = 0.0, size: ArrayLike = 0.0) -> Floats:
        """Seconds of batches that read `kv` tokens, prefill `prefill` tokens, in `size` sequences; arrays broadcast."""
        features = np.broadcast_arrays(1.0, *(np.asarray(each, dtype=np.float64) for each in (kv, prefill, size)))
        longest: Floats = (np.stack(features, axis=-1) @ self.iteration_time.coefficients.T).max(axis=-1)
        return longest

    def outside(self, kv: float, prefill: float = 0.0, size: float = 0.0) -> tuple[str, ...]:
        """A sentence for each feature of a batch that lies outside the measured range."""
        named = (("KV tokens read", kv, self.covered.kv), ("prompt tokens", prefill, self.covered.prefill),
                 ("sequences", size, self.covered.size))
        return tuple(f"{value:,.6g} {name} lie outside the measured {low:,.6g} to {high:,.6g}"
                     for name, value, (low, high) in named if not low <= value <= high)

    def warnings_for(self, equilibrium: Equilibrium) -> tuple[str, ...]:
        """Sentences where the mean batch at equilibrium, sum_j n_j* (KV read, l_j, S_j), leaves the measured range."""
        inventory, profile = equilibrium.inventory, equilibrium.profile
        if inventory is None:
            return ()
        mean = (float(inventory @ work) for work in (profile.kv_read, profile.prefilled, profile.stages))
        return tuple(f"the mean batch at equilibrium: {sentence}" for sentence in self.outside(*mean))

    def to_toml(self) -> str:
        """The section [replica.iteration_time] of a deployment file, coefficients to six digits."""
        name = one_line(Path(self.batches.source).name) or "measured batches"
        head = f"[replica.iteration_time]  # fitted to {name}: {self.rows:,} rows, {self.outliers:,} set aside, " \
               f"mean error {100 * self.mape:.3g}%\n"
        pieces = [[f"{field} = {float(f'{value:.6g}')!r}" for field, value in line._asdict().items()]
                  for line in self.pieces]
        if len(pieces) == 1:
            return head + "\n".join(pieces[0]) + "\n"
        return head + "pieces = [\n" + "".join(f"    {{ {', '.join(piece)} }},\n" for piece in pieces) + "]\n"

    def _batch(self, row: np.intp) -> FittedBatch:
        batches, measured, fitted = self.batches, float(self.batches.seconds[row]), float(self.fitted[row])
        return FittedBatch(int(batches.lines[row]), float(batches.kv_read[row]), float(batches.prefill_tokens[row]),
                           float(batches.sequences[row]), measured, fitted, measured / fitted - 1.0)


def calibrate(batches: Batches, pieces: int = 1) -> Calibration:
    """Fit the iteration time to measured batches, as the largest of `pieces` lines.

    Raises InputError for fewer than 8 rows a line. Where no partition of the rows leaves 8 for each of the lines, a
    single line is fitted and a note says so.

    >>> sizes = [1, 2, 4, 8, 16, 32, 64, 96, 128, 160]
    >>> measured = Batches.from_arrays(sizes, [500 * n for n in sizes], [0.01 + 2e-4 * n for n in sizes])
    >>> line, = calibrate(measured).pieces
    >>> round(line.overhead, 9), round(line.per_kv_token, 12)
    (0.01, 4e-07)
    """
    pieces = whole("pieces", pieces, unit="lines", most=MOST_PIECES)
    if len(batches) < FEWEST * pieces:
        raise InputError("batches", f"at least {FEWEST * pieces} rows, {FEWEST} for each line", len(batches),
                         batches.source)
    rows = _design_matrix(batches)
    one = fit(rows, batches.seconds)
    several = fit_largest(rows, batches.seconds, pieces) if pieces > 1 else None
    found = several or one
    order = np.ix_(np.lexsort(-found.lines.T[::-1]), np.array(REGRESSION_ORDER))
    lines, bounds = found.lines[order], intervals(found, rows, batches.seconds)[order]
    notes = [*_on_batches(batches, found.kept), *_on_coefficients(lines, found.estimated[order], found.least, batches)]
    if pieces > 1:
        notes += _on_pieces(one, several, rows, batches.seconds)
    return Calibration(batches, IterationTime.largest(*(IterationTime(*map(float, line)) for line in lines)),
                       tuple(map(_line_intervals, bounds)), found.kept, found.scale, tuple(dict.fromkeys(notes)))


def _design_matrix(batches: Batches) -> Floats:
    features = (np.ones(len(batches)), batches.kv_read, batches.prefill_tokens, batches.sequences)
    return np.column_stack([features[i] for i in REGRESSION_ORDER])


def _line_intervals(bounds: Floats) -> LineIntervals:
    return LineIntervals(*(None if math.isnan(low) else (float(low), float(high)) for low, high in bounds))


def _on_batches(batches: Batches, kept: Bools) -> Iterator[str]:
    if batches.skipped:
        yield f"rows that cannot be used and are left out: {batches.skipped:,} ({'; '.join(batches.bad_rows)})"
    share = 1.0 - float(kept.mean())
    if share > MANY_OUTLIERS:
        yield (f"{100 * share:.0f}% of the rows were set aside, more than a few slow iterations: the batches may come "
               "from two settings of the engine, or need another piece")


def _on_coefficients(lines: Floats, estimated: Bools, least: float, batches: Batches) -> Iterator[str]:
    for i, line in enumerate(lines):
        where = f" in piece {i + 1}" if len(lines) > 1 else ""
        for j, name in enumerate(Line._fields):
            if not estimated[i, j] and name == "per_prefill_token" and not batches.prefill_tokens.any():
                yield "no batch prefills: per_prefill_token cannot be told and is set to 0"
            elif not estimated[i, j]:
                yield (f"{name}{where} cannot be told: in its batches the {FEATURES[j]} follow from the other counts, "
                       "vary too little beside the noise, or one row alone tells it; it is set to 0 and the others "
                       "carry its time")
        if line[0] <= least:
            yield (f"overhead{where} is at its least value, a tenth of the fastest batch: these batches show less, if "
                   "any")


def _on_pieces(one: MaxAffine, several: MaxAffine | None, rows: Floats, seconds: Floats) -> Iterator[str]:
    if several is None:
        yield f"the rows do not leave {FEWEST} for each of several lines: one line is given"
        return
    errors = [mean_error(each, rows, seconds) for each in (one, several)]
    additional = int(several.estimated.sum() - one.estimated.sum())
    if 2 * seconds.size * math.log(errors[0] / errors[1]) < additional * math.log(seconds.size):
        yield (f"one line is as good: its mean error is {100 * errors[0]:.3g}%, that of {len(several.lines)} lines "
               f"{100 * errors[1]:.3g}%")
