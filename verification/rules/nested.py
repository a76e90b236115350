"""Nested WAIT [A, Algorithm 2], model.md section 5: segments of decode progress, each with its entry queue.

The entry queue of segment 1 waits outside; that of segment k >= 2 holds residents about to make token r_{k-1} + 1. At
a decision let k be the largest such that every segment up to it has at least its threshold in its entry queue; the
batch takes exactly n_k' of them into each segment k' <= k, and all that are inside those segments already (at most
n_k' in each stage, since no more ever enter at once). Later segments pause and keep their KV. A prompt leaves at its
last token; its length is looked at there and nowhere else.

Each segment counts its batches. A prompt that enters segment k with batch b is due out with batch b + (stages it has
there) - 1, so a calendar by batches holds everyone inside; an iteration costs the prompts that enter or leave a
segment, and a second one counts those whose attention window is full with a batch. `link` serves queues and calendars,
since a prompt is in one of them. A batch of more than B sequences counts as an overflow, as one of more than C tokens
does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.errors import InputError
from fluid.workload import Ints
from thresholds import NestedWaitPolicy
from verification.clock import execute, paused, sleep
from verification.engine import (
    NOBODY,
    NOW,
    Kernel,
    Problem,
    State,
    compiled,
    complete,
    entry,
    in_blocks,
    make_first_token,
    next_arrival,
    stage_prefill,
    stage_read,
    stage_tokens,
    woven,
)

# rows of Segments.inside: prompts inside a segment, the tokens they read and hold, how many of them read one more after
# each batch; KV held in its entry queue
SIZE, READ, KV, GROWING, QUEUED_KV = range(5)


class Segments(NamedTuple):
    """Per segment: first stage and end, threshold, batches served, its queue, its calendar and what is inside.

    `order` lists the prompts that entered segment 1, n_1 for each of its batches.
    """

    first: Ints
    end: Ints
    threshold: Ints
    batches: Ints
    head: Ints
    tail: Ints
    waiting: Ints
    calendar: Ints
    stopping: Ints
    inside: Ints
    phase: Ints
    link: Ints
    order: Ints


def kernel(policy: NestedWaitPolicy, problem: Problem) -> Kernel:
    """Return the rule, ready to run; raises InputError for prefill in chunks or an output past the last boundary."""
    if problem.prefill_stages.max() > 1:
        raise InputError("prefill", '"whole" or "decode-only" under nested WAIT', "a chunk", "replica")
    end = np.array(policy.boundaries, dtype=np.int64) + problem.prefill_stages[0]
    if problem.stages.max() > end[-1]:
        longest = f"up to {problem.stages.max() - problem.prefill_stages[0]} decode stages, the longest output"
        raise InputError("boundaries", longest, policy.boundaries, "policy")
    segments = _empty(policy, problem, end)
    return lambda state, budget: run(problem, state, segments, budget)


def _empty(policy: NestedWaitPolicy, problem: Problem, end: Ints) -> Segments:
    count, n = len(end), len(problem.times)
    first = np.concatenate([np.zeros(1, dtype=np.int64), end[:-1]])
    width = int((end - first).max())
    return Segments(first, end, np.array(policy.thresholds, dtype=np.int64), np.zeros(count, dtype=np.int64),
                    np.full(count, NOBODY), np.full(count, NOBODY), np.zeros(count, dtype=np.int64),
                    np.full((count, width), NOBODY), np.zeros((count, width), dtype=np.int64),
                    np.zeros((5, count), dtype=np.int64),
                    np.zeros((count, problem.block), dtype=np.int64), np.full(n, NOBODY),
                    np.empty(n, dtype=np.int64))


@entry
def run(problem: Problem, state: State, segments: Segments, budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    while not paused(problem, state, budget):
        r = next_arrival(problem, state)
        while r != NOBODY:
            _queue(segments, 0, r)
            r = next_arrival(problem, state)
        served = _eligible(segments)
        if served > 0:
            _serve(problem, state, segments, served)
        else:
            sleep(problem, state)


@compiled
def _eligible(segments: Segments) -> int:
    """How many segments, from the first on, have a full threshold at their entry."""
    k = 0
    while k < len(segments.threshold) and segments.waiting[k] >= segments.threshold[k]:
        k += 1
    return k


@woven
def _serve(problem: Problem, state: State, segments: Segments, served: int) -> None:
    """One iteration of the first segments."""
    start, prefill = state.clock[NOW], 0
    for k in range(served):
        prefill += _enter(problem, state, segments, k, start)
    kv, read, size = 0, 0, 0
    for k in range(len(segments.threshold)):
        kv += segments.inside[KV, k] + segments.inside[QUEUED_KV, k]
        if k < served:
            read += segments.inside[READ, k]
            size += segments.inside[SIZE, k]
    end = execute(problem, state, kv, read, prefill, size)
    for k in range(served):
        _leave(problem, state, segments, k, end)
    _first_tokens(problem, state, segments, end)


@woven
def _enter(problem: Problem, state: State, segments: Segments, k: int, start: float) -> int:
    """Move n_k prompts from the entry queue into the segment; return the prompt tokens they prefill."""
    prefill, batch = 0, segments.batches[k]
    for place in range(segments.threshold[k]):
        r = segments.head[k]
        j = problem.types[r]
        segments.head[k] = segments.link[r]
        segments.waiting[k] -= 1
        slot = (batch + min(problem.stages[j], segments.end[k]) - segments.first[k] - 1) % segments.calendar.shape[1]
        segments.link[r] = segments.calendar[k, slot]
        segments.calendar[k, slot] = r
        if k == 0:
            state.admitted[r] = start
            segments.order[batch * segments.threshold[0] + place] = r
            prefill += stage_prefill(problem, j, 0)
        else:
            segments.inside[QUEUED_KV, k] -= in_blocks(problem, stage_read(problem, j, segments.first[k]))
        _count(problem, segments, k, j, segments.first[k], batch, 1)
    segments.batches[k] += 1
    return prefill


@woven
def _leave(problem: Problem, state: State, segments: Segments, k: int, end: float) -> None:
    """Prompts due out complete or join the next queue, in the order they entered; the others go on one stage."""
    batch = segments.batches[k] - 1
    slot = batch % segments.calendar.shape[1]
    r, survivors, last = segments.calendar[k, slot], NOBODY, NOBODY
    segments.calendar[k, slot] = NOBODY
    while r != NOBODY:
        j, following = problem.types[r], segments.link[r]
        _count(problem, segments, k, j, min(problem.stages[j], segments.end[k]) - 1, batch, -1)
        if problem.stages[j] <= segments.end[k]:
            complete(problem, state, r, end)
        else:
            segments.inside[QUEUED_KV, k + 1] += in_blocks(problem, stage_read(problem, j, segments.end[k]))
            segments.link[r] = survivors  # the calendar is last in, first out: this turns it round
            survivors = r
        r = following
    while survivors != NOBODY:
        last, survivors = survivors, segments.link[survivors]
        _queue(segments, k + 1, last)
    segments.inside[GROWING, k] -= segments.stopping[k, slot]
    segments.phase[k, (problem.window - batch) % problem.block] -= segments.stopping[k, slot]
    segments.stopping[k, slot] = 0
    segments.inside[READ, k] += segments.inside[GROWING, k]
    segments.inside[KV, k] += problem.block * segments.phase[k, -batch % problem.block]


@compiled
def _first_tokens(problem: Problem, state: State, segments: Segments, end: float) -> None:
    """The cohort of segment 1 that has just done the stage of its first token (the same stage for every type)."""
    cohort = segments.batches[0] - 1 - problem.first_stage[0]
    if problem.first_stage[0] >= 0 and cohort >= 0:
        for place in range(cohort * segments.threshold[0], (cohort + 1) * segments.threshold[0]):
            make_first_token(problem, state, segments.order[place], end)


@compiled
def _count(problem: Problem, segments: Segments, k: int, j: int, stage: int, batch: int, change: int) -> None:
    """Count a prompt of type j at a stage in (or out of) the inside of a segment."""
    read, tokens = stage_read(problem, j, stage), stage_tokens(problem, j, stage)
    segments.inside[SIZE, k] += change
    segments.inside[READ, k] += change * read
    segments.inside[KV, k] += change * in_blocks(problem, read)
    if tokens > problem.window:
        return
    segments.inside[GROWING, k] += change
    segments.phase[k, (tokens - batch) % problem.block] += change
    if stage_tokens(problem, j, min(problem.stages[j], segments.end[k]) - 1) > problem.window:
        segments.stopping[k, (problem.window - tokens + batch) % segments.stopping.shape[1]] += change


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
