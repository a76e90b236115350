"""What knowing everything beforehand would have reached: the optimum, and lower bounds."""

from verification.hindsight.bounds import LowerBound, lower_bound
from verification.hindsight.optimum import Hindsight, hindsight

__all__ = ["Hindsight", "LowerBound", "hindsight", "lower_bound"]
