"""Paced WAIT, model.md section 4: in any g consecutive iterations at most N prompts enter; residents never pause.

A lane (one for each type, or one for the mix) remembers the iterations of its last N entries. A prompt may enter
iteration t if the N-th last entry was before t - g + 1: then no g consecutive iterations hold more than N. With a gate
a lane enters only as a full cohort of N. Iterations are counted while something is resident; when nothing is, entries
of the past are forgotten. A prompt for which a batch of B sequences has no place waits, without counting as an entry; a
cohort waits until all of it finds a place. Lanes take their turn in the order of the types.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluid.errors import InputError
from fluid.workload import Ints
from thresholds import PacedPolicy
from verification.continuous import admit, advance
from verification.engine import ITERATION, Kernel, Problem, State, compiled, paused, sleep
from verification.residents import SIZE, Residents, make_residents, take_arrivals

LONG_AGO = -(2**62)


class Windows(NamedTuple):
    """Per lane: N, g, and the ring `recent` (from `offset` on, oldest at `place`) of its last N entries' iterations.

    `fresh` holds the iteration from which entries count.
    """

    entries: Ints
    iterations: Ints
    recent: Ints
    offset: Ints
    place: Ints
    fresh: Ints


def kernel(policy: PacedPolicy, problem: Problem) -> Kernel:
    """Return the rule, ready to run; raises InputError unless there is one window, or one per type."""
    lanes = len(policy.entries)
    if lanes not in (1, len(problem.stages)):
        requirement = f"1 number for the mix or {len(problem.stages)}, one per prompt type"
        raise InputError("entries", requirement, policy.entries, "policy")
    entries = np.array(policy.entries, dtype=np.int64)
    windows = Windows(entries, np.array(policy.iterations, dtype=np.int64), np.full(entries.sum(), LONG_AGO),
                      np.cumsum(entries) - entries, np.zeros(lanes, dtype=np.int64), np.zeros(1, dtype=np.int64))
    residents = make_residents(problem, lanes)
    return lambda state, budget: run(problem, state, residents, windows, policy.gate, budget)


@compiled
def run(problem: Problem, state: State, residents: Residents, windows: Windows, gate: bool, budget: int) -> None:
    """Run the rule until the budget of iterations is spent."""
    while not paused(problem, state, budget):
        take_arrivals(problem, state, residents)
        if residents.tally[SIZE] == 0:
            windows.fresh[0] = state.counts[ITERATION]
        for lane in range(len(windows.entries)):
            _enter(problem, state, residents, windows, gate, lane)
        if residents.tally[SIZE] > 0:
            advance(problem, state, residents)
        else:
            sleep(problem, state)


@compiled
def _enter(problem: Problem, state: State, residents: Residents, windows: Windows, gate: bool, lane: int) -> None:
    """Admit from a lane what its window and the batch allow; with a gate, a full cohort or nothing."""
    t = state.counts[ITERATION]
    places = min(residents.waiting[lane], problem.most_sequences - residents.tally[SIZE])
    if gate and places < windows.entries[lane]:
        return
    for _ in range(min(windows.entries[lane], places)):
        oldest = windows.offset[lane] + windows.place[lane]
        if windows.recent[oldest] >= max(t - windows.iterations[lane] + 1, windows.fresh[0]):
            return
        windows.recent[oldest] = t
        windows.place[lane] = (windows.place[lane] + 1) % windows.entries[lane]
        admit(problem, state, residents, lane)
