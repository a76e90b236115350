"""What a policy answers, and the state of the rounds: who waits, in which order, and who runs.

Every policy of this room is three answers, and the engine (`verification.rounds.engine`) knows no more of it:

    order      in which order the waiting are offered a start (`SHORTEST`, `FIRST`, `BATCHES`, `BATCHES_SWEEP`)
    admission  the test that an offered request must pass, at most `limit` tokens: of the KV of all that run until the
               last of them is predicted to end (`ahead`, `verification.rounds.feasibility`), or of what they hold after
               the coming round. The first that fails ends the admissions of the round
    clearing   who goes when the coming round would need more than M (`NEWEST`, `BY_CHANCE`, `LEAST`)

**Choices of ours**, where the sources are silent, the same for all policies:

- With nothing active the first in order starts whatever the test says. Alone it fits, since s + o <= M; a prediction
  beyond M, or a limit below s + o, would otherwise keep it waiting for ever.
- An active request that has outlived its prediction is taken to end with the coming round: r = max(otilde - made, 1).
- What is cleared has lost its tokens, waits again from the same moment on and may start in the coming round.
- Ties go to the request that came first, among those of one round to the lower index.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from fluid.arrays import Ints
from fluid.compiled import F, jit
from verification.rounds.instance import Instance

SHORTEST, FIRST, BATCHES, BATCHES_SWEEP = range(4)
NEWEST, BY_CHANCE, LEAST = range(3)
NOBODY = -1
WAITING, RUNNING, COMING, TURNS, LOGGED, CLEARINGS, RESCUES, FRUITLESS, KEPT, UNRANKED = range(10)


def inner(function: F) -> F:
    """A step of the rounds, compiled; never called from Python."""
    return jit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


class Answers(NamedTuple):
    """The three answers as the engine reads them; `chance` and `patience` are those of `BY_CHANCE`."""

    order: int
    ahead: bool
    limit: int
    clearing: int = NEWEST
    chance: float = 1.0
    patience: int = 1


class RoundPolicy(Protocol):
    """A policy of the discrete rounds: a frozen value with a name, and its answers for a memory of M tokens."""

    name: ClassVar[str]
    label: ClassVar[str]

    def answers(self, memory: int) -> Answers:
        """What the engine is told."""


class Problem(NamedTuple):
    """An instance and the answers, as compiled code reads them."""

    arrivals: Ints
    prompts: Ints
    outputs: Ints
    memory: int
    answers: Answers


class State(NamedTuple):
    """Requests by index, shape (N,); the first `counts[WAITING]` of `waiting` wait, in order, and so for `running`.

    `estimate` is what is believed of o, `key` decides the order of the waiting, `start`, `end` (predicted) and `turn`
    (how many started before) are those of the last start. `running` is sorted by `end`, the latest first; `held` and
    `remaining` belong to it while requests are admitted. `log` has a row (request, start, end, turn) for each run.
    """

    counts: Ints
    waiting: Ints
    running: Ints
    estimate: Ints
    key: Ints
    start: Ints
    end: Ints
    turn: Ints
    held: Ints
    remaining: Ints

    @classmethod
    def empty(cls, instance: Instance, order: int) -> State:
        """Nobody has come yet."""
        n = len(instance)
        counts = np.zeros(UNRANKED + 1, dtype=np.int64)
        counts[KEPT] = NOBODY
        estimate = instance.predicted.copy()
        key = estimate if order == SHORTEST else np.zeros(n, dtype=np.int64)  # one array: what is learned reorders
        waiting, running, start, end, turn, held, remaining = np.zeros((7, n), dtype=np.int64)
        return cls(counts, waiting, running, estimate, key, start, end, turn, held, remaining)


@inner
def ascending(values: Ints) -> Ints:
    """The order that sorts the values; of equal ones the first comes first."""
    return np.argsort(values, kind="mergesort")


@inner
def wait(state: State, i: int) -> None:
    """Request i takes its place among the waiting: by key, then by index."""
    place = state.counts[WAITING]
    while place > 0 and (state.key[state.waiting[place - 1]], state.waiting[place - 1]) > (state.key[i], i):
        state.waiting[place] = state.waiting[place - 1]
        place -= 1
    state.waiting[place] = i
    state.counts[WAITING] += 1
    state.counts[UNRANKED] = 1


@inner
def start_first(problem: Problem, state: State, moment: int) -> None:
    """The first of the waiting starts; its place among the running is by predicted end, the latest first."""
    i, count = state.waiting[0], state.counts[RUNNING]
    state.counts[WAITING] -= 1
    for k in range(state.counts[WAITING]):
        state.waiting[k] = state.waiting[k + 1]
    state.start[i], state.end[i], state.turn[i] = moment, moment + state.estimate[i], state.counts[TURNS]
    place = count
    while place > 0 and state.end[state.running[place - 1]] < state.end[i]:
        _copy(state, place - 1, place)
        place -= 1
    state.running[place], state.held[place], state.remaining[place] = i, problem.prompts[i], state.estimate[i]
    state.counts[RUNNING] += 1
    state.counts[TURNS] += 1


@inner
def clear(state: State, log: Ints, i: int, moment: int) -> None:
    """The run of request i ends without its last token; i waits again."""
    leave(state, log, i, moment)
    wait(state, i)


@inner
def leave(state: State, log: Ints, i: int, moment: int) -> None:
    """Request i runs no more; its run is on record."""
    row = state.counts[LOGGED]
    log[row, 0], log[row, 1], log[row, 2], log[row, 3] = i, state.start[i], moment, state.turn[i]
    state.counts[LOGGED] += 1
    place = 0
    while state.running[place] != i:
        place += 1
    state.counts[RUNNING] -= 1
    for k in range(place, state.counts[RUNNING]):
        _copy(state, k + 1, k)


@inner
def needed_next(problem: Problem, state: State, moment: int) -> int:
    """KV of all active requests after the coming round: s + made + 1 each."""
    total = 0
    for k in range(state.counts[RUNNING]):
        i = state.running[k]
        total += problem.prompts[i] + moment - state.start[i] + 1
    return total


@inner
def _copy(state: State, place: int, to: int) -> None:
    state.running[to] = state.running[place]
    state.held[to], state.remaining[to] = state.held[place], state.remaining[place]
