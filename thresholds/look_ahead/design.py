r"""Look-ahead admission designed: its blocks and thetas, and how much of the fluid limit it carries.

**The chance.** A horizon T has at most n = 1 + T/d0 iterations, d0 the largest overhead of a line. Each of the B blocks
gets delta/(n B), shared evenly by its iterations: eps_b = delta/(n B (h' - h)). The last block ends where the last
of those resident now has left: after the most prefill iterations before age 0 and the longest life. (A block further
ahead is seldom the one that refuses, so a cleverer division gains next to nothing.)

**What it carries.** Let somebody always wait and r prompts enter per iteration in the long run. A prompt that entered
a iterations ago is still there with probability G(a), since nobody asked for its length, so over time the shares of a
column b, theta that residents take add up on average to r S with

    S_b,theta = sum_c p_c sum_a G_c(a) x_c(a; b, theta)         p_c the share of class c, x its mean share by age

*Fluid statement*: where the batch is large its shares hardly differ from their mean, and the rule admits until the
first block is full,

    r* = min_b max_theta 1/S_b,theta

Chance makes it a little more (while nobody enters, residents that happen to live long pass the limit) or less (the
next prompt is large): simulated, it differs by less than 1% of the fluid limit (`benchmarks/look_ahead.py`).

*Proved*: at the end of every decision the head of the queue is refused, so for some block, and there for every theta,
the shares of residents and head exceed 1. Take one theta_b for each block, z_b the largest share of a prompt that
enters. Then sum_i max_b x(a_i; b)/(1 - z_b) > 1 at every decision, and by the mean above

    r >= 1 / sum_c p_c sum_a G_c(a) max_b x_c(a; b)/(1 - z_b)

Iterations then take Delta(r) = a + r c seconds on average, with several lines at most f^(r) (`thresholds.mean_time`,
while nothing overflows and so no more than C tokens are read or prefilled), and the rate is at least r/f^(r). Whether
the rule carries a load is answered by what is proved; the fluid statement is beside it, as what to expect. A cap of B
sequences, or a budget of q tokens, binds where r E[S] > B or r E[l + o] > q: both take the least, of which only the
fluid model says that it is carried, as of windows.

**Choice.** Thetas lie on a grid of ratio sqrt 2 from 2 ln(1/eps)/C; of `THETAS` neighbours those are taken with the
largest r*. Blocks begin at 0, g, 2 g, 4 g, .., g = 16 steps: from g = 1 to 16 the share kept is the same to 0.1%
for chat-like lengths, and shorter blocks near 0 leave less to those far ahead, which count where a cache is a few
dozen long outputs.

Source: derived here; mathematics, section 13.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from fluid import Equilibrium, Replica, StageProfile, Workload, solve
from fluid.arrays import Floats, Ints, at_most
from fluid.errors import probability, real
from thresholds.guarantees import OnReplica, beside_a_prefill, mean_batch
from thresholds.look_ahead.exponents import shares_ahead
from thresholds.look_ahead.lives import Lives
from thresholds.mean_time import Batch, longest_mean
from thresholds.policies import LookAheadPolicy

BLOCKS, THETAS, GRID = 7, 5, 14
FIRST_BLOCK = 16  # steps
LARGEST_EXPONENT = 300.0  # theta times the KV of the largest prompt
NEAR = 1.1  # a block that allows so many times r* more is never the one that refuses


@dataclass(frozen=True, repr=False)
class LookAheadDesign(OnReplica, LookAheadPolicy):
    """Look-ahead admission for a mix of unknown output lengths, and what it guarantees; made by `look_ahead`.

    `overflow_probability` bounds P(KV > C within the horizon). Where a type never fits the cache there is nothing to
    install, and numbers are None.
    """

    overflow_probability: float | None = field(kw_only=True, default=None)
    entries_per_iteration: float | None = field(kw_only=True, default=None)
    proved_entries: float | None = field(kw_only=True, default=None)

    def _details(self) -> dict[str, Any]:
        return {"fluid_share": self.fluid_share, "expected_rate_scale": self.expected_rate_scale,
                "classes": len(self.prompts), "step": self.step, "points": self.points,
                "log_chances": self.log_chances, "thetas": self.thetas}

    @property
    def exists(self) -> bool:
        """Whether there is anything to install."""
        return bool(self.points)

    def columns(self) -> dict[str, Sequence[object] | Floats]:
        """The blocks: the iterations ahead at which each begins, and the chance of overflow in each of them."""
        return {"iterations ahead": self.points, "chance": tuple(math.exp(each) for each in self.log_chances)}

    @property
    def kv_base(self) -> float | None:
        """r* w, tokens: the mean KV while somebody always waits."""
        return self._per_iteration(self.equilibrium.profile.kv_work)

    @property
    def kv_required(self) -> float | None:
        """C: the rule uses what there is."""
        return float(self.kv_capacity) if self.exists else None

    @property
    def sequences(self) -> float | None:
        """r* E[S], the mean number of sequences in a batch while somebody always waits."""
        return self._per_iteration(self.equilibrium.profile.stages)

    @property
    def tokens(self) -> float | None:
        """r* E[l + o], the mean number of tokens of an iteration then."""
        return self._per_iteration(self.equilibrium.profile.tokens)

    @cached_property
    def iteration_time(self) -> float | None:
        """Delta(r*), seconds."""
        if self.entries_per_iteration is None:
            return None
        tau = self.equilibrium.replica.iteration_time
        work = self._mean(self.equilibrium.profile.time_work(tau))
        return float(np.max(tau.overheads + self.entries_per_iteration * work))

    @cached_property
    def max_rate_scale(self) -> float:
        """The factor on all rates that the rule is proved to carry, where no cap binds; 0 if none."""
        entries = self.proved_entries
        return entries / self._longest_mean(entries) / self.equilibrium.workload.rate if entries else 0.0

    @property
    def expected_rate_scale(self) -> float:
        """The factor up to which it carries them by the fluid statement; 0 if none."""
        entries, time = self.entries_per_iteration, self.iteration_time
        return entries / time / self.equilibrium.workload.rate if entries and time else 0.0

    @property
    def fluid_share(self) -> float:
        """The part of the fluid limit that is proved to be kept: max_rate_scale over that of the equilibrium."""
        return self.max_rate_scale / self.equilibrium.max_rate_scale if self.exists else 0.0

    @property
    def feasible(self) -> bool:
        """Whether it is proved to carry the load."""
        return self.equilibrium.stable and not at_most(self.max_rate_scale, 1.0)

    @property
    def reason(self) -> str:
        """One sentence: what is proved, and how much fits."""
        if not self.exists:
            return self.equilibrium.reason
        return (f"{'feasible' if self.feasible else 'infeasible'}: prompts enter while more than {self.kv_capacity:,} "
                f"KV tokens stay improbable in the iterations ahead, over the horizon at most "
                f"{self.overflow_probability:.2g}; that carries up to {self.max_rate_scale:.4g} of these rates, "
                f"{self.fluid_share:.1%} of the fluid limit, and in the fluid model {self.expected_rate_scale:.4g}")

    def _per_iteration(self, per_type: Floats | Ints) -> float | None:
        entries = self.entries_per_iteration
        return None if entries is None else entries * float(self._mean(per_type))

    def _longest_mean(self, entries: float) -> float:
        """f^ of so many entries per iteration, seconds."""
        equilibrium, profile = self.equilibrium, self.equilibrium.profile
        replica, rates = equilibrium.replica, equilibrium.workload.rates
        sequences = min(float(replica.kv_capacity), replica.most_sequences)
        most = Batch(replica.kv_capacity + sequences * float(profile.prefix.max()),
                     min(sequences * float(profile.chunk.max()), replica.most_tokens), sequences)
        mean = mean_batch(equilibrium, rates * (entries / equilibrium.workload.rate))
        return longest_mean(replica.iteration_time, mean, most)

    def _mean(self, per_type: Floats | Ints) -> Floats:
        share = self.equilibrium.workload.rates / self.equilibrium.workload.rates.max()
        mean: Floats = per_type @ share / share.sum()
        return mean


def look_ahead(workload: Workload, replica: Replica, *, horizon: float = 3600.0,
               overflow_probability: float = 1e-3) -> LookAheadDesign:
    """Return the admission test with P(KV > C within `horizon` seconds) <= `overflow_probability`, lengths unknown.

    Output lengths are drawn, by class of prompt lengths, from the workload's types, each as likely as its rate; the
    rates themselves decide only whether the rule carries them. Infeasible is an answer (`feasible`, `reason`);
    InputError for a horizon that is not positive or a probability outside (0, 1).

    >>> from fluid import IterationTime
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.013e-7))
    >>> outputs = range(1, 301)
    >>> design = look_ahead(Workload.from_arrays([100] * 300, outputs, [0.1] * 300), replica)
    >>> design.feasible, design.fluid_share > 0.97
    (True, True)
    """
    return look_ahead_at(solve(workload, replica), horizon, overflow_probability)


def look_ahead_at(equilibrium: Equilibrium, horizon: float, overflow_probability: float) -> LookAheadDesign:
    """Return the design of `look_ahead` for an equilibrium that is solved already."""
    chance = probability("overflow_probability", overflow_probability, "look_ahead")
    seconds = real("horizon", horizon, "look_ahead", unit="seconds")
    if equilibrium.limit == "length":
        return LookAheadDesign((), 1, (), (), (), (), equilibrium=equilibrium)
    problem = _Problem(equilibrium, chance / (1 + seconds / float(equilibrium.replica.iteration_time.overheads.max())))
    policy, shares = problem.best
    limits = problem.limits(shares)
    edge = equilibrium.kv_capacity / float(equilibrium.workload.rates @ equilibrium.profile.kv_work
                                           / equilibrium.workload.rate)
    return LookAheadDesign(policy.prompts, policy.step, policy.survival, policy.points, policy.thetas,
                           policy.log_chances, equilibrium=equilibrium, overflow_probability=chance,
                           entries_per_iteration=min(float(limits.max(axis=1).min()), edge, problem.most),
                           proved_entries=min(problem.proved(shares), edge, problem.most))


class _Problem:
    """What is to be admitted, with a chance of overflow in each iteration."""

    def __init__(self, equilibrium: Equilibrium, chance: float) -> None:
        profile, rates = equilibrium.profile, equilibrium.workload.rates
        self.replica, self.profile, self.chance = equilibrium.replica, profile, chance
        self.lives = Lives.of(profile, rates)
        self.lead = lead_rows(profile, self.lives.step)
        share = rates / rates.sum()
        sequences = min(self.replica.most_sequences, beside_a_prefill(equilibrium))
        self.most = min(sequences / float(share @ profile.stages),
                        self.replica.most_tokens / float(share @ profile.tokens))

    @property
    def best(self) -> tuple[LookAheadPolicy, Floats]:
        """The rule with the neighbours on the grid of thetas that have the largest r*, and its shares.

        Of those with the same r* it has the most room in the blocks near it.
        """
        policy = self._with_all_thetas()
        shares = shares_ahead(policy, self.profile.layout, self.replica.kv_capacity, first_held(self.profile),
                              self.lead)
        limits = self.limits(shares)

        def gain(begin: int) -> tuple[float, float]:
            best = np.maximum(limits[:, begin:begin + THETAS].max(axis=1), limits[:, -1])
            return float(best.min()), float(np.minimum(best, NEAR * best.min()).sum())

        begin = max(range(max(len(policy.thetas) - THETAS, 0) + 1), key=gain)
        chosen = slice(begin, begin + THETAS)
        columns = [*range(len(policy.thetas))[chosen], len(policy.thetas)]
        return replace(policy, thetas=policy.thetas[chosen]), shares[..., columns]

    def limits(self, shares: Floats) -> Floats:
        """1/S, the entries per iteration that fill each block by each column: shape (blocks, columns)."""
        limits: Floats = 1 / np.maximum(self._mean(shares), np.finfo(float).tiny)
        return limits

    def proved(self, shares: Floats) -> float:
        """The lower bound of the entries per iteration while somebody waits; 0 where a prompt may fill a block."""
        column = self.limits(shares).argmax(axis=1)
        chosen = np.take_along_axis(shares, column[None, None, None, :, None], axis=-1)[..., 0]
        entering = chosen[:, :, : self.lead + 1].max(axis=(0, 1, 2))
        if entering.max() >= 1:
            return 0.0
        return 1 / float(self._mean((chosen / (1 - entering)).max(axis=-1)))

    def _with_all_thetas(self) -> LookAheadPolicy:
        lives = self.lives
        longest = lives.alive.shape[1] + lives.prefilling.shape[1]
        doubled = [0, *(FIRST_BLOCK * lives.step << i for i in range(BLOCKS - 1))]
        points = tuple(point for point in doubled if point < longest)
        chances = np.log(self.chance / len(points) / np.diff([*points, longest]))
        least = -2 * float(chances.min()) / self.replica.kv_capacity
        top = LARGEST_EXPONENT / float(self.profile.peak.max())
        thetas = [least * 2 ** (i / 2) for i in range(GRID) if least * 2 ** (i / 2) <= top] or [top]
        return LookAheadPolicy(tuple(map(tuple, lives.prompts.tolist())), lives.step,
                               tuple(map(tuple, lives.survival.tolist())), points, tuple(thetas),
                               tuple(chances.tolist()))

    def _mean(self, shares: Floats) -> Floats:
        """The sum over ages of the mean share of a prompt that entered so long ago."""
        place = self.lives.place.reshape(-1, *(1,) * (shares.ndim - 2))
        at_mean = (1 - place) * shares[:, 0] + place * shares[:, 1]
        weights = self.lives.share[:, None] * self.lives.resident(self.lead)
        mean: Floats = np.tensordot(weights, at_mean, axes=2)
        return mean


def lead_rows(profile: StageProfile, step: int) -> int:
    """The rows of ages before the last prefill iteration."""
    return -(-int(np.maximum(profile.prefill_stages - 1, 0).max()) // step)


def first_held(profile: StageProfile) -> int:
    """What a prompt holds at age 0 beyond itself, tokens: one where its prefill happens elsewhere."""
    return int(profile.prefill_stages.max() == 0)
