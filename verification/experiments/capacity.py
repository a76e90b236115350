r"""The largest rate that a policy sustains: a search over rates, each asked by simulation.

A rate is sustained when the verdict is stable and, where a bound on a delay is asked for, the delay meets it. With the
interval [L, H] of the mean (or of the 99th percentile) over replications, and the bound b, a probe has three answers:

    sustained       verdict stable and H <= b
    not sustained   verdict unstable, or L > b, or the policy has no thresholds that fit
    undecided       else; also where the run lasts less than 20 times the delay (no steady state yet), or the interval
                    cannot be trusted (`verification.experiments.evidence.pieces`)

Where undecided the horizon doubles, three times over, before that is the answer. Every rate sees the same random
numbers (the arrivals of one rate are those of another, stretched), so probes differ by the rate and not by luck. The
verdict is that of `verification.experiments.stability`, on every type; it cannot see an overload of less than
0.2/sqrt(Lambda T) of the rate.

The search itself, and what its answer means: `verification.experiments.rate_search`. See mathematics, section 9.10.
"""

from __future__ import annotations

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
from verification.experiments.measures import Delays
from verification.experiments.rate_search import NOT_SUSTAINED, SUSTAINED, Bound, Capacity, Probe, search
from verification.experiments.replications import MOST_KEPT, Experiment, checked, most_kept, within_memory
from verification.experiments.stability import DOUBLINGS, STABLE, UNDECIDED, UNSTABLE, Verdict, weigh
from verification.experiments.summary import PILOT
from verification.policies import Policy
from verification.run import Run
from verification.statistics.intervals import least_probability, positive_interval, warm_up
from verification.traffic.processes import POISSON, Traffic

PROBE_LEVEL = 1 - 0.05 / 10

DesignedAnew = Callable[[Workload], Policy | None]


@dataclass(frozen=True)
class Effort:
    """How each rate is simulated; `horizon` (s) doubles where it does not decide."""

    horizon: float = 3600.0
    replications: int = 10
    seed: int = 0
    workers: int = -1


def capacity(policy: Policy | DesignedAnew, workload: Workload, replica: Replica, *, bound: Bound | None = None,
             precision: float = 0.02, effort: Effort | None = None, traffic: Traffic = POISSON,
             progress: Progress | None = None) -> Capacity:
    """Return the largest total rate (requests/s) of a mix that a policy sustains, as an interval.

    `policy` is a policy, or a function that designs one for a workload (None: there is none that fits); `precision` is
    the width of the interval over its upper end, where simulation decides. Raises InputError for a bad argument.

    >>> from fluid import IterationTime, PromptType
    >>> from verification import Greedy
    >>> replica = Replica(10, IterationTime(0.01, 0.0), max_num_seqs=1, first_token="prefill")  # M/D/1, 100 requests/s
    >>> mix = Workload([PromptType(5, 1, 1.0)])
    >>> found = capacity(Greedy(), mix, replica, bound=Bound("latency", 0.02), effort=Effort(600.0, 4))
    >>> found.low < 100 * 2 / 3 < found.high                        # d + rho d / (2 (1 - rho)) = 2 d at rho = 2/3
    True
    """
    own = workload.rate * traffic.factor()
    chosen = effort or Effort()

    def ask(rate: float) -> Probe:
        there = workload.scaled(rate / own)
        made = policy(there) if callable(policy) else policy
        return probe(rate, made, there, replica, bound, chosen, traffic)

    return search(ask, workload.rate * solve(workload, replica).max_rate_scale, precision, bound, progress)


def probe(rate: float, policy: Policy | None, workload: Workload, replica: Replica, bound: Bound | None, effort: Effort,
          traffic: Traffic = POISSON) -> Probe:
    """Ask by simulation whether a policy sustains a workload; `rate` is its total, for the record."""
    if policy is None:
        return Probe(rate, NOT_SUSTAINED, "there are no thresholds that fit")
    if bound is not None:
        whole("replications", effort.replications, "capacity", unit="replications", least=2)
    experiment = Experiment(policy, workload, replica, effort.horizon, traffic, effort.seed, effort.workers)
    replications = checked(effort.replications)
    held = min(replications, PILOT)
    within_memory(experiment.rate, replica, experiment.horizon, held)
    longest = MOST_KEPT / most_kept(experiment.rate, replica, 1.0, held)
    for _ in range(DOUBLINGS + 1):
        found = _answer(rate, experiment, replications, bound)
        if found.answer != UNDECIDED or 2 * experiment.horizon > longest:
            break
        experiment = replace(experiment, horizon=2 * experiment.horizon)
    return found


def _answer(rate: float, experiment: Experiment, replications: int, bound: Bound | None) -> Probe:
    backlogs, delays, pieces = _simulated(experiment, replications, bound)
    over = sum(each.overflows > 0 for each in backlogs)
    promised = getattr(experiment.policy, "overflow_probability", None) or 0.0
    if over and least_probability(over, replications, PROBE_LEVEL) > promised:
        reason = f"in {over} of {replications} runs an iteration holds more than the replica has"
        return Probe(rate, NOT_SUSTAINED, reason, horizon=experiment.horizon)
    verdict = weigh(backlogs, experiment.horizon, experiment.classes)
    if bound is None or verdict.answer == UNSTABLE:
        answer = {STABLE: SUSTAINED, UNSTABLE: NOT_SUSTAINED, UNDECIDED: UNDECIDED}[verdict.answer]
        return Probe(rate, answer, verdict.reason, verdict.score, None, verdict.horizon)
    return _against(bound, rate, verdict, delays, doubts_of(pieces, np.array([each.latency_p99 for each in delays])))


def _against(bound: Bound, rate: float, verdict: Verdict, delays: list[Delays], doubts: tuple[Doubt, ...]) -> Probe:
    """Hold the delays of a rate that may be stable against the bound."""
    measured = positive_interval([getattr(each, bound.measure) for each in delays], PROBE_LEVEL)
    doubt = next((each.reason for each in doubts if each.measure == bound.measure), "")
    settled = verdict.horizon >= SETTLED * measured.mean
    if measured.low > bound.seconds:
        answer = NOT_SUSTAINED
    elif verdict.answer == STABLE and settled and measured.high <= bound.seconds and not doubt:
        answer = SUSTAINED
    else:
        answer = UNDECIDED
    reason = f"{bound.measure} {measured.mean:.4g} s ({measured.low:.4g} .. {measured.high:.4g}); {verdict.reason}"
    return Probe(rate, answer, reason, verdict.score, measured, verdict.horizon, doubt)


def _simulated(experiment: Experiment, replications: int,
               bound: Bound | None) -> tuple[list[Backlog], list[Delays], list[Pieces | None]]:
    """What each replication leaves behind and, with a bound, its delays after the warm-up, as `verify` measures them.

    A run is let go once it is measured; the first `PILOT` are held until they have told the warm-up.
    """
    if bound is None:
        return list(experiment.each(range(replications), backlog_of, record=False)), [], []
    pilot = list(experiment.each(range(min(replications, PILOT)), lambda run: run, record=False))
    share = warm_up([measures.in_system(run) for run in pilot])

    def keep(run: Run) -> tuple[Backlog, Delays, Pieces | None]:
        window = measures.window_after(run, share)
        return backlog_of(run), measures.delays(run, window), pieces_of(run, window, replications)

    kept = [keep(run) for run in pilot]
    del pilot
    kept += experiment.each(range(PILOT, replications), keep, record=False)
    backlogs, delays, pieces = (list(column) for column in zip(*kept, strict=True))
    return backlogs, delays, pieces
