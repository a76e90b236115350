"""What a sweep asks, apart from rates and policies: everything that decides a cell.

    deployment      SHA-256 of the workload, the replica, the target: of what the file means, not of its bytes
    trace           SHA-256 of the trace behind it
    horizon, replications, seed
    program         digest of the sources that compute, their version, the form of a cell, the libraries'

Cells of two questions never mix (`verification.store`).
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from fluidwait.deployment.deployment import Deployment
from fluidwait.deployment.mix import Arriving
from fluidwait.study.outcomes import Plan
from verification.store.program import program as computing
from verification.store.question import Digest, Question
from verification.traffic.batch import Batch
from verification.traffic.bursts import Bursts
from verification.traffic.closed import ClosedLoop
from verification.traffic.processes import Limited, Replay, Scheduled

CELL_VERSION = 3  # of a cell: to be raised when its columns change


def asked(deployment: Deployment, plan: Plan) -> Question:
    """What a sweep over a deployment asks."""
    trace = deployment.mix.trace
    return Question.of(deployment=_meaning(deployment), trace=Digest("" if trace is None else trace.digest),
                       horizon=plan.horizon, replications=plan.replications, seed=plan.seed, program=program())


def asked_of_plans(deployment: Deployment) -> Question:
    """What a sweep of plans over a deployment asks: the mix, the kinds with all their data, the targets."""
    kinds = [[repr(getattr(each.kind, one.name)) for one in fields(each.kind)] for each in deployment.fleet]
    return Question.of(deployment=_meaning(deployment), fleet=Digest.of((), kinds),
                       targets=deployment.targets.text, program=program())


def program() -> str:
    """What computes cells, and their form."""
    return computing(f"cells {CELL_VERSION}")


def _meaning(deployment: Deployment) -> Digest:
    """The digest of everything in a deployment that decides what is simulated."""
    mix, workload = deployment.mix, deployment.mix.workload
    arrays = (workload.prompt_tokens, workload.output_tokens, workload.cached_prefix, workload.rates,
              *_moments(mix.traffic))
    named = "" if mix.trace is not None else workload.names
    told = isinstance(mix.traffic, Bursts | Batch | ClosedLoop | Limited)
    arriving = repr(mix.traffic) if told else type(mix.traffic).__name__
    words = [arriving, named, repr(deployment.replica), deployment.lengths,
             repr(deployment.predictor), deployment.horizon, deployment.overflow_probability, deployment.confidence]
    return Digest.of(arrays, words)


def _moments(traffic: Arriving) -> tuple[np.ndarray, ...]:
    if isinstance(traffic, Scheduled):
        return traffic.schedule.durations, traffic.schedule.factors
    if isinstance(traffic, Replay) and traffic.trace.times is not None:
        return traffic.trace.times, traffic.trace.types
    return ()
