"""The rounds, one after the other: `play` runs a policy on an instance and returns its schedule.

At moment t, in this order:

 1. requests with a_i <= t wait;
 2. if the coming round would need more than M, requests are cleared (`clearing` of the policy) until it does not;
 3. the waiting start, in the order of the policy, while they pass its test;
 4. each active request makes a token: at moment t + 1 it holds one more, and if that was its last it is finished, and
    holds nothing from then on.

Rounds without an active request are passed over. `verification.rounds.literal` says the same once more, slowly, sharing
nothing with this; the two agree run by run.
"""

from __future__ import annotations

import numpy as np

from fluid.arrays import Ints
from fluid.compiled import jit
from verification.rounds.a_min import clear_least
from verification.rounds.feasibility import peak_with
from verification.rounds.instance import Instance
from verification.rounds.mc_sf import clear_newest
from verification.rounds.protection import clear_by_chance
from verification.rounds.schedule import Schedule
from verification.rounds.sorted_f import check_size, rank
from verification.rounds.state import (
    BATCHES,
    BATCHES_SWEEP,
    BY_CHANCE,
    CLEARINGS,
    COMING,
    FRUITLESS,
    KEPT,
    LEAST,
    LOGGED,
    NOBODY,
    RESCUES,
    RUNNING,
    UNRANKED,
    WAITING,
    Problem,
    RoundPolicy,
    State,
    inner,
    leave,
    needed_next,
    start_first,
    wait,
)


def play(policy: RoundPolicy, instance: Instance, seed: int | np.random.Generator = 0) -> Schedule:
    """Return the schedule of `policy` on `instance`; `seed` decides what is cleared by chance (`Clearing` alone asks).

    >>> from verification.rounds import Instance, MCSF
    >>> schedule = play(MCSF(), Instance([0, 0, 0], [1, 1, 1], [1, 2, 2], memory=6))
    >>> schedule.finished.tolist(), schedule.total_latency, schedule.peak_memory
    ([1, 2, 2], 5, 6)
    """
    answers = policy.answers(instance.memory)
    if answers.order == BATCHES:
        check_size(instance)
    state = State.empty(instance, answers.order)
    problem = Problem(instance.arrivals, instance.prompts, instance.outputs, instance.memory, answers)
    log, moment = np.zeros((4 * len(instance) + 16, 4), dtype=np.int64), 0
    generator = np.random.default_rng(seed)
    while state.counts[RUNNING] + state.counts[WAITING] > 0 or state.counts[COMING] < len(instance):
        moment = _advance(problem, state, log, moment, generator)
        log = np.concatenate([log, np.zeros_like(log)])
    return _schedule(instance, state, log[: state.counts[LOGGED]])


def _schedule(instance: Instance, state: State, log: Ints) -> Schedule:
    requests, starts, ends, _ = log[np.argsort(log[:, 3])].T
    return Schedule(instance, requests, starts, ends, int(state.counts[CLEARINGS]), int(state.counts[RESCUES]))


@jit
def _advance(problem: Problem, state: State, log: Ints, moment: int, generator: np.random.Generator) -> int:
    """Round after round, until everybody is finished or the log might not hold another round."""
    while len(log) - state.counts[LOGGED] >= 2 * len(problem.arrivals):
        if state.counts[RUNNING] + state.counts[WAITING] == 0:
            if state.counts[COMING] == len(problem.arrivals):
                break
            moment = max(moment, problem.arrivals[state.counts[COMING]])
        _arrive(problem, state, moment)
        if needed_next(problem, state, moment) > problem.memory:
            _clear(problem, state, log, moment, generator)
        _admit(problem, state, moment)
        moment += 1
        _finish(problem, state, log, moment)
    return moment


@inner
def _arrive(problem: Problem, state: State, moment: int) -> None:
    while state.counts[COMING] < len(problem.arrivals) and problem.arrivals[state.counts[COMING]] <= moment:
        wait(state, state.counts[COMING])
        state.counts[COMING] += 1


@inner
def _clear(problem: Problem, state: State, log: Ints, moment: int, generator: np.random.Generator) -> None:
    state.counts[CLEARINGS] += 1
    if problem.answers.clearing == BY_CHANCE:
        clear_by_chance(problem, state, log, moment, generator)
    elif problem.answers.clearing == LEAST:
        clear_least(problem, state, log, moment)
    else:
        clear_newest(problem, state, log, moment)


@inner
def _admit(problem: Problem, state: State, moment: int) -> None:
    order = problem.answers.order
    if state.counts[UNRANKED] == 1 and order in (BATCHES, BATCHES_SWEEP):
        rank(problem, state, order == BATCHES)
    state.counts[UNRANKED] = 0
    for k in range(state.counts[RUNNING]):
        i = state.running[k]
        state.held[k] = problem.prompts[i] + moment - state.start[i]
        state.remaining[k] = max(state.end[i] - moment, 1)
    while state.counts[WAITING] > 0 and (state.counts[RUNNING] == 0 or _fits(problem, state, state.waiting[0], moment)):
        start_first(problem, state, moment)


@inner
def _fits(problem: Problem, state: State, i: int, moment: int) -> bool:
    if problem.answers.ahead:
        needed = peak_with(state.held, state.remaining, state.counts[RUNNING], problem.prompts[i], state.estimate[i])
    else:
        needed = needed_next(problem, state, moment) + problem.prompts[i] + 1
    return needed <= problem.answers.limit


@inner
def _finish(problem: Problem, state: State, log: Ints, moment: int) -> None:
    for k in range(state.counts[RUNNING] - 1, -1, -1):
        i = state.running[k]
        if moment - state.start[i] == problem.outputs[i]:
            leave(state, log, i, moment)
            state.counts[FRUITLESS], state.counts[KEPT] = 0, NOBODY
