"""A policy verified: replications, a verdict, predictions held against measurement (`verification.checks`)."""

from __future__ import annotations

from dataclasses import dataclass

from fluid import Replica, Workload, solve
from verification import measures
from verification.checks import Check, Study, busy_iteration
from verification.estimators import Interval, t_interval, warm_up
from verification.replicate import MOST_KEPT, Progress, most_kept, replicate
from verification.run import Run
from verification.simulate import Policy
from verification.traffic import POISSON, Poisson, Traffic
from verification.verdict import STABLE, Verdict, judge, settle


@dataclass(frozen=True, eq=False)
class Verification:
    """What replications of a policy say; made by `verify`. Intervals are 95%, over replications.

    `warm_up` is the share of each run that was deleted; delays are in seconds, `throughput` in output tokens/s.
    """

    policy: Policy
    horizon: float
    replications: int
    seed: int
    warm_up: float
    verdict: Verdict
    checks: tuple[Check, ...]
    throughput: Interval
    latency: Interval
    latency_p99: Interval
    ttft: Interval
    evictions: Interval
    iteration_time: Interval
    busy_share: Interval
    kv_peak: int
    overflow_runs: int
    unfinished: int
    rejected: int
    runs: tuple[Run, ...]

    @property
    def agrees(self) -> bool:
        """Whether every check agrees."""
        return all(check.agrees for check in self.checks)

    @property
    def verified(self) -> bool:
        """The answer is yes: stable, and every check agrees."""
        return self.verdict.answer == STABLE and self.agrees


def verify(policy: Policy, workload: Workload, replica: Replica, *, horizon: float = 3600.0, replications: int = 10,
           traffic: Traffic = POISSON, seed: int = 0, workers: int = -1,
           progress: Progress | None = None) -> Verification:
    """Simulate replications of a policy and hold the predictions of the fluid model against them.

    `horizon` in seconds. Steady-state predictions are held against Poisson traffic only; what holds on every path, or
    with a probability, against any. Raises InputError as `simulate` does.
    """
    def replications_over(seconds: float, record: bool) -> list[Run]:
        return replicate(policy, workload, replica, horizon=seconds, replications=replications,
                         traffic=traffic, seed=seed, workers=workers, record=record, progress=progress)

    rate = workload.rate * traffic.factor()
    runs = replications_over(horizon, record=True)
    longest = MOST_KEPT / most_kept(rate, replica, 1.0, replications)
    share = warm_up([measures.in_system(run) for run in runs])
    study = Study(solve(workload, replica), policy, runs, [measures.window_after(run, share) for run in runs])
    delays = [measures.delays(run, window) for run, window in zip(runs, study.windows, strict=True)]
    return Verification(
        policy, horizon, replications, seed, share,
        settle(judge(runs, rate),
               lambda seconds: judge(replications_over(seconds, record=False), rate), longest),
        study.checks(steady=isinstance(traffic, Poisson)),
        throughput=study.over_runs(measures.throughput),
        latency=t_interval([d.latency for d in delays]),
        latency_p99=t_interval([d.latency_p99 for d in delays]),
        ttft=t_interval([d.ttft for d in delays]),
        evictions=t_interval([run.evictions for run in runs]),
        iteration_time=study.over_runs(busy_iteration),
        busy_share=t_interval([run.busy_share for run in runs]),
        kv_peak=max(run.kv_peak for run in runs),
        overflow_runs=sum(run.overflows > 0 for run in runs),
        unfinished=sum(d.unfinished for d in delays),
        rejected=sum(run.rejected for run in runs),
        runs=tuple(runs),
    )
