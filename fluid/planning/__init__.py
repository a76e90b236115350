"""Fleets of replicas: the cheapest for a demand, the most demand for a fleet, whom to admit where not all fit."""

from typing import TYPE_CHECKING

from fluid.loading import on_demand

if TYPE_CHECKING:
    from fluid.planning.demand import Carried, most_demand
    from fluid.planning.fleet import FleetPlan, plan_fleet
    from fluid.planning.kinds import Kind
    from fluid.planning.margins import Margins, Residuals
    from fluid.planning.overload import Admission, admit
    from fluid.planning.parts import Part, Transfer
    from fluid.planning.robust import RobustPlan, plan_robust
    from fluid.planning.tandem import Pace, TandemCarried, TandemPlan, colocated, most_tandem, pace, plan_tandem
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = [
    "Admission",
    "Carried",
    "FleetPlan",
    "Kind",
    "Margins",
    "Pace",
    "Part",
    "Residuals",
    "RobustPlan",
    "TandemCarried",
    "TandemPlan",
    "Transfer",
    "admit",
    "colocated",
    "most_demand",
    "most_tandem",
    "pace",
    "plan_fleet",
    "plan_robust",
    "plan_tandem",
]
