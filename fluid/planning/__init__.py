"""Fleets of replicas: the cheapest for a demand, the most demand for a fleet, whom to admit where not all fit."""

from typing import TYPE_CHECKING

from fluid.loading import on_demand

if TYPE_CHECKING:
    from fluid.planning.demand import Carried, most_demand
    from fluid.planning.fleet import FleetPlan, plan_fleet
    from fluid.planning.kinds import Kind
    from fluid.planning.margins import Margins, Residuals
    from fluid.planning.overload import Admission, admit
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = ["Admission", "Carried", "FleetPlan", "Kind", "Margins", "Residuals", "admit", "most_demand", "plan_fleet"]
