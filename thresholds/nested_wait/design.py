r"""Nested WAIT: thresholds for output lengths that nobody sees, and the memory they need.

A design consists of boundaries r_1 < ... < r_L and whole thresholds n_1 > ... > n_L that meet the drift conditions of
`thresholds.nested_wait.segments` and need least KV cache,

    required = sum_k n_k a_k + sum_{k>=2} buffer_k,

found in three steps: real thresholds by convex optimisation and whole ones by an exact search, both for given
boundaries (`thresholds.nested_wait.threshold_search`), and the boundaries by shortest paths
(`thresholds.nested_wait.boundary_search`). If required <= C no iteration overflows the cache over the horizon T, with
probability at least 1 - delta [A, Theorem 2].

**How many segments.** Few segments hold KV for prompts long gone; many have many buffers: the memory is U-shaped in L.
Without a number given, L grows from the least that drifts until the memory has risen a few times in a row
(`thresholds.nested_wait.segment_count`).

**How many sequences.** A batch has at most n_k prompts in each stage of segment k. Where the engine caps sequences, the
design of least memory is taken among those, one for each L, that respect the cap; if none does, none is found feasible.

**How much memory.** At its best about 1.6 to 3 times the fluid M* where n_1 is large. Whole thresholds fall from
segment to segment by at least 1, so n_k >= L - k + 1: where fluid inventories are below a few prompts per stage, as on
most single GPUs, the least memory is many times M*. Paced WAIT (mathematics, section 4), whose thresholds may be
fractions, then fits where nested WAIT does not.

**Rows.** Where the law of lengths was seen in rows, thresholds are found for the cautious law of these
(`thresholds.rows`), whose outputs go on with at least the true chance at every boundary, and the promise holds with
confidence; nothing is promised where lengths depend on each other. One threshold then reaches to the longest request
there can be, which no single GPU holds.

**Rates.** The memory that thresholds need does not depend on the rates, only drift does: a design serves up to
n_1/(Lambda Delta(n)) times the rates it was made for. Source: mathematics, sections 5.4, 5.8 and 5.9.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fluid import Replica, StageProfile, Workload, solve, stage_profile
from fluid.arrays import Floats
from fluid.errors import InputError, probability, real, whole
from fluid.progress import Progress
from fluid.traces.trace import Trace
from thresholds.guarantees import OnReplica
from thresholds.nested_wait.candidates import Candidate, best_chain, places_suffice, rank
from thresholds.nested_wait.segment_count import FIXED_CUTS, OPTIMISED, Scan
from thresholds.nested_wait.segments import DecodeSegments, UnknownLengths, explicit
from thresholds.policies import NestedWaitPolicy
from thresholds.rows import Evidence, Rows, cautious, rows_behind

MOST_SEGMENTS = 64
Boundaries = str | Iterable[int] | None


class Segment(NamedTuple):
    """One segment: its first and last stage (0: the prefill), threshold n_k, p_k, theta_k, and its buffer in tokens.

    The first has no queue of residents before it: every prompt enters it (p = 1), theta is None and the buffer 0.
    """

    start: int
    end: int
    threshold: int
    continuation: float
    theta: float | None
    buffer_tokens: float


@dataclass(frozen=True, repr=False)
class NestedDesign(OnReplica, NestedWaitPolicy):
    """Nested WAIT for a workload on a replica, and the memory it needs; made by `nested`.

    `boundaries` and `thresholds` are empty where none were found that drift, that is, keep up with the arrivals. If the
    design is feasible, the KV cache overflows within `horizon` seconds with probability at most `overflow_probability`;
    where the law comes from rows, with the confidence of the `evidence`: then `worse` is their cautious law.
    """

    horizon: float
    overflow_probability: float
    rule: str | tuple[int, ...] = field(default=OPTIMISED, repr=False)
    evidence: Evidence | None = field(default=None, kw_only=True)
    worse: Workload | None = field(default=None, kw_only=True, repr=False)

    @property
    def law(self) -> tuple[StageProfile, Workload]:
        """The law that lengths are drawn from, as far as thresholds are concerned: its stages and rates."""
        if self.worse is None:
            return self.equilibrium.profile, self.equilibrium.workload
        return stage_profile(self.worse, replace(self.equilibrium.replica, max_model_len=None)), self.worse

    @property
    def feasible(self) -> bool:
        """Whether the thresholds exist, fit, and promise something: not where the rows leave a doubt."""
        return super().feasible and (self.evidence is None or not self.evidence.doubt)

    def _details(self) -> dict[str, Any]:
        doubtful = self.evidence is not None and self.evidence.doubt
        return {"overflow_probability": None if doubtful else self.overflow_probability,
                "segments": [each._asdict() for each in self.segments], **rows_behind(self.evidence)}

    def columns(self) -> dict[str, Sequence[object] | Floats]:
        """The segments."""
        return {name.replace("_", " "): [getattr(each, name) for each in self.segments] for name in Segment._fields}

    @cached_property
    def kv_base(self) -> int | None:
        """sum_k n_k a_k, tokens: every stage full."""
        return self._segments.profile.whole_held(self._counts) if self.thresholds else None

    @cached_property
    def kv_buffer(self) -> float | None:
        """sum_k buffer_k, tokens: kept for the prompts that wait at boundaries."""
        return float(self._segments.buffers(self._counts).sum()) if self.thresholds else None

    @property
    def kv_required(self) -> float | None:
        """Base and buffers, tokens."""
        return None if self.kv_base is None or self.kv_buffer is None else self.kv_base + self.kv_buffer

    @cached_property
    def sequences(self) -> int | None:
        """sum_k n_k (stages of segment k), the most sequences in a batch."""
        return self._segments.sequences(self._counts) if self.thresholds else None

    @cached_property
    def tokens(self) -> int | None:
        """The most tokens in an iteration: one for each sequence, but n_1 of them prefill their prompts."""
        if self.sequences is None:
            return None
        return self.sequences + self.thresholds[0] * int((self.equilibrium.profile.prefilled - 1).max().clip(0))

    @cached_property
    def iteration_time(self) -> float | None:
        """Delta(n), seconds: an iteration that serves every segment."""
        return self._segments.iteration_time(self._counts) if self.thresholds else None

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, in order."""
        if not self.thresholds:
            return ()
        buffers = self._segments.buffers(self._counts).tolist()
        exponents = [None, *(self._segments.allowance / self._tails).tolist()]
        first = 0 if self._segments.lengths.prefill_stages else 1
        starts = [first, *(r + 1 for r in self.boundaries[:-1])]
        return tuple(map(Segment, starts, self.boundaries, self.thresholds, self._segments.continuation.tolist(),
                         exponents, buffers))

    @cached_property
    def max_rate_scale(self) -> float:
        """A factor on all rates up to which designs made anew fit C, within 1% of the largest found; 0 if none."""
        return _largest_scale(self)

    @property
    def reason(self) -> str:
        """One sentence: what is guaranteed, or how much memory the best thresholds need, and what to do instead."""
        if self.equilibrium.limit in ("time", "length"):
            return self.equilibrium.reason
        instead = 'paced WAIT (policy "paced"), whose thresholds may be fractions of a prompt per stage, needs less'
        if self.kv_required is None:
            return f"infeasible: no whole thresholds keep up with the arrivals in these segments; {instead}"
        need = (f"{self.kv_required:,.0f} KV tokens ({self.kv_base:,} and {self.kv_buffer:,.0f} of buffers, "
                f"{len(self.thresholds)} segments)")
        if not self.kv_suffices:
            return f"infeasible: the best whole thresholds need {need}, the replica has {self.kv_capacity:,}; {instead}"
        if self.evidence is not None and self.evidence.doubt:
            return f"infeasible: nothing is promised, because {self.evidence.doubt}"
        if self.lacks:
            return f"infeasible: the best whole thresholds let {self.lacks}; {instead}"
        return (f"feasible: needs {need} of {self.kv_capacity:,}{self.places}; overflows within {self.horizon:g} s "
                f"with probability at most {self.overflow_probability:g}"
                f"{'' if self.evidence is None else f', {self.evidence}'}; "
                f"the fluid model needs {self.equilibrium.kv_required:,.0f}")

    @cached_property
    def _segments(self) -> DecodeSegments:
        return DecodeSegments(_lengths(self, 1.0), np.array(self.boundaries))

    @property
    def _counts(self) -> Floats:
        return np.array(self.thresholds, dtype=np.float64)

    @property
    def _tails(self) -> Floats:
        return self._segments.tails(self._counts[1:] / self._counts[:-1], self._segments.continuation[1:])


