r"""The largest rate that a policy sustains: a search over rates, each asked by simulation.

A rate is sustained when the verdict is stable and every target is met: bounds b on means and percentiles of delays,
goodput (`verification.experiments.targets`). With the interval [L, H] of the measure over replications (at a level that
all of them hold together) a probe has three answers:

    sustained       verdict stable and H <= b for every target
    not sustained   verdict unstable, or L > b for some target, or the policy has no thresholds that fit
    undecided       else; also where the run lasts less than 20 times the delay (no steady state yet), or an interval
                    cannot be trusted (`verification.experiments.evidence.pieces`)

Where undecided the horizon doubles, three times over, before that is the answer. Every rate sees the same random
numbers (the arrivals of one rate are those of another, stretched), so probes differ by the rate and not by luck. The
verdict is that of `verification.experiments.stability`, on every type; it cannot see an overload of less than
0.2/sqrt(Lambda T) of the rate.

Where tokens are to be fast the search begins near the rate at which the iteration of the fluid model is so long:
Delta*(rate) <= b is a half-space of rates (mathematics, section 2.1); of a mean latency b stands b over the mean number
of stages. It is a first guess and no bound: every rate of the answer is simulated.

The search itself, and what its answer means: `verification.experiments.rate_search`. See mathematics, section 9.10.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fluid import Replica, Workload, solve
from fluid.errors import whole
from fluid.progress import Progress
from verification.experiments import measures
from verification.experiments.checks import SETTLED
from verification.experiments.evidence.ledger import Backlog, backlog_of
from verification.experiments.evidence.pieces import Doubt, Pieces, doubts_of, pieces_of
from verification.experiments.rate_search import NOT_SUSTAINED, SUSTAINED, Capacity, Probe, search
from verification.experiments.replications import MOST_KEPT, Experiment, checked, most_kept, within_memory
from verification.experiments.stability import DOUBLINGS, STABLE, UNDECIDED, UNSTABLE, Verdict, weigh
from verification.experiments.summary import PILOT
from verification.experiments.targets.bounds import MET, MISSED, Bound, Targets
from verification.experiments.targets.delays import Delays, delays
from verification.experiments.targets.names import base
from verification.policies import Policy
from verification.run import Run
from verification.statistics.intervals import least_probability
from verification.traffic.processes import POISSON, Traffic

PROBE_ERROR = 0.05 / 10

DesignedAnew = Callable[[Workload], Policy | None]


@dataclass(frozen=True)
class Effort:
    """How each rate is simulated; `horizon` (s) doubles where it does not decide."""

    horizon: float = 3600.0
    replications: int = 10
    seed: int = 0
    workers: int = -1


def capacity(policy: Policy | DesignedAnew, workload: Workload, replica: Replica, *,
             bound: Bound | Targets | None = None, precision: float = 0.02, effort: Effort | None = None,
             traffic: Traffic = POISSON, progress: Progress | None = None) -> Capacity:
    """Return the largest total rate (requests/s) of a mix that a policy sustains, as an interval.

    `policy` is a policy, or a function that designs one for a workload (None: there is none that fits); `bound` is what
    must hold of the delays, one bound or all of `Targets`; `precision` is the width of the interval over its upper end,
    where simulation decides. Raises InputError for a bad argument.

    >>> from fluid import IterationTime, PromptType
    >>> from verification import Greedy
    >>> replica = Replica(10, IterationTime(0.01, 0.0), max_num_seqs=1, first_token="prefill")  # M/D/1, 100 requests/s
    >>> mix = Workload([PromptType(5, 1, 1.0)])
    >>> found = capacity(Greedy(), mix, replica, bound=Bound("latency", 0.02), effort=Effort(600.0, 4))
    >>> found.low < 100 * 2 / 3 < found.high                        # d + rho d / (2 (1 - rho)) = 2 d at rho = 2/3
    True
    """
    own = workload.rate * traffic.factor()
    chosen, targets = effort or Effort(), bound if isinstance(bound, Targets) else Targets((bound,) if bound else ())

    def ask(rate: float) -> Probe:
        there = workload.scaled(rate / own)
        made = policy(there) if callable(policy) else policy
        return probe(rate, made, there, replica, targets, chosen, traffic)

    edge = workload.rate * solve(workload, replica).max_rate_scale
    return search(ask, edge, precision, targets, progress, guess(workload, replica, targets))


def guess(workload: Workload, replica: Replica, targets: Targets) -> float:
    """The rate at which the fluid model's iteration takes as long as targets on tokens and latency allow; inf without.
    """
    allowed = [*((each.measure, each.seconds) for each in targets.bounds),
               *(targets.goodput.conditions if targets.goodput else ())]
    alone = solve(workload, replica)
    stages = float(alone.profile.stages @ workload.rates / workload.rate)
    longest = min((seconds / (stages if base(name) == "latency" else 1) for name, seconds in allowed
                   if base(name) != "ttft"), default=math.inf)
    if not 0 < alone.max_rate_scale < math.inf or math.isinf(longest):
        return math.inf
    shares = np.linspace(0.01, 0.99, 99)
    fits = [share for share in shares if _iteration(workload, replica, share * alone.max_rate_scale) <= longest]
    return float(max(fits, default=shares[0])) * alone.max_rate_scale * workload.rate


def _iteration(workload: Workload, replica: Replica, scale: float) -> float:
    found = solve(workload.scaled(scale), replica).iteration_time
    return math.inf if found is None else found


def probe(rate: float, policy: Policy | None, workload: Workload, replica: Replica, targets: Targets, effort: Effort,
          traffic: Traffic = POISSON) -> Probe:
    """Ask by simulation whether a policy sustains a workload; `rate` is its total, for the record."""
    if policy is None:
        return Probe(rate, NOT_SUSTAINED, "there are no thresholds that fit")
    if targets:
        whole("replications", effort.replications, "capacity", unit="replications", least=2)
    experiment = Experiment(policy, workload, replica, effort.horizon, traffic, effort.seed, effort.workers)
    replications = checked(effort.replications)
    held = min(replications, PILOT)
    within_memory(experiment.rate, replica, experiment.horizon, held)
    longest = MOST_KEPT / most_kept(experiment.rate, replica, 1.0, held)
    for _ in range(DOUBLINGS + 1):
        found = _answer(rate, experiment, replications, targets)
        if found.answer != UNDECIDED or 2 * experiment.horizon > longest:
            break
        experiment = replace(experiment, horizon=2 * experiment.horizon)
    return found


def _answer(rate: float, experiment: Experiment, replications: int, targets: Targets) -> Probe:
    backlogs, found, pieces = _simulated(experiment, replications, targets)
    over = sum(each.overflows > 0 for each in backlogs)
    promised = getattr(experiment.policy, "overflow_probability", None) or 0.0
    if over and least_probability(over, replications, 1 - PROBE_ERROR) > promised:
        reason = f"in {over} of {replications} runs an iteration holds more than the replica has"
        return Probe(rate, NOT_SUSTAINED, reason, horizon=experiment.horizon)
    verdict = weigh(backlogs, experiment.horizon, experiment.classes)
    if not targets or verdict.answer == UNSTABLE:
        answer = {STABLE: SUSTAINED, UNSTABLE: NOT_SUSTAINED, UNDECIDED: UNDECIDED}[verdict.answer]
        return Probe(rate, answer, verdict.reason, verdict.score, (), verdict.horizon)
    return _against(targets, rate, verdict, found, doubts_of(pieces, np.array([
        (each.of("latency_p99"), each.of("ttft_p99")) for each, _ in found])))


def _against(targets: Targets, rate: float, verdict: Verdict, found: list[tuple[Delays, float]],
             doubts: tuple[Doubt, ...]) -> Probe:
    """Hold what was measured at a rate that may be stable against the targets."""
    held = targets.held([each for each, _ in found], [good for _, good in found], doubts, PROBE_ERROR)
    slowest = float(np.mean([each.of("latency") for each, _ in found]))
    if any(each.answer == MISSED for each in held):
        answer = NOT_SUSTAINED
    elif (verdict.answer == STABLE and verdict.horizon >= SETTLED * slowest
          and all(each.answer == MET for each in held)):
        answer = SUSTAINED
    else:
        answer = UNDECIDED
    reason = f"{held[0].text}; {verdict.reason}"
    return Probe(rate, answer, reason, verdict.score, held, verdict.horizon)


def _simulated(experiment: Experiment, replications: int, targets: Targets
               ) -> tuple[list[Backlog], list[tuple[Delays, float]], list[Pieces | None]]:
    """What each replication leaves behind and, with targets, its delays after the warm-up, as `verify` measures them,
    and the share of requests that meet a goodput.

    A run is let go once it is measured; the first `PILOT` are held until they have told the warm-up.
    """
    if not targets:
        return list(experiment.each(range(replications), backlog_of, record=False)), [], []
    recorded = targets.gaps
    pilot = list(experiment.each(range(min(replications, PILOT)), lambda run: run, record=recorded))
    share = experiment.warm_up(pilot)

    def keep(run: Run) -> tuple[Backlog, tuple[Delays, float], Pieces | None]:
        window = measures.window_after(run, share)
        return backlog_of(run), (delays(run, window), targets.good(run, window)), pieces_of(run, window, replications)

    kept = [keep(run) for run in pilot]
    del pilot
    kept += experiment.each(range(PILOT, replications), keep, record=recorded)
    backlogs, found, pieces = (list(column) for column in zip(*kept, strict=True))
    return backlogs, found, pieces
