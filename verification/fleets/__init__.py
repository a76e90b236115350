"""Fleets: several replicas behind a router, simulated together on the same arrivals."""

from typing import TYPE_CHECKING

from fluid.loading import on_demand

if TYPE_CHECKING:
    from verification.fleets.fleet import Fleet
    from verification.fleets.fleet_run import FleetRun
    from verification.fleets.router import Router
    from verification.fleets.simulation import simulate_fleet
    from verification.fleets.tandem import Tandem, simulate_tandem
    from verification.fleets.tandem_run import TandemRun
    from verification.fleets.tandem_trials import TandemTrial, try_tandem
    from verification.fleets.trials import FleetTrial, try_fleet
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = [
    "Fleet",
    "FleetRun",
    "FleetTrial",
    "Router",
    "Tandem",
    "TandemRun",
    "TandemTrial",
    "simulate_fleet",
    "simulate_tandem",
    "try_fleet",
    "try_tandem",
]
