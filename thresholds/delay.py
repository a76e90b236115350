r"""Delay of threshold policies: exact for one type under WAIT, an approximation for several.

**The bulk queue.** Batches of n leave every Delta seconds if n wait; a = lambda Delta prompts arrive meanwhile. With Q
the prompts left behind, Q' = (Q + Poisson(a) - n)^+ and, for a < n, z_k the roots of z^n = exp(a (z - 1)) inside the
unit disc, u_k = 1 - z_k,

    E[Q] = n / (2 (n - a)) - (1 + a)/2 + sum_{k=1}^{n-1} Re[1/u_k - 1/2]          1 - u_k = e^{2 pi i k/n - (a/n) u_k}

The sum cancels the other terms where E[Q] is small; there Spitzer's identity has only positive terms and converges
fast:

    E[Q] = sum_{m >= 1} E[(Poisson(m a) - m n)^+] / m

**WAIT, one type** (exact: while the type waits its residents stand still, so decode advances once per batch):

    W = (n - 1)/(2 lambda) + E[Q]/lambda                    until the batch is full and starts
    latency = W + (S - 1) n/lambda + Delta(n)               S stages
    TTFT    = W + s n/lambda + Delta(n)                     the first token is made at stage s

**WAIT, several types** (approximation: latency good to a few percent, TTFT to 40%):

    W_j = (n_j - 1)/(2 lambda_j) + E[Q](n_j, lambda_j Delta*)/lambda_j + Delta*/2,  then as above with Delta*

Source: model.md section 3 (derived for this project); the batch wait is that of E_n/D/1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, lambertw

from fluid import Equilibrium, Replica, Workload, solve
from fluid.errors import InputError, real, whole
from fluid.workload import Floats, Ints
from thresholds.policy import WaitPolicy

MOST_BATCH = 10_000

Complexes = NDArray[np.complex128]


class TypeDelay(NamedTuple):
    """Mean latency and TTFT of one prompt type, seconds."""

    latency: float
    ttft: float


@dataclass(frozen=True)
class Prediction:
    """Mean `latency` and `ttft` over the mix (weighted by arrival rate) and `by_type`, in seconds.

    Infinite where the policy is not stable. `exact` says whether a theorem or an approximation stands behind them.
    """

    latency: float
    ttft: float
    by_type: tuple[TypeDelay, ...]
    exact: bool


def predict(policy: WaitPolicy, workload: Workload, replica: Replica) -> Prediction:
    """Return the mean latency and TTFT of WAIT in steady state; the module's docstring has the formulas.

    Raises InputError unless there is one threshold per type.

    >>> from fluid import IterationTime, PromptType
    >>> replica = Replica(kv_capacity=137_000, iteration_time=IterationTime(0.0106, 4.013e-7))
    >>> workload = Workload([PromptType(512, 20, 20.0)])
    >>> round(predict(WaitPolicy((1,)), workload, replica).latency, 2)      # 20 more batches of one, 50 ms apart
    1.02
    """
    if len(policy.thresholds) != len(workload):
        raise InputError("thresholds", f"{len(workload)} numbers, one per prompt type", policy.thresholds, "policy")
    equilibrium = solve(workload, replica)
    counts = np.array(policy.thresholds, dtype=np.float64)
    by_type = _wait_delays(equilibrium, counts)
    share = workload.rates / workload.rate
    latency, ttft = (float(share @ np.array(column)) for column in zip(*by_type, strict=True))
    return Prediction(latency, ttft, by_type, exact=len(workload) == 1)


def _wait_delays(equilibrium: Equilibrium, counts: Floats) -> tuple[TypeDelay, ...]:
    rates, profile = equilibrium.workload.rates, equilibrium.profile
    if equilibrium.iteration_time is None:
        return (TypeDelay(math.inf, math.inf),) * len(rates)
    iteration, in_progress = equilibrium.iteration_time, equilibrium.iteration_time / 2
    if len(rates) == 1:
        work = profile.time_work(equilibrium.replica.iteration_time) @ counts
        iteration, in_progress = float(np.max(equilibrium.replica.iteration_time.overheads + work)), 0.0
    delays = []
    for n, rate, stages, first in zip(counts, rates, profile.stages, profile.first_token_stage, strict=True):
        queue = bulk_queue_mean(int(n), rate * iteration)
        wait = ((n - 1) / 2 + queue) / rate + in_progress
        ttft = wait + first * n / rate + iteration if first >= 0 else 0.0
        delays.append(TypeDelay(float(wait + (stages - 1) * n / rate + iteration), float(ttft)))
    return tuple(delays)


def bulk_queue_mean(batch: int, arrivals: float) -> float:
    """Return E[Q], Q' = (Q + Poisson(a) - n)^+, for batches of n = `batch` and a = `arrivals` per service.

    Infinite for a >= n. Raises InputError for a batch below 1 or above 10,000, or arrivals not positive and finite.

    >>> round(bulk_queue_mean(1, 0.5), 12)       # M/D/1: a^2 / (2 (1 - a))
    0.25
    """
    n = whole("batch", batch, unit="prompts", most=MOST_BATCH)
    a = real("arrivals", arrivals, unit="prompts per service")
    if a >= n:
        return math.inf
    by_roots = _by_roots(n, a)
    return by_roots if by_roots > 1.0 else _by_spitzer(n, a)


def _by_roots(n: int, a: float) -> float:
    """The sum over the roots; conjugate pairs count twice."""
    total = n / (2 * (n - a)) - (1 + a) / 2
    if n == 1:
        return total
    k = np.arange(1, n // 2 + 1)
    pairs = np.where(2 * k == n, 1.0, 2.0)
    return float(total + pairs @ (np.real(1 / _roots(n, a)[: len(k)]) - 0.5))


def _roots(n: int, a: float) -> Complexes:
    """u_k of 1 - u = exp(i theta_k - rho u) for k = 1..n/2: Lambert's W, polished by Newton where u is small."""
    rho, angle = a / n, 2j * np.pi * np.arange(1, n // 2 + 1) / n
    u = 1 + lambertw(-rho * np.exp(angle - rho)) / rho
    for _ in range(4):
        step = np.expm1(angle - rho * u)
        u -= (u + step) / (1 - rho * (1 + step))
    roots: Complexes = u
    return roots


def _by_spitzer(n: int, a: float) -> float:
    """Spitzer's sum: the terms fall like e^{-m I}, I = a - n - n ln(a/n)."""
    decay = a - n - n * math.log(a / n)
    m = np.arange(1, math.ceil(45 / decay) + 2)
    return math.fsum(_excess(m * n, (m * a).astype(np.float64)) / m)


def _excess(c: Ints, mean: Floats) -> Floats:
    """E[(X - c)^+] of X Poisson: sum_{i >= 1} i P(X = c + i), ratio by ratio, for mean < c."""
    term = _poisson_pmf(c + 1, mean)
    total, i = term.copy(), 1
    while np.any((i + 1) * term > 1e-18 * total):
        term = term * (mean / (c + 1 + i))
        i += 1
        total += i * term
    return total


def _poisson_pmf(k: Ints, mean: Floats) -> Floats:
    """P(X = k) in Loader's saddle-point form, which keeps its relative accuracy for large k."""
    x = (mean - k) / k
    deviance = k * (x - np.where(x > -0.5, np.log1p(np.maximum(x, -0.5)), np.log(mean / k)))
    stirling = 1 / (12 * k) - 1 / (360.0 * k**3) + 1 / (1260.0 * k**5) - 1 / (1680.0 * k**7)
    small = gammaln(k + 1.0) - (k + 0.5) * np.log(k) + k - 0.5 * math.log(2 * math.pi)
    correction = np.where(k < 16, small, stirling)
    pmf: Floats = np.exp(-deviance - correction) / np.sqrt(2 * math.pi * k)
    return pmf
