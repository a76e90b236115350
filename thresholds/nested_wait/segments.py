r"""Decode progress cut into segments: what nested WAIT asks of thresholds there, and where to cut.

The scheduler does not see how long an output will be; how lengths are distributed is known from the workload. Let S(r)
be the rate of prompts with more than r decode stages and l(r) the largest prompt length among them. Boundaries
0 = r_0 < r_1 < ... < r_L, the last the largest number of decode stages o, cut the decode stages into segments: segment
k has the stages r_{k-1} + 1..r_k, the first also the K prefill stages. With

    Lambda = S(0)    p_k = S(r_{k-1})/S(r_{k-2})    l_k = l(r_{k-1})
    a_k = KV held, c_ik = time work (s, one per piece i of the iteration time), of one prompt of l_k tokens in every
          stage of segment k        (whole prefill: a_1 = (r_1 + 1)(l + r_1/2))

[A, Theorem 2] asks of thresholds n_1..n_L

    drift      Lambda Delta(n) < n_1,  p_k < n_k/n_{k-1} < 1    Delta(n) = max_i [ d0_i + sum_k n_k c_ik ]
    memory     sum_k n_k a_k + sum_{k>=2} buffer_k <= C         buffer_k = b_k (n_k + B/theta_k)

with b_k the KV of a prompt at stage r_{k-1}, theta_k of `thresholds.theta`, B = ln((L - 1)(1 + T/d0)/delta); then no
iteration of the horizon T overflows, with probability at least 1 - delta.

**One token more.** A prompt that waits at a boundary is counted at the stage it executes next, r_{k-1} + 1, with b'_k
tokens (b_k + 1, or a block more). At most 2 n_k - 1 + x prompts wait there but for probability e^(-theta_k x), and the
base holds n_k of them: b'_k (n_k - 1 + x) tokens are needed, more than b_k (n_k + x) only if n_k + x > b_k + 1
(whole blocks aside). The buffer is the larger of the two.

**Prompts of unequal length.** [A] weighs the prompt term of the base KV by the types, n_k delta_k (lbar_k + sbar_k)
with lbar_k the mean length, which is the mean of what n_k prompts hold. Those that are there may all be the long ones:
a bound that holds on every path needs the largest, l_k, and that is what is taken here.

**Cuts.** Between two stages at which prompts end p does not change, and the earlier cut needs less: boundaries belong
where prompts end. `thresholds.nested_wait.boundary_search` finds the best ones. Source: mathematics, sections 5.2 and
5.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fluid import Replica, StageProfile, Workload, stage_profile
from fluid.arrays import Floats, Ints, below_one
from fluid.errors import InputError
from thresholds.nested_wait.decay_rate import roots
from thresholds.policies import NestedWaitPolicy

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class UnknownLengths:
    """What segments need to know of output lengths that the scheduler does not see, and the guarantee asked for.

    `ends` are the numbers of decode stages that occur, increasing, shape (N,); `rates`, `prompts` and `prefixes`, shape
    (N + 1,), the rate (requests/s), the largest length (tokens, without a cached prefix) and how much longer the
    largest is with one, of the prompts with at least ends[i] decode stages, all 0 at the end (no prompt has more than
    ends[-1]). `events` is ln((1 + T/d0)/delta).
    """

    replica: Replica
    ends: Ints
    rates: Floats
    prompts: Ints
    prefixes: Ints
    prefill_stages: int
    events: float

    @classmethod
    def of(cls, workload: Workload, replica: Replica, horizon: float, overflow_probability: float) -> UnknownLengths:
        """Those of a workload's types on a replica: see `of_profile`."""
        return cls.of_profile(stage_profile(workload, replica), workload.rates, replica, horizon, overflow_probability)

    @classmethod
    def of_profile(cls, profile: StageProfile, rates: Floats, replica: Replica, horizon: float,
                   overflow_probability: float) -> UnknownLengths:
        """Gather the types by decode stages; InputError where their prefills take different numbers of stages."""
        prefill = np.unique(profile.prefill_stages)
        if prefill.size > 1:
            raise InputError("prefill", "a chunk that prefills every prompt in equally many stages (nested WAIT counts "
                             f"stages; here {prefill[0]} to {prefill[-1]})", replica.prefill, "nested")
        # a prompt without decode stages leaves after its prefill; to segments it looks like one with a single stage
        ends, group = np.unique(np.maximum(profile.decode, 1), return_inverse=True)
        prompts, with_prefix = np.zeros((2, ends.size + 1), dtype=np.int64)
        for lengths, tokens in ((prompts, profile.prompt), (with_prefix, profile.prefix + profile.prompt)):
            np.maximum.at(lengths, group, tokens)
            lengths[:] = np.maximum.accumulate(lengths[::-1])[::-1]
        ending = np.append(np.bincount(group, weights=rates), 0.0)
        events = np.log1p(horizon / replica.iteration_time.overheads.max()) - np.log(overflow_probability)
        return cls(replica, ends, np.cumsum(ending[::-1])[::-1], prompts, with_prefix - prompts, int(prefill[0]),
                   float(events))

    @property
    def longest(self) -> int:
        """The largest number of decode stages, r_L."""
        return int(self.ends[-1])

    def beyond(self, cuts: Ints) -> Floats:
        """S(r), the rate of prompts with more than r decode stages, requests/s."""
        rates: Floats = self.rates[np.searchsorted(self.ends, cuts, side="right")]
        return rates

    def allowance(self, segments: int) -> float:
        """B = ln((L - 1)(1 + T/d0)/delta), for L segments."""
        return float(np.log(max(segments - 1, 1))) + self.events

    def stages(self, start: Ints, end: Ints) -> StageProfile:
        """The stages start + 1..end of one prompt of l(start) tokens, with its prefill where start is 0."""
        held = self._context(start)
        chunk = held if isinstance(self.replica.prefill, str) else np.full_like(held, self.replica.prefill)
        prefill = np.where(start == 0, self.prefill_stages, 0)
        prefix = self.prefixes[np.searchsorted(self.ends, start, side="right")]
        return StageProfile(held, prefix, end - start, end - start, prefill, chunk, prefill, self.replica.layout)

    def waiting(self, start: Ints) -> tuple[Ints | Floats, Ints | Floats]:
        """b and b', the KV of a prompt of l(start) tokens at stage `start` and at the next, in whole blocks."""
        context, layout = self._context(start), self.replica.layout
        return layout.tokens(layout.held(context)), layout.tokens(layout.held(context + 1))

    def _context(self, start: Ints) -> Ints:
        """l(start) + start: the prompt and the tokens decoded so far."""
        context: Ints = self.prompts[np.searchsorted(self.ends, start, side="right")] + start
        return context


