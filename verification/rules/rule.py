"""What a decision rule brings along: how it runs, what may be claimed of it, how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from fluid import Replica
from verification.engine.state import Kernel, Problem
from verification.policies import Policy


class Claim(Enum):
    """A prediction of the mathematics that may hold of a rule; `verification.experiments.checks` tests them."""

    COHORTS = "residents per stage n_j, iteration time from Delta* to Delta(n), latency and TTFT as predicted"
    ITERATION_TIME = "iteration time when busy Delta*"
    INVENTORY = "prompts per stage of a batch lambda_j Delta*"
    LATENCY = "latency as predicted"


class Look(NamedTuple):
    """How a figure draws a policy: a colour of `fluidwait.figures.style` by name, a line and a marker of matplotlib."""

    colour: str
    line: str | tuple[int, tuple[int, ...]]
    marker: str


@dataclass(frozen=True)
class Rule:
    """A decision rule: `kernel` makes a compiled loop of one of its policies, values of the class `policy`.

    `claims` are the predictions that hold of it beside those that hold of every rule. A rule that needs no thresholds
    is `made` for a replica; the others are designed (`thresholds`).
    """

    policy: type
    kernel: Callable[[Any, Problem], Kernel]
    claims: frozenset[Claim]
    look: Look
    made: Callable[[Replica], Policy] | None = None

    @property
    def name(self) -> str:
        """What the command line calls its policies."""
        name: str = self.policy.name  # type: ignore[attr-defined]
        return name
