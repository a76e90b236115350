"""Whether a set of requests, once started, fits the memory until the last of them is predicted to end: three forms.

At some moment let request i hold c_i tokens (its prompt and what it has made; the prompt alone if it starts now) and
have r_i >= 1 rounds to go, as predicted. After tau more rounds it holds c_i + tau if tau <= r_i, nothing if tau > r_i:

    K(tau) = sum_{i: r_i >= tau} (c_i + tau)                     fits iff K(tau) <= M for tau = 1, 2, ..., max r

**At completions.** Between two predicted completions nobody leaves, and K grows by a token a request and round: the
largest K is found at tau = r_i for some i. That is the test of [J], eq. (5).

**Sorted.** Let r_(1) >= r_(2) >= ... with c_(i) alongside. At tau = r_(k) at least the first k are there, so

    k r_(k) + sum_{i<=k} c_(i) <= K(r_(k)),       with equality for the last k of equal r

    max_tau K(tau) = max_k (k r_(k) + sum_{i<=k} c_(i))

which takes one pass over a sorted list, for a candidate too: `peak_with` is what the engine asks.

The test promises nothing about a set that changes: requests added later are tested again with all that run. But as long
as nobody outlives its prediction, a set that fits goes on fitting, since K(tau) of the next round is K(tau + 1) of this
one without whoever ended early. Source: [J], eq. (5); the sorted form is ours (mathematics, section 7.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fluid.arrays import Ints
from verification.rounds.state import inner


def fits_every_round(held: ArrayLike, remaining: ArrayLike, memory: int) -> bool:
    """Whether K(tau) <= M in each round tau = 1..max r: `held` is c (tokens), `remaining` r (rounds), shape (N,).

    >>> fits_every_round([3, 1], [2, 4], memory=9), fits_every_round([3, 1], [2, 4], memory=7)
    (True, False)
    """
    c, r = np.asarray(held), np.asarray(remaining)
    return all(int((c + tau)[r >= tau].sum()) <= memory for tau in range(1, int(r.max(initial=0)) + 1))


def fits_at_completions(held: ArrayLike, remaining: ArrayLike, memory: int) -> bool:
    """Whether K(tau) <= M at the predicted completions tau = r_i: [J], eq. (5).

    >>> fits_at_completions([3, 1], [2, 4], memory=8), fits_at_completions([3, 1], [2, 4], memory=7)
    (True, False)
    """
    c, r = np.asarray(held), np.asarray(remaining)
    return all(int((c + tau)[r >= tau].sum()) <= memory for tau in np.unique(r))


def fits_sorted(held: ArrayLike, remaining: ArrayLike, memory: int) -> bool:
    """Whether max_k (k r_(k) + sum_{i<=k} c_(i)) <= M, r in descending order.

    >>> fits_sorted([3, 1], [2, 4], memory=8), fits_sorted([3, 1], [2, 4], memory=7)
    (True, False)
    """
    return needed(held, remaining) <= memory


def needed(held: ArrayLike, remaining: ArrayLike) -> int:
    """Return max_tau K(tau) = max_k (k r_(k) + sum_{i<=k} c_(i)), tokens: the memory that the set needs to its end.

    Alone the second of these needs 1 + 4 tokens at its end; the two together 2 * 2 + (3 + 1) when the first ends.

    >>> needed([1], [4]), needed([3, 1], [2, 4])
    (5, 8)
    """
    c, r = np.array(held, dtype=np.int64), np.array(remaining, dtype=np.int64)
    descending = np.argsort(-r, kind="stable")
    counts = np.arange(1, len(r) + 1)
    return int((counts * r[descending] + np.cumsum(c[descending])).max(initial=0))


@inner
def peak_with(held: Ints, remaining: Ints, count: int, more: int, rounds: int) -> int:
    """max_tau K(tau) of the first `count`, sorted by r descending, and one more that holds `more` with r = `rounds`."""
    peak, total, placed = 0, 0, 0
    for k in range(count):
        if placed == 0 and rounds > remaining[k]:
            placed, total = 1, total + more
            peak = max(peak, (k + 1) * rounds + total)
        total += held[k]
        peak = max(peak, (k + 1 + placed) * remaining[k] + total)
    if placed == 0:
        peak = max(peak, (count + 1) * rounds + total + more)
    return peak
