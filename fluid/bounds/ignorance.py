r"""What no policy carries that does not know output lengths and is sure never to overflow.

**Who.** A policy serves the stages of the replica, sees prompts, and of outputs only that they are not over yet.
Lengths are independent of each other; of prompts that look alike (same tokens, same cached prefix) the longest output
of the mix has some probability. It is *sure* if no iteration ever holds more than C, with certainty, and it *never
pauses*: a resident is in every batch until it is over, and is never evicted. So are engines that reserve, and windows
whose bound holds on every path.

**Bound.** Take an iteration of such a policy, and a lead tau >= 0. Given all it has seen, every resident may last as
long as the longest of its kind; with some probability all of them do. Then those that are still there tau iterations
later hold, a resident at stage s of prompts of kind l,

    k_l(s + tau)   if s + tau < S_l, the most stages of the kind,      0 else

and these sum to at most C, or the policy overflows with some probability. So it does in *every* iteration. Add up over
the iterations before T, as Theorem 2.1 does: each request completed has been at each of its stages, so that for every
tau and line i

    sum_j lambda_j h_ij <= 1,   h_ij = c_ij + d0_i w_j(tau)/C,   w_j(tau) = sum_{s < S_j} k_l(s + tau) 1{s + tau < S_l}

half-spaces like those of the region, whose memory is tau = 0. The factor is 1 over the largest load. With one length
per kind w_j(tau) only falls, and the bound is the fluid limit.

**Reserving.** A policy that sets aside k_l(S_l - 1) tokens from entry to end has w_j = S_j k_l(S_l - 1), paused or not.

Whoever may overflow with a small probability, pause, or evict, may carry more: of them the fluid limit is what is
proved. The lead is found from correlations of (rates of those at stage s) with (what they would hold), by fast Fourier
transforms; the half-space that is returned is summed anew, exactly, so that rounding can only miss a better lead.
Source: derived here; mathematics, section 18.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from fluid.arrays import Floats, Ints
from fluid.replica import Replica
from fluid.stages import StageProfile


@dataclass(frozen=True, eq=False)
class Ignorance:
    """No sure policy carries more than `scale` times the rates: 1 over the load of `slope` (J,).

    The slope is that at `lead` tau of line number `line`; `lead` is None for policies that reserve.
    """

    scale: float
    lead: int | None
    line: int
    slope: Floats

    def __repr__(self) -> str:
        how = "reserving the longest output" if self.lead is None else f"looking {self.lead:,} iterations ahead"
        return f"Ignorance(no more than {self.scale:.4g} of the rates, {how})"


def under_ignorance(profile: StageProfile, rates: Floats, replica: Replica) -> Ignorance:
    """Return the bound for policies that do not know lengths, never pause, evict or overflow; rates (J,) in requests/s.

    Every type is to fit the cache.

    >>> from fluid import IterationTime, PromptType, Workload, stage_profile
    >>> replica = Replica(1000, IterationTime(1.0, 0.0), prefill="decode-only")
    >>> mix = Workload([PromptType(1, 10, 0.9), PromptType(1, 100, 0.1)])     # nobody knows which is which
    >>> found = under_ignorance(stage_profile(mix, replica), mix.rates, replica)
    >>> found.lead, round(found.scale, 3)                     # knowing it, at most 1.744
    (88, 1.036)
    """
    work = np.zeros(int(profile.stages.max()))
    for types, held in kinds(profile):
        begun = np.bincount(profile.stages[types], rates[types])
        there = np.cumsum(begun[::-1], dtype=np.float64)[::-1][1:]  # rates of those that pass each stage
        work[: held.size] += np.maximum(_correlation(held.astype(np.float64), there), 0.0)
    lead = int(np.argmax(work))
    return _bounded(profile, rates, replica, lead_work(profile, lead), lead)


def while_reserving(profile: StageProfile, rates: Floats, replica: Replica) -> Ignorance:
    """Return the bound for policies that reserve, for each request, what the longest of its kind would hold last.

    >>> from fluid import IterationTime, PromptType, Workload, stage_profile
    >>> replica = Replica(1000, IterationTime(1.0, 0.0), prefill="decode-only")
    >>> mix = Workload([PromptType(1, 10, 0.9), PromptType(1, 100, 0.1)])
    >>> round(while_reserving(stage_profile(mix, replica), mix.rates, replica).scale, 3)
    0.521
    """
    work = np.zeros(profile.stages.size)
    for types, held in kinds(profile):
        work[types] = profile.stages[types] * (float(held[-1]) / profile.layout.unit)
    return _bounded(profile, rates, replica, work, None)


def kinds(profile: StageProfile) -> Iterator[tuple[Ints, Ints]]:
    """The types that look alike before their end, and what the longest of them holds at each stage, units."""
    looks = np.stack([profile.prompt, profile.prefix])
    _, kind = np.unique(looks, axis=1, return_inverse=True)
    order = np.argsort(kind.ravel(), kind="stable")
    for types in np.split(order, np.flatnonzero(np.diff(kind.ravel()[order])) + 1):
        yield types, profile.units_held(int(types[np.argmax(profile.stages[types])]))


def lead_work(profile: StageProfile, lead: int) -> Floats:
    """Return w_j(tau), token-iterations, shape (J,): what a request would hold `lead` iterations later, over its life.

    At lead 0 it is the KV work.
    """
    work = np.zeros(profile.stages.size)
    for types, held in kinds(profile):
        sums = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(held)])
        last, first = (np.minimum(each, held.size) for each in (profile.stages[types] + lead, np.array(lead)))
        work[types] = (sums[last] - sums[first]) / profile.layout.unit
    return work


def _correlation(held: Floats, there: Floats) -> Floats:
    """sum_s there(s) held(s + tau) for tau = 0.. of two arrays of one length."""
    size = next_fast_len(2 * held.size, real=True)
    found: Floats = irfft(rfft(held, size) * rfft(there[::-1], size), size)
    return found[held.size - 1: 2 * held.size - 1]


def _bounded(profile: StageProfile, rates: Floats, replica: Replica, work: Floats, lead: int | None) -> Ignorance:
    slopes = profile.time_work(replica.iteration_time) + replica.iteration_time.overheads[:, None] * (
        work / replica.kv_capacity)
    loads = slopes @ rates
    line = int(np.argmax(loads))
    return Ignorance(1.0 / float(loads[line]), lead, line, slopes[line])
