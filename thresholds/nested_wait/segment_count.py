"""How many segments: the designs of nested WAIT for L = 1, 2, .., until more segments need more memory.

The memory is U-shaped in L (`thresholds.nested`), so the scan ends once it has risen PATIENCE times in a row, and looks
at the neighbours of the best. Where the engine caps the sequences of a batch, designs that respect the cap come first.
Source: model.md section 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fluid.arrays import Ints, at_most
from thresholds.nested_wait.boundary_search import Cuts, Design, best_chain
from thresholds.nested_wait.segments import Lengths, Segments, equal_widths, quantiles

PATIENCE = 3
RULES: dict[str, Callable[[Lengths, int], Ints]] = {"equal": equal_widths, "quantile": quantiles}
OPTIMISED = "optimised"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Scan:
    """The designs of one problem by number of segments, up to `most`."""

    lengths: Lengths
    rule: str
    most: int
    progress: Progress | None = None
    tried: dict[int, Design | None] = field(default_factory=dict)

    @cached_property
    def search(self) -> Cuts:
        """The search for cuts; it keeps its grid."""
        return Cuts(self.lengths)

    @property
    def best(self) -> Design | None:
        """The best design so far."""
        found = [design for design in self.tried.values() if design is not None]
        return min(found, key=rank, default=None)

    def at(self, number: int, known: float = np.inf, enough: float = 0.0) -> Design | None:
        """The design with this number of segments."""
        if number not in self.tried and self.rule == OPTIMISED:
            self.tried[number] = self.search.best(number, known, enough)
        elif number not in self.tried:
            self.tried[number] = best_chain(Segments(self.lengths, RULES[self.rule](self.lengths, number)))
        if self.progress:
            self.progress(min(len(self.tried), self.most), self.most)
        return self.tried[number]

    def over_all(self, enough: float = 0.0) -> Design | None:
        """Try more and more segments until the memory has risen PATIENCE times, then those beside the best.

        Stops at a design that needs no more than `enough`, if that is above 0.
        """
        risen, number = 0, 1
        while number <= self.most and risen < PATIENCE:
            known = self.best
            if known is not None and places_suffice(known) and known.required <= enough:
                return known
            self.at(number, max(known.required if known else np.inf, enough), enough)
            risen = 0 if known is None or self.best is not known else risen + 1
            number += max(1, number // 4)
        best = self.best
        while best is not None and rank(best) > (False, enough):
            number = next(n for n, design in self.tried.items() if design is best)
            for other in (max(number - 1, 1), min(number + 1, self.most)):
                self.at(other, best.required, enough)
            if self.best is best:
                break
            best = self.best
        return best


def places_suffice(design: Design) -> bool:
    """Whether a batch takes the sequences of a design; true where there is no cap."""
    segments = design.segments
    return at_most(segments.sequences(design.counts.astype(np.float64)), segments.lengths.replica.most_sequences)


def rank(design: Design) -> tuple[bool, float]:
    """Designs that respect the cap on sequences come first, then those that need less memory."""
    return not places_suffice(design), design.required
