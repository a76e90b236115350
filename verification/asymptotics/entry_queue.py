r"""The entry queue of WAIT as a run had it: what is left behind when a batch of n leaves.

WAIT starts an iteration of type j when n_j of its prompts wait, and takes exactly n_j, oldest first. If the k-th of
these iterations starts at t_k and A(t) prompts have arrived by t, n k have left, so

    Q_k = A(t_k) - n k        k = 1, 2, ...

Where iterations take a constant time Delta and the server has one type, Q is the bulk queue of
`thresholds.delay.bulk_queue`, Q' = (Q + Poisson(lambda Delta) - n)^+: if fewer than n wait when an iteration ends the
next one starts at the n-th, and leaves nothing behind. Source: mathematics, section 11.2.
"""

from __future__ import annotations

import numpy as np

from fluid.arrays import Ints
from fluid.errors import InputError, whole
from verification.run import Run


def entry_queue(run: Run, threshold: int, type_index: int = 0) -> Ints:
    """Return Q_k of one type at each iteration that admits it, shape (iterations,); `threshold` is n of that type.

    Raises InputError where there is no such type, or the run did not admit prompts in batches of so many.

    >>> from fluid import IterationTime, PromptType, Replica, Workload
    >>> from thresholds import WaitPolicy
    >>> from verification import Arrivals, simulate
    >>> mix, replica = Workload([PromptType(1, 1, 1.0)]), Replica(9, IterationTime(1.0, 0.0))
    >>> arrivals = Arrivals([0.0, 0.1, 0.2, 0.3, 0.4], [0] * 5)
    >>> entry_queue(simulate(WaitPolicy((2,)), mix, replica, arrivals=arrivals), threshold=2).tolist()
    [0, 1]
    """
    n = whole("threshold", threshold, "entry_queue", unit="prompts")
    last = len(run.profile.output) - 1
    chosen = run.arrivals.types == whole("type_index", type_index, "entry_queue", unit="types", least=0, most=last)
    arrived, admitted = run.arrivals.times[chosen], run.admitted[chosen]
    starts, sizes = np.unique(admitted[np.isfinite(admitted)], return_counts=True)
    if np.any(sizes != n):
        raise InputError("threshold", "the number of prompts that every iteration admits", threshold, "entry_queue")
    left: Ints = np.searchsorted(arrived, starts, side="right") - n * np.arange(1, len(starts) + 1)
    return left
