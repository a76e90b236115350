"""The gaps between the tokens of requests: every one of them, counted, from what a recorded run leaves behind.

The k-th gap of a request is the time between its k-th token and the next (ITL); their mean over a request is its TPOT.
There are as many as tokens, far too many to write down one by one; but who decodes takes part in one iteration after
the other, so that many gaps are one and the same.

**Continuous batching.** Let D be the ends of the iterations in which residents decode. A request in the batch over
(begin, end] makes its tokens at D in (begin, end]: the gap D_i - D_(i-1) is had by all who were in the batch then, and
a count is a sum of +1 where a request begins and -1 behind its end. An eviction ends such a *spell*; under "recompute"
the next begins when prompt and tokens are prefilled again, which makes a token where prefills do
(`first_token = "prefill"`). Across two spells, and from a token made elsewhere to the first one here, a gap is its own.

**Cohorts** (WAIT, nested WAIT). E_k are the ends of the iterations that serve segment k; its entry queue is left in
order, n_k at a time, so the i-th to come enters with batch floor(i / n_k), and executes a stage in each batch from
there. Between two segments, too, a gap is its own. A lane of WAIT is one segment.

Of a request that an eviction makes start again only the last pass counts, as for its latency and TTFT. Exact: the
literal simulator notes each token by itself, and both give the same gaps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fluid.arrays import Floats, Ints
from thresholds import NestedWaitPolicy, WaitPolicy
from verification.engine.state import Problem, State
from verification.policies import Policy
from verification.run import Gaps, Timeline


def gaps_of(policy: Policy, problem: Problem, state: State, spells: Floats,
            timeline: Timeline) -> Gaps:
    """Return the gaps of a run that is over; `spells` are those that an eviction ended, shape (spells, 3)."""
    if isinstance(policy, WaitPolicy):
        found = _of_lanes(policy.thresholds, problem, state, timeline)
    elif isinstance(policy, NestedWaitPolicy):
        found = _of_segments(policy, problem, state, timeline)
    else:
        found = _of_spells(problem, state, spells, timeline)
    return _joined(found, problem.horizon)


def _joined(found: Iterable[Gaps], horizon: float) -> Gaps:
    """The gaps that end by the horizon, in the order of their ends."""
    pieces = [each for each in (_had(each, horizon) for each in found) if len(each.end)]
    if not pieces:
        return _each(np.empty(0), np.empty(0))
    end = np.concatenate([each.end for each in pieces]) if len(pieces) > 1 else pieces[0].end
    if len(pieces) == 1 and np.all(end[1:] >= end[:-1]):
        return pieces[0]
    order = np.argsort(end, kind="stable")
    return Gaps(end[order], np.concatenate([each.seconds for each in pieces])[order],
                np.concatenate([each.count for each in pieces])[order])


def _had(gaps: Gaps, horizon: float) -> Gaps:
    """Those that somebody had, by the horizon."""
    rows = (gaps.count > 0) & (gaps.end <= horizon)
    return Gaps(gaps.end[rows], gaps.seconds[rows], gaps.count[rows])


@dataclass(frozen=True)
class Spells:
    """Times in the batch, in order of request and time: `token`, NaN or that made where one begins."""

    request: Ints
    begin: Floats
    end: Floats
    token: Floats


def _of_spells(problem: Problem, state: State, ended: Floats, timeline: Timeline) -> list[Gaps]:
    decoded = timeline.end[timeline.served > 0]
    spells = spells_of(problem, state, ended)
    low, high = (np.searchsorted(decoded, each, side="right") for each in (spells.begin, spells.end))
    before, here = _token_before(spells, decoded, low, high), high > low
    resumed = np.isfinite(spells.token) & (before < spells.token)  # a prefill made a token after a gap
    since = np.where(np.isfinite(spells.token), spells.token, before)[here]
    first = low[here]
    regular = (first > 0) & (since == decoded[np.maximum(first - 1, 0)])
    inner = Gaps(decoded, np.diff(decoded, prepend=0.0),
                 _covered(first + ~regular, high[here] - 1, len(decoded)))
    own = first[~regular]
    again = _each(spells.token[resumed], (spells.token - before)[resumed])
    return [inner, _each(decoded[own], decoded[own] - since[~regular]), again]


def spells_of(problem: Problem, state: State, ended: Floats) -> Spells:
    """Every time that a request with a token was in the batch: the spells ended, and the last of each."""
    types, elsewhere = problem.types, problem.first_stage < 0
    again = np.isfinite(state.since) & ~np.isnan(state.first_token)
    begin = np.where(again, state.since, np.where(elsewhere[types], state.admitted, state.first_token))
    last = np.flatnonzero(np.isfinite(begin) & ~np.isinf(state.since) & ~np.isnan(state.first_token))
    end = np.where(np.isnan(state.finished), problem.horizon, state.finished)
    request = np.concatenate([ended[:, 0].astype(np.int64), last])
    begin, end = np.concatenate([ended[:, 1], begin[last]]), np.concatenate([ended[:, 2], end[last]])
    order = np.lexsort((begin, request))
    request, begin, end = request[order], begin[order], end[order]
    first = np.diff(request, prepend=-1) > 0
    by_prefill = problem.first_stage[types[request]] == problem.prefill_stages[types[request]] - 1
    token = np.where(first, state.first_token[request], np.where(by_prefill, begin, np.nan))
    return Spells(request, begin, end, token)


def _token_before(spells: Spells, decoded: Floats, low: Ints, high: Ints) -> Floats:
    """The last token that its request had made before each spell, and before what is made where it begins; of a first
    spell that one.
    """
    last = np.where(high > low, decoded[np.maximum(high - 1, 0)] if len(decoded) else np.nan, spells.token)
    known = np.maximum.accumulate(np.where(np.isnan(last), 0, np.arange(len(last))))
    carried = last[known]
    first = np.diff(spells.request, prepend=-1) > 0
    return np.where(first, spells.token, np.roll(carried, 1))


def _covered(first: Ints, last: Ints, size: int) -> Ints:
    """How many ranges first .. last, both included, cover each of 0 .. size - 1; those that are empty none."""
    some = last >= first
    change = np.bincount(first[some], minlength=size + 1)
    change -= np.bincount(last[some] + 1, minlength=size + 1)
    return np.cumsum(change, out=change)[:size]


def _each(end: Floats, seconds: Floats) -> Gaps:
    return Gaps(end, seconds, np.ones(len(end), dtype=np.int64))


def _of_lanes(thresholds: tuple[int, ...], problem: Problem, state: State,
              timeline: Timeline) -> list[Gaps]:
    """The gaps under WAIT: each type that requests are taken for is a segment of all stages."""
    found = []
    for lane, threshold in enumerate(thresholds):
        members = np.flatnonzero((problem.seen == lane) & np.isfinite(state.admitted))
        batches = np.unique(state.admitted[members])
        ends = timeline.end[np.searchsorted(timeline.start, batches)]
        found += _inside(problem, members, np.arange(len(members)) // threshold, ends, 0, problem.longest)
        found += _from_elsewhere(problem, state, members, ends[np.arange(len(members)) // threshold])
    return found or [_each(np.empty(0), np.empty(0))]


def _of_segments(policy: NestedWaitPolicy, problem: Problem, state: State,
                 timeline: Timeline) -> list[Gaps]:
    """The gaps under nested WAIT: those inside a segment, and those from one to the next."""
    bounds = np.append(0, np.array(policy.boundaries, dtype=np.int64) + problem.prefill_stages[0])
    members, found = np.flatnonzero(np.isfinite(state.admitted)), []
    leaving = np.empty(0)
    for k, threshold in enumerate(policy.thresholds):
        first, stages = int(bounds[k]), problem.stages[problem.types[members]]
        goes_on = stages > first
        members, leaving = members[goes_on], leaving[goes_on] if k else leaving
        ends = timeline.end[timeline.served > k]
        batch = np.arange(len(members)) // threshold
        entered = batch < len(ends)
        members, batch = members[entered], batch[entered]
        made = problem.first_stage[problem.types[members]]
        if k == 0:
            found += _from_elsewhere(problem, state, members, ends[batch])
        else:
            moved = made < first
            found.append(_each(ends[batch][moved], (ends[batch] - leaving[entered])[moved]))
        found += _inside(problem, members, batch, ends, first, int(bounds[k + 1]))
        out = batch + int(bounds[k + 1]) - first - 1
        there = out < len(ends)
        members, leaving = members[there], ends[out[there]]
    return found


def _inside(problem: Problem, members: Ints, batch: Ints, ends: Floats, first: int, end: int) -> list[Gaps]:
    """The gaps within a segment, whose members enter with a batch, at its first stage."""
    types = problem.types[members]
    begin = batch + np.maximum(problem.first_stage[types], first) - first + 1
    last = np.minimum(batch + np.minimum(problem.stages[types], end) - 1 - first, len(ends) - 1)
    return [Gaps(ends, np.diff(ends, prepend=0.0), _covered(begin, last, len(ends)))]


def _from_elsewhere(problem: Problem, state: State, members: Ints, entered: Floats) -> list[Gaps]:
    """The gaps from a token made elsewhere, before arrival, to the end of the first batch here."""
    made = problem.first_stage[problem.types[members]] < 0
    return [_each(entered[made], (entered - state.first_token[members])[made])]
