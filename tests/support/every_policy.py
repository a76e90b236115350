"""The most that any policy carries on a tiny replica, by a linear program over all states and all batches.

A state says how many residents of each type execute each stage next. In an iteration any residents may be given up
(they start again, as if they were new), any may enter, any of those resident may be in the batch, as long as all who
are resident, in the batch or not, fit the cache. With the long-run frequencies of (state, batch) as variables, the most
s at which type j completes s lambda_j requests a second is a linear program: what leaves a state enters it. It knows no
fluid, no class, no overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from fluid import Replica, Workload, stage_profile

State = tuple[int, ...]


def most_of_every_policy(workload: Workload, replica: Replica) -> float:
    """The largest factor on all rates under any policy that keeps what it admits or lets it start again."""
    profile = stage_profile(workload, replica)
    kinds = [(j, s) for j in range(len(workload)) for s in range(int(profile.stages[j]))]
    held = np.array([profile.stage_kv(j)[s] for j, s in kinds])
    read = np.array([profile.stage_read(j)[s] for j, s in kinds])
    prefill = np.array([profile.stage_prefill(j)[s] for j, s in kinds])
    first = np.array([s == 0 for _, s in kinds])
    last = np.array([s == profile.stages[j] - 1 for j, s in kinds])
    place, moves = {(0,) * len(kinds): 0}, []
    waiting = [(0,) * len(kinds)]
    while waiting:
        state = waiting.pop()
        for resident in _residents(np.array(state), first, held, replica.kv_capacity):
            for batch in product(*(range(n + 1) for n in resident)):
                chosen = np.array(batch)
                if not chosen.any() or chosen.sum() > replica.most_sequences:
                    continue
                after = resident - chosen
                after[1:] += np.where(last[:-1], 0, chosen[:-1])
                new = tuple(after.tolist())
                if new not in place:
                    place[new] = len(place)
                    waiting.append(new)
                time = replica.iteration_time(float(chosen @ read), float(chosen @ prefill), float(chosen.sum()))
                done = [int(chosen[k]) for k in np.flatnonzero(last)]
                moves.append((place[state], place[new], time, done))
    return _best(moves, len(place), workload.rates)


def _residents(state: np.ndarray, first: np.ndarray, held: np.ndarray, capacity: int) -> Iterator[np.ndarray]:
    """Who is resident in an iteration: some of those before, and any who enter."""
    most = np.where(first, capacity // held, state)
    for counts in product(*(range(n + 1) for n in most.tolist())):
        resident = np.array(counts)
        if resident @ held <= capacity:
            yield resident


def _best(moves: list[tuple[int, int, float, list[int]]], states: int, rates: np.ndarray) -> float:
    """max s: sum of times = 1, flow balance, completions of type j >= s lambda_j."""
    fastest: dict[tuple[int, int, tuple[int, ...]], float] = {}
    for source, target, time, done in moves:
        key = (source, target, tuple(done))
        fastest[key] = min(time, fastest.get(key, np.inf))
    n, rows, columns, values = len(fastest), [], [], []
    for column, (source, target, _) in enumerate(fastest):
        rows += [source, target]
        columns += [column, column]
        values += [1.0, -1.0]
    rows += [states] * n
    columns += list(range(n))
    values += list(fastest.values())
    balance = coo_array((values, (rows, columns)), shape=(states + 1, n + 1))
    served = np.array([done for _, _, done in fastest], dtype=float).T
    found = linprog(np.append(np.zeros(n), -1.0), A_ub=np.column_stack([-served, rates]), b_ub=np.zeros(len(rates)),
                    A_eq=balance.tocsr(), b_eq=np.append(np.zeros(states), 1.0), method="highs")
    return float(-found.fun)
