"""Fleets over a day: what to order and release when, autoscaling without a forecast, and what waits meanwhile."""

from typing import TYPE_CHECKING

from fluid.loading import on_demand

if TYPE_CHECKING:
    from fluid.scheduling.backlog import Backlog, backlog
    from fluid.scheduling.day import DayPlan, plan_day
    from fluid.scheduling.reactive import Reaction, react
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = ["Backlog", "DayPlan", "Reaction", "backlog", "plan_day", "react"]
