r"""The instances on which every deterministic online policy loses by a factor of the order of sqrt(n).

An adversary with a memory of M tokens, m = floor(sqrt M), and a policy whose starts are final:

 1. At moment 0 one long request comes: s = 1, o = M - 1. Let b be the moment at which the policy starts it and
    F = b + M - 1 the moment at which it finishes. (A policy that never starts it has no finite latency.)
 2. At moment F - m come N = floor(M/2) short ones: s = 1, o = 1, of two tokens each.

The policy cannot tell the two runs apart before F - m, so the long one runs to F and leaves F - u tokens at moments
u = F - m + 1..F: 0 + 1 + ... + (m - 1) = m (m - 1)/2 in all, room for m (m - 1)/4 short ones. The others wait beyond F:

    cost >= (M - 1) + (N - m (m - 1)/4)(m + 1)      of the order of M sqrt(M)/4

Who knows the future lets all short ones run at once as they come, N rounds in total. The long one runs from 0 if it is
done by then (F - m >= M - 1, that is b >= m), else from the moment when they are gone, F - m + 1 <= M - 1:

    optimum <= N + max(M - 1, (M - 1) + (M - 1)) <= 5 M/2

With n = N + 1 the ratio is at least of the order of sqrt(M)/10, and sqrt(M) = sqrt(2 n) to first order. [J], Theorem
4.1, states the order; this construction and its constants are ours. Clearing the long request is outside of the
theorem: a policy that clears may escape. See mathematics, section 7.9.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fluid.errors import InputError, whole
from verification.rounds.instance import Instance
from verification.rounds.schedule import Schedule

Player = Callable[[Instance], Schedule]  # a deterministic online policy: `lambda instance: play(MCSF(), instance)`


@dataclass(frozen=True, eq=False)
class Loss:
    """What the policy paid (`cost`, rounds) on the `instance` made for it, and a `witness`, a schedule that pays
    less."""

    instance: Instance
    cost: int
    witness: Schedule

    @property
    def ratio(self) -> float:
        """cost over the cost of the witness: the ratio to the optimum is at least that."""
        return self.cost / self.witness.total_latency

    @property
    def proved(self) -> float:
        """What the proof promises for this M and this witness, whatever the policy."""
        memory, shorts = self.instance.memory, len(self.instance) - 1
        m = math.isqrt(memory)
        late = shorts - m * (m - 1) // 4
        return (memory - 1 + shorts + late * m) / self.witness.total_latency


def against(player: Player, memory: int) -> Loss:
    """Return what the adversary with `memory` = M tokens does to a policy, with at most floor(M/2) + 1 requests.

    Raises InputError for fewer than 4 tokens, and for a policy that starts the long request at another moment when
    others come later: it is not deterministic, not online, or clears.

    >>> from verification.rounds.engine import play
    >>> from verification.rounds.mc_sf import MCSF
    >>> loss = against(lambda instance: play(MCSF(), instance), memory=400)
    >>> len(loss.instance), loss.ratio >= loss.proved > 1
    (201, True)
    """
    M = whole("memory", memory, "against", unit="tokens", least=4)
    m, shorts = math.isqrt(M), M // 2
    begun = int(player(Instance([0], [1], [M - 1], M)).started[0])
    come = begun + M - 1 - m
    ones = np.ones(shorts, dtype=np.int64)
    instance = Instance([0, *(come * ones)], [1, *ones], [M - 1, *ones], M)
    played = player(instance)
    if played.started[0] != begun:
        raise InputError("player", "deterministic and online, with starts that are final", played.started[0],
                         f"the run whose long request started at {begun} when it was alone")
    return Loss(instance, played.total_latency, _witness(instance, come, begun >= m))


def _witness(instance: Instance, come: int, long_first: bool) -> Schedule:
    """The short ones as they come, and the long one before or after them."""
    starts = np.full(len(instance), come, dtype=np.int64)
    starts[0] = 0 if long_first else come + 1
    order = np.argsort(starts, kind="stable")
    return Schedule(instance, order, starts[order], (starts + instance.outputs)[order])
