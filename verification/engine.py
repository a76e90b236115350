"""The compiled simulator: the problem, the record of a run, and the steps every decision rule is made of.

Requests are numbered in order of arrival. A kernel (one per decision rule) reads a `Problem` and changes a `State`; it
runs until its iteration budget is spent and can be called again with the same state: that is how long runs show
progress, obey an interrupt and hand over their timeline piece by piece.

KV tokens are sums of integers: they do not drift, and the literal reference gets the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fluid.profile import StageProfile
from fluid.replica import Replica
from fluid.workload import Floats, Ints
from thresholds.compiled import F, jit
from verification.arrivals import Arrivals

NOBODY = -1
NO_CAP = 2**62

# places in State.counts
ARRIVED, REJECTED, ITERATION, OVERFLOWS, EVICTIONS, KV_PEAK, RECORDED, DONE, COUNTS = range(9)
# places in State.clock
NOW, BUSY, LAST_COMPLETION, CLOCKS = range(4)


class Problem(NamedTuple):
    """What a kernel reads: the arrivals, the stages of each type, the iteration time, C, B and the horizon."""

    times: Floats
    types: Ints
    prompt: Ints
    chunk: Ints
    prefill_stages: Ints
    stages: Ints
    first_stage: Ints
    peak: Ints
    block: int
    window: int
    pieces: Floats
    capacity: int
    most_sequences: int
    horizon: float


class State(NamedTuple):
    """What every kernel changes: three times per request (NaN until they happen), counts, clocks, the timeline."""

    admitted: Floats
    first_token: Floats
    finished: Floats
    counts: Ints
    clock: Floats
    timeline: Floats


Kernel = Callable[[State, int], None]  # runs a rule on a state until its budget of iterations is spent


def make_problem(arrivals: Arrivals, profile: StageProfile, replica: Replica, horizon: float) -> Problem:
    """Gather what a kernel reads."""
    return Problem(arrivals.times, arrivals.types, profile.prompt, profile.chunk, profile.prefill_stages,
                   profile.stages, profile.first_token_stage, profile.peak, profile.block, profile.window,
                   replica.iteration_time.coefficients, replica.kv_capacity,
                   int(min(replica.most_sequences, NO_CAP)), horizon)


def make_state(problem: Problem, record: int) -> State:
    """Return the state at time 0; `record` is the room for iterations in the timeline (0: none is kept)."""
    admitted, first_token, finished = (np.full(len(problem.times), np.nan) for _ in range(3))
    return State(admitted, first_token, finished, np.zeros(COUNTS, dtype=np.int64), np.zeros(CLOCKS),
                 np.empty((record, 4)))


def compiled(function: F) -> F:
    """A kernel, or a step of one, compiled by `thresholds.compiled` to run without the interpreter.

    Kernels allocate nothing, so reference counting is off (`_nrt`): counting the arrays of a tuple at each call made
    them ten times slower. Forced inlining saves another half.
    """
    return jit(function, nogil=True, forceinline=True, _nrt=False)


@compiled
def iteration_time(problem: Problem, read: int, prefill: int, size: int) -> float:
    """max_i (d0 + d1 KV + d2 prefill + d3 size)."""
    longest = 0.0
    for i in range(problem.pieces.shape[0]):
        d0, d1, d2, d3 = problem.pieces[i]
        longest = max(longest, d0 + d1 * read + d2 * prefill + d3 * size)
    return longest


@compiled
def stage_tokens(problem: Problem, j: int, stage: int) -> int:
    """The context of type j at a stage: the tokens it would read without an attention window."""
    decoded = stage - problem.prefill_stages[j] + 1
    if decoded > 0:
        return problem.prompt[j] + decoded
    return min(problem.chunk[j] * (stage + 1), problem.prompt[j])


@compiled
def stage_read(problem: Problem, j: int, stage: int) -> int:
    """KV tokens type j reads at a stage."""
    return min(stage_tokens(problem, j, stage), problem.window)


@compiled
def stage_prefill(problem: Problem, j: int, stage: int) -> int:
    """Prompt tokens type j prefills at a stage."""
    if stage >= problem.prefill_stages[j]:
        return 0
    return min(problem.chunk[j], problem.prompt[j] - problem.chunk[j] * stage)


@compiled
def in_blocks(problem: Problem, tokens: int) -> int:
    """Tokens rounded up to whole cache blocks."""
    return -(-tokens // problem.block) * problem.block


@compiled
def execute(problem: Problem, state: State, kv: int, read: int, prefill: int, size: int) -> float:
    """Run one iteration from now: account for it, move the clock, return the time it ends."""
    counts, clock = state.counts, state.clock
    start = clock[NOW]
    duration = iteration_time(problem, read, prefill, size)
    end = start + duration
    counts[KV_PEAK] = max(counts[KV_PEAK], kv)
    counts[OVERFLOWS] += kv > problem.capacity or size > problem.most_sequences
    clock[BUSY] += min(end, problem.horizon) - start
    if state.timeline.shape[0] > 0:
        row = state.timeline[counts[RECORDED]]
        row[0], row[1], row[2], row[3] = start, duration, kv, size
        counts[RECORDED] += 1
    clock[NOW] = end
    counts[ITERATION] += 1
    return end


@compiled
def next_arrival(problem: Problem, state: State) -> int:
    """The next request that has arrived by now and can ever fit, NOBODY if there is none; others are rejected."""
    counts = state.counts
    while counts[ARRIVED] < len(problem.times) and problem.times[counts[ARRIVED]] <= state.clock[NOW]:
        request = counts[ARRIVED]
        counts[ARRIVED] += 1
        if problem.peak[problem.types[request]] <= problem.capacity:
            if problem.first_stage[problem.types[request]] < 0:
                state.first_token[request] = problem.times[request]
            return request
        counts[REJECTED] += 1
    return NOBODY


@compiled
def sleep(problem: Problem, state: State) -> None:
    """Nothing can be served: wait for the next arrival; without one the run is over."""
    if state.counts[ARRIVED] == len(problem.times):
        state.counts[DONE] = 1
    else:
        state.clock[NOW] = problem.times[state.counts[ARRIVED]]


@compiled
def paused(problem: Problem, state: State, budget: int) -> bool:
    """Whether the kernel should hand back: all is done, the budget is spent, or the timeline is full."""
    if state.clock[NOW] >= problem.horizon:
        state.counts[DONE] = 1
    room = state.timeline.shape[0]
    return state.counts[DONE] == 1 or state.counts[ITERATION] >= budget or 0 < room == state.counts[RECORDED]


@compiled
def complete(problem: Problem, state: State, request: int, end: float) -> None:
    """Note that a request finished, unless that is after the horizon."""
    if end <= problem.horizon:
        state.finished[request] = end
        state.clock[LAST_COMPLETION] = end


@compiled
def make_first_token(problem: Problem, state: State, request: int, end: float) -> None:
    """Note that a request has its first token, unless that is after the horizon."""
    if end <= problem.horizon:
        state.first_token[request] = end
