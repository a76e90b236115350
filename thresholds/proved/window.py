r"""Windows that are proved to carry rates inside the cache, with every number that the proof takes.

Windows (N_j, g_j), one for each type or one for the mix (`thresholds.paced_wait.entry_windows`), with blocks of g_j
ages cut at an `offset`: KV is at most sum_j N_j sum_blocks max k <= C on every path, batches have at most
sum_j N_j ceil(S_j/g_j) sequences, and iterations take at most b . (1, K, P, n) on average at the means of full windows
(`thresholds.proved.majorant`). They carry the rates lambda where, with x_j = N_j/g_j,

    by type    lambda_j T/x_j < 1  for each j,   T = b . (1, sum x r, sum x l, sum x S)
    the mix    sum_j lambda_j [ b_0/x + b_1 r_j + b_2 l_j + b_3 S_j ] < 1,     x = N/g

half-spaces in the rates, like those that nobody passes. So what they carry for all rates of a set is a support function
(`fluid.uncertainty`). Which windows: for types those designed for the largest factor that is found
(`thresholds.reachable`; whole thresholds of WAIT are windows of one iteration); for the mix the largest N/g whose worst
case fits. Source: mathematics, sections 4.2 to 4.4 and 18.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fluid import Equilibrium
from fluid.arrays import TOLERANCE, Floats, Ints
from thresholds.guarantees import beside_a_prefill, mean_batch
from thresholds.mean_time import Batch
from thresholds.paced_wait.entry_windows import residents
from thresholds.paced_wait.known import MOST_WINDOWS, known_at
from thresholds.paced_wait.window_bounds import fullest_batch, window_bound, window_sequences
from thresholds.policies import PacedPolicy
from thresholds.proved.majorant import majorant
from thresholds.reachable import reachable
from thresholds.wait_thresholds import wait_at

INSIDE, BELOW = 1e-6, 2 * TOLERANCE  # of the factor: where windows are designed, and how far below 1 their load is kept
FINENESS = 1.02  # ratio of the widths tried
OFFSETS = 24


@dataclass(frozen=True, eq=False)
class ProvedWindows:
    """Windows of `policy` at an `equilibrium`, blocks cut at `offsets`, at most `kv_bound` tokens on every path.

    `kv_bound` may be above C where only the chance of that is bounded. `most` is the fullest batch, `time` b (4,).
    """

    policy: PacedPolicy
    equilibrium: Equilibrium
    offsets: tuple[int, ...]
    kv_bound: int
    most: Batch
    time: Floats

    @property
    def by_type(self) -> bool:
        """Whether each type has a window of its own."""
        return len(self.policy.entries) == len(self.equilibrium.workload)

    @cached_property
    def rows(self) -> Floats:
        """The half-spaces of what the windows carry, sum_j rows_ij lambda_j < 1: shape (J, J), or (1, J) of the mix."""
        profile, per = self.equilibrium.profile, _per_iteration(self.policy)
        work = np.stack([profile.kv_read, profile.prefilled, profile.stages]).astype(np.float64)
        if self.by_type:
            return np.diag((self.time[0] + self.time[1:] @ (work @ per)) / per)
        row: Floats = (self.time[0] / per[0] + self.time[1:] @ work)[None, :]
        return row

    @cached_property
    def factor(self) -> float:
        """The factor on all rates that is carried."""
        return (1 - BELOW) / float((self.rows @ self.equilibrium.workload.rates).max())

    @property
    def sequences(self) -> int:
        """The most sequences in a batch."""
        return window_sequences(self.policy, self.equilibrium)


def sure_windows(equilibrium: Equilibrium, known: bool = True) -> ProvedWindows | None:
    """Return windows that never overflow, for the largest factor found; None where there are none.

    Each type has its own where lengths are `known`, types few, and that is better; one for the mix needs no length.

    >>> from fluid import IterationTime, PromptType, Replica, Workload, solve
    >>> balance = solve(Workload([PromptType(512, 1000, 2.0)]), Replica(137_000, IterationTime(0.0106, 4.013e-7)))
    >>> found = sure_windows(balance)
    >>> found.policy.entries, found.policy.iterations, found.kv_bound, round(found.factor, 4)
    ((2,), (15,), 136278, 1.0288)
    """
    if equilibrium.limit == "length":
        return None
    found = [_of_mix(equilibrium)]
    if known and len(equilibrium.workload) <= MOST_WINDOWS and (reach := reachable(equilibrium)).scale > 0:
        entries, iterations = _designed(equilibrium.scaled(reach.scale * (1 - INSIDE)), reach.policy)
        found.append(with_proof(equilibrium, PacedPolicy(entries, iterations, False)))
    return max((each for each in found if each is not None), key=lambda each: each.factor, default=None)


def with_proof(equilibrium: Equilibrium, policy: PacedPolicy, most_kv: float = math.inf,
               offset: int | None = None) -> ProvedWindows:
    """Return windows with their proof; batches read at most `most_kv` tokens, whatever the windows allow."""
    profile, rates = equilibrium.profile, equilibrium.workload.rates
    per, fullest = _per_iteration(policy), fullest_batch(policy, equilibrium)
    if len(policy.entries) == len(rates):
        offsets, entries = tuple(int(s) % g for s, g in zip(profile.stages, policy.iterations, strict=True)), per
        bound = window_bound(policy, equilibrium)
    else:
        held, g = profile.most_by_age, policy.iterations[0]
        chosen = _best_offset(held, g) if offset is None else offset
        offsets, entries = (chosen,), per[0] * rates / rates.sum()
        bound = int(profile.layout.whole(policy.entries[0] * _block_sum(held, g, chosen)))
    prefixes = fullest.kv - window_bound(policy, equilibrium)
    most = fullest._replace(kv=min(bound, most_kv) + prefixes)
    time = majorant(equilibrium.replica.iteration_time, mean_batch(equilibrium, entries), most)
    return ProvedWindows(policy, equilibrium, offsets, bound, most, time)


def most_per_iteration(equilibrium: Equilibrium) -> float:
    """The prompts of the mix that batches take in per iteration on average: B/E[S], q/E[l + o], places by a prefill."""
    replica, profile, rates = equilibrium.replica, equilibrium.profile, equilibrium.workload.rates
    share = rates / rates.sum()
    places = min(replica.most_sequences, beside_a_prefill(equilibrium))
    return min(places / float(share @ profile.stages), replica.most_tokens / float(share @ profile.tokens))


def _designed(there: Equilibrium, policy: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Entries and iterations of the design that carries these rates."""
    if policy == "wait":
        thresholds = wait_at(there).thresholds
        return thresholds, (1,) * len(thresholds)
    design = known_at(there, False)
    return design.entries, design.iterations


