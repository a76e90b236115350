"""What to beware of in a calibration, a sentence each: rows left out, what the batches do not tell, misfits."""

from __future__ import annotations

from collections.abc import Iterator

from fluid.arrays import Bools, Floats
from fluid.calibration.batches import Batches
from fluid.calibration.held_out import Choice
from fluid.calibration.regions import misfits
from fluid.calibration.regression import FEWEST
from fluid.replica import Line

MANY_OUTLIERS = 0.1  # of the rows: more than a few slow iterations
FEATURES = ("", "KV tokens", "prompt tokens", "sequences")


def notes_on(batches: Batches, choice: Choice, fitted: Floats, lines: Floats, estimated: Bools,
             asked: int) -> Iterator[str]:
    """The sentences on a fit of `asked` lines at most; lines and estimated (k, 4) in the order of a Line."""
    yield from _on_batches(batches, choice.found.kept)
    yield from _on_coefficients(lines, estimated, choice.found.least, batches)
    yield from misfits(batches, fitted, choice.found.kept)
    if len(choice.held_out) < asked and asked > 1:
        yield f"the rows do not leave {FEWEST} for each of several lines: {_words(len(lines))} given"
    if asked > 1 and len(lines) < len(choice.held_out):
        errors = ", ".join(f"{each.pieces}: {100 * each.error:.3g}%" for each in choice.held_out)
        yield (f"{_words(len(lines))} given: more do not forecast held-out batches better (mean error over regions by "
               f"number of lines: {errors})")


def _on_batches(batches: Batches, kept: Bools) -> Iterator[str]:
    yield from batches.remarks
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


def _words(lines: int) -> str:
    return "one line is" if lines == 1 else f"{lines} lines are"
