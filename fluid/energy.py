"""What a mix costs in energy at equilibrium: watts, joules a token and a request, and what they are spent on.

Work that requests bring takes rho = sum_j lambda_j c_j seconds a second whatever the policy; what remains of the time
in which iterations run is their overheads. How long they run follows from who is there: n requests are served at
n / (d0 + c n) stages a second, by a server that they share and whose speed depends on their number, and the chance that
nobody is there is that of a product form that only means enter (Kelly),

    idle share    pi = 1 / sum_n prod_{k <= n} (rho + a/k) = (1 - rho)^(1 + a/rho)          a = sum_j lambda_j S_j d0

which is 1 - rho without overhead, exp(-a) where requests add nothing to it, and vanishes at the edge. So

    watts    p_idle pi + p_0 (1 - pi - rho) + p_1 rho                             (`fluid.power`)
    joules a output token = watts / sum_j lambda_j R_j

The rates must be carried without loss: what evictions waste is simulated (`verification.lost_work`). A request of type
j costs p_1 c_j, and its share of what is left by the sequences it puts into batches, S_j. **Approximation**: iterations
end together, arrivals wait for the next, and a policy that gathers cohorts is idle longer; the section says how far off
it is. Source: mathematics, section 19.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fluid.arrays import Floats, Ints
from fluid.equilibrium import Equilibrium
from fluid.power import Power
from fluid.tables import Tabular, figure, plain


class Parts(NamedTuple):
    """Watts while idle, in overheads, reading KV, prefilling, and for the sequences; they add up to all."""

    idle: float
    overhead: float
    kv: float
    prefill: float
    sequences: float


@dataclass(frozen=True, eq=False)
class Energy(Tabular):
    """The energy of a mix on a replica; made by `energy_at`. As a table, a row for each type.

    `parts` are the watts by what they are spent on, `idle_share` the share of the time in which nothing runs.
    """

    equilibrium: Equilibrium
    power: Power
    idle_share: float
    parts: Parts

    def __repr__(self) -> str:
        return (f"Energy({figure(self.watts)} W, {figure(self.per_output_token)} J an output token, "
                f"{figure(self.per_request)} J a request, idle {self.idle_share:.1%})")

    @property
    def watts(self) -> float:
        """Mean power, W."""
        return math.fsum(self.parts)

    @property
    def per_output_token(self) -> float:
        """All joules by the output tokens."""
        return self.watts / self.equilibrium.throughput

    @property
    def per_request(self) -> float:
        """All joules by the requests."""
        return self.watts / self.equilibrium.workload.rate

    @property
    def per_prefill_token(self) -> float | None:
        """Joules of computing by the prompt tokens prefilled here, p_1 d2; None where none are."""
        prefilled = float(self.equilibrium.profile.prefilled @ self.equilibrium.workload.rates)
        return self.parts.prefill / prefilled if prefilled > 0 else None

    @property
    def per_decode_token(self) -> float:
        """All joules but those of prefilling by the output tokens."""
        return (self.watts - self.parts.prefill) / self.equilibrium.throughput

    @property
    def by_type(self) -> Floats:
        """Joules of a request of each type, shape (J,): p_1 c_j, and of idle and fixed power its share by S_j."""
        profile, workload = self.equilibrium.profile, self.equilibrium.workload
        work = _work(self.equilibrium) @ _coefficients(self.equilibrium)[1:]
        shared = (self.parts.idle + self.parts.overhead) / float(profile.stages @ workload.rates)
        found: Floats = self.power.busy * work + shared * profile.stages
        return found

    def columns(self) -> dict[str, Sequence[object] | Floats | Ints]:
        """The types: joules of a request, and of each of its output tokens."""
        workload = self.equilibrium.workload
        return {"type": workload.names, "J a request": self.by_type,
                "J an output token": self.by_type / workload.output_tokens}

    def caption(self) -> str:
        """The whole of it."""
        return repr(self).removeprefix("Energy(").removesuffix(")")

    def to_dict(self) -> dict[str, Any]:
        """Return what it says in plain values, under the names of `fluidwait solve --json`."""
        names = ("watts", "idle_share", "per_output_token", "per_request", "per_prefill_token", "per_decode_token")
        rows = zip(self.equilibrium.workload.names, self.by_type, strict=True)
        return plain({**{name: getattr(self, name) for name in names},  # type: ignore[no-any-return]
                      "parts": self.parts._asdict(), "power": self.power.to_dict(),
                      "types": [{"name": name, "per_request": joules} for name, joules in rows]})


def energy_at(equilibrium: Equilibrium) -> Energy | None:
    """Return the energy of a mix at equilibrium; None where the power is not known, or a limit is exceeded.

    >>> from fluid import IterationTime, Power, PromptType, Replica, Workload, solve
    >>> replica = Replica(137_000, IterationTime(0.0106, 4.013e-7), power=Power(idle=80, busy=300))
    >>> energy = energy_at(solve(Workload([PromptType(512, 20, 20.0)]), replica))
    >>> round(energy.watts), round(energy.per_output_token, 3)
    (298, 0.745)
    """
    power = equilibrium.replica.power
    if power is None or equilibrium.limit is not None:
        return None
    coefficients = _coefficients(equilibrium)
    rates = equilibrium.workload.rates
    kv, prefill, sequences = (_work(equilibrium).T @ rates * coefficients[1:]).tolist()
    load, overheads = kv + prefill + sequences, coefficients[0] * float(equilibrium.profile.stages @ rates)
    idle = idle_share(load, overheads)
    ends = float(equilibrium.replica.iteration_time.overheads.min() / coefficients[0])
    fixed = ends * (1 - idle - load)
    return Energy(equilibrium, power, idle, Parts(
        power.idle * idle, power.fixed * fixed + power.busy * (1 - idle - load - fixed),
        power.busy * kv, power.busy * prefill, power.busy * sequences))


def idle_share(load: float, overheads: float) -> float:
    """Return (1 - rho)^(1 + a/rho), the share of the time in which nobody is there; exp(-a) at load 0.

    >>> idle_share(0.25, 0.0), round(idle_share(0.0, 2.0), 4)
    (0.75, 0.1353)
    """
    if load <= 0:
        return math.exp(-overheads)
    return math.exp(min((1 + overheads / load) * math.log1p(-load), 0.0)) if load < 1 else 0.0


def _coefficients(equilibrium: Equilibrium) -> Floats:
    """d0, d1, d2, d3 of the line that binds at equilibrium."""
    lines = equilibrium.replica.iteration_time.coefficients
    loads = equilibrium.profile.time_work(equilibrium.replica.iteration_time) @ equilibrium.workload.rates
    chosen: Floats = lines[np.argmax(lines[:, 0] / (1 - loads))]
    return chosen


def _work(equilibrium: Equilibrium) -> Floats:
    """What a request of each type reads, prefills and executes over its life: shape (J, 3)."""
    profile = equilibrium.profile
    return np.stack([profile.kv_read, profile.prefilled, profile.stages], axis=1).astype(np.float64)
