"""Prompts in prefill beside residents that decode: the compiled steps of rules that serve the two at different paces.

`verification.engine.continuous_batching` moves every resident by one stage in every iteration. Here the residents in
prefill are few and looked at one by one: a rule `plan`s the tokens each prefills in the coming iteration. All that
decode advance together, in some of the iterations: `CLOCK` counts those, and everything that
`verification.engine.residents` keeps by iterations (calendar, block phases, full windows) goes by it, for the decoding
residents alone. A prompt whose prefill ends with K prefill stages behind it joins them as if it had been admitted K
such iterations ago, and one that was evicted and keeps what it made as if none of its stages had been interrupted; the
clock starts at the most stages there are, so that this is never before 0. While nobody is in prefill, many iterations
are run at once (`verification.engine.fast_forward`).

The KV held is that of the decoding residents, at the stage they execute next, and of the prompts in prefill,
up to the last token planned.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.arrays import Ints
from verification.engine.clock import execute, next_moment, sleep
from verification.engine.compile import compiled, woven
from verification.engine.continuous_batching import advance, first_tokens, settle
from verification.engine.queues import Queue, request_at
from verification.engine.residents import KV, READ, SERIAL, SIZE, Residents, join, newest, take_newest
from verification.engine.state import (
    NO_CAP,
    NOW,
    Problem,
    State,
    complete,
    decode_from,
    held_by,
    make_first_token,
    read_by,
    stage_tokens,
)

# places in Prefills.tally
COUNT, CLOCK = range(2)


class Prefills(NamedTuple):
    """The residents in prefill, in order of admission: `who` (the place in the queue), the `serial` of the admission,
    the tokens `kept` of one that was evicted (0 of others), the tokens `done` and `planned`.
    """

    who: Ints
    serial: Ints
    kept: Ints
    done: Ints
    planned: Ints
    tally: Ints


def make_prefills(problem: Problem, most: int) -> Prefills:
    """Return the state in which nobody is in prefill, with room for so many residents."""
    who, serial, kept, done, planned = (np.zeros(min(most, len(problem.times)), dtype=np.int64) for _ in range(5))
    return Prefills(who, serial, kept, done, planned, np.array([0, problem.longest], dtype=np.int64))


@compiled
def to_prefill(problem: Problem, j: int, kept: int) -> int:
    """The tokens a request must prefill before it decodes: what it kept, or its prompt; 0 if that is done elsewhere."""
    if kept > 0:
        return kept
    return problem.prompt[j] if problem.prefill_stages[j] > 0 else 0


@compiled
def held_on_entry(problem: Problem, j: int, tokens: int) -> int:
    """KV of a request with so many tokens prefilled; of its first decode where there are none to prefill."""
    return held_by(problem, tokens if tokens > 0 else stage_tokens(problem, j, 0))


@compiled
def left_to_prefill(problem: Problem, queue: Queue, prefills: Prefills, one: int) -> int:
    """The tokens one of those in prefill has still to prefill."""
    j = problem.types[request_at(queue, prefills.who[one])]
    return to_prefill(problem, j, prefills.kept[one]) - prefills.done[one]


@compiled
def enter(problem: Problem, state: State, queue: Queue, residents: Residents, prefills: Prefills, place: int, kept: int,
          tokens: int) -> None:
    """Admit a request, taken from its place: to so many tokens of prefill, or to decode where prefill is elsewhere."""
    tally, r, last = residents.tally, request_at(queue, place), prefills.tally[COUNT]
    j = problem.types[r]
    state.admitted[r] = state.clock[NOW]
    tally[SIZE] += 1
    if to_prefill(problem, j, kept) == 0:
        if problem.first_stage[j] < 0:
            decode_from(state, r, state.clock[NOW])
        join(problem, residents, place, j, 0, tally[SERIAL], prefills.tally[CLOCK])
    else:
        prefills.who[last], prefills.serial[last], prefills.kept[last] = place, tally[SERIAL], kept
        prefills.done[last] = 0
        prefills.tally[COUNT] += 1
        plan(problem, residents, prefills, last, tokens)
    tally[SERIAL] += 1


@compiled
def plan(problem: Problem, residents: Residents, prefills: Prefills, one: int, tokens: int) -> None:
    """Let one of those in prefill take so many tokens in the coming iteration; it holds them from now on."""
    prefills.planned[one] = tokens
    residents.tally[KV] += held_by(problem, reach(prefills, one))


@compiled
def reach(prefills: Prefills, one: int) -> int:
    """The tokens one of those in prefill has with the coming iteration, behind its cached prefix."""
    return prefills.done[one] + prefills.planned[one]


@compiled
def take_newest_of_both(problem: Problem, residents: Residents, prefills: Prefills) -> tuple[int, int]:
    """Remove the newest resident, be it in prefill or decoding; return its place and the tokens it would keep."""
    tally, last = residents.tally, prefills.tally[COUNT] - 1
    if last >= 0 and (tally[SIZE] == last + 1 or prefills.serial[last] > residents.serial[newest(residents)]):
        prefills.tally[COUNT] = last
        tally[SIZE] -= 1
        tally[KV] -= held_by(problem, reach(prefills, last))
        return prefills.who[last], prefills.kept[last]
    return take_newest(problem, residents, prefills.tally[CLOCK])


@woven
def serve_or_sleep(problem: Problem, state: State, queue: Queue, residents: Residents, prefills: Prefills,
                   decoding: bool, evicted: bool, blocked: bool) -> None:
    """End a decision: `serve` whoever is resident, one iteration if somebody was `evicted`, else until something may
    change (with `blocked` no arrival does); with nobody wait for the next arrival.
    """
    if residents.tally[SIZE] > 0:
        serve(problem, state, queue, residents, prefills, decoding, next_moment(problem, state, not blocked),
              1 if evicted else NO_CAP)
    else:
        sleep(problem, state)


@woven
def serve(problem: Problem, state: State, queue: Queue, residents: Residents, prefills: Prefills, decoding: bool,
          until: float, most: int) -> None:
    """Run an iteration of what is planned and, if `decoding`, of all residents that are not in prefill.

    If none is in prefill run more of them, as `continuous_batching.advance` says.
    """
    if prefills.tally[COUNT] > 0:
        _serve_prefills(problem, state, queue, residents, prefills, decoding)
        return
    t = prefills.tally[CLOCK]
    prefills.tally[CLOCK] += advance(problem, state, queue, residents, t, until, most)


@woven
def _serve_prefills(problem: Problem, state: State, queue: Queue, residents: Residents, prefills: Prefills,
                    decoding: bool) -> None:
    tally, read, prefill, size = residents.tally, 0, 0, 0
    if decoding:
        read, size = tally[READ], tally[SIZE] - prefills.tally[COUNT]
    tokens = size
    for one in range(prefills.tally[COUNT]):
        if prefills.planned[one] > 0:
            j = problem.types[request_at(queue, prefills.who[one])]
            read += read_by(problem, j, reach(prefills, one))
            prefill += _to_pay_for(problem, queue, prefills, one)
            size += 1
            tokens += prefills.planned[one]
    end = execute(problem, state, tally[KV], read, prefill, size, tokens, int(decoding))
    if decoding:
        t = prefills.tally[CLOCK]
        first_tokens(problem, state, queue, residents, 0, t, 1, end)
        settle(problem, state, queue, residents, t, end)
        prefills.tally[CLOCK] += 1
    _progress(problem, state, queue, residents, prefills, end)


@compiled
def _to_pay_for(problem: Problem, queue: Queue, prefills: Prefills, one: int) -> int:
    """The tokens planned, as prefill; but one token behind the prompt is computed as a decode is."""
    if prefills.planned[one] > 1 or prefills.kept[one] == 0:
        return prefills.planned[one]
    return int(prefills.done[one] < problem.prompt[problem.types[request_at(queue, prefills.who[one])]])


@woven
def _progress(problem: Problem, state: State, queue: Queue, residents: Residents, prefills: Prefills,
              end: float) -> None:
    """What was planned is done; whoever has its whole prompt joins those that decode."""
    still = 0
    for one in range(prefills.tally[COUNT]):
        left = left_to_prefill(problem, queue, prefills, one) - prefills.planned[one]
        residents.tally[KV] -= held_by(problem, reach(prefills, one))
        if left > 0:
            prefills.who[still], prefills.serial[still] = prefills.who[one], prefills.serial[one]
            prefills.kept[still] = prefills.kept[one]
            prefills.done[still] = prefills.done[one] + prefills.planned[one]
            still += 1
        else:
            _end_prefill(problem, state, queue, residents, prefills, one, end)
    prefills.tally[COUNT] = still


@compiled
def _end_prefill(problem: Problem, state: State, queue: Queue, residents: Residents, prefills: Prefills, one: int,
                 end: float) -> None:
    """One has all its tokens: it goes on with the first stage behind them."""
    place, kept = prefills.who[one], prefills.kept[one]
    r = request_at(queue, place)
    j = problem.types[r]
    stage = problem.prefill_stages[j]
    if kept > 0:
        stage += kept - problem.prompt[j]
        decode_from(state, r, end)
    elif problem.first_stage[j] == stage - 1:
        make_first_token(problem, state, r, end)
    if problem.stages[j] > stage:
        join(problem, residents, place, j, stage, prefills.serial[one], prefills.tally[CLOCK])
        return
    complete(problem, state, r, end)
    residents.tally[SIZE] -= 1
