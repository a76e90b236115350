"""What the commands do, each loaded when it is called: `app`, which says what they take, needs nothing of it."""

from typing import TYPE_CHECKING

from fluid.loading import on_demand

if TYPE_CHECKING:
    from fluidwait.commands.certify import certify_command
    from fluidwait.commands.deployments import (
        init_command,
        run_command,
        solve_command,
        thresholds_command,
        verify_command,
    )
    from fluidwait.commands.diagnose import diagnose_command
    from fluidwait.commands.knobs import knobs_command
    from fluidwait.commands.measurements import calibrate_command, trace_command
    from fluidwait.commands.plan import plan_command
    from fluidwait.commands.plans import plans_command
    from fluidwait.commands.rates import capacity_command, sweep_command
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = [
    "calibrate_command",
    "capacity_command",
    "certify_command",
    "diagnose_command",
    "init_command",
    "knobs_command",
    "plan_command",
    "plans_command",
    "run_command",
    "solve_command",
    "sweep_command",
    "thresholds_command",
    "trace_command",
    "verify_command",
]
