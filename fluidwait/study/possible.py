"""The rates that a demand may have: a set around those of the file, or what the rows of its trace leave possible."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fluid.arrays import Ints
from fluid.errors import InputError, one_of, probability
from fluid.planning import FleetPlan, RobustPlan, plan_robust
from fluid.traces.dependence import dependence
from fluid.traces.trace import Trace
from fluid.uncertainty import Bootstrap, Box, ChiSquareBall, Ellipsoid
from fluid.uncertainty.worst import UncertaintySet
from fluid.workload import Workload
from fluidwait.deployment.deployment import Deployment
from fluidwait.deployment.mix import Mix

SETS = ("box", "ellipsoid", "chi-square", "bootstrap")
MOST_WITHIN = 10.0  # a share: eleven times the traffic
SAME = 1e-9  # relative: a rate that is the trace's own


@dataclass(frozen=True, eq=False)
class Possible:
    """The set of `rates`, by `name`, and what it is, in `words`; `numbers` are those that make it.

    `confidence` is None where nothing was estimated.
    """

    rates: UncertaintySet
    name: str
    words: str
    within: float
    confidence: float | None
    numbers: dict[str, Any]


def possible_rates(deployment: Deployment, name: str | None, within: float,
                   confidence: float | None) -> Possible | None:
    """The rates asked about; None where nothing is asked, and no trace says that rates are estimated.

    Without a name a trace's shares are those in a chi-square ball, and rates within a share of the file's those of a
    box. Raises InputError for a share or a confidence that is none, and for a set that nothing makes.
    """
    if not 0 <= within <= MOST_WITHIN:
        raise InputError("--rates-within", f'a share from 0 to {MOST_WITHIN:g}, as "10%" or "0.1"', within)
    if confidence is not None and probability("--confidence", confidence) < 0.5:
        raise InputError("--confidence", "a probability from 0.5 on", confidence)
    trace, chosen = deployment.mix.trace, None if name is None else one_of("--set", name, SETS)
    if chosen is None:
        if trace is None and within == 0:
            if confidence is not None:
                raise _not_estimated(confidence)
            return None
        chosen = "box" if trace is None else "chi-square"
    level = deployment.confidence if confidence is None else confidence
    if chosen == "box" or (chosen == "ellipsoid" and within > 0):
        if confidence is not None:
            raise _not_estimated(confidence)
        return _around(deployment, chosen, within)
    if trace is None:
        raise InputError("--set", "box or ellipsoid, with --rates-within, where no trace tells what was seen", chosen)
    return _of_rows(deployment.mix, trace, chosen, within, level)


def _not_estimated(confidence: float) -> InputError:
    return InputError("--confidence", "left out where no trace makes the set: nothing is estimated then", confidence)


def asked_of(deployment: Deployment, workload: Workload, name: str | None, within: float,
             confidence: float | None) -> Possible | None:
    """The same around the rates of a workload of the deployment, such as its busiest window; None unless asked for."""
    if name is None and within == 0 and confidence is None:
        return None
    return possible_rates(replace(deployment, mix=replace(deployment.mix, workload=workload)), name, within, confidence)


def _around(deployment: Deployment, name: str, within: float) -> Possible:
    rates = deployment.workload.rates
    if within == 0:
        raise InputError("--rates-within", "given for a box", within)
    if name == "box":
        words = f"each rate within {within:.4g} of its own, all at once"
        box = Box(rates * max(0.0, 1 - within), rates * (1 + within))
        return Possible(box, name, words, within, None, {"high": 1 + within})
    words = f"rates together within {within:.4g} of their own, in the sense of a sum of squares"
    return Possible(Ellipsoid(rates, (within * rates) ** 2, 1.0), name, words, within, None,
                    {"radius": 1.0, "deviations": within * rates})


def _of_rows(mix: Mix, trace: Trace, name: str, within: float, confidence: float) -> Possible:
    """Sets that the rows of a trace make, at the total rate of the workload and so much more."""
    types = trace.types if mix.binned is None else mix.binned.types
    workload, rate = mix.workload, mix.workload.rate * (1 + within)
    counts = np.bincount(types, minlength=len(workload))
    if counts.size != len(workload):
        raise InputError("--set", "a box or an ellipsoid where not all types come from the trace", name)
    more = f", and up to {within:.4g} more of them" if within else ""
    rows = f"of {len(trace):,} requests at {confidence:.0%}{more}"
    if name == "ellipsoid":
        seconds = len(trace) / rate
        made = Ellipsoid.of_counts(counts, seconds, confidence)
        return Possible(made, name, f"the rates that Poisson counts {rows} leave possible", within, confidence,
                        {"radius": made.radius, "deviations": np.sqrt(made.covariance)})
    if name == "chi-square":
        ball = ChiSquareBall.of_counts(counts, rate, confidence)
        return Possible(ball, name, f"the mixes that the shares {rows} leave possible, independent", within, confidence,
                        {"radius": ball.radius, "rate": rate})
    own = trace.times is not None and trace.rate is not None and abs(workload.rate / trace.rate - 1) < SAME
    times = trace.times / (1 + within) if own and trace.times is not None else None
    drawn = Bootstrap(types, rate, confidence, times)
    told = "with their times" if own else "at the rate that is given"
    return Possible(drawn, name, f"{drawn.draws:,} draws of blocks {told}, {rows}", within, confidence,
                    {"draws": drawn.draws, "blocks": drawn.starts.size, "seed": drawn.seed})


def order_of(deployment: Deployment) -> str:
    """What a permutation test says of the order of a trace's requests; nothing where there is no trace."""
    trace = deployment.mix.trace
    if trace is None:
        return ""
    work: Ints | Any = trace.kv_work(deployment.replica)
    return dependence(work).reason


def plan_of_possible(plan: FleetPlan, possible: Possible | None) -> RobustPlan | None:
    """The fleet of a plan for all of them, none where targets leave no kind; None where nothing was asked.

    Raises InputError for spare replicas but of a box.
    """
    if possible is None:
        return None
    if plan.spare and possible.name != "box":
        raise InputError("--spare", "0 unless --set is box", plan.spare)
    if plan.reason and plan.carries is None:  # nothing was planned, as no kind keeps the targets
        return RobustPlan(plan, None, None, None, plan.reason)
    return plan_robust(plan.workload, plan.kinds, possible.rates, plan.headroom, spare=plan.spare)
