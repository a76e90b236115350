"""The power of GPUs that serve language models: shares of what their data sheets allow, fitted to measurements.

With W the data sheet's power of a GPU and the iteration time's overhead d0 by the law of
`fluid.hardware.iteration_law`, an iteration of tau seconds draws on average

    W [ a d0 / tau + b (1 - d0 / tau) ]          a, b <= 1

`benchmarks/power_law.py` fits a and b by least squares of relative errors to the ML.ENERGY leaderboard, version 3
(Chung et al. 2025; vLLM 0.11.1, text conversation, 8 to 512 sequences): dense models of 8 to 405 billion parameters on
one to eight H100 and B200. What it leaves is the root mean square of ln(predicted/measured) of the power, each model
held out. For another GPU the shares are those of both together, and the error that of one predicted from the other.

Power while idle is that of a GPU that holds a model and runs nothing; it is not a share of W, so a GPU of which no
measurement is known has none (`fluid.hardware.catalogue`). Source: mathematics, section 19.2.
"""

from __future__ import annotations

from typing import NamedTuple

from fluid.hardware.catalogue import Gpu
from fluid.power import Power


class Shares(NamedTuple):
    """a and b, and the standard deviation of ln(predicted/measured)."""

    overhead: float
    busy: float
    error: float


# written by benchmarks/power_law.py --write; nothing here is set by hand
MEASURED = {
    "h100-80gb": Shares(0.578, 0.976, 0.086),
    "b200": Shares(0.847, 1.000, 0.026),
}
OTHERS = Shares(0.662, 0.982, 0.211)


def power_of(gpu: Gpu, gpus: int = 1, idle: float | None = None) -> Power | None:
    """Return what so many GPUs draw; None where the data sheet's power or the power while idle is not known.

    `idle` (watts of one GPU) is used instead of the catalogue's.

    >>> from fluid.hardware.catalogue import find_gpu
    >>> power = power_of(find_gpu("h100-80gb"), gpus=2)
    >>> round(power.idle), round(power.overhead), round(power.busy)
    (243, 809, 1366)
    """
    at_rest = gpu.idle if idle is None else idle
    if gpu.tdp is None or at_rest is None:
        return None
    shares = MEASURED.get(gpu.name, OTHERS)
    source = "measured" if gpu.name in MEASURED else "law"
    least = max(at_rest, shares.overhead * gpu.tdp)  # only an idle power that is given can be above
    return Power(at_rest, max(least, shares.busy * gpu.tdp), least, source, shares.error).times(gpus)
