"""Groups of flags of planning: the rates that a plan or a certificate is to hold for, and how a plan is simulated."""

from __future__ import annotations

from typing import Annotated

import typer

from fluidwait.commands.flag_groups import Flags
from fluidwait.commands.options import either, number, one_of_these, share, whole_number
from fluidwait.deployment.policy_names import ROUTABLE

SETS = ("box", "ellipsoid", "chi-square", "bootstrap")  # those of `fluidwait.study.possible`
RATES, SIMULATION = "Rates that may be others", "The fleet simulated"
Within = Annotated[float, typer.Option("--rates-within", parser=share, metavar="SHARE", rich_help_panel=RATES,
                                       help="Hold for rates that are off by so much: 10%.")]
SetName = Annotated[str | None, typer.Option(
    "--set", metavar="NAME", show_default=False, rich_help_panel=RATES,
    autocompletion=one_of_these(SETS),
    help="Rates that it is to hold for: box, ellipsoid, or of a trace chi-square or bootstrap; by default a box, of a "
         "trace chi-square.")]
Confidence = Annotated[float | None, typer.Option(
    "--confidence", parser=share, metavar="SHARE", show_default=False, rich_help_panel=RATES,
    help="Of a set that a trace makes; by default target.confidence, 95%.")]
Simulate = Annotated[str | None, typer.Option(
    "--simulate", metavar="POLICY", show_default=False, rich_help_panel=SIMULATION,
    autocompletion=one_of_these(ROUTABLE),
    help=f"Simulate the fleet behind routers, this policy on every replica: {either(ROUTABLE)}")]
Horizon = Annotated[float | None, typer.Option(
    "--horizon", parser=number, metavar="SECONDS", show_default=False, rich_help_panel=SIMULATION,
    help="Time to simulate; by default 40,000 requests, and 60 lives of one.")]
Replications = Annotated[int, typer.Option("--replications", parser=whole_number, metavar="NUMBER",
                                           rich_help_panel=SIMULATION, help="Independent simulations.")]
Seed = Annotated[int, typer.Option("--seed", parser=whole_number, metavar="NUMBER", rich_help_panel=SIMULATION,
                                   help="Seed of the random streams.")]

POSSIBLE: Flags = {"within": (Within, 0.0), "name": (SetName, None), "confidence": (Confidence, None)}
SIMULATED: Flags = {"policy": (Simulate, None), "horizon": (Horizon, None), "replications": (Replications, 5),
                    "seed": (Seed, 0)}
