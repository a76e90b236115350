"""Prompts in prefill beside residents that decode: the compiled steps of rules that serve the two at different paces.

`verification.engine.continuous_batching` moves every resident by one stage in every iteration. Here the residents in
prefill are few and looked at one by one: a rule `plan`s the tokens each prefills in the coming iteration. All that
decode advance together, in some of the iterations: `CLOCK` counts those, and everything that
`verification.engine.residents` keeps by iterations (calendar, block phases, full windows) goes by it, for the decoding
residents alone. A prompt whose prefill ends with K prefill stages behind it joins them as if it had been admitted K
such iterations ago; the clock starts at the largest K, so that this is never before 0. While nobody is in prefill, many
iterations are run at once (`verification.engine.fast_forward`).

The KV tokens held are those of the decoding residents, at the stage they execute next, and of the prompts in prefill,
up to the last token planned.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.arrays import Ints
from verification.engine.clock import execute
from verification.engine.compile import compiled, woven
from verification.engine.continuous_batching import advance, first_tokens, settle
from verification.engine.queues import Queue, request_at
from verification.engine.residents import KV, READ, SERIAL, SIZE, Residents, join, newest, take_newest
from verification.engine.state import NOW, Problem, State, complete, in_blocks, make_first_token

# places in Prefills.tally
COUNT, CLOCK = range(2)


class Prefills(NamedTuple):
    """The residents in prefill, in order of admission: `who` (the place in the queue), the `serial` of the admission,
    the prompt tokens `done` and `planned`.
    """

    who: Ints
    serial: Ints
    done: Ints
    planned: Ints
    tally: Ints


def make_prefills(problem: Problem, most: int) -> Prefills:
    """Return the state in which nobody is in prefill, with room for so many residents."""
    who, serial, done, planned = (np.zeros(min(most, len(problem.times)), dtype=np.int64) for _ in range(4))
    clock = min(problem.prefill_stages.max(), problem.longest)  # of those who come, as the calendar
    return Prefills(who, serial, done, planned, np.array([0, clock], dtype=np.int64))


@compiled
def enter(problem: Problem, state: State, residents: Residents, prefills: Prefills, place: int, r: int,
          tokens: int) -> None:
    """Admit a request, taken from its place: to so many tokens of prefill, or to decode where prefill is elsewhere."""
    tally, j, last = residents.tally, problem.types[r], prefills.tally[COUNT]
    state.admitted[r] = state.clock[NOW]
    tally[SIZE] += 1
    if problem.prefill_stages[j] == 0:
        join(problem, residents, place, j, 0, tally[SERIAL], prefills.tally[CLOCK])
    else:
        prefills.who[last], prefills.serial[last], prefills.done[last] = place, tally[SERIAL], 0
        prefills.tally[COUNT] += 1
        plan(problem, residents, prefills, last, tokens)
    tally[SERIAL] += 1


@compiled
def plan(problem: Problem, residents: Residents, prefills: Prefills, one: int, tokens: int) -> None:
    """Let one of those in prefill take so many tokens in the coming iteration; it holds them from now on."""
    prefills.planned[one] = tokens
    residents.tally[KV] += in_blocks(problem, reach(problem, prefills, one))


@compiled
def reach(problem: Problem, prefills: Prefills, one: int) -> int:
    """KV tokens one of those in prefill reads in the coming iteration."""
    return min(prefills.done[one] + prefills.planned[one], problem.window)


@compiled
def take_newest_of_both(problem: Problem, residents: Residents, prefills: Prefills) -> int:
    """Remove the newest resident, be it in prefill or decoding, and return its place."""
    tally, last = residents.tally, prefills.tally[COUNT] - 1
    if last >= 0 and (tally[SIZE] == last + 1 or prefills.serial[last] > residents.serial[newest(residents)]):
        prefills.tally[COUNT] = last
        tally[SIZE] -= 1
        tally[KV] -= in_blocks(problem, reach(problem, prefills, last))
        return prefills.who[last]
    return take_newest(problem, residents, prefills.tally[CLOCK])


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
    for one in range(prefills.tally[COUNT]):
        if prefills.planned[one] > 0:
            read += reach(problem, prefills, one)
            prefill += prefills.planned[one]
            size += 1
    end = execute(problem, state, tally[KV], read, prefill, size)
    if decoding:
        t = prefills.tally[CLOCK]
        first_tokens(problem, state, queue, residents, 0, t, 1, end)
        settle(problem, state, queue, residents, t, end)
        prefills.tally[CLOCK] += 1
    _progress(problem, state, queue, residents, prefills, end)


@woven
def _progress(problem: Problem, state: State, queue: Queue, residents: Residents, prefills: Prefills,
              end: float) -> None:
    """What was planned is done; whoever has its whole prompt joins those that decode."""
    kept = 0
    for one in range(prefills.tally[COUNT]):
        place, serial = prefills.who[one], prefills.serial[one]
        r = request_at(queue, place)
        residents.tally[KV] -= in_blocks(problem, reach(problem, prefills, one))
        done = prefills.done[one] + prefills.planned[one]
        if done < problem.prompt[problem.types[r]]:
            prefills.who[kept], prefills.serial[kept], prefills.done[kept] = place, serial, done
            kept += 1
        else:
            _end_prefill(problem, state, residents, place, r, serial, prefills.tally[CLOCK], end)
    prefills.tally[COUNT] = kept


@compiled
def _end_prefill(problem: Problem, state: State, residents: Residents, place: int, r: int, serial: int, t: int,
                 end: float) -> None:
    j = problem.types[r]
    stage = problem.prefill_stages[j]
    if problem.first_stage[j] == stage - 1:
        make_first_token(problem, state, r, end)
    if problem.stages[j] > stage:
        join(problem, residents, place, j, stage, serial, t)
        return
    complete(problem, state, r, end)
    residents.tally[SIZE] -= 1
