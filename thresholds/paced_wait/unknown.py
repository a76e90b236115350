r"""Paced WAIT for unknown output lengths: the largest window whose overflow probability is proved to be small.

At most N prompts of the mix enter in any g consecutive iterations, first come first served; the scheduler never looks
at a length. `thresholds.paced_wait.overflow` bounds the chance that the KV cache overflows and finds the largest N/g.

**Stability.** A full window admits N/g prompts per iteration, an iteration then takes at most f^(N/g) on average
(`thresholds.mean_time`; with one line that is Delta(N/g) = a + (N/g) c, c the mean time work of a prompt), given that
the cache does not overflow, at most C tokens are read, N prompts begin in g iterations and N ceil(S/g) are resident. It
carries every total rate below (N/g)/f^(N/g); with one line that is N/g > n* = Lambda Delta*. The bounds on overflow do
not depend on the rates, so this is also the largest rate over all designs:

    max_rate_scale = (N/g) / (Lambda f^(N/g))

**A cap of B sequences** makes prompts wait where a batch is full, so it costs no guarantee: what is proved of the KV
cache is proved of any rule of entry that does not look at the length of who enters. That batches of B carry the load
is not proved but follows from the fluid model: (N/g) E[S] <= B, the sequences of full windows on average, and the
rates lie in the stability region. A budget of q tokens likewise: (N/g) E[l + o] <= q.

**Where the law comes from.** Rates that are given are the law, and its bounds hold as they are. Of a trace the law is
known by its rows only, and the bound holds with a confidence over them (`thresholds.paced_wait.confident_window`), if
lengths are independent. Where they depend on each other in the order of arrival (`fluid.traces.dependence`) nothing is
promised of other traffic: the window is the largest that fits the trace in its order, on every path of arrivals
(`thresholds.paced_wait.trace_order`), and `overflow_probability` is None. So it is where the replica has no
`max_model_len`: nothing then rules out a request as long as the cache.

Source: mathematics, section 4.8; the proofs are in `thresholds.paced_wait.tail_bounds`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fluid import Equilibrium, Replica, Workload, solve
from fluid.arrays import Floats, Ints, at_most
from fluid.traces.trace import Trace
from thresholds.guarantees import OnReplica, mean_batch
from thresholds.mean_time import longest_mean
from thresholds.paced_wait.confident_window import confident_window
from thresholds.paced_wait.overflow import OverflowBound, OverflowProblem, overflow_problem
from thresholds.paced_wait.trace_order import order_bound, window_in_order
from thresholds.paced_wait.window_bounds import fullest_batch, window_bound, windows_told
from thresholds.policies import PacedPolicy
from thresholds.rows import Evidence, Rows, rows_behind


@dataclass(frozen=True, repr=False)
class UnknownPacedDesign(OnReplica, PacedPolicy):
    """One window (N, g) for a mix of unknown lengths, and what it guarantees; made by `paced_unknown`.

    `theorem` and `tight` are the two bounds on this window; the tight one decides `overflow_probability` (of KV > C
    within the horizon) and `kv_required` (the level exceeded with probability at most delta). Where the law comes from
    rows there is one bound, `tight`, and `evidence` says how many rows, with what confidence, and whether they are
    independent; if not, `kv_required` holds for the trace in its order, `overflow_probability` is None. Where a type
    never fits the cache there is no window: `entries` and `iterations` are empty, the numbers None.
    """

    theorem: OverflowBound | None = field(kw_only=True, default=None)
    tight: OverflowBound | None = field(kw_only=True, default=None)
    evidence: Evidence | None = field(kw_only=True, default=None)
    promised: float | None = field(kw_only=True, default=None, repr=False)
    horizon: float | None = field(kw_only=True, default=None, repr=False)

    def _details(self) -> dict[str, Any]:
        bounds = {"theorem": self.theorem, "tight": self.tight}
        return {"fluid_share": self.fluid_share, "types": windows_told(self, self.equilibrium),
                "bounds": {name: asdict(bound) for name, bound in bounds.items() if bound is not None},
                "in_order": self.in_order, **rows_behind(self.evidence)}

    @property
    def kv_base(self) -> float | None:
        """(N/g) sum_a E x(a), tokens: the mean KV while the window is full."""
        return self._rate * float(self._mean(self.equilibrium.profile.kv_work)) if self.entries else None

    @property
    def sequences(self) -> float | None:
        """(N/g) E[S], the mean number of sequences in a batch while the window is full."""
        return self._rate * float(self._mean(self.equilibrium.profile.stages)) if self.entries else None

    @property
    def tokens(self) -> float | None:
        """(N/g) E[l + o], the mean number of tokens of an iteration while the window is full."""
        return self._rate * float(self._mean(self.equilibrium.profile.tokens)) if self.entries else None

    @property
    def kv_required(self) -> float | None:
        """The tokens that suffice with probability at least 1 - delta."""
        return self.tight.kv_required if self.tight else None

    @property
    def overflow_probability(self) -> float | None:
        """The tight bound on P(KV > C at some iteration of the horizon); None where lengths are not independent."""
        return self.tight.overflow_probability if self.tight and not self.in_order else None

    @property
    def in_order(self) -> bool:
        """Whether the window is for the trace in its order, as nothing can be promised of its lengths."""
        return self.evidence is not None and bool(self.evidence.doubt)

    @cached_property
    def iteration_time(self) -> float | None:
        """Delta(N/g), seconds."""
        tau = self.equilibrium.replica.iteration_time
        work = self._mean(self.equilibrium.profile.time_work(tau))
        return float(np.max(tau.overheads + self._rate * work)) if self.entries else None

    @cached_property
    def longest_iteration_time(self) -> float | None:
        """f^(N/g), seconds: iterations take no longer on average while nothing overflows."""
        equilibrium = self.equilibrium
        if not self.entries or len(equilibrium.replica.iteration_time.pieces) == 1:
            return self.iteration_time
        replica, rates = equilibrium.replica, equilibrium.workload.rates
        entries = rates * (self._rate / equilibrium.workload.rate)
        fullest = fullest_batch(self, equilibrium)
        prefixes = fullest.kv - window_bound(self, equilibrium)
        return longest_mean(replica.iteration_time, mean_batch(equilibrium, entries),
                            fullest._replace(kv=min(fullest.kv, replica.kv_capacity + prefixes)))

    @property
    def max_rate_scale(self) -> float:
        """The largest factor on all rates that a window with this guarantee carries; 0 if none."""
        time = self.longest_iteration_time
        return self._rate / time / self.equilibrium.workload.rate if time else 0.0

    @property
    def fluid_share(self) -> float:
        """The part of the fluid limit that is kept: max_rate_scale over that of the equilibrium."""
        return self.max_rate_scale / self.equilibrium.max_rate_scale if self.entries else 0.0

    @property
    def feasible(self) -> bool:
        """Whether the window carries the load: N/g > n*."""
        return self.equilibrium.stable and not at_most(self.max_rate_scale, 1.0)

    @property
    def reason(self) -> str:
        """One sentence: the window, what is proved of it and by what, and how much fits."""
        if self.tight is None:
            return self.equilibrium.reason
        return (f"{'feasible' if self.feasible else 'infeasible'}: at most {self.entries[0]:,} prompts in any "
                f"{self.iterations[0]:,} iterations {self._kept}{self._batch}; that carries up to "
                f"{self.max_rate_scale:.4g} of these rates, {self.fluid_share:.1%} of the fluid limit{self._but}")

    @property
    def _kept(self) -> str:
        """What is proved of the window, in words."""
        assert self.tight is not None
        if self.in_order:
            return (f"hold at most {self.tight.kv_required:,.0f} of {self.kv_capacity:,} KV tokens while this trace is "
                    "replayed in its order, whatever the moments of arrival")
        kept = f"keep the probability of more than {self.kv_capacity:,} KV tokens at"
        if self.evidence is not None:
            return f"{kept} {self.tight.overflow_probability:.2g} at most ({self.tight.method}), {self.evidence}"
        alone = f"; block Chernoff alone: {self.theorem.overflow_probability:.2g}" if self.theorem else ""
        return f"{kept} {self.tight.overflow_probability:.2g} ({self.tight.method}{alone})"

    @property
    def _but(self) -> str:
        """What is not promised, and why; what few rows cost, where the window does not carry the load."""
        if self.evidence is not None and self.in_order:
            return f"; nothing is promised of other traffic, because {self.evidence.doubt}"
        if self.evidence is None or self.feasible or not self.equilibrium.stable:
            return ""
        cap = ""
        if self.equilibrium.replica.max_model_len is None:
            cap = "; replica.max_model_len says how long a request can be"
        return (f"; were the law of the rows the true one, {self.of_the_rows.max_rate_scale:.4g}, but "
                f"{self.evidence.rows:,} rows do not rule out that {self.evidence.share_of_longest:.2g} of all "
                f"requests have {self.evidence.longest:,} tokens{cap}")

    @cached_property
    def of_the_rows(self) -> UnknownPacedDesign:
        """The design that takes the law of the rows for the true one: what it carries, it does not promise."""
        if self.evidence is None or self.promised is None or self.horizon is None:
            return self
        return unknown_at(self.equilibrium, self.horizon, self.promised)

    @property
    def _batch(self) -> str:
        cap = self.equilibrium.replica.max_num_seqs
        return "" if cap is None else f" and fill {self.sequences:,.4g} of {cap:,} places in a batch on average"

    @property
    def _rate(self) -> float:
        return self.entries[0] / self.iterations[0] if self.entries else 0.0

    def _mean(self, per_type: Floats | Ints) -> Floats:
        share = self.equilibrium.workload.rates / self.equilibrium.workload.rates.max()
        mean: Floats = per_type @ share / share.sum()
        return mean


def paced_unknown(workload: Workload, replica: Replica, *, horizon: float = 3600.0, overflow_probability: float = 1e-3,
                  rows: Trace | int | None = None, confidence: float = 0.95) -> UnknownPacedDesign:
    """Return the window of the largest N/g with P(KV > C within `horizon` seconds) <= `overflow_probability`.

    Lengths are drawn from the workload's types, each as likely as its rate; the rates themselves decide only whether
    the window carries them. `rows` are the requests that this law was seen in: how many, or the trace itself, whose
    order is then tested; the promise holds with `confidence` over them. None: the law is given. Infeasible is an answer
    (`feasible`, `reason`); InputError for a horizon that is not positive, a probability outside (0, 1), and rows that
    are not behind the workload or longer than the replica's `max_model_len`.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.013e-7))
    >>> design = paced_unknown(Workload([PromptType(512, 1000, 2.0)]), replica)
    >>> design.entries, design.iterations, design.kv_required    # one length: the worst case, with certainty
    ((2,), (15,), 136278.0)
    """
    return unknown_at(solve(workload, replica), horizon, overflow_probability, rows, confidence)


def unknown_at(equilibrium: Equilibrium, horizon: float, overflow_probability: float, rows: Trace | int | None = None,
               confidence: float = 0.95) -> UnknownPacedDesign:
    """Return the design of `paced_unknown` for an equilibrium that is solved already."""
    problem = overflow_problem(equilibrium, horizon=horizon, overflow_probability=overflow_probability)
    if equilibrium.limit == "length":
        return UnknownPacedDesign((), (), equilibrium=equilibrium)
    if rows is not None:
        return _of_rows(equilibrium, problem, horizon, Rows.of(rows, equilibrium, confidence))
    entries, g = problem.tight_pair
    return UnknownPacedDesign((entries,), (g,), equilibrium=equilibrium, theorem=problem.theorem(entries, g),
                              tight=problem.tight(entries, g))


def _of_rows(equilibrium: Equilibrium, problem: OverflowProblem, horizon: float, rows: Rows) -> UnknownPacedDesign:
    """The window that rows allow: with confidence where they leave no doubt, else for them in their order."""
    if rows.types is None or not rows.evidence.doubt:
        entries, g, bound = confident_window(rows, problem)
    else:
        entries, g = window_in_order(rows.profile, rows.types, problem.capacity, problem.rate)
        units = order_bound(rows.profile, rows.types, entries, g)
        bound = OverflowBound("the trace in its order", 1, 0.0, rows.profile.layout.whole(units))
    return UnknownPacedDesign((entries,), (g,), equilibrium=equilibrium, tight=bound, evidence=rows.evidence,
                              promised=problem.probability, horizon=horizon)
