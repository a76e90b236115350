"""Heavy traffic: the scaling of the paper, experiments along it, their slopes, and what runs say of queues."""

from verification.asymptotics.entry_queue import entry_queue
from verification.asymptotics.experiment import HeavyTraffic, experiment, slope
from verification.asymptotics.observed import Observed, Point, observe
from verification.asymptotics.scaling import Scaled, scaled
from verification.asymptotics.slope import Slope, power_law

__all__ = ["HeavyTraffic", "Observed", "Point", "Scaled", "Slope", "entry_queue", "experiment", "observe", "power_law",
           "scaled", "slope"]