def nested(workload: Workload, replica: Replica, *, horizon: float = 3600.0, overflow_probability: float = 1e-3,
           segments: int | None = None, boundaries: Boundaries = None, rows: Trace | int | None = None,
           confidence: float = 0.95, progress: Progress | None = None) -> NestedDesign:
    """Return the nested WAIT design that needs least KV: base and buffers, over boundaries and whole thresholds.

    `horizon` T (s) and `overflow_probability` delta say what is guaranteed: no overflow of the KV cache within T, with
    probability at least 1 - delta. `segments` L is at most 64 (None: the best is looked for; fewer are used where
    prompts end at fewer stages); `boundaries` "optimised" (the default), "equal" widths, "quantile", or whole numbers
    r_1 < ... < r_L = largest number of decode stages. Where the law of lengths was seen in `rows` (see `paced`), the
    promise holds with `confidence` over them. `progress` is called with (segment numbers tried, all).
    Infeasible is an answer (`feasible`, `reason`); InputError for unusable arguments, and for chunked prefill where
    prompts take different numbers of prefill stages. Source: mathematics, section 5.8.

    >>> from fluid import IterationTime, PromptType
    >>> mix = Workload([PromptType(50, 20, 1.0), PromptType(50, 100, 1.0)])
    >>> design = nested(mix, Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.013e-7)))
    >>> design.boundaries, design.feasible
    ((100,), True)
    """
    horizon = real("horizon", horizon, "nested", unit="seconds")
    chance = probability("overflow_probability", overflow_probability, "nested")
    if segments is not None:
        segments = whole("segments", segments, "nested", unit="segments", most=MOST_SEGMENTS)
    equilibrium = solve(workload, replica)
    seen = None if rows is None else Rows.of(rows, equilibrium, confidence)
    worse = None if seen is None else cautious(seen, workload.rate)
    made = NestedDesign((), (), horizon, chance, equilibrium=equilibrium, worse=worse,
                        evidence=None if seen is None else seen.evidence)
    lengths = _lengths(made, 1.0)
    rule = _rule(lengths, segments, boundaries)
    searched = equilibrium.limit not in ("time", "length")
    found = _best(lengths, segments, rule, progress) if searched else None
    cuts, counts = (found.segments.boundaries, found.counts) if found else ((), ())
    return replace(made, boundaries=tuple(map(int, cuts)), thresholds=tuple(map(int, counts)), rule=rule)