def _of_mix(equilibrium: Equilibrium) -> ProvedWindows | None:
    """One window for the mix: the largest N/g whose worst case fits the cache and the batch."""
    held, layout, replica = equilibrium.profile.most_by_age, equilibrium.profile.layout, equilibrium.replica
    most, best, chosen = most_per_iteration(equilibrium), 0.0, None
    for g in _widths(held.size):
        offset = _best_offset(held, g)
        room = min(layout.unit * replica.kv_capacity // _block_sum(held, g, offset), most * g * (1 + 1e-12))
        entries = math.floor(min(room, replica.most_sequences / residents(1, g, held.size)))
        if entries / g > best:
            best, chosen = entries / g, (entries, g, offset)
    if chosen is None:
        return None
    entries, g, offset = chosen
    return with_proof(equilibrium, PacedPolicy((entries,), (g,), False), offset=offset)


def _widths(most: int) -> list[int]:
    tries = FINENESS ** np.arange(math.ceil(math.log(most) / math.log(FINENESS)) + 1)
    widths: list[int] = np.unique(np.minimum(np.rint(tries), most).astype(np.int64)).tolist()
    return widths


def _block_sum(held: Ints, g: int, offset: int) -> int:
    """sum over blocks of g ages, cut at offset + g Z, of the most held in each."""
    starts = np.union1d([0], np.arange(offset, held.size, g)).astype(np.int64)
    return int(np.maximum.reduceat(held, starts).sum())


def _best_offset(held: Ints, g: int) -> int:
    tries = np.unique(np.append(held.size % g, np.linspace(0, g - 1, min(g, OFFSETS)).astype(np.int64)))
    return int(min(tries, key=lambda offset: _block_sum(held, g, int(offset))))


def _per_iteration(policy: PacedPolicy) -> Floats:
    return np.array(policy.entries, dtype=np.float64) / np.array(policy.iterations, dtype=np.float64)
