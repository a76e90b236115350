"""The regions of batches that a server goes through, and how far off a fit is in each.

    decode-only     nothing prefills: most iterations of most servers; they set the time per output token
    mixed           decodes beside a prefill or a chunk of one: they set the rate that a replica sustains
    prefill-only    nothing decodes: the first token of a request that comes to an idle server

A mean over all rows says how well the region with the most rows fits. A queue near its edge multiplies what is wrong in
the rarest: at a load of 0.97, 2% more time in an iteration is three times the wait. So errors are given by region,

    mape    mean |fitted - seconds| / seconds           bias    mean (fitted - seconds) / seconds

over the rows kept, beside the number of rows that the fit set aside there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fluid.arrays import Bools, Floats, Ints
from fluid.calibration.batches import Batches

REGIONS = ("decode-only", "mixed", "prefill-only")
BIASED = 0.05  # of the seconds: a region whose fit is further off in the mean is named
SURE = 3.0  # standard errors of that mean
UNFITTED = 0.25  # of a region's rows: where more are set aside, no line fits it


class RegionError(NamedTuple):
    """A region of batches: how many rows, how many set aside, and the errors of those kept (None where none is)."""

    name: str
    rows: int
    outliers: int
    mape: float | None
    bias: float | None


def regions_of(batches: Batches) -> Ints:
    """The index in REGIONS of every batch, shape (n,).

    >>> regions_of(Batches.from_arrays([8, 8, 0], [4096, 4096, 0], 0.02, prefill_sequences=[0, 1, 1],
    ...                                prefill_tokens=[0, 512, 512])).tolist()
    [0, 1, 2]
    """
    prefills, decodes = batches.prefill_sequences > 0, batches.decode_sequences > 0
    region: Ints = np.where(prefills, np.where(decodes, 1, 2), 0)
    return region


def region_errors(batches: Batches, fitted: Floats, kept: Bools) -> tuple[RegionError, ...]:
    """The errors of fitted seconds (n,) in every region that has rows."""
    region, error = regions_of(batches), fitted / batches.seconds - 1.0
    found = []
    for i in np.unique(region):
        mine = region == i
        counted = error[mine & kept]
        mape, bias = (float(np.abs(counted).mean()), float(counted.mean())) if counted.size else (None, None)
        found.append(RegionError(REGIONS[i], int(mine.sum()), int((mine & ~kept).sum()), mape, bias))
    return tuple(found)


def misfits(batches: Batches, fitted: Floats, kept: Bools) -> Iterator[str]:
    """A sentence for each region that the fit misses: its mean error is certain, or many of its rows are set aside."""
    region, error = regions_of(batches), fitted / batches.seconds - 1.0
    for name, rows, outliers, _, bias in region_errors(batches, fitted, kept):
        if outliers > UNFITTED * rows:
            yield f"{outliers:,} of the {rows:,} {name} batches were set aside: no line fits them"
        counted = error[(region == REGIONS.index(name)) & kept]
        if bias is not None and abs(bias) > max(BIASED, SURE * float(counted.std()) / math.sqrt(counted.size)):
            yield (f"the {name} batches are fitted {100 * abs(bias):.0f}% too {'long' if bias > 0 else 'short'} in the "
                   "mean: what a deployment does there is forecast so much off, waiting times near the edge more")
