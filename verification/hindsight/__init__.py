"""What knowing everything beforehand would have reached: the optimum, lower bounds, exact cases, an adversary."""

from verification.hindsight.adversary import Loss, against
from verification.hindsight.bounds import LowerBound, lower_bound
from verification.hindsight.optimum import Hindsight, hindsight
from verification.hindsight.special_cases import Exact, exact

__all__ = ["Exact", "Hindsight", "Loss", "LowerBound", "against", "exact", "hindsight", "lower_bound"]


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
