r"""What is asked of delays: bounds on their statistics, and goodput, the share of requests that meet all of several.

A `Bound` is met by a policy at a rate where the interval of its measure over replications lies wholly at or below it,
missed where it lies wholly above. **Goodput** [D] is asked request by request: with thresholds b_i on the delays d_i of
a request, the share of requests with d_i <= b_i for every i must be at least s. One that did not finish meets nothing.
The share has an interval like every other measure, taken of the share that fails, which cannot be negative.

[D] Zhong et al., DistServe, OSDI 2024, arXiv 2401.09670: goodput is the largest rate at which the share is at least s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fluid.errors import InputError, one_of, real, share_meant
from verification.experiments.evidence.pieces import TOO_FEW, Doubt
from verification.experiments.measures import Window
from verification.experiments.targets.delays import Delays
from verification.experiments.targets.names import DELAYS, GOOD_SHARE, base
from verification.run import Run
from verification.statistics.intervals import LEVEL, Interval, positive_interval

OF_A_REQUEST = ("ttft", "tpot", "latency")
OTHER_NAMES = {"e2el": "latency", "e2e": "latency"}  # of engines' benchmarks
MET, MISSED, UNSURE = "met", "missed", "undecided"


@dataclass(frozen=True)
class Bound:
    """A delay that must not be exceeded, seconds: `measure` is "latency", "ttft", "tpot" or "itl" for the mean, or with
    `_p50`, `_p90`, `_p95` or `_p99` behind it for a percentile (`verification.experiments.targets.delays`).

    Raises InputError for another measure, or unless the seconds are a positive number.

    >>> Bound("ttft_p99", 2.0)
    Bound(measure='ttft_p99', seconds=2.0)
    """

    measure: str
    seconds: float

    def __post_init__(self) -> None:
        one_of("measure", self.measure, DELAYS, "Bound")
        object.__setattr__(self, "seconds", real(self.measure, self.seconds, "Bound", unit="seconds"))

    @property
    def text(self) -> str:
        """In words."""
        return f"{self.measure} up to {self.seconds:g} s"


@dataclass(frozen=True)
class Goodput:
    """Conditions on a request's "ttft", "tpot" and "latency", seconds, and the `share` of requests that must meet all.

    Raises InputError for another condition, two on one delay, none at all, or a share outside (0, 1].

    >>> Goodput.read("ttft<=2, tpot<=0.05", 0.99).conditions
    (('ttft', 2.0), ('tpot', 0.05))
    """

    conditions: tuple[tuple[str, float], ...]
    share: float = GOOD_SHARE

    def __post_init__(self) -> None:
        if not self.conditions:
            raise InputError("goodput", 'conditions, as "ttft<=2, tpot<=0.05"', self.conditions)
        kept = []
        for name, seconds in self.conditions:
            one_of("goodput", name, OF_A_REQUEST)
            kept.append((name, real(f"goodput {name}", seconds, unit="seconds")))
        if len(dict(kept)) < len(kept):
            raise InputError("goodput", "at most one condition on each delay", self.conditions)
        object.__setattr__(self, "conditions", tuple(kept))
        if not 0 < real("share", self.share) <= 1:
            raise InputError("share", "a share of the requests above 0 and at most 1", self.share,
                             guess=share_meant(self.share))

    @classmethod
    def read(cls, text: str, share: float = GOOD_SHARE, field: str = "goodput") -> Goodput:
        """The conditions of a text such as "ttft<=2, tpot<=0.05"; "e2el" is the latency."""
        return cls(tuple(_condition(each, text, field) for each in text.split(",")), share)

    @property
    def text(self) -> str:
        """In words."""
        asked = " and ".join(f"{name} up to {seconds:g} s" for name, seconds in self.conditions)
        return f"{asked} for {100 * self.share:.6g}% of the requests"

    def met(self, run: Run, window: Window) -> float:
        """The share of the requests arriving in a window that meet all conditions; NaN where there are none."""
        part = slice(*np.searchsorted(run.arrivals.times, [window.start, window.last_arrival]))
        fits = run.fits[part]
        if not fits.any():
            return math.nan
        values = {"ttft": run.ttft, "latency": run.latency, "tpot": run.time_between_tokens}
        good = np.isfinite(run.latency[part][fits])
        for name, seconds in self.conditions:
            delay = values[name][part][fits]
            good &= (delay <= seconds) | (np.isnan(delay) & (name == "tpot"))  # a single token has no TPOT
        return float(good.mean())


def _condition(text: str, whole: str, field: str) -> tuple[str, float]:
    name, sign, number = text.partition("<=") if "<=" in text else text.partition("<" if "<" in text else ":")
    named = OTHER_NAMES.get(name.strip().lower(), name.strip().lower())
    try:
        seconds = float(number.strip().removesuffix("s").encode("ascii"))
    except ValueError:
        seconds = math.nan
    if not sign or named not in OF_A_REQUEST or not 0 < seconds < math.inf:
        names = ", ".join(OF_A_REQUEST)
        raise InputError(field, f'conditions with commas between, as "ttft<=2, tpot<=0.05" in seconds, of {names}',
                         whole)
    return named, seconds


@dataclass(frozen=True)
class Targets:
    """All that is asked of a deployment: bounds on statistics, and goodput."""

    bounds: tuple[Bound, ...] = ()
    goodput: Goodput | None = None

    def __bool__(self) -> bool:
        return bool(self.bounds) or self.goodput is not None

    def to_dict(self) -> dict[str, Any]:
        """Return what is asked in plain values."""
        goodput = self.goodput and {"conditions": dict(self.goodput.conditions), "share": self.goodput.share}
        return {**{each.measure: each.seconds for each in self.bounds}, "goodput": goodput}

    @property
    def names(self) -> tuple[str, ...]:
        """What is measured of them, in order."""
        return (*(each.measure for each in self.bounds), *(("goodput",) if self.goodput else ()))

    def good(self, run: Run, window: Window) -> float:
        """The share of the requests arriving in a window that meet the goodput; NaN where none is asked for."""
        return math.nan if self.goodput is None else self.goodput.met(run, window)

    @property
    def gaps(self) -> bool:
        """Whether some of them need every gap between tokens, and with them a recorded run."""
        return any(each.measure.startswith("itl") for each in self.bounds)

    @property
    def text(self) -> str:
        """In words."""
        return ", ".join([*(each.text for each in self.bounds), *([self.goodput.text] if self.goodput else [])])

    def held(self, found: Sequence[Delays], good: Sequence[float], doubts: Sequence[Doubt],
             error: float = 1 - LEVEL) -> tuple[Held, ...]:
        """Hold the targets against the delays of replications, and their shares of good requests; what binds first.

        All intervals hold together but for a chance of `error`.
        """
        level = 1 - error / max(1, len(self.bounds) + (self.goodput is not None))
        held = [Held(each, positive_interval([one.of(each.measure) for one in found], level),
                     doubt_of(each.measure, doubts)) for each in self.bounds]
        if self.goodput is not None:
            held.append(Held(self.goodput, share_interval(good, level), _doubt_of_goodput(self.goodput, doubts)))
        return tuple(sorted(held, key=lambda each: math.inf if math.isnan(each.strain) else -each.strain))


NO_TARGETS = Targets()


@dataclass(frozen=True)
class Held:
    """A target beside what was measured of it: seconds, or for goodput the share that meets it.

    `answer` is "met", "missed" or "undecided"; `doubt` why the interval cannot be trusted. `strain` is how much of
    what is allowed is used: the target with the largest binds.
    """

    target: Bound | Goodput
    measured: Interval
    doubt: str = ""

    @property
    def name(self) -> str:
        """The measure, or "goodput"."""
        return self.target.measure if isinstance(self.target, Bound) else "goodput"

    @property
    def answer(self) -> str:
        """Whether the interval lies wholly on one side."""
        low, high = self._used
        if low > 1:
            return MISSED
        return MET if high <= 1 and not self.doubt else UNSURE

    @property
    def strain(self) -> float:
        """Measured over allowed: of goodput, of the share that fails."""
        return self._over(self.measured.mean)

    def to_dict(self) -> dict[str, Any]:
        """Return what it says in plain values."""
        asked = ({"seconds": self.target.seconds} if isinstance(self.target, Bound)
                 else {"conditions": dict(self.target.conditions), "share": self.target.share})
        return {"measure": self.name, **asked, **self.measured._asdict(), "answer": self.answer,
                "doubt": self.doubt or None}

    @property
    def text(self) -> str:
        """The measure and its interval."""
        low, mean, high = self.measured.low, self.measured.mean, self.measured.high
        if math.isnan(mean):
            return f"{self.name} of no request"  # as TPOT where each makes a single token
        if isinstance(self.target, Bound):
            span = "no interval of one replication" if math.isnan(low) else f"{low:.4g} .. {high:.4g}"
            return f"{self.name} {mean:.4g} s ({span})"
        return f"goodput {mean:.2%} ({low:.2%} .. {high:.2%})"

    @property
    def _used(self) -> tuple[float, float]:
        ends = sorted((self._over(self.measured.low), self._over(self.measured.high)))
        return ends[0], ends[1]

    def _over(self, value: float) -> float:
        if isinstance(self.target, Bound):
            return value / self.target.seconds
        failing, allowed = 1 - value, 1 - self.target.share
        return failing / allowed if allowed > 0 else math.inf if failing > 0 else 0.0


def doubt_of(measure: str, doubts: Sequence[Doubt]) -> str:
    """Why the interval of a statistic of delays cannot be trusted; what is said of a quantity goes for all of them."""
    quantity = base(measure)
    watched = (measure, quantity)
    return next((each.reason for each in doubts if each.measure in watched or each.reason == TOO_FEW), "")


def _doubt_of_goodput(goodput: Goodput, doubts: Sequence[Doubt]) -> str:
    """As of the means: a share of requests has no tail, but its replications resemble each other as theirs do."""
    return next((found for name, _ in goodput.conditions if (found := doubt_of(name, doubts))), "")


def share_interval(shares: Sequence[float], level: float = LEVEL) -> Interval:
    """The interval of a share of requests over replications, as one of those that fail."""
    failing = positive_interval([1 - each for each in shares], level)
    return Interval(1 - failing.mean, max(0.0, 1 - failing.high), min(1.0, 1 - failing.low))
