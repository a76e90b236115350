"""How many segments: the designs of nested WAIT for L = 1, 2, .., until more segments need more memory.

The memory is U-shaped in L (`thresholds.nested_wait.design`). So L grows, in steps of a quarter, until PATIENCE numbers
in a row have brought nothing better; then the neighbours of the best L are tried, as long as they are better still.
Where the engine caps the sequences of a batch, designs that respect the cap come first. Source: mathematics, section
5.8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fluid.arrays import Ints
from fluid.progress import Progress
from thresholds.nested_wait.boundary_search import BoundarySearch
from thresholds.nested_wait.candidates import Candidate, best_chain, rank
from thresholds.nested_wait.segments import DecodeSegments, UnknownLengths, equal_widths, quantiles

PATIENCE = 3
FIXED_CUTS: dict[str, Callable[[UnknownLengths, int], Ints]] = {"equal": equal_widths, "quantile": quantiles}
OPTIMISED = "optimised"


@dataclass(frozen=True, eq=False)
class Scan:
    """The designs of one workload by number of segments, up to `most`, with the boundaries of one `rule`."""

    lengths: UnknownLengths
    rule: str
    most: int
    progress: Progress | None = None
    tried: dict[int, Candidate | None] = field(default_factory=dict)

    @cached_property
    def search(self) -> BoundarySearch:
        """The search for boundaries, one for all numbers of segments: it keeps its grid."""
        return BoundarySearch(self.lengths)

    @property
    def best(self) -> Candidate | None:
        """The best design so far."""
        found = [design for design in self.tried.values() if design is not None]
        return min(found, key=rank, default=None)

    def at(self, number: int, known: float = np.inf, enough: float = 0.0) -> Candidate | None:
        """The design with this number of segments; None if none drifts.

        Not refined where that hardly brings it below `known` tokens, or where it needs no more than `enough`.
        """
        if number not in self.tried and self.rule == OPTIMISED:
            self.tried[number] = self.search.best(number, known, enough)
        elif number not in self.tried:
            cuts = FIXED_CUTS[self.rule](self.lengths, number)
            self.tried[number] = best_chain(DecodeSegments(self.lengths, cuts))
        if self.progress:
            self.progress(min(len(self.tried), self.most), self.most)
        return self.tried[number]

    def over_all(self, enough: float = 0.0) -> Candidate | None:
        """The best design over all numbers of segments, or the first that needs no more than `enough` tokens."""
        self._try_more_and_more(enough)
        self._try_beside_the_best(enough)
        return self.best

    def _try_more_and_more(self, enough: float) -> None:
        in_vain, number = 0, 1
        while number <= self.most and in_vain < PATIENCE:
            before = self.best
            if _suffices(before, enough):
                return
            self.at(number, max(before.required if before else np.inf, enough), enough)
            in_vain = in_vain + 1 if before is not None and self.best is before else 0
            number += max(1, number // 4)

    def _try_beside_the_best(self, enough: float) -> None:
        before = None
        while (best := self.best) is not None and best is not before and not _suffices(best, enough):
            number = next(number for number, design in self.tried.items() if design is best)
            for beside in (max(number - 1, 1), min(number + 1, self.most)):
                self.at(beside, best.required, enough)
            before = best


def _suffices(design: Candidate | None, enough: float) -> bool:
    return design is not None and rank(design) <= (False, enough)
