"""Is a policy stable? Three answers, from the backlog of replications that start empty.

Over a horizon T let U be the requests still waiting outside the GPU, V the variance rate of the work that arrives, in
units of the mean work w of a request: V = sum_j lambda_j (w_j/w)^2, the arrival rate itself where all are alike,

    s = mean(U) / sqrt(V T)         s < 0.2 stable,   s > 1.4 unstable,   between: undecided

A stable backlog stays bounded, so s falls like T^-1/2; an unstable one grows like T, so s grows like T^1/2; a critical
one grows like sqrt(T) and keeps s near sqrt(2/pi): there, no horizon decides. Where s lies between, `settle` tries
twice the horizon, three times over, before it says undecided. (With V = lambda for any mix s would tend to
sqrt(2 V/(pi lambda)), and M/M/1 at load 0.99, V = 2 lambda, was called unstable in one trial of 300.)

Beside it stands the drift, the slope of the requests in the system over the second half of the horizon, with its
interval over replications (Student): what a stable policy has lost by then and an unstable one, which falls behind by
a constant share of the arrivals, keeps. It is evidence, not the judge: at the boundary the backlog drifts too, like
T^-1/2, and a horizon in which residents are still gathering shows a drift that will pass.
Source: model.md section 9. In tests/verification/experiments/test_stability.py, M/M/1, M/D/1 and E_4/D/1 at loads 0.8
to 1.2, 10 replications of some 10,000 requests, none of 300 trials at each load is wrong: an error rate below 1%.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fluid import StageProfile
from fluid.arrays import Floats
from verification.experiments import measures
from verification.run import Run
from verification.statistics.intervals import UNKNOWN, Interval, t_interval

STABLE, UNSTABLE, UNDECIDED = "stable", "unstable", "undecided"
STABLE_BELOW, UNSTABLE_ABOVE = 0.2, 1.4
DOUBLINGS = 3


class Backlog(NamedTuple):
    """What one run leaves behind: the requests that wait outside at its end, their `drift` before it (requests/s), and
    the iterations that held more than the replica has, `overflows`.
    """

    unserved: int
    drift: float
    overflows: int = 0


@dataclass(frozen=True)
class Verdict:
    """`answer` is "stable", "unstable" or "undecided"; `score` is s, `backlog` the requests waiting at `horizon`.

    `drift` is by how many requests/s those in the system grow in the second half of it.
    """

    answer: str
    score: float
    backlog: Interval
    horizon: float
    drift: Interval = UNKNOWN

    @property
    def reason(self) -> str:
        """One sentence with the evidence."""
        evidence = (f"{self.backlog.mean:,.1f} requests wait after {self.horizon:g} s on average "
                    f"(score {self.score:.3g})")
        if self.answer == UNDECIDED:
            return f"undecided: {evidence}, between {STABLE_BELOW} and {UNSTABLE_ABOVE}; take a longer horizon"
        return f"{self.answer}: {evidence}"


def backlog_of(run: Run) -> Backlog:
    """What a run leaves behind."""
    return Backlog(run.unserved, measures.drift(run), run.overflows)


def variance_rate(profile: StageProfile, rates: Floats) -> float:
    """Return V = sum_j lambda_j (w_j/w)^2 of a mix, w_j the KV work; `rates` (requests/s) has shape (J,).

    >>> from fluid import IterationTime, PromptType, Replica, Workload, stage_profile
    >>> workload = Workload([PromptType(10, 5, 2.0)])
    >>> variance_rate(stage_profile(workload, Replica(100, IterationTime(1.0, 0.0))), workload.rates)
    2.0
    """
    shares = rates / rates.sum()
    relative = profile.kv_work / float(shares @ profile.kv_work)
    return float(rates @ relative**2)


def judge(runs: Sequence[Run], rate: float) -> Verdict:
    """Return the verdict of replications from empty over one horizon; `rate` is V (requests/s)."""
    return weigh([backlog_of(run) for run in runs], rate, runs[0].end_time)


def weigh(backlogs: Sequence[Backlog], rate: float, horizon: float) -> Verdict:
    """Return the verdict of what replications leave behind after `horizon` seconds; `rate` is V (requests/s)."""
    return verdict_of(t_interval([each.unserved for each in backlogs]), rate, horizon,
                      t_interval([each.drift for each in backlogs]))


def settle(first: Verdict, again: Callable[[float], Verdict], longest: float) -> Verdict:
    """Return the first verdict that decides, asking `again` at twice the horizon, up to `longest` seconds."""
    verdict = first
    for _ in range(DOUBLINGS):
        if verdict.answer != UNDECIDED or 2 * verdict.horizon > longest:
            break
        verdict = again(2 * verdict.horizon)
    return verdict


def verdict_of(backlog: Interval, rate: float, horizon: float, drift: Interval = UNKNOWN) -> Verdict:
    """Return the verdict of a mean backlog after `horizon` seconds; `rate` is V (requests/s).

    >>> verdict_of(Interval(3.0, 2.0, 4.0), 10.0, 1000.0).answer
    'stable'
    """
    score = backlog.mean / math.sqrt(rate * horizon)
    answer = STABLE if score < STABLE_BELOW else UNSTABLE if score > UNSTABLE_ABOVE else UNDECIDED
    return Verdict(answer, score, backlog, horizon, drift)
