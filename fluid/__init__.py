"""The fluid model of LLM inference: workloads, replicas, the equilibrium and the stability region."""

from fluid.equilibrium import Equilibrium, solve
from fluid.errors import FileError, FluidwaitError, InputError
from fluid.profile import StageProfile, stage_profile
from fluid.region import Region, stability_region
from fluid.replica import IterationTime, Replica
from fluid.workload import PromptType, Workload

__all__ = [
    "Equilibrium",
    "FileError",
    "FluidwaitError",
    "InputError",
    "IterationTime",
    "PromptType",
    "Region",
    "Replica",
    "StageProfile",
    "Workload",
    "solve",
    "stability_region",
    "stage_profile",
]
