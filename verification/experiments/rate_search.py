r"""The search for the largest rate that is sustained, whoever says at which rates one is.

Nothing is sustained at `edge`, the fluid limit or what thresholds can carry. From there down, at 95%, 90%,
80%, ... of it (delays of WAIT grow towards low rates as well, so the middle tells nothing about both halves), until a
rate is sustained; then bisection between it and the next rate that is not, until they are closer than the precision;
then, where rates above were undecided, bisection between the largest of them and the smallest that is not sustained.
The answer is an interval, [largest rate found sustained, smallest above it found not]. With some ten probes whose delay
is near the bound, intervals at level 1 - 0.05/10 make the answer of a search wrong in at most one of twenty. See
mathematics, section 9.10.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fluid.errors import InputError, real
from fluid.progress import Progress
from verification.experiments.stability import UNDECIDED
from verification.experiments.targets.bounds import NO_TARGETS, Held, Targets
from verification.statistics.intervals import Interval

SUSTAINED, NOT_SUSTAINED = "sustained", "not sustained"
SHARES = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
LARGEST_PRECISION = 0.5
ABOVE_GUESS = 1.05


@dataclass(frozen=True)
class Probe:
    """One rate asked: the answer, and what it rests on (None where nothing was simulated).

    `score` is that of the verdict, `held` the targets beside what was measured, the one that binds first, `horizon` the
    last one tried (s).
    """

    rate: float
    answer: str
    reason: str
    score: float | None = None
    held: tuple[Held, ...] = ()
    horizon: float | None = None

    @property
    def measured(self) -> Interval | None:
        """The interval of the target that binds."""
        return self.held[0].measured if self.held else None

    @property
    def doubt(self) -> str:
        """Why the interval of a target cannot be trusted, if one cannot."""
        return next((each.doubt for each in self.held if each.doubt), "")


@dataclass(frozen=True)
class Capacity:
    """What a search found; `low` is None where no rate was sustained. Rates in requests/s, `probes` in their order.

    `edge` is what the mathematics excludes: no rate from there on is sustained, and none was simulated.
    """

    low: float | None
    high: float
    edge: float
    targets: Targets
    probes: tuple[Probe, ...]

    def __repr__(self) -> str:
        found = "no rate" if self.low is None else f"{self.low:.4g} requests/s"
        return f"Capacity({found}, not {self.high:.4g}; {len(self.probes)} probes)"

    @property
    def reason(self) -> str:
        """The answer in a sentence."""
        what = f" with {self.targets.text}" if self.targets else ""
        if self.low is None:
            return f"no rate is sustained{what}: {self.probes[0].reason}" if self.probes else "no rate is sustained"
        unsure = [f"{each.rate:.4g}" for each in self.probes
                  if each.answer == UNDECIDED and self.low < each.rate < self.high]
        between = f"; undecided at {', '.join(unsure)}" if unsure else ""
        return f"sustains {self.low:.4g} requests/s{what}, and not {self.high:.4g}{between}"

    @property
    def binds(self) -> str:
        """The name of the target that is the first to be passed above the rate found; "" where it is the edge."""
        above = [each for each in self.probes if each.rate > (self.low or 0.0) and each.held]
        passed = [each for each in above if each.held[0].strain > 1]
        return min(passed, key=lambda each: each.rate).held[0].name if passed else ""


def search(ask: Callable[[float], Probe], edge: float, precision: float = 0.02, targets: Targets = NO_TARGETS,
           progress: Progress | None = None, guess: float = math.inf) -> Capacity:
    """Search the rates below `edge` (requests/s) for the largest that `ask` finds sustained; the module says how.

    Where a `guess` of it is below the edge the search begins there.
    """
    width = real("precision", precision, "capacity")
    if width > LARGEST_PRECISION:
        raise InputError("precision", f"a share of the rate of at most {LARGEST_PRECISION:g}", precision, "capacity")
    asked: dict[float, Probe] = {}

    def answer(rate: float) -> str:
        asked[rate] = ask(rate)
        if progress:
            progress(len(asked), max(len(asked), len(SHARES)))
        return asked[rate].answer

    if edge > 0:
        _look(answer, edge, width, _from(guess / edge))
    probes = tuple(asked[rate] for rate in sorted(asked))
    low = max((each.rate for each in probes if each.answer == SUSTAINED), default=None)
    high = min((each.rate for each in probes if each.answer == NOT_SUSTAINED and each.rate > (low or 0)), default=edge)
    return Capacity(low, high, edge, targets, probes)


def _from(guess: float) -> tuple[float, ...]:
    """The shares of the edge to look at, from above, the first a little above a guess."""
    first = ABOVE_GUESS * guess
    return SHARES if not first < SHARES[0] else (first, *(each for each in SHARES if each < first / ABOVE_GUESS))


def _look(answer: Callable[[float], str], edge: float, width: float, shares: tuple[float, ...]) -> None:
    """Ask what is needed."""
    answers = {edge: NOT_SUSTAINED}

    def ask(rate: float) -> str:
        answers[rate] = answer(rate)
        return answers[rate]

    low = next((share * edge for share in shares if ask(share * edge) == SUSTAINED), None)
    if low is None:
        return
    if low == shares[0] * edge < SHARES[0] * edge:  # the guess was too low
        low = _upwards(low, edge, ask)
    above = min(rate for rate in answers if rate > low)
    low = _narrow(low, above, width, lambda rate: ask(rate) == SUSTAINED)
    refused = min(rate for rate, each in answers.items() if rate > low and each == NOT_SUSTAINED)
    unsure = [rate for rate, each in answers.items() if low < rate < refused and each == UNDECIDED]
    if unsure:
        _narrow(max(unsure), refused, width, lambda rate: ask(rate) != NOT_SUSTAINED)


def _upwards(low: float, edge: float, ask: Callable[[float], str]) -> float:
    """From a rate that is sustained up the ladder of shares, to the last that is."""
    for share in sorted(share for share in SHARES if share * edge > low):
        if ask(share * edge) != SUSTAINED:
            break
        low = share * edge
    return low


def _narrow(low: float, high: float, width: float, holds: Callable[[float], bool]) -> float:
    """Bisect between a rate that holds and a higher one that does not; return the largest found to hold."""
    while high - low > width * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
