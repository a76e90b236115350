"""The value that a calibration gives: the iteration time, its intervals, its errors, and where it was measured.

    mape    mean |seconds - fitted| / seconds                                    over the rows kept
    r2      1 - sum (seconds - fitted)^2 / sum (seconds - mean seconds)^2        over the rows kept

A fit says nothing beyond the batches it saw: `outside` and `warnings_for` say where a batch, or the mean batch of an
equilibrium, leaves their range or is of a kind that none of them is. A coefficient that the batches do not tell is 0 in
`pieces`, has no interval, and is left out of the section for a deployment file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Bools, Floats
from fluid.calibration.batches import Batches
from fluid.calibration.held_out import HeldOut
from fluid.calibration.regions import RegionError, region_errors
from fluid.equilibrium import Equilibrium
from fluid.errors import one_line
from fluid.replica import IterationTime, Line
from fluid.tables import duration

WORST = 5

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
    of; `held_out` are the errors on held-out rows of the numbers of lines tried, and `one_line` is the fit of one line
    where several were chosen.
    """

    batches: Batches
    iteration_time: IterationTime
    intervals: tuple[LineIntervals, ...]
    kept: Bools
    scale: float
    notes: tuple[str, ...]
    held_out: tuple[HeldOut, ...] = ()
    one_line: IterationTime | None = None

    @property
    def pieces(self) -> tuple[Line, ...]:
        """The lines, the one with the largest overhead first."""
        return self.iteration_time.pieces

    def __repr__(self) -> str:
        first = f"{duration(self.pieces[0].overhead)} + {self.pieces[0].per_kv_token * 1e6:.4g} us a KV token"
        more = f" and {len(self.pieces) - 1} more lines" if len(self.pieces) > 1 else ""
        return (f"Calibration({first}{more}; {self.rows:,} rows, {self.outliers:,} set aside, mean error "
                f"{self.mape:.2%}, R2 {self.r2:.4g})")

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
    def regions(self) -> tuple[RegionError, ...]:
        """The errors of decode-only, mixed and prefill-only batches, as far as there are any."""
        return region_errors(self.batches, self.fitted, self.kept)

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
        mean = [float(inventory @ work) for work in (profile.kv_read, profile.prefilled, profile.stages)]
        sentences = self.outside(*mean)
        if not sentences and mean[1] > 0 and not any(region.name == "mixed" for region in self.regions):
            sentences = (f"{mean[1]:,.6g} prompt tokens in {mean[2]:,.6g} sequences, and no measured batch decodes and "
                         "prefills",)
        return tuple(f"the mean batch at equilibrium: {sentence}" for sentence in sentences)

    def to_toml(self) -> str:
        """The section [replica.iteration_time] of a deployment file, coefficients to six digits."""
        name = one_line(Path(self.batches.source).name) or "measured batches"
        head = f"[replica.iteration_time]  # fitted to {name}: {self.rows:,} rows, {self.outliers:,} set aside, " \
               f"mean error {100 * self.mape:.3g}%\n"
        pieces = [[f"{field} = {float(f'{value:.6g}')!r}" for field, value, interval in
                   zip(Line._fields, line, intervals, strict=True) if interval is not None]
                  for line, intervals in zip(self.pieces, self.intervals, strict=True)]
        left_out = "".join(f"# {sentence}\n" for sentence in self._left_out())
        if len(pieces) == 1:
            return head + "\n".join(pieces[0]) + "\n" + left_out
        table = "".join(f"    {{ {', '.join(piece)} }},\n" for piece in pieces)
        return f"{head}pieces = [\n{table}]\n{left_out}"

    def _left_out(self) -> Iterator[str]:
        for i, intervals in enumerate(self.intervals, start=1):
            names = [name for name, interval in intervals._asdict().items() if interval is None]
            if names:
                piece = f" of piece {i}" if len(self.intervals) > 1 else ""
                yield (f"{', '.join(names)}{piece} left out: these batches do not tell "
                       f"{'it' if len(names) == 1 else 'them'} (measured: {self._range()})")

    def _range(self) -> str:
        named = zip(("KV", "prompt tokens", "sequences"), self.covered, strict=False)
        return ", ".join(f"{name} {low:,.0f} to {high:,.0f}" for name, (low, high) in named)

    def _batch(self, row: np.intp) -> FittedBatch:
        batches, measured, fitted = self.batches, float(self.batches.seconds[row]), float(self.fitted[row])
        return FittedBatch(int(batches.lines[row]), float(batches.kv_read[row]), float(batches.prefill_tokens[row]),
                           float(batches.sequences[row]), measured, fitted, measured / fitted - 1.0)
