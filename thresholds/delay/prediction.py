r"""Delay of threshold policies: exact for one type under WAIT, approximations for the rest.

Throughout W is the wait of a prompt from its arrival until it enters a batch, S its number of stages, s the stage that
makes its first token, and TTFT the time to that token.

**WAIT, one type** (exact: while the type waits its residents stand still, so decode advances once per batch). With
E[Q](n, a) of `thresholds.delay.bulk_queue` and S stages,

    W = (n - 1)/(2 lambda) + E[Q](n, lambda Delta(n))/lambda         until the batch is full and starts
    latency = W + (S - 1) n/lambda + Delta(n)
    TTFT    = W + s n/lambda + Delta(n)

**WAIT, several types** (latency good to a few percent, TTFT to 40%):

    W_j = (n_j - 1)/(2 lambda_j) + E[Q](n_j, lambda_j Delta*)/lambda_j + Delta*/2,  then as above with Delta*

**Continuous batching** (paced WAIT, greedy admission below its boundary). Residents never stand still: iterations, not
batches of the type, set the pace. Here Delta* is their mean, x_j the time of a type's first prefill stage, c_j what a
prompt adds over its life and rho = sum_j lambda_j c_j: those of the line, or for the largest of several lines those of
`thresholds.delay.mean_iteration`. With r = sum_j lambda_j x_j an iteration follows the last as tau' = const + sum of x
over Poisson(lambda tau) entries, so that

    V = Var(tau)/Delta*^2 = sum_j lambda_j x_j^2 / (Delta* (1 - r^2)),      deviations decay like r^k

A prompt waits for the rest of the iteration in progress (longer ones are met more often), then for its window,

    W_j = Delta* (1 + V)/2 + E[Q](N_j, lambda_j g_j Delta*)/lambda_j  (+ (N_j - 1)/(2 lambda_j) with a gate)

(greedy, look-ahead admission: no window). It then meets iterations of Delta* on average, the first ones longer because
they follow a long one, and all of them longer by its own work, which fills later batches too, by a factor 1/(1 - rho)
in all:

    latency_j = W_j + S_j Delta* + V Delta* r (1 - r^S)/(1 - r) + c_j/(1 - rho)
    TTFT_j    = W_j + (s + 1) Delta* + (V Delta* r + x_j)(1 - r^{s+1})/(1 - r) + (rest of its work in stages 0..s)

**Arrivals in bursts.** With an index of dispersion I other than 1 (`thresholds.delay.dispersion`) E[Q] is taken times
I, and c_j/(1 - rho) times (I + c_s^2)/(1 + c_s^2), c_s^2 the squared coefficient of variation of the c_j over the mix;
I is that over the time in which the queue forgets, sigma^2/mu^2 services of a window, S Delta*/(1 - rho) of the batch.
Mathematics, section 15.4.

**What is claimed.** Latency within 25%, of WAIT with several types TTFT within 40%. TTFT of continuous batching, within
40%, only where 1/0.9 times the rates would still be carried by the replica and by the windows: nearer to the edge
prompts wait several times longer than this, as long iterations come in a row and their windows fill. Of arrivals in
bursts latency within 50%, and no TTFT.

**A cap on sequences** is not in these formulas: they hold while batches stay below it. Designs for known lengths always
do, one for unknown lengths mostly; past the cap on average (`Equilibrium.sequences`) nothing is stable. Where the mean
batch fills more than 0.9 of the cap, or its tokens of the budget, no latency is claimed: at 0.95 it was 40% too short.

Source: mathematics, sections 11.1, 11.5 and 11.6; the continuous law is derived here, `benchmarks/delay_accuracy.py`
measures it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fluid import Equilibrium, Replica, StageProfile, Workload
from fluid.arrays import Floats, Ints, at_most
from fluid.errors import InputError
from fluid.tables import duration
from thresholds.delay.bulk_queue import MOST_BATCH, bulk_queue_mean, heavy_traffic_mean
from thresholds.delay.dispersion import POISSON_DISPERSION, Dispersion
from thresholds.delay.mean_iteration import Pace, pace_of
from thresholds.guarantees import OnReplica, batch_time, equilibrium_of
from thresholds.policies import LookAheadPolicy, PacedPolicy, WaitPolicy

LATENCY_ACCURACY, TTFT_ACCURACY, BURSTY_ACCURACY = 0.25, 0.4, 0.5
CLAIMED = 0.9  # the share of the edge up to which TTFT of continuous batching is claimed


class TypeDelay(NamedTuple):
    """Mean latency and TTFT of one prompt type, seconds."""

    latency: float
    ttft: float


@dataclass(frozen=True)
class Prediction:
    """Mean `latency` and `ttft` over the mix (weighted by arrival rate) and `by_type`, in seconds.

    `tpot` is (latency - ttft) / (R - 1), over the types with more than one output token. Infinite where the policy is
    not stable. `exact` says whether a theorem or an approximation stands behind them; `latency_accuracy` (of `tpot`,
    too) and `ttft_accuracy` are the relative errors that are claimed, 0 for a theorem, None where nothing is.
    """

    latency: float
    ttft: float
    by_type: tuple[TypeDelay, ...]
    exact: bool
    latency_accuracy: float | None
    ttft_accuracy: float | None
    tpot: float = math.nan

    def __repr__(self) -> str:
        return (f"Prediction({'exact' if self.exact else 'approximate'}, latency {duration(self.latency)}, "
                f"TTFT {duration(self.ttft)}, {len(self.by_type):,} types)")


def predict(policy: WaitPolicy | PacedPolicy | LookAheadPolicy, workload: Workload | None = None,
            replica: Replica | None = None, dispersion: Dispersion = POISSON_DISPERSION) -> Prediction:
    """Return the mean latency and TTFT of WAIT, paced WAIT or look-ahead admission; the module has the formulas.

    A design holds the equilibrium it was made at: `predict(design)` uses that one and solves nothing. `workload` and
    `replica` are for policies made by hand, and for a design at other rates; `dispersion` is that of the arrivals, as
    `verification.GammaBursts` and `OnOff` have it. Raises InputError unless both are given or
    the policy is a design, and unless there is one threshold per type (paced: or one window for the mix).

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.013e-7))
    >>> workload = Workload([PromptType(512, 20, 20.0)])
    >>> round(predict(WaitPolicy((1,)), workload, replica).latency, 2)      # 20 more batches of one, 50 ms apart
    1.02
    """
    equilibrium = _equilibrium(policy, workload, replica)
    types = len(equilibrium.workload)
    if isinstance(policy, WaitPolicy):
        _one_per_type("thresholds", policy.thresholds, types)
        accuracies: tuple[float | None, float | None] = (0.0, 0.0) if types == 1 else (LATENCY_ACCURACY, TTFT_ACCURACY)
        if dispersion != POISSON_DISPERSION:
            accuracies = (_accuracy(dispersion), None)
        counts = np.array(policy.thresholds, dtype=np.float64)
        return _over_mix(equilibrium, _wait_delays(equilibrium, counts, dispersion), accuracies)
    if isinstance(policy, PacedPolicy):
        if len(policy.entries) > 1:
            _one_per_type("entries", policy.entries, types)
        return _continuous(equilibrium, policy, dispersion=dispersion)
    if isinstance(policy, LookAheadPolicy):
        return _continuous(equilibrium, dispersion=dispersion)
    raise InputError("policy", "a WaitPolicy, PacedPolicy or LookAheadPolicy", policy, "predict")


def _equilibrium(policy: object, workload: Workload | None, replica: Replica | None) -> Equilibrium:
    if workload is not None and replica is not None:
        return equilibrium_of(policy, workload, replica)
    if workload is None and replica is None and isinstance(policy, OnReplica):
        return policy.equilibrium
    raise InputError("workload and replica", "given, both of them or, for a design, neither", (workload, replica),
                     "predict")


def predict_continuous(equilibrium: Equilibrium, waits: Floats | None = None,
                       dispersion: Dispersion = POISSON_DISPERSION) -> Prediction:
    """Return the delays of continuous batching; prompts wait `waits` (s, shape (J,)) beyond the running iteration.

    Without `waits` every prompt enters the next iteration: greedy admission below its stability boundary. `dispersion`
    is that of the arrivals.
    """
    return _continuous(equilibrium, waits=waits, dispersion=dispersion)


def _continuous(equilibrium: Equilibrium, policy: PacedPolicy | None = None, waits: Floats | None = None,
                dispersion: Dispersion = POISSON_DISPERSION) -> Prediction:
    pace, lam = pace_of(equilibrium), equilibrium.workload.rates
    replica = equilibrium.replica
    fits = at_most(equilibrium.sequences or 0.0, replica.most_sequences) and at_most(
        equilibrium.tokens or 0.0, replica.most_tokens)
    if pace is None or not fits:
        return _over_mix(equilibrium, (TypeDelay(math.inf, math.inf),) * len(lam), (LATENCY_ACCURACY, None))
    if policy is not None:
        waits = _window_waits(policy, lam, pace.iteration, dispersion)
    Delta, x, c = pace.iteration, pace.entry, pace.work
    r, rho = float(lam @ x), float(lam @ c)
    S, s = equilibrium.profile.stages, equilibrium.profile.first_token_stage
    V_Delta = float(lam @ x**2) / (1 - r**2)  # V Delta*
    W = (Delta + V_Delta) / 2 + (0.0 if waits is None else waits)
    latency = W + S * Delta + V_Delta * r * _echo(r, S) + _sharing(dispersion, pace, equilibrium) / (1 - rho)
    ttft = W + (s + 1) * Delta + (V_Delta * r + x) * _echo(r, s + 1) + _rest_of_work(pace, equilibrium.profile)
    ttft = np.where(s >= 0, ttft, 0.0)
    claims = (_accuracy(dispersion) if _far_from_cap(equilibrium) else None,
              TTFT_ACCURACY if _far_from_edge(equilibrium, policy) and dispersion == POISSON_DISPERSION else None)
    return _over_mix(equilibrium, tuple(TypeDelay(*row) for row in zip(latency.tolist(), ttft.tolist(), strict=True)),
                     claims)


def _sharing(dispersion: Dispersion, pace: Pace, equilibrium: Equilibrium) -> Floats:
    """What each type adds to batches it is in, times (c_a^2 + c_s^2)/(1 + c_s^2), c_s^2 that of the time work."""
    rates, work = equilibrium.workload.rates, pace.work
    shares = rates / rates.sum()
    relaxation = float(shares @ equilibrium.profile.stages) * pace.iteration / (1 - float(rates @ work))
    square = float(shares @ work**2) / float(shares @ work) ** 2 - 1 if work.any() else 0.0
    longer: Floats = work * ((dispersion.over(relaxation) + square) / (1 + square))
    return longer


def _accuracy(dispersion: Dispersion) -> float:
    return LATENCY_ACCURACY if dispersion.index <= 1 else BURSTY_ACCURACY


def _far_from_cap(equilibrium: Equilibrium) -> bool:
    """Whether the mean batch fills no more than `CLAIMED` of the cap on sequences and of the budget of tokens."""
    replica = equilibrium.replica
    return at_most(equilibrium.sequences or 0.0, CLAIMED * replica.most_sequences) and at_most(
        equilibrium.tokens or 0.0, CLAIMED * replica.most_tokens)


def _far_from_edge(equilibrium: Equilibrium, policy: PacedPolicy | None) -> bool:
    """Whether replica and windows would carry 1/`CLAIMED` times the rates."""
    more = equilibrium.scaled(1 / CLAIMED)
    if not more.stable or more.iteration_time is None:
        return False
    return policy is None or all(
        at_most(rate * g * more.iteration_time, N) for N, g, rate in _lanes(policy, more.workload.rates))


def _rest_of_work(pace: Pace, profile: StageProfile) -> Floats:
    """Seconds that a prompt adds to its stages 0..s beside its first chunk: later chunks, KV read, its sequence."""
    chunks = profile.prefilled / np.maximum(np.minimum(profile.chunk, profile.prefilled), 1)
    read = profile.layout.tokens(profile.layout.read(profile.prefix + profile.prompt))
    rest: Floats = (pace.entry * np.maximum(chunks - 1, 0)
                    + (pace.per_kv_token * read + pace.per_sequence) * (profile.first_token_stage + 1))
    return rest


def _over_mix(equilibrium: Equilibrium, by_type: tuple[TypeDelay, ...],
              accuracies: tuple[float | None, float | None]) -> Prediction:
    rates = equilibrium.workload.rates
    never = TypeDelay(math.inf, math.inf)
    misfits = set(equilibrium.region.never_fits.tolist())
    by_type = tuple(never if j in misfits else delay for j, delay in enumerate(by_type))
    latency, ttft = (float(rates / rates.sum() @ np.array(column)) for column in zip(*by_type, strict=True))
    return Prediction(latency, ttft, by_type, accuracies[0] == 0, *accuracies, _tpot(equilibrium, by_type))


def _tpot(equilibrium: Equilibrium, by_type: tuple[TypeDelay, ...]) -> float:
    gaps = equilibrium.workload.output_tokens - 1
    some = gaps > 0
    if not some.any():
        return math.nan
    weights = equilibrium.workload.rates[some] / equilibrium.workload.rates[some].sum()
    decoding = np.array([each.latency - each.ttft if math.isfinite(each.latency) else math.inf for each in by_type])
    return float(weights @ (decoding[some] / gaps[some]))


def _wait_delays(equilibrium: Equilibrium, counts: Floats, dispersion: Dispersion) -> tuple[TypeDelay, ...]:
    rates, profile = equilibrium.workload.rates, equilibrium.profile
    if equilibrium.iteration_time is None:
        return (TypeDelay(math.inf, math.inf),) * len(rates)
    Delta, in_progress = equilibrium.iteration_time, equilibrium.iteration_time / 2
    if len(rates) == 1:
        Delta, in_progress = batch_time(equilibrium, counts), 0.0
    delays = []
    for n, lam, S, s in zip(counts, rates, profile.stages, profile.first_token_stage, strict=True):
        W = ((n - 1) / 2 + _queue(int(n), lam * Delta, Delta, dispersion)) / lam + in_progress
        ttft = W + s * n / lam + Delta if s >= 0 else 0.0
        delays.append(TypeDelay(float(W + (S - 1) * n / lam + Delta), float(ttft)))
    return tuple(delays)


def _window_waits(policy: PacedPolicy, rates: Floats, Delta: float, dispersion: Dispersion) -> Floats:
    """Seconds each type waits for its window; infinite where the window is narrower than the arrivals."""
    waits = []
    for N, g, lam in _lanes(policy, rates):
        gathered = (N - 1) / 2 if policy.gate else 0.0
        waits.append((gathered + _queue(N, lam * g * Delta, g * Delta, dispersion)) / lam)
    return np.array(waits) if len(waits) > 1 else np.full(len(rates), waits[0])


def _lanes(policy: PacedPolicy, rates: Floats) -> list[tuple[int, int, float]]:
    """N, g and the arrival rate of each window."""
    lanes = rates if len(policy.entries) > 1 else np.array([rates.sum()])
    return list(zip(policy.entries, policy.iterations, lanes.tolist(), strict=True))


def _queue(batch: int, arrivals: float, service: float, dispersion: Dispersion) -> float:
    """E[Q](n, a) times the index of dispersion over the time in which the queue forgets, a service/(n - a)^2."""
    poisson = bulk_queue_mean(batch, arrivals) if batch <= MOST_BATCH else heavy_traffic_mean(batch, arrivals)
    if dispersion == POISSON_DISPERSION or not math.isfinite(poisson):
        return poisson
    return poisson * dispersion.over(service * (1 + dispersion.index * arrivals / (batch - arrivals) ** 2))


def _echo(r: float, iterations: Ints) -> Floats:
    """1 + r + ... + r^{k-1} = (1 - r^k)/(1 - r): what a deviation adds to k iterations."""
    echo: Floats = (1 - r ** iterations.astype(np.float64)) / (1 - r)
    return echo


def _one_per_type(field: str, numbers: tuple[int, ...], types: int) -> None:
    if len(numbers) != types:
        raise InputError(field, f"{types} numbers, one per prompt type", numbers, "policy")
