r"""The largest rate that a policy sustains: a search over rates, each asked by simulation.

A rate is sustained when the verdict is stable and, where a bound on a delay is asked for, the delay meets it. With the
interval [L, H] of the mean (or of the 99th percentile) over replications, and the bound b, a probe has three answers:

    sustained       verdict stable and H <= b
    not sustained   verdict unstable, or L > b, or the policy has no thresholds that fit
    undecided       else; also where the run lasts less than 20 times the delay: no steady state yet

Where undecided the horizon doubles, three times over, before that is the answer. Every rate sees the same random
numbers (the arrivals of one rate are those of another, stretched), so probes differ by the rate and not by luck. A
verdict cannot see an overload of less than 0.2/sqrt(Lambda T) of the rate (`verification.experiments.stability`).

**Search.** Nothing is sustained at `edge`, the fluid limit or what thresholds can carry. From there down, at 95%, 90%,
80%, ... of it (delays of WAIT grow towards low rates as well, so the middle tells nothing about both halves), until a
rate is sustained; then bisection between it and the next rate that is not, until they are closer than the precision;
then, where rates above were undecided, bisection between the largest of them and the smallest that is not sustained.
The answer is an interval, [largest rate found sustained, smallest above it found not]. With some ten probes whose delay
is near the bound, intervals at level 1 - 0.05/10 make the answer of a search wrong in at most one of twenty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fluid import Replica, Workload, solve
from fluid.errors import InputError, one_of, real, whole
from fluid.progress import Progress
from verification.experiments import measures
from verification.experiments.checks import SETTLED
from verification.experiments.replications import MOST_KEPT, Experiment, checked, most_kept, within_memory
from verification.experiments.stability import DOUBLINGS, STABLE, UNDECIDED, UNSTABLE, Backlog, backlog_of, weigh
from verification.experiments.summary import PILOT
from verification.policies import Policy
from verification.run import Run
from verification.statistics.intervals import Interval, least_probability, t_interval, warm_up
from verification.traffic.processes import POISSON, Traffic

BOUNDED = ("latency", "latency_p99", "ttft")
SUSTAINED, NOT_SUSTAINED = "sustained", "not sustained"
SHARES = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
PROBE_LEVEL = 1 - 0.05 / 10
LARGEST_PRECISION = 0.5

DesignedAnew = Callable[[Workload], Policy | None]


@dataclass(frozen=True)
class Bound:
    """A delay that must not be exceeded: mean `latency`, `latency_p99` (99th percentile) or mean `ttft`, seconds."""

    measure: str
    seconds: float

    def __post_init__(self) -> None:
        one_of("measure", self.measure, BOUNDED, "Bound")
        object.__setattr__(self, "seconds", real(self.measure, self.seconds, "Bound", unit="seconds"))


@dataclass(frozen=True)
class Effort:
    """How each rate is simulated; `horizon` (s) doubles where it does not decide."""

    horizon: float = 3600.0
    replications: int = 10
    seed: int = 0
    workers: int = -1


@dataclass(frozen=True)
class Probe:
    """One rate asked: the answer, and what it rests on (None where nothing was simulated).

    `score` is that of the verdict, `measured` the delay the bound is about, `horizon` the last one tried (s).
    """

    rate: float
    answer: str
    reason: str
    score: float | None = None
    measured: Interval | None = None
    horizon: float | None = None


@dataclass(frozen=True)
class Capacity:
    """What a search found; `low` is None where no rate was sustained. Rates in requests/s, `probes` in their order.

    `edge` is what the mathematics excludes: no rate from there on is sustained, and none was simulated.
    """

    low: float | None
    high: float
    edge: float
    bound: Bound | None
    probes: tuple[Probe, ...]

    @property
    def reason(self) -> str:
        """The answer in a sentence."""
        what = "" if self.bound is None else f" with {self.bound.measure} up to {self.bound.seconds:g} s"
        if self.low is None:
            return f"no rate is sustained{what}: {self.probes[0].reason}" if self.probes else "no rate is sustained"
        unsure = [f"{each.rate:.4g}" for each in self.probes
                  if each.answer == UNDECIDED and self.low < each.rate < self.high]
        between = f"; undecided at {', '.join(unsure)}" if unsure else ""
        return f"sustains {self.low:.4g} requests/s{what}, and not {self.high:.4g}{between}"


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
    backlogs, delays = _simulated(experiment, replications, bound)
    over = sum(each.overflows > 0 for each in backlogs)
    promised = getattr(experiment.policy, "overflow_probability", None) or 0.0
    if over and least_probability(over, replications, PROBE_LEVEL) > promised:
        reason = f"in {over} of {replications} runs an iteration holds more than the replica has"
        return Probe(rate, NOT_SUSTAINED, reason, horizon=experiment.horizon)
    verdict = weigh(backlogs, experiment.variance_rate, experiment.horizon)
    if bound is None or verdict.answer == UNSTABLE:
        answer = {STABLE: SUSTAINED, UNSTABLE: NOT_SUSTAINED, UNDECIDED: UNDECIDED}[verdict.answer]
        return Probe(rate, answer, verdict.reason, verdict.score, None, verdict.horizon)
    measured = t_interval(delays, PROBE_LEVEL)
    settled = verdict.horizon >= SETTLED * measured.mean
    if measured.low > bound.seconds:
        answer = NOT_SUSTAINED
    elif verdict.answer == STABLE and settled and measured.high <= bound.seconds:
        answer = SUSTAINED
    else:
        answer = UNDECIDED
    reason = f"{bound.measure} {measured.mean:.4g} s ({measured.low:.4g} .. {measured.high:.4g}); {verdict.reason}"
    return Probe(rate, answer, reason, verdict.score, measured, verdict.horizon)


def _simulated(experiment: Experiment, replications: int, bound: Bound | None) -> tuple[list[Backlog], list[float]]:
    """What each replication leaves behind and, with a bound, its delay after the warm-up, as `verify` measures it.

    A run is let go once it is measured; the first `PILOT` are held until they have told the warm-up.
    """
    if bound is None:
        return list(experiment.each(range(replications), backlog_of, record=False)), []
    pilot = list(experiment.each(range(min(replications, PILOT)), lambda run: run, record=False))
    share = warm_up([measures.in_system(run) for run in pilot])

    def keep(run: Run) -> tuple[Backlog, float]:
        return backlog_of(run), getattr(measures.delays(run, measures.window_after(run, share)), bound.measure)

    kept = [keep(run) for run in pilot]
    del pilot
    kept += experiment.each(range(PILOT, replications), keep, record=False)
    return [backlog for backlog, _ in kept], [delay for _, delay in kept]


def search(ask: Callable[[float], Probe], edge: float, precision: float = 0.02, bound: Bound | None = None,
           progress: Progress | None = None) -> Capacity:
    """Search the rates below `edge` (requests/s) for the largest that `ask` finds sustained; the module says how."""
    width = real("precision", precision, "capacity")
    if width > LARGEST_PRECISION:
        raise InputError("precision", f"a share of the rate of at most {LARGEST_PRECISION:g}", precision, "capacity")
    asked: dict[float, Probe] = {}

    def answer(rate: float) -> str:
        asked[rate] = ask(rate)
        if progress:
            progress(len(asked), max(len(asked), len(SHARES)))
        return asked[rate].answer

    if edge > 0:
        _look(answer, edge, width)
    probes = tuple(asked[rate] for rate in sorted(asked))
    low = max((each.rate for each in probes if each.answer == SUSTAINED), default=None)
    high = min((each.rate for each in probes if each.answer == NOT_SUSTAINED and each.rate > (low or 0)), default=edge)
    return Capacity(low, high, edge, bound, probes)


def _look(answer: Callable[[float], str], edge: float, width: float) -> None:
    """Ask what is needed."""
    answers = {edge: NOT_SUSTAINED}

    def ask(rate: float) -> str:
        answers[rate] = answer(rate)
        return answers[rate]

    low = next((share * edge for share in SHARES if ask(share * edge) == SUSTAINED), None)
    if low is None:
        return
    above = min(rate for rate in answers if rate > low)
    low = _narrow(low, above, width, lambda rate: ask(rate) == SUSTAINED)
    refused = min(rate for rate, each in answers.items() if rate > low and each == NOT_SUSTAINED)
    unsure = [rate for rate, each in answers.items() if low < rate < refused and each == UNDECIDED]
    if unsure:
        _narrow(max(unsure), refused, width, lambda rate: ask(rate) != NOT_SUSTAINED)


def _narrow(low: float, high: float, width: float, holds: Callable[[float], bool]) -> float:
    """Bisect between a rate that holds and a higher one that does not; return the largest found to hold."""
    while high - low > width * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
