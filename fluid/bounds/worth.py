r"""What a request of each type is worth at the prices of a certificate: the bound of section 10.4 as a half-space.

`fluid.bounds.certificate` adds up what the arrivals of a second are worth. That sum is linear in the rates: with pieces
of q prompt tokens of group g, of which a type has so many, and prices mu_g, and p of KV read and held, sequences,
decodes and iterations,

    h_j = sum_pieces q (mu_g - read_g p_read - held_g p_held - seq_g p_seq) + r_j p_read + w_j p_held + S_j p_seq
          + o_j p_decode + omega (iterations of a request, `fluid.bounds.packing`)

and no policy carries more than 1/(h . lambda) of rates lambda, whichever they are: prices do not depend on rates.
Source: mathematics, sections 10.3 and 10.4.
"""

from __future__ import annotations

import numpy as np

from fluid.arrays import Floats
from fluid.bounds.certificate import Certificate
from fluid.stages import StageProfile


def worth_of_types(certificate: Certificate, profile: StageProfile, iterations: Floats) -> Floats:
    """Return h, seconds that a request of each type is worth, shape (J,); `iterations` (J,) that it needs by packing.

    >>> from fluid import IterationTime, PromptType, Replica, Workload, solve
    >>> lines = IterationTime.largest(IterationTime(0.01, 4e-7), IterationTime(0.01, 0.0, 1e-4))
    >>> balance = solve(Workload([PromptType(8000, 5, 1.0), PromptType(1, 200, 10.0)]), Replica(500_000, lines))
    >>> proof = balance.impossible.anyone
    >>> h = worth_of_types(proof, balance.profile, np.zeros(2))
    >>> bool(abs(h @ balance.workload.rates / proof.value - 1) < 1e-9)
    True
    """
    prices, demand = certificate.prices, certificate.demand
    worth = (profile.kv_read * prices.kv_read + profile.kv_work * prices.kv_held + profile.stages * prices.sequence
             + profile.decode * prices.decode + iterations * prices.iteration)
    if not len(demand.sizes):
        return np.asarray(worth, dtype=np.float64)
    extra = prices.prefill - (demand.read_each * prices.kv_read + demand.held_each * prices.kv_held
                              + demand.sequences_each * prices.sequence)
    some = profile.prefill_stages > 0
    chunks = np.where(some, profile.prefill_stages - 1, 0)
    last = np.where(some, profile.prompt - profile.chunk * chunks, 0)
    for size, count in ((last, some), (profile.chunk, chunks)):
        group = np.maximum(np.searchsorted(demand.sizes, size, side="right") - 1, 0)
        worth = worth + np.where(count > 0, count * size * extra[group], 0.0)
    return np.asarray(worth, dtype=np.float64)
