"""Mixes and kinds of replicas drawn at random."""

from __future__ import annotations

import numpy as np

from fluid import IterationTime, Replica, Workload
from fluid.planning import Kind


def many_types(types: int, kinds: int, seed: int = 1) -> tuple[Workload, list[Kind]]:
    """A random mix of about 250 requests/s, and random kinds."""
    rng = np.random.default_rng(seed)
    mix = Workload.from_arrays(rng.integers(10, 4000, types), rng.integers(1, 1000, types),
                               rng.uniform(1.0, 50.0, types) * 10 / types)
    scales = rng.uniform(0.5, 2.0, (kinds, 4)) * [0.01, 3e-7, 5e-5, 5e-5]
    return mix, [Kind(f"kind {k}", Replica(int(rng.integers(40_000, 800_000)), IterationTime(*scales[k]),
                                           max_num_seqs=256), float(rng.uniform(1, 5))) for k in range(kinds)]
