"""How to install a policy: the nearest engine settings and what they lose, or a gateway that counts entries.

Engines cap the sequences they run together; none of them spaces entries. With P the largest KV of a prompt, a cap of
floor(C/P) sequences can never overflow but admits only floor(C/P)/S prompts per iteration; a cap at the sequences the
policy itself can hold admits as much as the policy, but lets them bunch, and bunched prompts grow together.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fluid import Equilibrium
from thresholds import PacedPolicy, WaitPolicy, sequence_bound

GATEWAY = '''\
from collections import deque

class Window:
    """At most `entries` requests in any `iterations` consecutive engine iterations."""

    def __init__(self, entries, iterations):
        self.iterations = iterations
        self.recent = deque(maxlen=entries)  # the iterations of the last entries

    def may_enter(self, iteration):
        """Whether a request may enter the engine's next iteration; if so it counts as entered."""
        full = len(self.recent) == self.recent.maxlen
        if full and self.recent[0] > iteration - self.iterations:
            return False
        self.recent.append(iteration)
        return True

    def engine_is_empty(self):
        """Call when no request is running: the count starts anew."""
        self.recent.clear()

windows = {windows}
# in the gateway's loop, `iteration` being the engine's iteration counter:
#     if queue[kind] and windows[{key}].may_enter(iteration):
#         engine.submit(queue[kind].popleft())
'''


class EngineCap(NamedTuple):
    """A cap on running sequences: `sequences`, and the prompts per iteration it admits as a share of the policy's."""

    sequences: int
    share: float


def safe_cap(equilibrium: Equilibrium, policy: PacedPolicy | WaitPolicy) -> EngineCap:
    """The cap that can never overflow: floor(C / P)."""
    profile = equilibrium.profile
    sequences = int(min(equilibrium.kv_capacity // int(profile.peak.max()), equilibrium.replica.most_sequences))
    shares = equilibrium.workload.rates / equilibrium.workload.rate
    admitted = sequences / float(shares @ profile.stages)
    return EngineCap(sequences, min(1.0, admitted / _entries(equilibrium, policy)))


def full_cap(equilibrium: Equilibrium, policy: PacedPolicy | WaitPolicy) -> EngineCap:
    """The cap at the sequences the policy itself can hold."""
    sequences = min(sequence_bound(policy, equilibrium) or 1, equilibrium.replica.most_sequences)
    return EngineCap(int(sequences), 1.0)


def gateway(equilibrium: Equilibrium, policy: PacedPolicy) -> str:
    """A gateway that counts entries, as Python that runs."""
    pairs = list(zip(policy.entries, policy.iterations, strict=True))
    if len(pairs) == 1:
        return GATEWAY.replace("{windows}", f"{{'all': Window{pairs[0]}}}").replace("{key}", "'all'")
    made = ", ".join(f"{name!r}: Window{pair}" for name, pair in zip(equilibrium.workload.names, pairs, strict=True))
    return GATEWAY.replace("{windows}", f"{{{made}}}").replace("{key}", "kind")


def advice(equilibrium: Equilibrium, policy: PacedPolicy | WaitPolicy) -> dict[str, str]:
    """How to install the policy, by engine: a setting and what it loses."""
    safe, full = safe_cap(equilibrium, policy), full_cap(equilibrium, policy)
    text = {}
    for engine, flag in (("vllm", "--max-num-seqs"), ("sglang", "--max-running-requests")):
        share = math.floor(100 * safe.share)
        text[engine] = (f"{flag} {safe.sequences} can never overflow and carries {share}% of this policy; {flag} "
                        f"{full.sequences} carries all of it, but entries may bunch and be preempted")
    if isinstance(policy, PacedPolicy):
        text["gateway"] = gateway(equilibrium, policy)
    return text


def _entries(equilibrium: Equilibrium, policy: PacedPolicy | WaitPolicy) -> float:
    """Prompts per iteration the policy admits at most."""
    if isinstance(policy, WaitPolicy):
        return float(sum(policy.thresholds))
    return sum(n / g for n, g in zip(policy.entries, policy.iterations, strict=True))
