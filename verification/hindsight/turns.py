"""Turns: a round is claimed by few requests at once, even for a while after they have finished.

Memory that a request frees cannot be used at once, because others grow by one token a round. Let C_i = t_i + o_i be the
moment at which request i finishes, p_i = s_i + o_i what it then holds, k >= 1 and y whole numbers, and S a set of
requests. Request i claims the moments C_i - b_i .. C_i + f_i, both ends included, with

    b_i = p_i - y          f_i = min(floor((p_i - M - 1)/k) + y,  y - 1 - max_S s)          claimed: b_i + f_i + 1

**Theorem.** In every feasible schedule each moment is claimed by at most k requests of S.

Proof. Let k + 1 requests claim moment u, and let number 1 finish first. For every other, j:

    0 <= C_j - C_1 <= (u + b_j) - (u - f_1) = b_j + f_1 <= p_j - y + y - 1 - s_j = o_j - 1

so j has started before C_1 and holds p_j - (C_j - C_1) at that moment, when number 1 holds p_1. Together they hold

    p_1 + sum_j (p_j - (C_j - C_1)) >= p_1 + sum_j (p_j - b_j - f_1) = p_1 + k (y - f_1)
                                    >= p_1 + k y - (p_1 - M - 1) - k y = M + 1          a contradiction.

A request claims p_i + 1 + min(floor((p_i - M - 1)/k), -1 - max_S s) moments, whatever y is; S are those for which that
is positive. With k = 1 they are the requests that need more than half the memory, and the claim is 2 p_i - M moments
where s is small: 43 of a request with p = 45, M = 47, which has more than half the memory in 22 rounds only. The
inequality is ours. On instances of [J] with 25 to 75 requests the linear relaxation is 24% to 33% below the best
schedule known without it, and 11% to 16% with it. See mathematics, section 7.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fluid.arrays import Bools, Ints

TOGETHER = (1, 2)  # the k that are used: larger ones do not move the relaxation of [J]'s instances


@dataclass(frozen=True, eq=False)
class Turns:
    """At most `together` = k of the `members` claim a moment, `before` = b and `after` = f around their finish.

    All have the shape of the requests asked about; `before` and `after` mean nothing where `members` is False.
    """

    together: int
    members: Bools
    before: Ints
    after: Ints

    @property
    def length(self) -> Ints:
        """The moments that each request claims; 0 of those that are no members."""
        return np.where(self.members, self.before + self.after + 1, 0)


def turns(prompts: Ints, outputs: Ints, memory: int, together: int) -> Turns:
    """Return who claims what if at most `together` = k claim a moment; `prompts` s and `outputs` o (tokens), shape
    (N,).

    >>> found = turns(np.array([2, 2, 1]), np.array([40, 28, 3]), memory=47, together=1)
    >>> found.length.tolist()
    [37, 13, 0]
    """
    peaks, shift = prompts + outputs, memory // (together + 1)
    decay = (peaks - memory - 1) // together
    members = peaks + 1 + decay > 0
    longest = int(prompts[members].max(initial=0))
    after = np.minimum(decay, -1 - longest) + shift
    return Turns(together, members & (peaks - shift + after + 1 > 0), peaks - shift, after)


def families(prompts: Ints, outputs: Ints, memory: int) -> Iterator[Turns]:
    """The turns of each k in `TOGETHER` that bind anybody: more than k members."""
    for together in TOGETHER:
        found = turns(prompts, outputs, memory, together)
        if np.count_nonzero(found.members) > 0:
            yield found
