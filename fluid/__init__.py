"""The fluid model of LLM inference: workloads, replicas, the equilibrium and the stability region."""

from typing import TYPE_CHECKING

from fluid.loading import on_demand

if TYPE_CHECKING:
    from fluid.calibration.batches import Batches, read_batches
    from fluid.calibration.calibration import Calibration
    from fluid.calibration.fit import calibrate
    from fluid.closed_loop import ClosedEquilibrium, solve_users
    from fluid.energy import Energy, energy_at
    from fluid.equilibrium import Equilibrium, solve
    from fluid.errors import FileError, FluidwaitError, InputError
    from fluid.lengths.law import Lengths
    from fluid.lengths.pairs import LengthPairs
    from fluid.power import Power
    from fluid.region import Region, stability_region
    from fluid.replica import IterationTime, Replica
    from fluid.shared_prefixes import SharedPrefix, share_prefixes
    from fluid.stages import StageProfile, stage_profile
    from fluid.traces.trace import Binned, Columns, Trace, read_trace
    from fluid.varying_rates import Schedule, solve_windows
    from fluid.workload import PromptType, Workload
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = [
    "Batches",
    "Binned",
    "Calibration",
    "ClosedEquilibrium",
    "Columns",
    "Energy",
    "Equilibrium",
    "FileError",
    "FluidwaitError",
    "InputError",
    "IterationTime",
    "LengthPairs",
    "Lengths",
    "Power",
    "PromptType",
    "Region",
    "Replica",
    "Schedule",
    "SharedPrefix",
    "StageProfile",
    "Trace",
    "Workload",
    "calibrate",
    "energy_at",
    "read_batches",
    "read_trace",
    "share_prefixes",
    "solve",
    "solve_users",
    "solve_windows",
    "stability_region",
    "stage_profile",
]
