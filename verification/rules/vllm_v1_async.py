"""vLLM V1 under async scheduling: each step is decided while the one before it runs.

The decision is that of `verification.rules.vllm_v1`, taken at the moment the step before starts: it sees the requests
that had arrived then, and that step's tokens as made but not what they end. So

    arrivals      are seen a step late; from an idle engine the first two steps see the same
    completions   a request whose last token is being made takes no further token, but keeps its blocks and its place
                  among the running until the decision after; if it is the newest when blocks run out it goes first, a
                  preemption of which only the blocks are felt
    empty steps   where nobody takes a token the engine waits for the step that runs, and decides anew at its end

The engine sleeps a millisecond after an empty step while requests remain; that is not modelled. Residents are looked at
one by one in every iteration: a step takes time in proportion to its batch. What an iteration
holds includes what its decision found held. Source: `step_with_batch_queue` of vLLM 0.33 with two batches in flight.
See mathematics, section 6.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fluid.arrays import Floats, Ints
from verification.engine.clock import execute, paused, sleep
from verification.engine.compile import compiled, entry, for_each, woven
from verification.engine.eviction import note_eviction
from verification.engine.prefills import to_prefill
from verification.engine.queues import (
    AGAIN,
    Queue,
    head,
    kept_by_head,
    put_back,
    queue_of_evicting,
    request_at,
    take,
    take_arrivals_by,
    waiting,
)
from verification.engine.state import (
    EVICTIONS,
    NO_CAP,
    NOBODY,
    NOW,
    PAUSE,
    Kernel,
    Loop,
    Problem,
    State,
    complete,
    decode_from,
    held_by,
    make_first_token,
    read_by,
    stage_tokens,
    tokens_made,
)
from verification.policies import Evicting
from verification.rules.token_budget import CHUNK, Tokens

# places in Running.tally: how many run, the KV allocated to them, the tokens left to the step that is decided
COUNT, HELD, LEFT = range(3)


class Running(NamedTuple):
    """The running requests in order of admission: `place` in the queue, tokens `kept`, prefill tokens `done` (of those
    that prefill), the `stage` executed next (all stages: the last token is made), tokens `planned`, KV `held`.

    `seen` is the moment up to which the next decision sees arrivals.
    """

    place: Ints
    kept: Ints
    done: Ints
    stage: Ints
    planned: Ints
    held: Ints
    tally: Ints
    seen: np.ndarray


def kernel(policy: Evicting, problem: Problem, tokens: Tokens) -> Kernel:
    """Return the rule, ready to run."""
    blocks = problem.capacity // (problem.block * problem.unit)
    room = int(min(blocks + 1, problem.most_sequences, len(problem.times) + 1))
    place, kept, done, stage, planned, held = (np.zeros(room, dtype=np.int64) for _ in range(6))
    running = Running(place, kept, done, stage, planned, held, np.zeros(3, dtype=np.int64), np.zeros(1))
    queue = queue_of_evicting(problem, room, policy.requeue, policy.eviction)
    return Loop(run, run_each, problem, (queue, running, tokens))


@entry
def run(problem: Problem, state: State, queue: Queue, running: Running, tokens: Tokens, budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    tally = running.tally
    while not paused(problem, state, budget):
        take_arrivals_by(problem, state, queue, running.seen[0])
        requests = tally[COUNT] + waiting(queue, 0) + queue.tally[AGAIN]
        chunk = tokens.chunk if requests > 1 else NO_CAP
        tally[LEFT] = tokens.budget
        running.planned[:] = 0
        if not _schedule_running(problem, state, queue, running, chunk):
            _admit_what_fits(problem, state, queue, running, tokens, chunk)
        held, ended = tally[HELD], _let_go(problem, queue, running)
        if tally[LEFT] < tokens.budget:
            running.seen[0] = state.clock[NOW]
            _serve(problem, state, queue, running, held)
        else:
            if not ended:
                sleep(problem, state)
            running.seen[0] = state.clock[NOW]


@for_each
def run_each(replicas: Sequence[Any], clocks: Floats) -> None:
    """Run the rule on every replica of a fleet that is before its pause, up to there."""
    for one in range(len(replicas)):
        if clocks[one, NOW] < clocks[one, PAUSE]:
            problem, state, queue, running, tokens = replicas[one]
            run(problem, state, queue, running, tokens, NO_CAP)


@woven
def _schedule_running(problem: Problem, state: State, queue: Queue, running: Running, chunk: int) -> bool:
    """Give those that run their tokens and blocks; return whether somebody was preempted for them."""
    tally, one, preempted = running.tally, 0, False
    while one < tally[COUNT] and tally[LEFT] > 0:
        tokens = min(_available(problem, queue, running, one), chunk, tally[LEFT])
        more = _needed(problem, queue, running, one, tokens) - running.held[one] if tokens > 0 else 0
        while more > problem.capacity - tally[HELD]:
            preempted = True
            _preempt_last(problem, state, queue, running)
            if one == tally[COUNT]:
                return True
        _allocate(running, one, tokens, more)
        one += 1
    return preempted


@woven
def _admit_what_fits(problem: Problem, state: State, queue: Queue, running: Running, tokens: Tokens,
                     chunk: int) -> None:
    """Admit from the head of the queue while tokens, places and blocks last."""
    tally, place = running.tally, head(queue, 0)
    while place != NOBODY and tally[LEFT] > 0 and tally[COUNT] < problem.most_sequences:
        one, r = tally[COUNT], request_at(queue, place)
        running.place[one], running.kept[one] = place, kept_by_head(queue)
        running.done[one] = running.stage[one] = running.held[one] = 0
        available = _available(problem, queue, running, one)
        taken = min(available, chunk, tally[LEFT])
        asked = _needed(problem, queue, running, one, taken if tokens.counted == CHUNK else available)
        if one > 0 and tally[HELD] + asked > tokens.limit:
            return
        take(queue, 0)
        state.admitted[r] = state.clock[NOW]
        if problem.first_stage[problem.types[r]] < 0 and running.kept[one] == 0:
            decode_from(state, r, state.clock[NOW])
        tally[COUNT] += 1
        _allocate(running, one, taken, _needed(problem, queue, running, one, taken))
        place = head(queue, 0)


@compiled
def _available(problem: Problem, queue: Queue, running: Running, one: int) -> int:
    """The tokens one could take: what it has left to prefill, or one; none if its last is being made."""
    j = problem.types[request_at(queue, running.place[one])]
    left = _left(problem, running, one, j)
    return left if left > 0 else int(running.stage[one] < problem.stages[j])


@compiled
def _left(problem: Problem, running: Running, one: int, j: int) -> int:
    """The tokens one has left to prefill."""
    if running.stage[one] > 0:
        return 0
    return to_prefill(problem, j, running.kept[one]) - running.done[one]


@compiled
def _needed(problem: Problem, queue: Queue, running: Running, one: int, tokens: int) -> int:
    """KV of one with so many tokens more."""
    j = problem.types[request_at(queue, running.place[one])]
    if _left(problem, running, one, j) > 0:
        return held_by(problem, running.done[one] + tokens)
    return held_by(problem, stage_tokens(problem, j, running.stage[one]))


@compiled
def _allocate(running: Running, one: int, tokens: int, more: int) -> None:
    running.planned[one] = tokens
    running.held[one] += more
    running.tally[HELD] += more
    running.tally[LEFT] -= tokens


@compiled
def _preempt_last(problem: Problem, state: State, queue: Queue, running: Running) -> None:
    """Take the blocks of the last to be admitted; unless its last token is being made it goes back to the queue."""
    running.tally[COUNT] -= 1
    one = running.tally[COUNT]
    running.tally[HELD] -= running.held[one]
    r = request_at(queue, running.place[one])
    j = problem.types[r]
    if running.stage[one] == problem.stages[j]:
        state.counts[EVICTIONS] += 1
        return
    note_eviction(problem, state, queue, r)
    kept = running.kept[one] if running.stage[one] == 0 else tokens_made(problem, j, running.stage[one])
    put_back(queue, running.place[one], kept if queue.keeps else 0)


@compiled
def _let_go(problem: Problem, queue: Queue, running: Running) -> bool:
    """Those whose last token was being made are gone; return whether there were any."""
    tally, still = running.tally, 0
    for one in range(tally[COUNT]):
        if running.stage[one] == problem.stages[problem.types[request_at(queue, running.place[one])]]:
            tally[HELD] -= running.held[one]
        else:
            for column in (running.place, running.kept, running.done, running.stage, running.planned, running.held):
                column[still] = column[one]
            still += 1
    some = still < tally[COUNT]
    tally[COUNT] = still
    return some


@woven
def _serve(problem: Problem, state: State, queue: Queue, running: Running, held: int) -> None:
    """Run the step; whoever has taken all it had to prefill, or decodes, goes on by a stage."""
    read, prefill, size, tokens = 0, 0, 0, 0
    for one in range(running.tally[COUNT]):
        planned, j = running.planned[one], problem.types[request_at(queue, running.place[one])]
        if planned > 0:
            size, tokens = size + 1, tokens + planned
            left = _left(problem, running, one, j)
            if left == 0:
                read += read_by(problem, j, stage_tokens(problem, j, running.stage[one]))
            else:
                read += read_by(problem, j, running.done[one] + planned)
                prefill += planned if planned > 1 or running.done[one] < problem.prompt[j] else 0
    end = execute(problem, state, held, read, prefill, size, tokens, 1)
    for one in range(running.tally[COUNT]):
        if running.planned[one] > 0:
            _go_on(problem, state, queue, running, one, end)


@compiled
def _go_on(problem: Problem, state: State, queue: Queue, running: Running, one: int, end: float) -> None:
    r = request_at(queue, running.place[one])
    j, kept = problem.types[r], running.kept[one]
    if _left(problem, running, one, j) > 0:
        running.done[one] += running.planned[one]
        if _left(problem, running, one, j) > 0:
            return
        stage = problem.prefill_stages[j] + (kept - problem.prompt[j] if kept > 0 else 0)
        if kept > 0:
            decode_from(state, r, end)
    else:
        stage = running.stage[one] + 1
    running.stage[one] = stage
    if np.isnan(state.first_token[r]) and stage == problem.first_stage[j] + 1:
        make_first_token(problem, state, r, end)
    if stage == problem.stages[j]:
        complete(problem, state, r, end)
