"""What the compiled simulator reads and changes, and the steps that every decision rule takes.

Requests are numbered in order of arrival. A kernel (one per decision rule) reads a `Problem` and changes a `State`; it
runs until its iteration budget is spent and can be called again with the same state: so long runs obey an interrupt
and hand over their timeline piece by piece. Time is kept by `verification.engine.clock`.

KV is counted in units, tokens where all layers are alike (`fluid.replica.KVLayout`): in sums of integers, which do not
drift, so that the literal reference gets the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fluid.arrays import Floats, Ints
from fluid.replica import Replica
from fluid.stages import StageProfile
from verification.engine.compile import apart, compiled
from verification.traffic.arrivals import Arrivals
from verification.traffic.closed import Returning

NOBODY = -1
NO_CAP = 2**62

# places in State.counts
ARRIVED, ITERATION, OVERFLOWS, EVICTIONS, KV_PEAK, RECORDED, SPELLS, DONE, SENT, HELD, ANSWERED, LATEST = range(12)
COUNTS = 12
# places in State.clock
NOW, ORIGIN, BUSY, LAST_COMPLETION, PAUSE, CLOCKS = range(6)


class Problem(NamedTuple):
    """What a kernel reads: the arrivals, the stages of each type, the iteration time (its lines, the `pieces`), the KV
    capacity C, the cap B on sequences in a batch, the budget q of tokens of an iteration and the horizon.

    The lines' time of a KV token and C are those of the units in which KV is counted, `unit` to a token: each of a
    request's tokens takes `windowed` of them up to the window and `everywhere` beside, its `state` some once.

    `seen` is the type each request is taken for, its true one where lengths are known: rules queue by it, all else goes
    by `types`. `all_fit`: no type is larger than the whole cache; `longest` is the most stages of a request that is
    served; `prefill_chunk` the most tokens of a request that are prefilled in one iteration; `plain`: layers are alike,
    there is no state and no prefix, so that a request reads what it holds (blocks aside). Of a type that finds a
    `prefix` in the cache `prompt` is the rest: all tokens are counted behind it, it is only read.

    In a closed loop (`verification.traffic.closed`) `times` are infinite until they are known: what is next sent after
    an answer is sent at `planned` or once its user `thinks` no more. Both are empty where arrivals depend on nobody.
    """

    times: Floats
    planned: Floats
    thinks: Floats
    types: Ints
    seen: Ints
    prompt: Ints
    prefix: Ints
    chunk: Ints
    prefill_stages: Ints
    stages: Ints
    first_stage: Ints
    peak: Ints
    block: int
    window: int
    windowed: int
    everywhere: int
    unit: int
    state: int
    pieces: Floats
    capacity: int
    most_sequences: int
    most_tokens: int
    horizon: float
    all_fit: bool
    in_chunks: bool
    longest: int
    prefill_chunk: int
    plain: bool


class State(NamedTuple):
    """What every kernel changes: three times per request (NaN until they happen), counts, clocks, the timeline.

    `totals`, with a row for each line of the iteration time, is what the time is made of (`verification.engine.clock`).
    Where the run is recorded, `since` is when a request began to decode again (NaN: with its first token; inf: it
    waits, evicted with the tokens it has made), and `spells` are those of its times in the batch that an eviction
    ended: (request, begin, end).

    A router of a fleet (`verification.fleets`) looks at `HELD`, the KV of the iteration that runs, at those `ANSWERED`,
    and the `LATEST` of them, at `LAST_COMPLETION`; it lets the loop run to the first end of an iteration at `PAUSE` or
    later (else inf), and adds who is sent there.
    """

    admitted: Floats
    first_token: Floats
    finished: Floats
    counts: Ints
    clock: Floats
    totals: Ints
    timeline: Floats
    since: Floats
    spells: Floats


Kernel = Callable[[State, int], None]  # runs a rule on a state until its budget of iterations is spent


@dataclass(frozen=True)
class Loop:
    """The kernel of a rule that learns of requests as they arrive, so that a router can send them.

    `run` takes the problem, the state, the rule's own `parts` and the budget; `each` does so for many replicas in turn,
    given as tuples of those, which `clocks` says are before their pause.
    """

    run: Callable[..., None]
    each: Callable[..., None]
    problem: Problem
    parts: tuple[object, ...]

    def __call__(self, state: State, budget: int) -> None:
        self.run(self.problem, state, *self.parts, budget)


def make_problem(arrivals: Arrivals, profile: StageProfile, replica: Replica, horizon: float) -> Problem:
    """Gather what a kernel reads."""
    layout = profile.layout
    pieces = np.array(list(dict.fromkeys(replica.iteration_time.pieces)), dtype=np.float64)
    pieces[:, 1] /= layout.unit
    served = profile.peak <= replica.kv_capacity
    if len(served) > 1:
        served = served & (np.bincount(arrivals.types, minlength=len(served)) > 0)
    loop = arrivals if isinstance(arrivals, Returning) else None
    planned, thinks = (np.array([] if loop is None else each, dtype=np.float64)  # writable, so of one type to numba
                       for each in (loop and loop.planned, loop and loop.thinks))
    return Problem(arrivals.times.copy(), planned, thinks, arrivals.types, arrivals.seen, profile.prompt,
                   profile.prefix, profile.chunk, profile.prefill_stages, profile.stages, profile.first_token_stage,
                   layout.held(profile.prompt + profile.decode), layout.block, layout.window, layout.windowed,
                   layout.everywhere, layout.unit, layout.unit * layout.state, pieces,
                   layout.unit * replica.kv_capacity, int(min(replica.most_sequences, NO_CAP)),
                   int(min(replica.most_tokens, NO_CAP)), horizon,
                   bool(np.all(profile.peak <= replica.kv_capacity)), bool(profile.prefill_stages.max() > 1),
                   int(profile.stages[served].max(initial=1)),
                   replica.prefill_chunk or NO_CAP,
                   layout.everywhere == 0 and layout.state == 0 and not profile.prefix.any())


def make_state(problem: Problem, record: int) -> State:
    """Return the state at time 0; `record` is the room for iterations in the timeline (0: none is kept)."""
    admitted, first_token, finished = (np.full(len(problem.times), np.nan) for _ in range(3))
    with_token = (problem.first_stage < 0) & (problem.peak <= problem.capacity)  # made elsewhere, before arrival
    if with_token.any():
        first_token = np.where(with_token[problem.types], problem.times, np.nan)
    requests, counts, clock = len(problem.times) if record else 0, np.zeros(COUNTS, dtype=np.int64), np.zeros(CLOCKS)
    counts[SENT], clock[PAUSE] = np.count_nonzero(np.isfinite(problem.times)), np.inf
    return State(admitted, first_token, finished, counts, clock,
                 np.zeros(problem.pieces.shape, dtype=np.int64), np.empty((record, 5)), np.full(requests, np.nan),
                 np.empty((2 * _most_resident(problem) + 2 if record else 0, 3)))


def _most_resident(problem: Problem) -> int:
    """More requests than are ever resident where residents are evicted."""
    return int(min(len(problem.times), problem.most_sequences, problem.capacity // problem.unit + 1))


@compiled
def stage_tokens(problem: Problem, j: int, stage: int) -> int:
    """The tokens of type j at a stage: its context behind the cached prefix."""
    decoded = stage - problem.prefill_stages[j] + 1
    if decoded > 0:
        return problem.prompt[j] + decoded
    return min(problem.chunk[j] * (stage + 1), problem.prompt[j])


@compiled
def read_by(problem: Problem, j: int, tokens: int) -> int:
    """KV that a request of type j with so many tokens reads, units."""
    if problem.plain:
        return min(tokens, problem.window)
    return _units(problem, tokens + problem.prefix[j], 1)


@compiled
def held_by(problem: Problem, tokens: int) -> int:
    """KV that a request of so many tokens holds, units."""
    if problem.plain:
        return in_blocks(problem, min(tokens, problem.window))
    return _units(problem, tokens, problem.block)


@apart
def _units(problem: Problem, tokens: int, block: int) -> int:
    """KV of so many tokens in blocks, layers of each kind, and of the state: units."""
    near, every = -(-min(tokens, problem.window) // block) * block, -(-tokens // block) * block
    return problem.windowed * near + problem.everywhere * every + problem.state


@compiled
def growth(problem: Problem, tokens: int) -> int:
    """How much more a request of so many tokens holds with one token more, until its attention window is full: units.
    """
    return problem.unit if tokens <= problem.window else problem.everywhere


@compiled
def stage_prefill(problem: Problem, j: int, stage: int) -> int:
    """Prompt tokens type j prefills at a stage."""
    if stage >= problem.prefill_stages[j]:
        return 0
    return min(problem.chunk[j], problem.prompt[j] - problem.chunk[j] * stage)


@compiled
def stage_computes(problem: Problem, j: int, stage: int) -> int:
    """Tokens computed for type j at a stage: those it prefills, or one."""
    return max(stage_prefill(problem, j, stage), 1)


@compiled
def tokens_made(problem: Problem, j: int, stage: int) -> int:
    """The prompt and the tokens made of one that executes a stage next; 0 where it has made none.

    To prefill them makes the next token where prefills do, and then stands for this stage; else for the one before.
    """
    stands_for = stage - 1 if problem.first_stage[j] == problem.prefill_stages[j] else stage
    if stands_for < problem.prefill_stages[j]:
        return 0
    return stage_tokens(problem, j, stands_for)


@compiled
def in_blocks(problem: Problem, tokens: int) -> int:
    """Tokens rounded up to whole cache blocks."""
    if problem.block == 1:
        return tokens
    return -(-tokens // problem.block) * problem.block


@compiled
def fits(problem: Problem, r: int) -> bool:
    """Whether a request can ever be served; those that cannot are rejected on arrival."""
    return problem.all_fit or problem.peak[problem.types[r]] <= problem.capacity


@compiled
def next_arrival(problem: Problem, state: State, now: float) -> int:
    """The next request that has arrived by a moment and can ever fit, NOBODY if there is none."""
    counts = state.counts
    while counts[ARRIVED] < len(problem.times) and problem.times[counts[ARRIVED]] <= now:
        counts[ARRIVED] += 1
        if fits(problem, counts[ARRIVED] - 1):
            return counts[ARRIVED] - 1
    return NOBODY


@compiled
def decode_from(state: State, request: int, now: float) -> None:
    """Note that a request decodes from now on, though its first token was made before."""
    if len(state.since) > 0:
        state.since[request] = now


@compiled
def complete(problem: Problem, state: State, request: int, end: float) -> None:
    """Note that a request finished, unless that is after the horizon."""
    if end <= problem.horizon:
        state.finished[request] = end
        answer(problem, state, 1, end)


@compiled
def answer(problem: Problem, state: State, count: int, end: float) -> None:
    """So many requests are answered: in a closed loop as many others are sent, now or later."""
    if end > state.clock[LAST_COMPLETION]:
        state.clock[LAST_COMPLETION] = end
        state.counts[LATEST] = 0
    state.counts[LATEST] += count
    state.counts[ANSWERED] += count
    if len(problem.thinks) > 0:
        _send(problem, state, count, end)


@apart
def _send(problem: Problem, state: State, count: int, end: float) -> None:
    """Put the moments of the next requests among those that are to come, in order; types go by that order."""
    times, counts = problem.times, state.counts
    for number in range(counts[SENT], min(counts[SENT] + count, len(times))):
        moment, place = max(problem.planned[number], end + problem.thinks[number]), number
        while place > counts[ARRIVED] and times[place - 1] > moment:
            times[place] = times[place - 1]
            place -= 1
        times[place] = moment
        counts[SENT] += 1


@compiled
def make_first_token(problem: Problem, state: State, request: int, end: float) -> None:
    """Note that a request has its first token, unless that is after the horizon."""
    if end <= problem.horizon:
        state.first_token[request] = end
