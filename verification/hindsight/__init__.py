"""What knowing everything beforehand would have reached: lower bounds of the total latency of any schedule."""

from verification.hindsight.bounds import LowerBound, lower_bound

__all__ = ["LowerBound", "lower_bound"]
