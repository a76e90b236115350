"""Prefill and decode apart: which stages of a request a replica serves, and the link that moves its KV between the two.

A *prefill* replica takes the prefill stages of a request alone, and then sends the KV of its prompt away; a *decode*
replica takes the KV in, and the decode stages. Where the prefill makes the first token (`first_token = "prefill"`) a
request of one token needs no decode replica, and the others R - 1 stages of it; else R.

**Transfer.** A link of b bytes/s and a latency of t0 seconds moves the x_j = held(l_j) KV tokens of a prompt, k bytes
each, at once when the prompt is prefilled (not layer by layer): in

    T_j = t0 + k x_j / b      seconds,      at most    sum_j lambda_j k x_j / b <= 1    of them on a link      ("link")

Each replica has a link of its own; of a prefill replica that is its way out, of a decode replica its way in, and the
network between has room for all. Both ends hold the KV while it moves, the sender because it may not forget it yet, the
receiver because it makes room first. So H = sum_j lambda_j x_j T_j tokens are held beside those of the batch, and the
balance fits when Delta* W + H <= C. As Delta* = max_i a_i/(1 - rho_i), that is implied by half-spaces,

    sum_j lambda_j (c_ij + a_i w_j / C + x_j T_j / C) <= 1      for every line i      ("memory")

and implies those without the last term: the edge is off by a share H/C at most, which is small. Waiting for a link, or
for room at the receiver, holds KV too; it is none in balance, and `verification.fleets.tandem` measures it. Source:
mathematics, sections 17.1 and 17.2; derived here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fluid.arrays import Floats
from fluid.errors import InputError, one_of, real
from fluid.region import Region, region_of
from fluid.replica import DECODE_ONLY, Replica
from fluid.stages import StageProfile
from fluid.workload import Workload

PREFILL, DECODE = "prefill", "decode"


@dataclass(frozen=True)
class Transfer:
    """A link of `bandwidth` bytes/s with a `latency` in seconds, over which a KV token has `bytes_per_token`.

    Raises InputError unless the first and the last are positive, and the latency is at least 0.

    >>> Transfer(bandwidth=25e9, bytes_per_token=131_072, latency=0.002).seconds(np.array([4000.0])).round(4).tolist()
    [0.023]
    """

    bandwidth: float
    bytes_per_token: float
    latency: float = 0.0

    def __post_init__(self) -> None:
        for name, unit in (("bandwidth", "bytes/s"), ("bytes_per_token", "bytes"), ("latency", "seconds")):
            checked = real(name, getattr(self, name), "transfer", unit=unit, zero=name == "latency")
            object.__setattr__(self, name, checked)

    def on_the_link(self, tokens: Floats) -> Floats:
        """k x / b, how long a link is taken by so many KV tokens: seconds."""
        busy: Floats = np.asarray(tokens, dtype=np.float64) * (self.bytes_per_token / self.bandwidth)
        return busy

    def seconds(self, tokens: Floats) -> Floats:
        """T = t0 + k x / b, how long it takes until they are there: seconds."""
        return self.latency + self.on_the_link(tokens)


@dataclass(frozen=True)
class Part:
    """What a replica of `role` "prefill" or "decode" serves of a request, and the `transfer` from one to the other.

    >>> from fluid import IterationTime, PromptType
    >>> whole = Replica(137_000, IterationTime(0.0106, 4.013e-7), first_token="prefill")
    >>> mix, link = Workload([PromptType(512, 20, 20.0)]), Transfer(25e9, 524_288)
    >>> [Part(role, link).of(mix, whole)[1].prefill for role in ("prefill", "decode")]
    ['whole', 'decode-only']
    """

    role: str
    transfer: Transfer

    def __post_init__(self) -> None:
        one_of("role", self.role, (PREFILL, DECODE), "part")
        if not isinstance(self.transfer, Transfer):
            raise InputError("transfer", "a Transfer", self.transfer, "part")

    def of(self, workload: Workload, replica: Replica) -> tuple[Workload, Replica]:
        """The requests as such a replica sees them, and the replica: what `fluid.stages` makes its stages of.

        A prefill is a request of one token that the prefill makes. Raises InputError for a replica that only decodes
        in the role "prefill".
        """
        return workload if self.role == DECODE else prompts_of(workload), self.served(replica)

    def served(self, replica: Replica) -> Replica:
        """The replica, as it serves its part alone."""
        if self.role == DECODE:
            return replace(replica, prefill=DECODE_ONLY)
        if replica.prefill == DECODE_ONLY:
            raise InputError("prefill", '"whole" or a chunk size where the role is "prefill"', replica.prefill, "part")
        return replace(replica, first_token=PREFILL)

    def region(self, profile: StageProfile, replica: Replica) -> Region:
        """The half-spaces of the stages, with what is held for transfers, and that of the link last."""
        region = region_of(profile, replica)
        values, held = region.half_spaces.copy(), self.held(profile) / replica.kv_capacity
        values[[limit == "memory" for limit in region.limits]] += held
        lines = len(replica.iteration_time.pieces)
        link = np.tile(self.transfer.on_the_link(moved(profile)), (lines, 1))  # a row for each line, as of every limit
        return replace(region, half_spaces=np.vstack([values, link]), limits=(*region.limits, *["link"] * lines))

    def held(self, profile: StageProfile) -> Floats:
        """x_j T_j, what a request of each type holds for its transfer: token-seconds, shape (J,)."""
        tokens = moved(profile)
        seconds: Floats = tokens * self.transfer.seconds(tokens)
        return seconds


def prompts_of(workload: Workload) -> Workload:
    """The requests as prefill replicas see them: of one token."""
    return Workload.from_arrays(workload.prompt_tokens, np.ones(len(workload)), workload.rates, workload.names,
                                workload.cached_prefix)


def moved(profile: StageProfile) -> Floats:
    """x_j, the KV tokens of each prompt, in whole cache blocks, behind its cached prefix: shape (J,)."""
    tokens: Floats = np.asarray(profile.layout.tokens(profile.layout.held(profile.prompt)), dtype=np.float64)
    return tokens
