"""A fleet for all rates that are possible, beside the one for those of the file."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.markup import escape

from fluid.planning import RobustPlan
from fluidwait.reports.console import console, say
from fluidwait.study.possible import Possible


def robust_answer(found: RobustPlan | None, possible: Possible | None) -> dict[str, Any]:
    """The key `robust` of `plan --json`."""
    if found is None or possible is None:
        return {"robust": None}
    counts = None if found.counts is None else _counts(found)
    more = None if found.counts is None or not found.nominal.feasible else found.price
    return {"robust": {"set": possible.name, "words": possible.words, "confidence": possible.confidence,
                       "counts": counts, "cost": found.cost if counts is not None else None, "price": more,
                       "bound": found.bound, "reason": found.reason}}


def show_robust(found: RobustPlan | None, possible: Possible | None) -> None:
    """What it takes to carry all of them."""
    if found is None or possible is None:
        return
    console.print()
    if found.counts is None:
        say(False, f"for {possible.words}: no fleet: {found.reason}")
        return
    fleet = " + ".join(f"{n:,} x {name}" for name, n in _counts(found).items() if n)
    more = f", {found.price:.6g} more" if found.nominal.feasible else ""
    say(True, f"for {possible.words}: {fleet}, at {found.cost:.6g} an hour{more}")
    if found.bound is not None:
        gap = max(0.0, 1 - found.bound / found.cost)
        console.print(escape(f"no fleet for all of them costs less than {found.bound:.6g} (gap {gap:.1%})"))


def _counts(found: RobustPlan) -> dict[str, int]:
    counts = np.zeros(len(found.nominal.kinds)) if found.counts is None else found.counts
    return {each.name: int(n) for each, n in zip(found.nominal.kinds, counts, strict=True)}
