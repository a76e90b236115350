"""Whether the intervals over replications can be trusted: the pieces of each run, and what they make doubtful.

A run is cut into 32 stretches after its warm-up: the delays of its requests in order of arrival, its throughput in
time. The tests on them are those of `verification.statistics.trust`; throughput is a sum over many requests, so it is
the tail of their output lengths that counts, where its index is below 2. Requests whose like no replication drew make
no interval wider: where their octaves of KV work would bring more than 5% of it, sum_j lambda_j w_j, the delays are
doubted too, and the throughput where they would bring more than 5% of the output tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fluid import StageProfile
from fluid.arrays import Floats, Ints
from verification.experiments.evidence.ledger import Ledger, group_of
from verification.experiments.measures import Window, delays_of, lengths_of, rates
from verification.run import Run
from verification.statistics.batch_means import BATCHES, batches_of, largest
from verification.statistics.trust import NO_VARIANCE, doubt, percentile_doubt

TOPS = 320  # largest values over all replications
MOST_UNDRAWN = 0.05  # of the work
DOUBTABLE = ("latency", "latency_p99", "ttft", "ttft_p99", "throughput")
TOO_FEW = "a run has fewer than 64 requests to measure: too few to test what an interval rests on"


class Pieces(NamedTuple):
    """Means of the 32 stretches of a run, and the largest values of finer ones: delays (s), output tokens/s, tokens."""

    latency: tuple[float, ...]
    latency_tops: tuple[float, ...]
    ttft: tuple[float, ...]
    ttft_tops: tuple[float, ...]
    throughput: tuple[float, ...]
    length_tops: tuple[float, ...]


class Doubt(NamedTuple):
    """Why the interval of a measure cannot be trusted."""

    measure: str
    reason: str


def pieces_of(run: Run, window: Window, replications: int) -> Pieces | None:
    """The pieces of a run inside a window, one of so many; None where it holds fewer than two requests a stretch."""
    latency, ttft = delays_of(run, window)
    if len(latency) < 2 * BATCHES:
        return None
    finer = max(1, TOPS // (BATCHES * replications))
    return Pieces(_means(latency), tuple(largest(latency, finer)), _means(ttft), tuple(largest(ttft, finer)),
                  tuple(rates(run, window, BATCHES)), tuple(largest(lengths_of(run, window), finer)))


def _means(values: Floats) -> tuple[float, ...]:
    return tuple(batches_of(values, BATCHES).mean(axis=1))


def doubts_of(pieces: Sequence[Pieces | None], percentiles: Floats) -> tuple[Doubt, ...]:
    """What is doubtful about intervals over replications; `percentiles` are the 99th of each one's latency
    and TTFT: shape (replications, 2).
    """
    known = [each for each in pieces if each is not None]
    if len(known) < len(pieces):
        return tuple(Doubt(name, TOO_FEW) for name in DOUBTABLE)
    latency, tops, ttft, ttft_tops, throughput, length_tops = zip(*known, strict=True)
    found = {"latency": doubt(latency, np.concatenate(tops)), "ttft": doubt(ttft, np.concatenate(ttft_tops)),
             "throughput": doubt(throughput, np.concatenate(length_tops), NO_VARIANCE)}
    for column, (name, largest_of) in enumerate((("latency", tops), ("ttft", ttft_tops))):
        stretches = [np.reshape(row, (BATCHES, -1)).max(axis=1) for row in largest_of]
        found[f"{name}_p99"] = found[name] or percentile_doubt(stretches, percentiles[:, column])
    return tuple(Doubt(name, found[name]) for name in DOUBTABLE if found[name])


def undrawn(profile: StageProfile, expected: Floats, ledgers: Sequence[Ledger]) -> tuple[Doubt, ...]:
    """The doubts that requests raise whose like no replication drew; `expected` holds the rates, shape (J,)."""
    drawn = np.sum([each.by_group for each in ledgers], axis=0)
    missing = drawn[group_of(profile)] == 0

    def share(amounts: Floats | Ints) -> float:
        brought = expected * amounts
        return float(brought[missing].sum() / brought.sum())

    shares = {"KV work": share(profile.kv_work), "output tokens": share(profile.output)}
    return tuple(Doubt(name, f"no replication drew any of the rare ones that bring {shares[unit]:.0%} of the {unit}")
                 for name in DOUBTABLE for unit in shares
                 if (name == "throughput") == (unit == "output tokens") and shares[unit] > MOST_UNDRAWN)
