"""Where there is no fleet: why, and the smallest change that makes one.

A type that fits no kind needs a cache, or a `max_model_len`, that none has: the kind that lacks least is named. Where
the `most` of the kinds are too few, all of them carry a largest share of the demand (`fluid.planning.demand`), and the
fewest replicas more are those of the same problem with what there is for nothing and each replica more at price 1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fluid.arrays import Floats
from fluid.planning.kinds import Kind, Rows, fast_enough
from fluid.planning.whole_fleet import bounds, without
from fluid.tables import duration
from fluid.workload import Workload

FREE = 1e-6  # the price of what is not limited, against 1 for what is


def fits_nowhere(workload: Workload, kinds: tuple[Kind, ...], rows: Rows) -> str:
    """The sentence for the first type that fits no kind, and how many more there are."""
    lost = np.flatnonzero(~rows.served)
    j, more = int(lost[0]), f" (and {len(lost) - 1:,} types more)" if len(lost) > 1 else ""
    tokens = int(workload.prompt_tokens[j] + workload.output_tokens[j])
    slow = [k for k, each in enumerate(kinds) if not fast_enough(each)]
    if len(slow) == len(kinds):
        k = min(slow, key=lambda k: float(kinds[k].replica.iteration_time.overheads.max()))
        overhead = float(kinds[k].replica.iteration_time.overheads.max())
        return (f"no kind has a time between tokens within {duration(kinds[k].tpot or 0.0)}: an iteration of "
                f'"{kinds[k].name}" without any work takes {duration(overhead)}')
    kinds = tuple(each for each in kinds if fast_enough(each))
    profiles = [rows.profiles[k] for k in range(len(rows.profiles)) if k not in slow]
    roomy = [k for k, each in enumerate(kinds) if profiles[k].peak[j] <= each.replica.kv_capacity]
    head = f'type "{workload.names[j]}"{more} fits no kind: '
    if roomy:
        k = max(roomy, key=lambda k: kinds[k].replica.max_model_len or 0)
        return (f"{head}its prompt and output have {tokens:,} tokens, and the largest max_model_len is "
                f'{kinds[k].replica.max_model_len:,}, of "{kinds[k].name}"')
    k = min(range(len(kinds)), key=lambda k: int(profiles[k].peak[j]) - kinds[k].replica.kv_capacity)
    need, have = int(profiles[k].peak[j]), kinds[k].replica.kv_capacity
    return (f'{head}its last iteration holds {need:,} KV tokens, and a replica of "{kinds[k].name}" has {have:,}: '
            f"{need - have:,} more would do")


def carried_by_all(demand: Workload, kinds: tuple[Kind, ...], rows: Rows, spare: int) -> float:
    """The share of the demand that all replicas there are carry, `spare` of any kind lost."""
    everything: Floats = bounds(demand, kinds, rows, spare)
    if not everything.any():
        return 0.0
    return min(each.factor for each in without(demand, kinds, rows, everything, spare))


def as_if_more(kinds: tuple[Kind, ...]) -> list[Kind]:
    """The kinds with what there is for nothing, and each replica more than `most` at price 1."""
    return [replace(each, price=FREE, count=0) if each.most is None else
            replace(each, price=1.0, most=None, count=each.most) for each in kinds]


def too_few(workload: Workload, kinds: tuple[Kind, ...], share: float, missing: Floats) -> str:
    """The sentence where `most` is too small; `missing` (K,) replicas more would do."""
    more = " and ".join(f"{n:g} x {each.name}" for n, each in zip(missing, kinds, strict=True) if n > 0)
    return (f"all the replicas there are carry {share:.4g} of the demand of {workload.rate:.4g} requests/s: it takes "
            f"{more or 'none'} more")