def _rule(lengths: UnknownLengths, segments: int | None, boundaries: Boundaries) -> str | tuple[int, ...]:
    if boundaries is None:
        return OPTIMISED
    if isinstance(boundaries, str):
        if boundaries not in (*FIXED_CUTS, OPTIMISED):
            raise InputError("boundaries", '"equal", "quantile", "optimised" or whole numbers of stages', boundaries,
                             "nested")
        return boundaries
    cuts = explicit(lengths, boundaries)
    if segments not in (None, len(cuts)):
        raise InputError("segments", f"{len(cuts)}, the number of boundaries", segments, "nested")
    return cuts


def _best(lengths: UnknownLengths, segments: int | None, rule: str | tuple[int, ...],
          progress: Progress | None = None) -> Candidate | None:
    """The design of least memory with boundaries of this rule, of this number of segments or (None) of the best."""
    if not isinstance(rule, str):
        return best_chain(DecodeSegments(lengths, np.array(rule)))
    most = min(MOST_SEGMENTS, lengths.ends.size)
    scan = Scan(lengths, rule, most, progress)
    best = scan.over_all() if segments is None else scan.at(min(segments, most))
    if best is not None and rule == OPTIMISED:
        best = min(best, scan.search.moved(best), key=rank)
    if progress:
        progress(most, most)
    return best


def _largest_scale(design: NestedDesign) -> float:
    """Bisect the factor on all rates; a design that fits serves more than the factor it was made for.

    The lower end is a factor of almost 0, at which the least memory is that of one segment with threshold 1 (unless the
    boundaries are given).
    """
    low, high = _served(design, 1e-9), design.equilibrium.max_rate_scale
    while 0.0 < low < 0.99 * high:
        middle = min(2.0 * low, math.sqrt(low * high))
        served = _served(design, middle)
        low, high = (served, high) if served > 0.0 else (low, middle)
    return low


def _served(design: NestedDesign, factor: float) -> float:
    """The factor up to which a design made for `factor` keeps up; 0 if it does not fit."""
    workload, capacity = design.equilibrium.workload, design.kv_capacity
    lengths = _lengths(design, factor)
    if isinstance(design.rule, str):
        found = Scan(lengths, design.rule, min(MOST_SEGMENTS, lengths.ends.size)).over_all(capacity)
    else:
        found = _best(lengths, None, design.rule)
    if found is None or not places_suffice(found) or found.required >= capacity + 1:
        return 0.0
    counts = found.counts.astype(np.float64)
    return float(counts[0] / (workload.rate * found.segments.iteration_time(counts))) * (1 - 2e-9)


def _lengths(design: NestedDesign, factor: float) -> UnknownLengths:
    """The lengths of the types that a design was made for, arriving at so many times their rates."""
    profile, workload = design.law
    rates = workload.rates if factor == 1.0 else workload.scaled(factor).rates
    return UnknownLengths.of_profile(profile, rates, design.equilibrium.replica, design.horizon,
                                     design.overflow_probability)
