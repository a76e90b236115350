r"""The experiment of heavy traffic: one policy at growing zeta T, from empty, and how its gap and its delays grow.

[A, Theorem 1] says of WAIT with Poisson arrivals, in service-normalised time (`verification.asymptotics.observed`):

    lambda_j Delta(n) <= n_j      gap O((zeta T)^-1/2)      delays O((zeta T)^1/2)        reached where n = n*
    lambda_j Delta(n) <  n_j      gap O((zeta T)^-1)        delays O(1)                   with a slack

Points are independent: each has random streams of its own, made of the seed, zeta and T. With `width` replications are
added to all points, half as many again each time, until the slopes that are asked for are known so well (a measure that
is 0 in all replications at a point has none yet); looking again narrows their intervals below 95%: a simulated slope of
exponential means was held by 85% of them starting at 2 replications, by 92% at 10, by 95% at 30. From empty, 13 points
over three decades that start at 100 iterations, with 100 replications, know a slope to 0.05. Source: mathematics,
sections 3.3 and 11.8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from fluid import Equilibrium, Replica, Workload
from fluid.arrays import Floats
from fluid.errors import InputError, one_of, real, whole
from fluid.progress import Progress
from fluid.tables import Tabular
from thresholds.guarantees import equilibrium_of
from verification.asymptotics.laboratory import Laboratory
from verification.asymptotics.observed import MEASURES, UNITS, Point
from verification.asymptotics.slope import Slope, power_law
from verification.policies import OwnRule, Policy
from verification.statistics.intervals import Interval, t_interval
from verification.statistics.precision import more

SOUGHT = ("gap", "wait")
LEAST = 10  # replications whose spread is worth looking at to decide whether there are enough
Numbers = float | Iterable[float]


@dataclass(frozen=True, eq=False)
class HeavyTraffic(Tabular):
    """What an experiment found: `values` of shape (points, replications, measures); made by `experiment`.

    `points` are ordered by zeta T; `equilibrium` is that of the system as it is, at zeta = 1.
    """

    policy: Policy
    equilibrium: Equilibrium
    points: tuple[Point, ...]
    values: Floats
    seed: int

    @property
    def sizes(self) -> Floats:
        """zeta T of each point, shape (P,), seconds of service time."""
        return np.array([point.size for point in self.points])

    @property
    def replications(self) -> int:
        """At each point."""
        return int(self.values.shape[1])

    def of(self, measure: str) -> Floats:
        """One measure ("gap", "wait", "ttft", "latency", "evictions") of all replications, shape (P, R)."""
        found: Floats = self.values[:, :, MEASURES.index(one_of("measure", measure, MEASURES))]
        return found

    def intervals(self, measure: str) -> list[Interval]:
        """The 95% interval of the mean of a measure at each point."""
        return [t_interval(row) for row in self.of(measure)]

    def columns(self) -> dict[str, Sequence[object]]:
        plain: dict[str, Sequence[object]] = {
            "zeta": [point.zeta for point in self.points], "T (s)": [point.horizon for point in self.points],
            "zeta T (s)": self.sizes.tolist(), "replications": [self.replications] * len(self.points)}
        for measure in MEASURES:
            unit = f" ({UNITS[measure]})" if measure in UNITS else ""
            for end, column in zip(("", " low", " high"), zip(*self.intervals(measure), strict=True), strict=True):
                plain[f"{measure}{end}{unit}"] = column
        return plain

    def caption(self) -> str:
        name = getattr(self.policy, "label", type(self.policy).__name__)
        return f"{name} from empty, {self.replications} replications at each point; service-normalised, 95% intervals"


def experiment(policy: Policy, workload: Workload, replica: Replica, zetas: Numbers, horizons: Numbers,
               replications: int = 100, *, width: float | None = None, of: str | Sequence[str] = SOUGHT, seed: int = 0,
               workers: int = -1, folder: str | Path | None = None, progress: Progress | None = None) -> HeavyTraffic:
    """Simulate a policy at every scale of `zetas` over every horizon of `horizons` (s), from empty.

    `replications` at each point, at least 2; with `width` at least 10, and more are added, up to 1,000, until the 95%
    intervals of the slopes of the measures `of` reach at most so far from their middle. `folder` keeps every finished
    replication in scaling.sqlite: the same call, also with more points or replications, goes on from there; that of
    another system, seed or version of the program is refused (FluidwaitError). Raises InputError for an argument that
    cannot be used, and for a folder with a rule of your own, whose code may change unseen.

    >>> from fluid import IterationTime, PromptType
    >>> from thresholds import WaitPolicy
    >>> mix = Workload([PromptType(1, 1, 1.0)])
    >>> found = experiment(WaitPolicy((2,)), mix, Replica(9, IterationTime(1.0, 0.0)), [1, 4, 16], 100.0, 10)
    >>> found.sizes.tolist(), bool(found.of("evictions").any())
    ([100.0, 400.0, 1600.0], False)
    """
    enough = whole("replications", replications, "experiment", unit="replications", least=2 if width is None else LEAST)
    sought = tuple(one_of("of", each, MEASURES, "experiment") for each in ([of] if isinstance(of, str) else of))
    if folder is not None and isinstance(policy, OwnRule):
        raise InputError("folder", "absent for a rule of your own", folder, "experiment")
    points = _points(zetas, horizons)
    if width is not None and len({point.size for point in points}) < 3:
        raise InputError("width", "absent where zetas and horizons make fewer than three sizes", width, "experiment")
    most = None if width is None else real("width", width, "experiment")
    laboratory = Laboratory(policy, workload, replica, points,
                            whole("seed", seed, "experiment", unit="seeds", least=0, most=2**128), workers)
    equilibrium = equilibrium_of(policy, workload, replica)

    with laboratory.kept(None if folder is None else Path(folder)):
        while True:
            found = HeavyTraffic(policy, equilibrium, points, laboratory.values(enough, progress), seed)
            if most is None or more(enough) == enough or all(_known(found, measure, most) for measure in sought):
                return found
            enough = more(enough)


def slope(found: HeavyTraffic, measure: str = "gap") -> Slope:
    """Return the exponent of a measure in zeta T: weighted least squares, log on log, with interval and fit.

    Raises InputError where it has none: fewer than three sizes, or a measure that is 0 on average at one of them.
    """
    return power_law(measure, found.sizes, found.of(measure))


def _known(found: HeavyTraffic, measure: str, width: float) -> bool:
    """Whether a measure has a slope, known so well."""
    return bool(np.all(found.of(measure).mean(axis=1) > 0)) and slope(found, measure).half_width <= width


def _points(zetas: Numbers, horizons: Numbers) -> tuple[Point, ...]:
    """Every scale with every horizon, checked, by zeta T."""
    pairs = {Point(*pair) for pair in product(_numbers("zetas", zetas), _numbers("horizons", horizons, "seconds"))}
    return tuple(sorted(pairs, key=lambda point: (point.size, point)))


def _numbers(field: str, values: Numbers, unit: str = "") -> list[float]:
    listed = list(values) if isinstance(values, Iterable) else [values]
    if not listed:
        raise InputError(field, "at least one number", listed, "experiment")
    return [real(field, value, "experiment", unit=unit) for value in listed]
