"""What a decision rule brings along: how it runs, what may be claimed of it, how it is drawn.

Everything that lists rules (names of the command line, comparisons, figures, tests) goes by these values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Protocol

from fluid import Replica
from verification.engine.state import Kernel, Problem
from verification.policies import Policy


class NamedPolicy(Policy, Protocol):
    """A policy with a name on the command line, and a label in sentences and figures."""

    name: ClassVar[str]
    label: ClassVar[str]


class Claim(Enum):
    """A prediction of the fluid model that may hold of a rule; `verification.experiments.checks` tests them."""

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
    """A decision rule: its policies are values of the class `policy`, `kernel` makes a compiled loop of one of them.

    `claims` are the predictions that hold of it beside those that hold of every rule. Where a rule needs no thresholds
    `made` gives its policy for a replica; it is None where policies are designed for the arrival rates (`thresholds`).
    """

    policy: type[NamedPolicy]
    kernel: Callable[[Any, Problem], Kernel]
    claims: frozenset[Claim]
    look: Look
    made: Callable[[Replica], Policy] | None = None

    @property
    def name(self) -> str:
        """What the command line calls its policies."""
        return self.policy.name