@dataclass(frozen=True, eq=False)
class DecodeSegments:
    """L segments of decode progress and what a prompt in each of them costs: KV tokens, iteration time, its queue.

    Arrays have shape (L,), `time` (pieces, L). `continuation` p, `kv` a, `time` c, `queue_prices` b and b' are those of
    the module's docstring.
    """

    lengths: UnknownLengths
    boundaries: Ints

    @cached_property
    def starts(self) -> Ints:
        """r_0..r_{L-1}."""
        return np.concatenate([[0], self.boundaries[:-1]])

    @cached_property
    def rate(self) -> float:
        """Lambda, requests/s."""
        return float(self.lengths.rates[0])

    @cached_property
    def continuation(self) -> Floats:
        """p_k; 1 for the first segment, which every prompt enters."""
        rates = self.lengths.beyond(self.starts)
        return np.concatenate([[1.0], rates[1:] / rates[:-1]])

    @cached_property
    def profile(self) -> StageProfile:
        """The stages of each segment."""
        return self.lengths.stages(self.starts, self.boundaries)

    @cached_property
    def kv(self) -> Floats:
        """a_k, tokens."""
        return self.profile.kv_work.astype(np.float64)

    @cached_property
    def time(self) -> Floats:
        """c_ik, seconds."""
        return self.profile.time_work(self.lengths.replica.iteration_time)

    @cached_property
    def overheads(self) -> Floats:
        """d0_i, seconds."""
        return self.lengths.replica.iteration_time.overheads

    @cached_property
    def queue_prices(self) -> tuple[Floats, Floats]:
        """b_k and b'_k, tokens; 0 for the first segment."""
        queued = self.starts > 0
        waiting, joining = self.lengths.waiting(self.starts)
        return np.where(queued, waiting, 0.0), np.where(queued, joining, 0.0)

    @cached_property
    def allowance(self) -> float:
        """B, for these L segments."""
        return self.lengths.allowance(self.boundaries.size)

    def buffers(self, counts: Floats) -> Floats:
        """Tokens kept for each boundary queue beyond the n_k prompts of the base; infinite where it drifts up.

        `counts` has shape (L,), or (L, V) for V chains at once; so has the answer.
        """
        column = (-1,) + (1,) * (counts.ndim - 1)
        waiting, joining = (price[1:].reshape(column) for price in self.queue_prices)
        tails = self.tails(counts[1:] / counts[:-1], self.continuation[1:].reshape(column))
        return np.concatenate([np.zeros_like(counts[:1]), buffer(waiting, joining, counts[1:], tails)])

    def tails(self, ratios: Floats, continuation: Floats | float) -> Floats:
        """B/theta, prompts: how far a boundary queue rises above 2 n_k - 1."""
        with np.errstate(divide="ignore"):
            tails: Floats = self.allowance / roots(ratios, continuation)
        return tails

    def required(self, counts: Floats) -> float:
        """Base and buffers, tokens."""
        return float(self.kv @ counts + self.buffers(counts).sum())

    def iteration_time(self, counts: Floats) -> float:
        """Delta(n), seconds."""
        return float(np.max(self.overheads + self.time @ counts))

    def sequences(self, counts: Floats) -> int:
        """The most sequences in a batch: n_k in each stage of every segment."""
        return int(self.profile.stages @ counts)

    def drifts(self, counts: Floats) -> bool:
        """Whether Lambda Delta(n) < n_1 and p_k < n_k/n_{k-1} < 1, beyond rounding."""
        falling = np.all(counts[1:] < counts[:-1]) and np.all(above(counts[1:], counts[:-1], self.continuation[1:]))
        return bool(falling) and below_one(self.rate * self.iteration_time(counts) / counts[0])


