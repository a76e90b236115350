"""Eviction: when residents come to hold more KV than there is, the newest go back to the queue and start again.

Every rule that admits a request by the KV of its first stage, and not of its last, needs it. All progress of an evicted
request is lost ("restart" in model.md section 6).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from verification.engine.compile import compiled, woven
from verification.engine.queues import Queue, put_back, request_at
from verification.engine.residents import KV, Residents
from verification.engine.state import EVICTIONS, Problem, State

HowFar = TypeVar("HowFar")


@woven
def evict_overflow(problem: Problem, state: State, queue: Queue, residents: Residents, to_front: bool,
                   take_newest: Callable[[Problem, Residents, HowFar], int], progress: HowFar) -> bool:
    """While the residents hold more than C, send the newest back to the queue; return whether there was one.

    `take_newest`, a compiled function, removes the newest from where its rule keeps it and returns its place in the
    queue; `progress` is what it needs to know how far the residents are.
    """
    evicted = False
    while residents.tally[KV] > problem.capacity:
        place = take_newest(problem, residents, progress)
        _lose_progress(problem, state, request_at(queue, place))
        put_back(queue, place, to_front)
        evicted = True
    return evicted


@compiled
def _lose_progress(problem: Problem, state: State, r: int) -> None:
    """Note an eviction: nothing of this pass counts, but a first token made elsewhere stays."""
    state.counts[EVICTIONS] += 1
    state.admitted[r] = np.nan
    if problem.first_stage[problem.types[r]] >= 0:
        state.first_token[r] = np.nan
