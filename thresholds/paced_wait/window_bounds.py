"""What residents can hold at most behind windows and thresholds: KV, sequences, and all that meets in one batch.

Each is attained or an upper bound over all phases of the windows (`thresholds.paced_wait.entry_windows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fluid import Equilibrium, StageProfile
from thresholds.mean_time import Batch
from thresholds.paced_wait.entry_windows import EntryWindow, residents
from thresholds.policies import NestedWaitPolicy, PacedPolicy, WaitPolicy


def kv_bound(policy: object, equilibrium: Equilibrium) -> float | None:
    """Return the KV tokens residents can hold under a policy on any path; None for policies without such a bound.

    WAIT: M^pi = sum_j n_j w_j. Paced: the bound of its windows. (Nested WAIT bounds its queues only in probability.)
    """
    if isinstance(policy, WaitPolicy):
        return float(equilibrium.profile.whole_held(np.array(policy.thresholds, dtype=np.float64)))
    if isinstance(policy, PacedPolicy):
        return float(window_bound(policy, equilibrium))
    return None


def sequence_bound(policy: object, equilibrium: Equilibrium) -> int | None:
    """Return the sequences that a batch can have under a policy on any path; None for policies without such a bound.

    WAIT: sum_j n_j S_j. Paced: sum_j N_j ceil(S_j/g_j). Nested WAIT: n_k in each stage of segment k.
    """
    profile = equilibrium.profile
    if isinstance(policy, WaitPolicy):
        return int(np.array(policy.thresholds) @ profile.stages)
    if isinstance(policy, PacedPolicy):
        return window_sequences(policy, equilibrium)
    if isinstance(policy, NestedWaitPolicy):
        widths = np.diff(policy.boundaries, prepend=-int(profile.prefill_stages[0]))
        return int(np.array(policy.thresholds) @ widths)
    return None


def window_sequences(policy: PacedPolicy, equilibrium: Equilibrium) -> int:
    """The most sequences in a batch: sum_j N_j ceil(S_j/g_j), of a mix N ceil(max S/g)."""
    stages = equilibrium.profile.stages
    lives = stages.tolist() if len(policy.entries) > 1 else [int(stages.max())]
    return sum(residents(n, g, life) for n, g, life in zip(policy.entries, policy.iterations, lives, strict=True))


def window_bound(policy: PacedPolicy, equilibrium: Equilibrium) -> int:
    """The most KV that residents can hold, whole tokens."""
    pairs = zip(windows_of(equilibrium, len(policy.entries)), policy.entries, policy.iterations, strict=True)
    return int(equilibrium.profile.layout.whole(sum(window.kv_bound(n, g) for window, n, g in pairs)))


def window_names(policy: PacedPolicy, equilibrium: Equilibrium) -> tuple[str, ...]:
    """What each window admits: a type, or "all"."""
    names = equilibrium.workload.names
    return ("all",) if len(policy.entries) == 1 < len(names) else names


def windows_told(policy: PacedPolicy, equilibrium: Equilibrium) -> list[dict[str, Any]]:
    """The windows by the names of the command line; None for each number where there are none."""
    names = window_names(policy, equilibrium)
    nothing = (None,) * len(names)
    rows = zip(names, policy.entries or nothing, policy.iterations or nothing, strict=True)
    return [{"name": name, "entries": entries, "iterations": iterations, "gate": policy.gate}
            for name, entries, iterations in rows]


def windows_of(equilibrium: Equilibrium, lanes: int) -> Sequence[EntryWindow]:
    """A window for each type, or one for the mix."""
    if lanes == 1 and len(equilibrium.workload) > 1:
        return [EntryWindow.of_mix(equilibrium.profile, equilibrium.workload.rates)]
    return _by_type(equilibrium.profile)


@lru_cache(maxsize=8)  # designs are tried at many rates, the types being the same
def _by_type(profile: StageProfile) -> tuple[EntryWindow, ...]:
    return tuple(EntryWindow.of_type(profile, j) for j in range(len(profile.stages)))


def fullest_batch(policy: PacedPolicy, equilibrium: Equilibrium) -> Batch:
    """The most KV read, prompt tokens and sequences in a batch, over all phases of the windows."""
    profile, replica = equilibrium.profile, equilibrium.replica
    piece, stages = np.minimum(profile.chunk, profile.prefilled), profile.prefill_stages
    if len(policy.entries) == 1:
        piece, stages = piece.max(keepdims=True), stages.max(keepdims=True)
    pairs = zip(policy.entries, policy.iterations, stages.tolist(), strict=True)
    prefills = float(piece @ np.array([residents(*pair) for pair in pairs]))
    sequences, prefix = window_sequences(policy, equilibrium), profile.prefix.max()
    read = sequences * float(profile.layout.read(prefix) / profile.layout.unit) if prefix else 0.0
    return Batch(read + window_bound(policy, equilibrium), min(prefills, replica.most_tokens),
                 min(sequences, replica.most_sequences))
