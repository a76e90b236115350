"""alpha-protection greedy [J]: first come, first served, under a share alpha of C kept free; on overflow all go.

The loop, the choices where the source was not open to us and what keeps a run from repeating itself for ever are in
`verification.rules.memory_constrained.clearing`, of which this is the case beta = 1. It differs from greedy admission
(`verification.rules.greedy`, watermark alpha) in who is evicted: there the newest, one by one. See mathematics, section
6.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from verification.engine.state import Kernel, Problem
from verification.policies import Protecting
from verification.rules.memory_constrained.clearing import kernel_clearing
from verification.rules.rule import Claim, Look, Rule


@dataclass(frozen=True)
class Protected(Protecting):
    """alpha-protection greedy: `protection` is alpha, the share of C that admissions leave free.

    Raises InputError unless 0 <= protection < 1.

    >>> Protected(protection=0.25).admission_limit(1000)
    750
    """

    name: ClassVar[str] = "protected"
    label: ClassVar[str] = "alpha-protection"
    protection: float = 0.2

    @property
    def by_type(self) -> bool:
        """Whether output lengths must be known on arrival: never."""
        return False


def kernel(policy: Protected, problem: Problem) -> Kernel:
    """Return the rule, ready to run."""
    return kernel_clearing(policy, problem, 1.0, 0)


RULE = Rule(Protected, kernel, frozenset({Claim.ITERATION_TIME, Claim.INVENTORY}),
            Look("rose", (0, (4, 1, 1, 1)), "d"), made=lambda _: Protected())
