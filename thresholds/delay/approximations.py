r"""Approximations of the queue behind a threshold beside its exact mean.

`queue_approximations` holds E[Q] of the steady state against Kingman's bound a/(2 (n - a)) and the heavy-traffic mean
n/(2 (n - a)) - 0.5826 sqrt(n), over loads a/n; `transient_approximations` holds E[Q_K] from empty against the mean of
reflected Brownian motion, plain and corrected. Exact means: `bulk_queue`; approximations: `bulk_queue`,
`reflected_walk`. See mathematics, section 11.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fluid.arrays import Floats
from fluid.errors import InputError, probability, real, whole
from fluid.tables import Tabular
from thresholds.delay.bulk_queue import (
    MOST_BATCH,
    MOST_SERVICES,
    bulk_queue_mean,
    entry_queue_mean,
    heavy_traffic_mean,
    kingman_bound,
)
from thresholds.delay.reflected_walk import corrected_brownian, reflected_brownian


@dataclass(frozen=True, eq=False)
class Approximations(Tabular):
    """Exact means of the entry queue, and approximations of them by name, in prompts.

    `over` names what varies from row to row ("load" or "services") and `values` are its values; all arrays have shape
    (rows,).
    """

    batch: int
    over: str
    values: Floats
    arrivals: Floats
    exact: Floats
    approximate: Mapping[str, Floats]

    def relative_error(self, name: str) -> Floats:
        """approximate/exact - 1 of one approximation; infinite where the exact mean underflows to 0."""
        error = np.full(len(self.exact), np.inf)
        np.divide(self.approximate[name], self.exact, out=error, where=self.exact > 0)
        return error - 1

    def columns(self) -> Mapping[str, np.ndarray]:
        """What varies, the arrivals per service, the exact mean, and each approximation with its relative error."""
        columns = {self.over: self.values, "arrivals": self.arrivals, "exact mean": self.exact}
        for name, mean in self.approximate.items():
            columns |= {name: mean, f"{name}, relative error": self.relative_error(name)}
        return columns

    def caption(self) -> str:
        """Which queue."""
        return f"mean entry queue in prompts, batches of {self.batch:,}"


def queue_approximations(batch: int, loads: Iterable[float]) -> Approximations:
    """Return E[Q] of the steady state beside Kingman's bound and the heavy-traffic mean, a row for each load a/n.

    Raises InputError for a batch below 1 or above a million, no load, or a load not above 0 and below 1.

    >>> queue_approximations(1, [0.5]).approximate["Kingman's bound"]
    array([0.5])
    """
    n = whole("batch", batch, unit="prompts", most=MOST_BATCH)
    values = np.array([probability("load", load) for load in loads])
    return _laid_out(n, "load", values, values * n, {
        "exact": [bulk_queue_mean(n, a) for a in values * n],
        "Kingman's bound": [kingman_bound(n, a) for a in values * n],
        "heavy traffic": [heavy_traffic_mean(n, a) for a in values * n],
    })


def transient_approximations(batch: int, arrivals: float, services: Iterable[int]) -> Approximations:
    """Return E[Q_K] from empty beside the means of reflected Brownian motion, plain and corrected, a row for each K.

    Raises InputError for a batch below 1 or above a million, arrivals not positive and finite, no services, or services
    below 1 or above 10 million.

    >>> transient_approximations(1, 1.0, [100]).approximate["Brownian"].round(6)
    array([7.978846])
    """
    n = whole("batch", batch, unit="prompts", most=MOST_BATCH)
    a = real("arrivals", arrivals, unit="prompts per service")
    counts = [whole("services", k, unit="services", most=MOST_SERVICES) for k in services]
    return _laid_out(n, "services", np.array(counts), np.full(len(counts), a), {
        "exact": [entry_queue_mean(n, a, k) for k in counts],
        "Brownian": [reflected_brownian(n, a, k).mean for k in counts],
        "corrected Brownian": [corrected_brownian(n, a, k).mean for k in counts],
    })


def _laid_out(n: int, over: str, values: Floats, arrivals: Floats, means: dict[str, list[float]]) -> Approximations:
    if not len(values):
        raise InputError(over, "given at least once", [])
    arrays = {name: np.array(mean) for name, mean in means.items()}
    return Approximations(n, over, values, arrivals, arrays.pop("exact"), arrays)
