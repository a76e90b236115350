"""Heavy traffic: the scaling of the paper, experiments along it, slopes, and what runs say of queues."""

from verification.asymptotics.boundary_queues import BoundaryQueues, boundary_queues
from verification.asymptotics.buffers import NeededMemory, needed_memory
from verification.asymptotics.entry_queue import entry_queue
from verification.asymptotics.experiment import HeavyTraffic, experiment, slope
from verification.asymptotics.least_backlog import backlog, least_backlog
from verification.asymptotics.observed import Observed, Point, observe
from verification.asymptotics.scaling import Scaled, scaled
from verification.asymptotics.slope import Slope, power_law

__all__ = [
    "BoundaryQueues",
    "HeavyTraffic",
    "NeededMemory",
    "Observed",
    "Point",
    "Scaled",
    "Slope",
    "backlog",
    "boundary_queues",
    "entry_queue",
    "experiment",
    "least_backlog",
    "needed_memory",
    "observe",
    "power_law",
    "scaled",
    "slope",
]


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
