"""How to install a policy: what the flags of an engine guarantee and cost, and a scheduler class for windows.

Engines cap the sequences they run together, the tokens of an iteration and the memory they take; none of them spaces
entries. With P the largest KV of a request, floor(C/P) sequences can never overflow. What a cap B costs is what its
half-space takes of the region (`fluid.region`): the largest rate at which batches of B carry the mix, as a share of
the largest rate without the cap. A cap at the sequences that windows can hold admits as much as the windows, but lets
entries bunch, and bunched requests grow together: of it nothing is proved unless it is at most floor(C/P).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from fluid import Equilibrium, stability_region
from thresholds import PacedPolicy, WaitPolicy, sequence_bound

SAFE = "nothing is preempted while none is longer than these: so many of the longest fit"
MORE_CACHE = 0.01  # of the KV cache, of which it is said what it is worth


class Flag(NamedTuple):
    """A setting of vLLM's command line: what it guarantees, what it costs."""

    flag: str
    guarantees: str
    costs: str


def safe_sequences(equilibrium: Equilibrium) -> int:
    """floor(C/P): so many sequences never overflow, whatever they are."""
    return equilibrium.kv_capacity // int(equilibrium.profile.peak.max())


def kept_under_cap(equilibrium: Equilibrium, sequences: int) -> float:
    """The share of the largest rate that batches of so many sequences carry."""
    replica = equilibrium.replica
    if sequences >= replica.most_sequences:
        return 1.0
    capped = replace(replica, max_num_seqs=max(sequences, 1))
    rates = equilibrium.workload.rates
    return stability_region(equilibrium.workload, capped).max_rate_scale(rates) / equilibrium.max_rate_scale


def least_tokens(equilibrium: Equilibrium) -> float:
    """The tokens of an iteration at the edge without a budget: with fewer the budget binds before anything else."""
    free = replace(equilibrium.replica, max_num_batched_tokens=None)
    scale = stability_region(equilibrium.workload, free).max_rate_scale(equilibrium.workload.rates)
    overheads = free.iteration_time.overheads
    work = equilibrium.profile.time_work(free.iteration_time) @ equilibrium.workload.rates * scale
    return float((overheads / (1 - work)).max() * scale * (equilibrium.profile.tokens @ equilibrium.workload.rates))


def worth_of_cache(equilibrium: Equilibrium) -> float:
    """By what share the largest rate grows with 1% more KV cache."""
    replica = equilibrium.replica
    more = replace(replica, kv_capacity=round(replica.kv_capacity * (1 + MORE_CACHE)))
    rates = equilibrium.workload.rates
    return stability_region(equilibrium.workload, more).max_rate_scale(rates) / equilibrium.max_rate_scale - 1


def flags(equilibrium: Equilibrium, policy: PacedPolicy | WaitPolicy) -> list[Flag]:
    """The flags of vLLM that need no code, for a design that is feasible."""
    return [*_caps(equilibrium, policy), *_others(equilibrium)]


def _caps(equilibrium: Equilibrium, policy: PacedPolicy | WaitPolicy) -> list[Flag]:
    safe, held = safe_sequences(equilibrium), sequence_bound(policy, equilibrium) or 1
    cap = int(min(held, equilibrium.replica.most_sequences))
    if cap <= safe:
        return [_cap(equilibrium, cap, SAFE)]
    return [_cap(equilibrium, safe, SAFE),
            _cap(equilibrium, cap, "nothing: as many as the policy holds, but entries may bunch and be preempted")]


def _cap(equilibrium: Equilibrium, sequences: int, guarantees: str) -> Flag:
    lost = 1 - kept_under_cap(equilibrium, sequences)
    return Flag(f"--max-num-seqs {sequences}", guarantees, f"{lost:.1%} of the largest rate")


def _others(equilibrium: Equilibrium) -> list[Flag]:
    tokens = least_tokens(equilibrium)
    return [
        Flag(f"--max-num-batched-tokens {tokens:,.0f} or more".replace(",", ""),
             "the budget of tokens never binds before memory or time", "longer iterations: see the advice"),
        Flag("--gpu-memory-utilization", f"the engine must report {equilibrium.kv_capacity:,} KV tokens or more"
             + (" beside its shared prefixes" if equilibrium.workload.cached_prefix.any() else ""),
             f"1% more KV cache carries {worth_of_cache(equilibrium):.2%} more"),
        Flag("--watermark", "nothing is proved; a few percent stop most preemptions", "see the advice")]
