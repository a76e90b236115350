"""Eviction: when residents come to hold more KV than there is, the newest go back to the queue.

Every rule that admits a request by less than the KV of its last stage needs it. There are two kinds (model.md section
6). `restart` [A]: all progress of an evicted request is lost, its output is made again. `recompute` (engines): it keeps
the tokens it has made; its KV is gone, so when it comes back prompt and tokens are prefilled, and decoding goes on.
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
def evict_overflow(problem: Problem, state: State, queue: Queue, residents: Residents,
                   take_newest: Callable[[Problem, Residents, HowFar], tuple[int, int]], progress: HowFar) -> bool:
    """While the residents hold more than C, send the newest back to the queue; return whether there was one.

    `take_newest`, a compiled function, removes the newest from where its rule keeps it and returns its place in the
    queue and the tokens it would keep; `progress` is what it needs to know how far the residents are.
    """
    evicted = False
    while residents.tally[KV] > problem.capacity:
        place, kept = take_newest(problem, residents, progress)
        note_eviction(problem, state, queue, request_at(queue, place))
        put_back(queue, place, kept if queue.keeps else 0)
        evicted = True
    return evicted


@compiled
def note_eviction(problem: Problem, state: State, queue: Queue, r: int) -> None:
    """Of a request that starts again nothing of this pass counts, but a first token made elsewhere stays."""
    state.counts[EVICTIONS] += 1
    state.admitted[r] = np.nan
    if not queue.keeps and problem.first_stage[problem.types[r]] >= 0:
        state.first_token[r] = np.nan
