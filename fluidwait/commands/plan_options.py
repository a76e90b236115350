"""Groups of flags of planning: the rates that a plan or a certificate is to hold for, and how a plan is simulated."""

from __future__ import annotations

from typing import Annotated

import typer

from fluidwait.commands.flag_groups import Flags
from fluidwait.commands.options import Replications, Seed, either, number, one_of_these, share
from fluidwait.deployment.policy_names import ROUTABLE

SETS = ("box", "ellipsoid", "chi-square", "bootstrap")  # those of `fluidwait.study.possible`
Within = Annotated[float, typer.Option("--rates-within", parser=share, metavar="SHARE",
                                       help="Hold for rates that are off by so much: 10%.")]
SetName = Annotated[str | None, typer.Option(
    "--set", metavar="NAME", show_default=False, autocompletion=one_of_these(SETS),
    help="Rates that it is to hold for: box, ellipsoid, or of a trace chi-square or bootstrap; by default a box, of a "
         "trace chi-square.")]
Confidence = Annotated[float | None, typer.Option(
    "--confidence", parser=share, metavar="SHARE", show_default=False,
    help="Of a set that a trace makes; by default target.confidence, 95%.")]
Simulate = Annotated[str | None, typer.Option(
    "--simulate", metavar="POLICY", show_default=False, autocompletion=one_of_these(ROUTABLE),
    help=f"Simulate the fleet behind routers, this policy on every replica: {either(ROUTABLE)}")]
Horizon = Annotated[float | None, typer.Option(
    "--horizon", parser=number, metavar="SECONDS", show_default=False,
    help="Time to simulate; by default 40,000 requests, and 60 lives of one.")]

POSSIBLE: Flags = {"within": (Within, 0.0), "name": (SetName, None), "confidence": (Confidence, None)}
SIMULATED: Flags = {"policy": (Simulate, None), "horizon": (Horizon, None), "replications": (Replications, 5),
                    "seed": (Seed, 0)}
