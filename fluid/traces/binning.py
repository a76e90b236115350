"""Binning: the length pairs of a trace grouped into at most k prompt types, and the error this makes.

A cell is a set of pairs (l, o) with numbers of requests n. The cell split next is always the one whose lengths vary
most in KV work w(l, o) = (o + 1)(l + o/2), to first order along either axis about the cell's mean,

    (mean o + 1)^2 sum n (l - mean l)^2       or       (mean l + mean o + 1/2)^2 sum n (o - mean o)^2,

by the larger of the two; it is split at the mean of that length. A cell of several pairs becomes one type, in whole
tokens:

    o   its mean output, rounded down or up
    l   the prompt with which w(l, o) is the cell's mean KV work, rounded down or up (1 where it would be less)

Down or up is chosen cell by cell, from the one with the largest weight to the one with the smallest, so that the sum of
the errors so far stays as near 0 as it can: in the end total outputs are off by at most half the largest n, KV work by
half the largest n (o + 1), unless a prompt of 1 is still too long. w is convex along o, so prompts come out longer than
their mean where outputs vary within a cell; `Binned` states the errors. One cell for each pair is exact. Source: median
cut (Heckbert 1982), with squared deviations for counts (Wu 1991). See mathematics, section 12.1.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from fluid.arrays import MOST_TOKENS, Bools, Floats, Ints
from fluid.workload import Workload


@dataclass(frozen=True, eq=False)
class Binned:
    """A trace in few types: the `workload`, the type of each request, and the relative errors of its totals.

    An error is (binned - trace) / trace: of KV work (whole prefill, blocks of 1), prompt tokens and output tokens.
    """

    workload: Workload
    types: Ints
    kv_work_error: float
    prompt_tokens_error: float
    output_tokens_error: float

    def __repr__(self) -> str:
        return f"Binned({len(self.types):,} requests in {len(self.workload)} types, KV work {self.kv_work_error:+.2%})"


def cells_of(prompt: Ints, output: Ints, counts: Ints, most: int) -> Ints:
    """The number of the cell, from 0 on, that each distinct length pair falls into; there are at most `most` cells."""
    def entry(number: int, cell: Ints) -> tuple[float, int, Ints, Bools]:
        deviation, low = _spread(prompt[cell], output[cell], counts[cell])
        return -deviation, number, cell, low

    heap = [entry(0, np.arange(len(prompt)))]
    while len(heap) < most and heap[0][0] < 0:
        _, number, cell, low = heapq.heappop(heap)
        heapq.heappush(heap, entry(number, cell[low]))
        heapq.heappush(heap, entry(len(heap), cell[~low]))
    cells = np.empty(len(prompt), dtype=np.int64)
    for _, number, cell, _ in heap:
        cells[cell] = number
    return cells


def lengths_of(cells: Ints, prompt: Ints, output: Ints, counts: Ints, work: Ints) -> tuple[Ints, Ints]:
    """The prompt and output tokens of the type of each cell."""
    held = np.bincount(cells, counts)
    outputs = _rounded(np.bincount(cells, counts * output) / held, held)
    one = work[np.unique(cells, return_index=True)[1]]  # the work of one pair: a cell of it alone stays exact
    mean_work = one + np.bincount(cells, counts * (work - one[cells]).astype(np.float64)) / held
    exact = mean_work / (outputs + 1) - outputs / 2
    prompts = _rounded(np.clip(exact, 1, MOST_TOKENS), held * (outputs + 1))
    return prompts, outputs


def _spread(prompt: Ints, output: Ints, counts: Ints) -> tuple[float, Bools]:
    """The variation along the axis on which a cell varies most in KV work, and which pairs are below the mean on it."""
    total = counts.sum()
    mean_prompt, mean_output = counts @ prompt / total, counts @ output / total
    along = ((prompt, mean_prompt, mean_output + 1), (output, mean_output, mean_prompt + mean_output + 0.5))
    deviations = [slope**2 * (counts @ (lengths - mean) ** 2) for lengths, mean, slope in along]
    lengths, mean, _ = along[int(np.argmax(deviations))]
    return float(max(deviations)), lengths <= min(mean, lengths.max() - 1)


def _rounded(exact: Floats, weights: Ints) -> Ints:
    """The numbers rounded down or up, one by one, so that their weighted sum stays as near the exact one as it can."""
    whole, off = np.floor(exact), 0.0
    for i in np.argsort(-weights, kind="stable"):
        down = off - weights[i] * (exact[i] - whole[i])
        up = exact[i] > whole[i] and abs(down + weights[i]) < abs(down)
        whole[i] += up
        off = down + weights[i] * up
    return whole.astype(np.int64)
