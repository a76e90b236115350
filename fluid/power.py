"""What a replica draws: watts while it is idle, in the fixed part of an iteration, and in the work of its batch.

An iteration of d0 + d1 KV + d2 prefill + d3 size seconds has a part d0 that every iteration has (weights are read,
kernels are launched; the tensor cores mostly wait) and a rest that is the batch's. With powers p_idle, p_0 and p_1,

    energy of T seconds with I iterations that last B seconds in all = p_idle (T - B) + p_0 d0 I + p_1 (B - d0 I)     J

so that a small batch draws little and a large one nearly what the GPU may. A constant power while iterations run is
p_0 = p_1. Where the iteration time has several lines d0 is the least of their overheads. The energy of an iteration is
then affine in its batch as its time is: p_1 d2 joules a prefilled token, p_1 d1 a KV token read, p_1 d3 a sequence.

Powers are those of GPUs, without hosts, switches and cooling. `fluid.hardware.power_law` has those of the catalogue and
says how far they are off. Source: mathematics, section 19.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fluid.errors import InputError, real

GIVEN = "given"


@dataclass(frozen=True)
class Power:
    """The watts of a replica, of all its GPUs together: `idle`, `overhead` (in d0, by default as busy) and `busy`.

    `error` is the standard deviation of ln(predicted/measured) of the power where it is known, else 0. Raises
    InputError unless all are positive and finite, idle at most overhead, and overhead at most busy.

    >>> Power(idle=70.0, busy=650.0, overhead=400.0).joules(seconds=10.0, busy=8.0, fixed=2.0)
    4840.0
    """

    idle: float
    busy: float
    overhead: float | None = None
    source: str = GIVEN
    error: float = 0.0

    def __post_init__(self) -> None:
        if self.overhead is None:
            object.__setattr__(self, "overhead", self.busy)
        for field in ("idle", "overhead", "busy"):
            object.__setattr__(self, field, real(field, getattr(self, field), "power", unit="watts"))
        for less, more in (("idle", "overhead"), ("overhead", "busy")):
            if getattr(self, less) > getattr(self, more):
                raise InputError(less, f"at most {more}, {getattr(self, more):g} watts", getattr(self, less), "power")

    @property
    def fixed(self) -> float:
        """p_0, the watts in the overhead of an iteration."""
        assert self.overhead is not None
        return self.overhead

    def to_dict(self) -> dict[str, Any]:
        """Return the watts, where they come from, and their relative error, None where it is not known."""
        return {"idle": self.idle, "overhead": self.overhead, "busy": self.busy, "source": self.source,
                "error": self.error or None}

    def joules(self, seconds: float, busy: float, fixed: float) -> float:
        """Energy of so many seconds, in `busy` of which iterations run, `fixed` of those being their overheads."""
        return self.idle * (seconds - busy) + self.fixed * fixed + self.busy * (busy - fixed)

    def times(self, gpus: int) -> Power:
        """The power of so many times as many GPUs."""
        return Power(gpus * self.idle, gpus * self.busy, gpus * self.fixed, self.source, self.error)
