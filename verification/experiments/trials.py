"""Short trials: several policies on the same arrivals, and which of them to use.

Near the edge no formula says who wins: lengths that differ damp the swings of memory that thresholds prevent, prefills
made again cost what the iteration time says, a smaller budget of tokens shortens the longest iterations. So the engine
as it comes, the engine with other flags and the designs are simulated, each on the requests of the same seeds. Delays
are those of the requests that arrive between 30% and 80% of the horizon; who has not finished counts with its age.

**Regret.** Two measures count, the mean latency and its 99th percentile. With m and q of a policy and the least m* and
q* of all,

    regret = max( (m/m* - 1) / 2%,  (q/q* - 1) / 5% )

A policy of regret at most 1 is beaten by no other by more than 2% in the mean or 5% in the tail. The first of these is
taken, in the order given, which should be that of effort: nothing to change, flags, code. Where there is none (one
policy has the better mean, another the better tail) it is the first within a quarter of the least regret. See
mathematics, section 9.11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from fluid import Equilibrium, Replica, Workload, solve
from fluid.progress import Progress
from verification.experiments import measures
from verification.experiments.measures import Window
from verification.experiments.replications import Experiment, told
from verification.experiments.targets.bounds import NO_TARGETS, Held, Targets
from verification.experiments.targets.delays import Delays, OverReplications, delays
from verification.experiments.targets.names import DELAYS
from verification.policies import Policy
from verification.rules.vllm_v1 import VllmV1, as_it_comes
from verification.run import Run
from verification.statistics.intervals import Interval, positive_interval
from verification.traffic.processes import POISSON, Traffic

MEAN_TOLERANCE, TAIL_TOLERANCE = 0.02, 0.05
NEARLY = 1.25
FROM, TO = 0.3, 0.8  # the part of the horizon whose arrivals count
WATERMARKS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15)
BUDGETS = (0.75, 0.5, 0.375, 0.25, 0.1875, 0.15, 0.125)  # of the engine's own
LEAST_BUDGET = 256
REQUESTS, LIVES = 40_000, 60  # a trial lasts so many requests, and so many lives of a request alone
HOUR = 3600.0


@dataclass(frozen=True, eq=False)
class Trial(OverReplications):
    """What a policy did in a short trial, 95% intervals over replications: tokens/s, seconds, evictions an hour.

    `targets` are those asked for, what binds first, beside what was measured.
    """

    policy: Policy
    throughput: Interval
    delays: Mapping[str, Interval]
    evictions_per_hour: Interval
    targets: tuple[Held, ...] = ()


@dataclass(frozen=True)
class Trials:
    """All trials of a workload on a replica, of `horizon` seconds each, the engine as it comes first."""

    all: tuple[Trial, ...]
    horizon: float = 0.0

    def __repr__(self) -> str:
        best = getattr(self.best.policy, "name", type(self.best.policy).__name__)
        return f"Trials({len(self.all)} policies for {self.horizon:,.4g} s each, best {best})"

    @property
    def engine(self) -> Trial:
        """vLLM V1 as it comes."""
        return self.all[0]

    @property
    def best(self) -> Trial:
        """The first of regret at most 1 or, where there is none, within a quarter of the least.

        The engine as it comes where no request was measured, as in a horizon without arrivals.
        """
        regrets = [self.regret(trial) for trial in self.all]
        enough = max(1.0, NEARLY * min(regrets))
        good = (trial for trial, regret in zip(self.all, regrets, strict=True) if regret <= enough)
        return next(good, self.engine)

    def regret(self, trial: Trial) -> float:
        """max((m/m* - 1) / 2%, (q/q* - 1) / 5%)."""
        mean = min(each.latency.mean for each in self.all)
        tail = min(each.latency_p99.mean for each in self.all)
        return max((trial.latency.mean / mean - 1) / MEAN_TOLERANCE,
                   (trial.latency_p99.mean / tail - 1) / TAIL_TOLERANCE)


def try_out(designs: Sequence[Policy], workload: Workload, replica: Replica, *, horizon: float | None = None,
            replications: int = 4, traffic: Traffic = POISSON, seed: int = 0, workers: int = -1,
            progress: Progress | None = None, also: Sequence[Policy] = ()) -> Trials:
    """Try the engine as it comes, the engine with other flags, and designs on the same arrivals.

    Of the engine (`VllmV1`) its budget of tokens is tried, and shares of it down to an eighth; and where it preempts,
    at its own budget and at the best, the watermarks 1, 2, 5, 10 and 15%; and any policies `also`. `horizon` is in
    seconds; without one a trial lasts 40,000 requests, or 60 times as long as a request takes alone if that is more.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.013e-7))
    >>> found = try_out([], Workload([PromptType(512, 20, 20.0)]), replica, horizon=20.0)
    >>> found.best is found.engine                                     # far from the edge nothing is to be changed
    True
    """
    seconds = horizon or usual_horizon(solve(workload, replica))

    def tried(policies: Sequence[Policy]) -> list[Trial]:
        return [tried_out(Experiment(policy, workload, replica, seconds, traffic, seed, workers), replications,
                          progress=progress)
                for policy in policies]

    engine = tried(_budgets(as_it_comes(replica), replica))
    best = Trials(tuple(engine)).best
    for trial in dict.fromkeys((engine[0], best)):
        if trial.evictions_per_hour.mean > 0:
            engine += tried(watermarks(trial.policy)[1:])
    known = [trial.policy for trial in engine]
    return Trials((*engine, *tried([policy for policy in (*designs, *also) if policy not in known])), seconds)


def usual_horizon(equilibrium: Equilibrium) -> float:
    """Seconds of a trial: 40,000 requests, and 60 lives of a request."""
    return max(REQUESTS / equilibrium.workload.rate, many_lives(equilibrium))


def many_lives(equilibrium: Equilibrium) -> float:
    """Seconds of 60 lives of a request with the mean of the stages, at Delta*."""
    iteration = equilibrium.iteration_time or float(equilibrium.replica.iteration_time.overheads.max())
    return LIVES * iteration * float(equilibrium.profile.stages.mean())


def watermarks(engine: Policy) -> list[VllmV1]:
    """The engine at the watermarks that are tried, from none to 15%."""
    assert isinstance(engine, VllmV1)
    return [replace(engine, watermark=watermark) for watermark in WATERMARKS]


def _budgets(own: VllmV1, replica: Replica) -> list[VllmV1]:
    """The engine with its budget and with smaller ones, no smaller than its cap on sequences."""
    least = max(LEAST_BUDGET, replica.max_num_seqs or 0)
    smaller = [int(share * own.max_num_batched_tokens) for share in BUDGETS]
    return [own, *(replace(own, max_num_batched_tokens=budget) for budget in smaller if budget >= least)]


def tried_out(experiment: Experiment, replications: int, targets: Targets = NO_TARGETS, record: bool = False,
              progress: Progress | None = None) -> Trial:
    """Return what a policy does; with `record` the gaps between tokens are known too."""
    def taken(run: Run) -> Taken:
        return take(run, targets)

    found = told(experiment.each(range(replications), taken, record=record), progress, 0, replications)
    return Trial(experiment.policy, *over_replications(found, experiment.workload, experiment.horizon, targets))


class Taken(NamedTuple):
    """What one run says: output tokens/s, delays, evictions an hour, the share of requests that meet the goodput."""

    throughput: float
    delays: Delays
    evictions: float
    good: float


def take(run: Run, targets: Targets) -> Taken:
    """Measure a run in the window of a trial."""
    window = _window(run.end_time)
    return Taken(measures.throughput(run, window), delays(run, window), run.evictions / run.end_time * HOUR,
                 targets.good(run, window))


def over_replications(found: Sequence[Taken], workload: Workload, horizon: float, targets: Targets,
             ) -> tuple[Interval, dict[str, Interval], Interval, tuple[Held, ...]]:
    """Return the intervals over replications of throughput, delays and evictions, and the targets held."""
    throughput, delayed, evictions, good = zip(*found, strict=True)
    window = _window(horizon)
    request = float(workload.output_tokens.min()) / (window.end - window.start)
    return (positive_interval(throughput, unit=request),
            {name: positive_interval([each.of(name) for each in delayed]) for name in DELAYS},
            positive_interval(evictions, unit=HOUR / horizon), targets.held(delayed, good, ()))


def _window(horizon: float) -> Window:
    return Window(FROM * horizon, horizon, TO * horizon)


def flags(policy: Policy, own: Policy) -> str:
    """What to add to vLLM's command line for a policy where it differs from the engine as it comes; else nothing."""
    if not (isinstance(policy, VllmV1) and isinstance(own, VllmV1)):
        return ""
    parts = []
    if policy.max_num_batched_tokens != own.max_num_batched_tokens:
        parts.append(f"--max-num-batched-tokens {policy.max_num_batched_tokens}")
    if policy.watermark != own.watermark:
        parts.append(f"--watermark {policy.watermark:g}")
    return " ".join(parts)
