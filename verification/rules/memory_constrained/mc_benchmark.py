"""MC-Benchmark [J]: first come, first served, with MC-SF's test.

The waiting are gone through in order of arrival; all else is as in `verification.rules.memory_constrained.mcsf`. So it
is MC-SF where all requests have equally many stages. A request that is predicted to be long holds up all behind it, and
nobody overtakes: while it waits no arrival changes anything. Source: [J], appendix C. See mathematics, section 6.8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from verification.engine.state import Kernel, Problem
from verification.policies import Protecting
from verification.rules.memory_constrained.mcsf import kernel_looking_ahead
from verification.rules.rule import Claim, Look, Rule


@dataclass(frozen=True)
class MCBenchmark(Protecting):
    """First come, first served, looking ahead; `protection` is the share of C that the test leaves free.

    Raises InputError for a protection outside [0, 1).

    >>> MCBenchmark(protection=0.1).admission_limit(1000)
    900
    """

    name: ClassVar[str] = "mc-benchmark"
    label: ClassVar[str] = "MC-Benchmark"
    protection: float = 0.0

    @property
    def by_type(self) -> bool:
        """Whether output lengths must be known or predicted on arrival: always."""
        return True


def kernel(policy: MCBenchmark, problem: Problem) -> Kernel:
    """Return the rule, ready to run."""
    return kernel_looking_ahead(policy, problem, shortest_first=False)


RULE = Rule(MCBenchmark, kernel, frozenset({Claim.ITERATION_TIME, Claim.INVENTORY}),
            Look("teal", (0, (3, 1, 1, 1)), "h"), made=lambda _: MCBenchmark())
