"""Columns of a CSV file that are most likely in another unit than their names say: asked back, not fitted.

    batch_time_s        seconds, by far below 5 in any server; the median iteration is asked about above 5
    kv_tokens_decode    tokens, whole numbers; asked about where most are fractions, or below 4 a sequence

A few rows out of line are slow iterations, or bad rows: only what holds of most rows is a unit. Times and counts that
come from Python (`Batches.from_arrays`) or an engine's log are taken as they are.
"""

from __future__ import annotations

import numpy as np

from fluid.arrays import Floats
from fluid.errors import FileError

LONGEST = 5.0  # seconds of a median iteration
UNITS = ("milliseconds", "microseconds", "nanoseconds")
MANY = 8  # rows: fewer cannot be fitted, and are quoted as bad rows instead
SHORTEST = 4.0  # KV tokens of a sequence that decodes: a prompt and what it has made


def ask_back(table: Floats, source: str) -> None:
    """Raise FileError where the columns of rows (n, 5), in the order of a CSV file, seem to be in other units."""
    decode, kv, seconds = table[:, 0], table[:, 1], table[:, 4]
    seconds, decodes = seconds[np.isfinite(seconds)], (decode >= 1) & np.isfinite(kv)
    if seconds.size and (median := float(np.median(seconds))) > LONGEST:
        unit = UNITS[min(int(np.log10(median / LONGEST) // 3), len(UNITS) - 1)]
        raise FileError(source, "", f"batch_time_s must be seconds (got {median:.6g} in the median row): did you give "
                                    f"{unit}?")
    if np.count_nonzero(decodes) >= MANY:
        _ask_about_kv(kv[decodes], float(np.median(kv[decodes] / decode[decodes])), source)


def _ask_about_kv(kv: Floats, tokens: float, source: str) -> None:
    fractions = kv != np.floor(kv)
    if 2 * np.count_nonzero(fractions) > kv.size:
        raise FileError(source, "", f"kv_tokens_decode must be whole tokens (got {kv[fractions][0]:.6g}): did you give "
                                    "gigabytes, or a share of the cache?")
    if tokens < SHORTEST:
        raise FileError(source, "", f"kv_tokens_decode must be tokens (got {tokens:.3g} per sequence in the median "
                                    "row): did you give gigabytes, blocks, or the tokens generated?")
