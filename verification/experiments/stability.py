r"""Is a policy stable? Three answers, from replications that start empty: who waits at the end, and how that grows.

Over a horizon T let U be the requests still waiting outside the GPU, n those drawn in a replication, V the variance
rate of the work that was drawn, in units of the mean work w of a request, I the index of dispersion of the arrivals:

    s = mean(U) / sqrt(V T),     V T = mean over replications of [ sum_i (w_i/w)^2 + (I - 1) n ]

A stable backlog stays bounded, so s falls like T^-1/2; one that falls behind grows like T, so s grows like T^1/2; a
critical one keeps s near sqrt(2/pi): there, no horizon decides (`verification.statistics.growth`, (1)).

**Classes.** The same is asked of every class c of requests (`verification.experiments.evidence.ledger`: all, each type,
groups of like work), with s_c = mean(U_c)/sqrt(I_c n_c), the fluctuation of its own arrivals. Under windows and
priorities a type has a queue of its own, and hides in the total: where of 72,000 requests an hour 72 are of a type that
gets half its rate, 36 wait after an hour, and sqrt(V T) = 268.

    unstable    s > b_R,   or for some class s_c > b_R and its waiting grows faster than that of a critical queue, or,
                where lives are at most a tenth of T, the number in the system does and grows by over 1% of arrivals
    stable      else, where s < 0.2, and with V' in the place of V too, with U at T and with U averaged over the second
                half (0.1 of a single replication); no class waits in excess; nothing surely grows by more than 1% of
                its arrivals
    undecided   else; `settle` then tries twice the horizon, three times over

b_10 = 1.4, b_R = sqrt(2/pi) + (1.4 - sqrt(2/pi)) sqrt(10/R). "Grows faster" is the test (2) of growth.py: noise of any
source cancels and no V enters, so a huge request that was drawn once, and makes V so large that s says nothing, hides
nothing. V counts KV work; V' is the least that work has as KV, as stages or as tokens computed, for a replica may run
out of memory, of sequences or of time, each without the ten largest requests: s < 0.2 must not rest on few of them.

**A class waits in excess** where p_c = min(20%, 0.2 max(sqrt(I_c n_c), n_c/n sqrt(V' T))/n_c) is too small a chance to
wait at T for so many of the requests that all replications drew: 0.2 as above, and a mean wait of up to a fifth of T;
the second term is its share of one queue for all. The binomial tail is exact for counts of 0, 1 and 5. Where even all
of a type waiting would not tell, it says nothing, is counted in `unjudged`, and leaves the verdict alone.

**Errors.** The tests of growth hold together over the classes at 1% (Bonferroni, over those with enough requests to
fail them), so do the binomial ones. First kind, "unstable" of a stable system: s > b_R, or s_c > b_R and the test of
growth, must both err. Second kind, "stable" of one that falls behind by delta_c: the binomial test misses it where less
than about 0.2 sqrt(n_c) + 3 sqrt(0.2 sqrt(n_c)/R) of n_c wait. Rates measured on mixes with rare and huge types, in
tests/verification/experiments/test_stability.py, are below 1%. A cohort that takes the horizon to fill waits as long as
a type that starves, and is called so. A type that a stable priority rule lets wait beyond p_c stays "undecided"; so
does, with two or three replications, one that starves, for Student's bounds are wide there.

The drift, the slope of the requests in the system over the second half with its interval (Student), stands beside the
verdict. An answer is never "stable" where it lies above 1% of the arrivals: residents that still gather show such a
drift, and a longer horizon lets it pass. Source: mathematics, section 9.8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from verification.experiments.evidence.classes import GROWTH_SHARE, NOTHING, Evidence, evidence_of
from verification.experiments.evidence.ledger import Backlog, backlog_of, class_names
from verification.run import Run
from verification.statistics.growth import TEN, beyond_critical
from verification.statistics.intervals import UNKNOWN, Interval, t_interval

STABLE, UNSTABLE, UNDECIDED = "stable", "unstable", "undecided"
STABLE_BELOW, UNSTABLE_ABOVE = 0.2, TEN
ONE_STABLE_BELOW = 0.1  # of the second half of a single replication
DOUBLINGS = 3


@dataclass(frozen=True)
class Verdict:
    """`answer` is "stable", "unstable" or "undecided"; `score` is s, `backlog` the requests waiting at `horizon`.

    `drift` is by how many requests/s those in the system grow in the second half of it; `evidence` what the classes of
    requests say, `replications` how many there were. `closed`: in a closed loop no more than its users can wait.
    """

    answer: str
    score: float
    backlog: Interval
    horizon: float
    drift: Interval = UNKNOWN
    evidence: Evidence = NOTHING
    replications: int = 10
    closed: bool = False

    def __repr__(self) -> str:
        waiting = f"{self.backlog.mean:.4g} requests wait after {self.horizon:g} s"
        return f"Verdict({self.answer}, score {self.score:.3g}, {waiting})"

    @property
    def reason(self) -> str:
        """One sentence with the evidence."""
        waiting = (f"{self.backlog.mean:,.1f} requests wait after {self.horizon:g} s on average "
                   f"(score {self.score:.3g})")
        if self.closed:
            return ("stable, as every closed loop is: requests are sent because others were answered; "
                    f"{self.backlog.mean:,.1f} of them wait on average at the end")
        if self.answer == UNSTABLE:
            return "unstable: " + "; ".join(filter(None, (self.evidence.certain, waiting)))
        if self.answer == STABLE:
            return f"stable: {waiting}"
        return f"undecided: {waiting}{self._why}; take a longer horizon"

    @property
    def _why(self) -> str:
        """What keeps the answer from being stable."""
        above = beyond_critical(self.replications)
        if self.score >= STABLE_BELOW:
            return f", between {STABLE_BELOW} and {above:.3g}"
        if self.evidence.possible:
            return f"; {self.evidence.possible}"
        if self.drift.low > GROWTH_SHARE * self.evidence.rate:
            return (f"; those in the system grow by {self.drift.mean:.3g} a second, over {GROWTH_SHARE:.0%} of the "
                    "arrivals: they still gather, or fall behind")
        return (f"; {_score(max(self.backlog.mean, self.evidence.on_average), self.evidence.firm):.3g} by the least "
                "variance of their work, without the ten largest requests, or over the second half")


def judge(runs: Sequence[Run], rate: float | None = None) -> Verdict:
    """Return the verdict of replications from empty over one horizon; `rate` is V (requests/s) where it is known.

    >>> from fluid import IterationTime, PromptType, Replica, Workload
    >>> from verification import Greedy, replicate
    >>> replica = Replica(1000, IterationTime(0.01, 0.0))
    >>> judge(replicate(Greedy(), Workload([PromptType(9, 5, 2.0)]), replica, horizon=60.0, replications=3)).answer
    'stable'
    """
    return weigh([backlog_of(run) for run in runs], runs[0].end_time, class_names(runs[0].profile), rate)


def weigh(backlogs: Sequence[Backlog], horizon: float, names: Sequence[str] = (), rate: float | None = None) -> Verdict:
    """Return the verdict of what replications leave behind after `horizon` seconds.

    `names` are those of the classes of their ledgers; `rate` is V (requests/s) where it is known.
    """
    ledgers = [each.ledger for each in backlogs if each.ledger is not None]
    evidence = evidence_of(ledgers, horizon, names) if len(ledgers) == len(backlogs) else NOTHING
    return verdict_of(t_interval([each.unserved for each in backlogs]), evidence.variance if rate is None else rate,
                      horizon, t_interval([each.drift for each in backlogs]), evidence, len(backlogs))


def settle(first: Verdict, again: Callable[[float], Verdict], longest: float, lap: float = 0.0) -> Verdict:
    """Return the first verdict that decides, asking `again` at twice the horizon, up to `longest` seconds.

    Where a recording is replayed, a `lap` of it in so many seconds, a busy part of it alone decides against nobody.
    """
    verdict = first
    if verdict.answer == UNSTABLE and verdict.horizon < lap <= longest:
        verdict = again(lap)
    for _ in range(DOUBLINGS):
        if verdict.answer != UNDECIDED or 2 * verdict.horizon > longest:
            break
        verdict = again(2 * verdict.horizon)
    return verdict


def verdict_of(backlog: Interval, rate: float, horizon: float, drift: Interval = UNKNOWN,
               evidence: Evidence = NOTHING, replications: int = 10) -> Verdict:
    """Return the verdict of a mean backlog after `horizon` seconds; `rate` is V (requests/s).

    >>> verdict_of(Interval(3.0, 2.0, 4.0), 10.0, 1000.0).answer
    'stable'
    """
    score = _score(backlog.mean, rate * horizon)
    if evidence.certain or score > beyond_critical(replications):
        answer = UNSTABLE
    else:
        answer = STABLE if score < STABLE_BELOW and _calm(drift, evidence, backlog, replications) else UNDECIDED
    return Verdict(answer, score, backlog, horizon, drift, evidence, replications)


def _calm(drift: Interval, evidence: Evidence, backlog: Interval, replications: int) -> bool:
    """Whether nothing beside the score speaks against "stable"."""
    on_average = ONE_STABLE_BELOW if replications == 1 else STABLE_BELOW
    return (not evidence.possible and not drift.low > GROWTH_SHARE * evidence.rate
            and _score(backlog.mean, evidence.firm) < STABLE_BELOW
            and _score(evidence.on_average, evidence.firm) < on_average)


def _score(waiting: float, variance: float) -> float:
    return waiting / math.sqrt(variance) if waiting > 0 else 0.0