def buffer(waiting: Floats | float, joining: Floats | float, counts: Floats, tails: Floats) -> Floats:
    """max(b (n + x), b' (n - 1 + x)), tokens, with b = `waiting`, b' = `joining`, n = `counts` and x = `tails`."""
    larger: Floats = np.maximum(waiting * (counts + tails), joining * (counts - 1.0 + tails))
    return larger


def above(counts: Floats, before: Floats, continuation: Floats | float) -> Flags:
    """Whether p n_{k-1} < n_k, beyond rounding."""
    strictly: Flags = continuation * before < counts * (1 - 1e-9)
    return strictly


def explicit(lengths: UnknownLengths, boundaries: Iterable[int]) -> tuple[int, ...]:
    """Check boundaries given by hand: increasing, up to the largest number of decode stages, prompts end in each."""
    given = tuple(boundaries)
    cuts = NestedWaitPolicy(given, (1,) * len(given)).boundaries
    if cuts[-1] != lengths.longest:
        raise InputError(f"boundaries[{len(cuts) - 1}]", f"{lengths.longest}, the largest number of decode stages",
                         cuts[-1], "nested")
    for k in np.flatnonzero(np.diff(lengths.beyond(np.array([0, *cuts]))) == 0)[:1]:
        raise InputError(f"boundaries[{k}]", "such that some prompt ends in its segment", cuts[k], "nested")
    return cuts


def equal_widths(lengths: UnknownLengths, count: int) -> Ints:
    """Boundaries at the multiples of o/L, fewer where no prompt would end in a segment."""
    return _used(lengths, -(-np.arange(1, count + 1) * lengths.longest // count))


def quantiles(lengths: UnknownLengths, count: int) -> Ints:
    """Boundaries at the k/L quantiles of the decode stages, fewer where several fall together."""
    left = lengths.rates[1:] / lengths.rates[0]
    index = [int(np.argmax(left <= 1 - k / count + 1e-12)) for k in range(1, count)]
    return _used(lengths, lengths.ends[[*index, -1]])


def _used(lengths: UnknownLengths, boundaries: Ints) -> Ints:
    cuts = np.unique(np.minimum(boundaries, lengths.longest))
    ended = np.searchsorted(lengths.ends, cuts, side="right")
    kept = np.diff(ended, prepend=0) > 0
    kept[-1] = True
    return cuts[kept]
