"""What a sweep asks, apart from rates and policies: everything that decides a cell, and its digest.

    deployment      SHA-256 of the workload, the replica, the target: of what the file means, not of its bytes
    trace           SHA-256 of the trace behind it
    horizon, replications, seed
    program         digest of the sources that compute, their version, the form of a cell, the libraries'

Cells of two questions never mix.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import fluid
import thresholds
import verification
from fluidwait import __version__
from fluidwait.deployment.deployment import Deployment
from fluidwait.deployment.mix import Arriving
from fluidwait.study.outcomes import Plan
from verification.traffic.processes import Replay, Scheduled

CELL_VERSION = 1  # of a cell: to be raised when its columns change
COMPUTING = ("numpy", "scipy", "numba", "llvmlite")


@dataclass(frozen=True)
class Question:
    """The parts of a question, in words that JSON knows."""

    deployment: str
    trace: str
    horizon: float
    replications: int
    seed: int
    program: str

    @classmethod
    def of(cls, deployment: Deployment, plan: Plan) -> Question:
        """What a sweep over a deployment asks."""
        trace = deployment.mix.trace
        return cls(_meaning(deployment), "" if trace is None else trace.digest, plan.horizon, plan.replications,
                   plan.seed, program())

    @cached_property
    def text(self) -> str:
        """The parts as JSON, the same for the same question."""
        return json.dumps(vars_of(self), sort_keys=True)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def difference(self, there: str) -> str:
        """What differs in the question whose text is kept there, in words."""
        theirs: dict[str, Any] = json.loads(there)
        parts = []
        for name, mine in vars_of(self).items():
            if theirs.get(name) != mine:
                long = name in ("deployment", "trace")
                parts.append(f"another {name}" if long else f"{name} {theirs.get(name)} there, {mine} here")
        return "; ".join(parts)


def vars_of(question: Question) -> dict[str, Any]:
    """The parts by name."""
    return {name: getattr(question, name) for name in Question.__dataclass_fields__}


@cache
def program() -> str:
    """What computes: the sources, and the versions whose change may change a bit."""
    digest = hashlib.sha256()
    for package in (fluid, thresholds, verification):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    versions = [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in COMPUTING)]
    sources = digest.hexdigest()[:12]
    return ", ".join([f"fluidwait {__version__}", f"sources {sources}", f"cells {CELL_VERSION}", *versions])


def _meaning(deployment: Deployment) -> str:
    """SHA-256 of everything in a deployment that decides what is simulated."""
    mix = deployment.mix
    digest = hashlib.sha256()
    workload = mix.workload
    for array in (workload.prompt_tokens, workload.output_tokens, workload.cached_prefix, workload.rates,
                  *_moments(mix.traffic)):
        digest.update(np.array(array.shape, dtype=np.int64).tobytes() + array.tobytes())
    named = "" if mix.trace is not None else mix.workload.names
    words = [type(mix.traffic).__name__, named, repr(deployment.replica), deployment.lengths,
             repr(deployment.predictor), deployment.horizon, deployment.overflow_probability]
    digest.update(json.dumps(words).encode())
    return digest.hexdigest()


def _moments(traffic: Arriving) -> tuple[np.ndarray, ...]:
    if isinstance(traffic, Scheduled):
        return traffic.schedule.durations, traffic.schedule.factors
    if isinstance(traffic, Replay) and traffic.trace.times is not None:
        return traffic.trace.times, traffic.trace.types
    return ()
