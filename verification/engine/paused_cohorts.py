"""Prompts that enter in cohorts and stand still between the batches of their segment, whatever their lengths.

A segment is a stretch of stages with a queue at its entry: of requests that wait outside, or of residents that have
come through the segment before it. It counts its batches, and everyone inside takes part in each of them. A prompt that
enters with batch b is due out with batch b + (stages it has there) - 1, so a calendar by batches holds everyone inside:
an iteration costs the prompts that enter or leave a segment. A second calendar counts those whose attention window is
full with a batch. `link` serves queues and calendars, since a prompt is in one of them.

The lengths of a prompt are looked at for what it reads, and where it leaves; no decision depends on them. Prefill is
whole or elsewhere, so all make their first token in the same stage.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.arrays import Ints
from fluid.errors import InputError
from verification.engine.clock import execute, paused, sleep
from verification.engine.compile import compiled, entry, woven
from verification.engine.state import (
    NOBODY,
    NOW,
    Problem,
    State,
    complete,
    growth,
    held_by,
    make_first_token,
    next_arrival,
    read_by,
    stage_prefill,
    stage_tokens,
)

# rows of Segments.inside: prompts inside a segment, the KV they read and hold, the growth of both with each batch
# (`verification.engine.residents`): of what they hold, of what they read; and the KV held in its entry queue
SIZE, READ, KV, GROWING, WIDENING, QUEUED_KV, ROWS = range(7)


class Segments(NamedTuple):
    """Per segment: first stage and end, threshold, whether it is `served` in the coming iteration, batches served, its
    entry queue (`head`, `tail`, `waiting`), and by batches the `calendar` of those due out and the growth of those
    whose attention window is full: for what they hold (`stopping`) and what they read (`sating`); the sums `inside`
    (rows above) and, by block phase, the growth of those who open a new cache block next. `link` is by request.

    `order` holds, from `offset` on, the last `kept` cohorts that entered a segment from outside (`offset` is NOBODY
    where they come from another): those that have no first token yet.
    """

    first: Ints
    end: Ints
    threshold: Ints
    offset: Ints
    served: Ints
    batches: Ints
    head: Ints
    tail: Ints
    waiting: Ints
    calendar: Ints
    stopping: Ints
    sating: Ints
    inside: Ints
    phase: Ints
    link: Ints
    order: Ints
    kept: int


def make_segments(problem: Problem, first: Ints, end: Ints, thresholds: tuple[int, ...], rule: str) -> Segments:
    """Return segments with nobody in them; requests enter one that begins with stage 0 from outside the GPU.

    Raises InputError, on behalf of a rule, for prefill in chunks.
    """
    if problem.in_chunks:
        raise InputError("prefill", f'"whole" or "decode-only" under {rule}', "a chunk", "replica")
    count, n, width = len(end), len(problem.times), int((end - first).max())
    needed = np.minimum(np.array(thresholds, dtype=np.int64), n + 1)  # more than all requests is never reached
    kept = int(problem.first_stage[0]) + 1
    ring = np.where(first == 0, kept * needed, 0)
    offset = np.where(first == 0, np.cumsum(ring) - ring, NOBODY)
    none = np.zeros(count, dtype=np.int64)
    return Segments(first, end, needed, offset, none, none.copy(), none + NOBODY,
                    none + NOBODY, none.copy(), np.full((count, width), NOBODY),
                    np.zeros((count, width), dtype=np.int64), np.zeros((count, width), dtype=np.int64),
                    np.zeros((ROWS, count), dtype=np.int64), np.zeros((count, problem.block), dtype=np.int64),
                    np.full(n, NOBODY), np.empty(ring.sum(), dtype=np.int64), kept)


@entry
def run(problem: Problem, state: State, segments: Segments, by_type: bool, budget: int) -> None:
    """Run a rule until the budget of iterations is spent.

    A segment is served where the threshold's number of prompts stands at its entry. With `by_type` each stands for
    itself, the entry of the type a request is taken for; else the first is the entry of all, and a segment is served
    only if those before it are.
    """
    while not paused(problem, state, budget):
        _take_arrivals(problem, state, segments, by_type)
        if _choose(segments, by_type):
            _serve(problem, state, segments)
        else:
            sleep(problem, state)


@compiled
def _take_arrivals(problem: Problem, state: State, segments: Segments, by_type: bool) -> None:
    """Queue every request that has arrived by now."""
    r = next_arrival(problem, state, state.clock[NOW])
    while r != NOBODY:
        _queue(segments, problem.seen[r] if by_type else 0, r)
        r = next_arrival(problem, state, state.clock[NOW])


@compiled
def _choose(segments: Segments, by_type: bool) -> bool:
    """Note which segments to serve; return whether there are any."""
    some, before = False, True
    for k in range(len(segments.threshold)):
        before = segments.waiting[k] >= segments.threshold[k] and (before or by_type)
        segments.served[k] = before
        some = some or before
    return some


@woven
def _serve(problem: Problem, state: State, segments: Segments) -> None:
    """One iteration of the segments that are `served`."""
    start, kv, read, prefill, size, more = state.clock[NOW], 0, 0, 0, 0, 0
    for k in range(len(segments.threshold)):
        if segments.served[k]:
            entered = _enter(problem, state, segments, k, start)
            prefill += entered
            more += entered - segments.threshold[k] if entered > 0 else 0  # beyond the one of a sequence that decodes
    for k in range(len(segments.threshold)):
        kv += segments.inside[KV, k] + segments.inside[QUEUED_KV, k]
        if segments.served[k]:
            read += segments.inside[READ, k]
            size += segments.inside[SIZE, k]
    end = execute(problem, state, kv, read, prefill, size, size + more, segments.served.sum())
    for k in range(len(segments.threshold)):
        if segments.served[k]:
            _leave(problem, state, segments, k, end)
            _go_on(problem, segments, k)
            _first_tokens(problem, state, segments, k, end)


@woven
def _enter(problem: Problem, state: State, segments: Segments, k: int, start: float) -> int:
    """Move n_k prompts from the entry queue into the segment; return the prompt tokens they prefill."""
    prefill, batch, outside = 0, segments.batches[k], segments.offset[k] != NOBODY
    for place in range(segments.threshold[k]):
        r = segments.head[k]
        j = problem.types[r]
        segments.head[k] = segments.link[r]
        segments.waiting[k] -= 1
        slot = (batch + min(problem.stages[j], segments.end[k]) - segments.first[k] - 1) % segments.calendar.shape[1]
        segments.link[r] = segments.calendar[k, slot]
        segments.calendar[k, slot] = r
        if outside:
            state.admitted[r] = start
            if segments.kept > 0:
                segments.order[_cohort(segments, k, batch) + place] = r
            prefill += stage_prefill(problem, j, 0)
        else:
            segments.inside[QUEUED_KV, k] -= held_by(problem, stage_tokens(problem, j, segments.first[k]))
        _count(problem, segments, k, j, segments.first[k], batch, 1)
    segments.batches[k] += 1
    return prefill


@woven
def _leave(problem: Problem, state: State, segments: Segments, k: int, end: float) -> None:
    """Prompts due out with the batch just served complete, or join the next queue in the order they entered."""
    batch, survivors = segments.batches[k] - 1, NOBODY
    r = _take_due(segments, k, batch)
    while r != NOBODY:
        j, following = problem.types[r], segments.link[r]
        _count(problem, segments, k, j, min(problem.stages[j], segments.end[k]) - 1, batch, -1)
        if problem.stages[j] <= segments.end[k]:
            complete(problem, state, r, end)
        else:
            segments.link[r] = survivors  # the calendar is last in, first out: this turns it round
            survivors = r
        r = following
    while survivors != NOBODY:
        r, survivors = survivors, segments.link[survivors]
        _queue(segments, k + 1, r)
        segments.inside[QUEUED_KV, k + 1] += held_by(problem, stage_tokens(problem, problem.types[r], segments.end[k]))


@compiled
def _take_due(segments: Segments, k: int, batch: int) -> int:
    """Take those due out with a batch off the calendar; return the last to have entered, which links to the others."""
    slot = batch % segments.calendar.shape[1]
    r = segments.calendar[k, slot]
    segments.calendar[k, slot] = NOBODY
    return r


@compiled
def _go_on(problem: Problem, segments: Segments, k: int) -> None:
    """Those still inside go on one stage: they hold and read a token more, unless their attention window is full."""
    batch = segments.batches[k] - 1
    slot = batch % segments.stopping.shape[1]
    full = segments.stopping[k, slot]
    segments.stopping[k, slot] = 0
    segments.inside[GROWING, k] -= full
    segments.inside[WIDENING, k] -= full + segments.sating[k, slot]
    segments.sating[k, slot] = 0
    segments.phase[k, (problem.window - batch) % problem.block] -= full
    segments.inside[READ, k] += segments.inside[WIDENING, k]
    segments.inside[KV, k] += problem.block * segments.phase[k, -batch % problem.block]


@compiled
def _first_tokens(problem: Problem, state: State, segments: Segments, k: int, end: float) -> None:
    """The cohort from outside that has just done the stage of its first token."""
    batch = segments.batches[k] - segments.kept
    if segments.offset[k] != NOBODY and segments.kept > 0 and batch >= 0:
        begin = _cohort(segments, k, batch)
        for place in range(begin, begin + segments.threshold[k]):
            make_first_token(problem, state, segments.order[place], end)


@compiled
def _cohort(segments: Segments, k: int, batch: int) -> int:
    """Where in `order` the cohort begins that entered with a batch."""
    return segments.offset[k] + (batch % segments.kept) * segments.threshold[k]


@compiled
def _count(problem: Problem, segments: Segments, k: int, j: int, stage: int, batch: int, change: int) -> None:
    """Count a prompt of type j at a stage in (or out of) the inside of a segment."""
    tokens = stage_tokens(problem, j, stage)
    units = growth(problem, tokens)
    segments.inside[SIZE, k] += change
    segments.inside[READ, k] += change * read_by(problem, j, tokens)
    segments.inside[KV, k] += change * held_by(problem, tokens)
    if units == 0:
        return
    segments.inside[GROWING, k] += change * units
    segments.inside[WIDENING, k] += change * units
    segments.phase[k, (tokens - batch) % problem.block] += change * units
    last = min(problem.stages[j], segments.end[k]) - 1
    if tokens <= problem.window < stage_tokens(problem, j, last):
        full = (problem.window - tokens + batch) % segments.stopping.shape[1]
        segments.stopping[k, full] += change * problem.windowed
    if problem.prefix[j] > 0:
        _sate(problem, segments, k, problem.prefix[j], tokens, stage_tokens(problem, j, last), batch, change)


@compiled
def _sate(problem: Problem, segments: Segments, k: int, prefix: int, tokens: int, last: int, batch: int,
          change: int) -> None:
    """Count layers in (or out of) those that read no more with each batch, a window being full, but hold more."""
    window, units, width = problem.window, change * problem.windowed, segments.sating.shape[1]
    if tokens <= window < tokens + prefix:
        segments.inside[WIDENING, k] -= units
    elif tokens + prefix <= window < last + prefix:
        segments.sating[k, (window - prefix - tokens + batch) % width] += units
    if tokens <= window < last:
        segments.sating[k, (window - tokens + batch) % width] -= units


@compiled
def _queue(segments: Segments, k: int, r: int) -> None:
    """Put a prompt at the end of the entry queue of a segment."""
    segments.link[r] = NOBODY
    if segments.waiting[k] == 0:
        segments.head[k] = r
    else:
        segments.link[segments.tail[k]] = r
    segments.tail[k] = r
    segments.waiting[k] += 1
