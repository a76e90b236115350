"""The flags of targets: a bound on every statistic of the delays, goodput."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fluidwait.commands.flag_groups import Flags
from fluidwait.commands.options import number, share
from verification.experiments.targets.names import DELAYS, GOOD_SHARE, base

PANEL = "Targets (seconds)"
MEANING = {"latency": "latency", "ttft": "time to the first token", "tpot": "mean time between tokens of a request",
           "itl": "time between two tokens, every gap"}


def _flag(delay: str) -> Any:
    """The flag of a statistic of the delays; of a mean it may be written out."""
    quantity, name, statistic = base(delay), f"--{delay.replace('_', '-')}", delay.partition("_")[2]
    of = f"{statistic[1:]}th percentile of the " if statistic else "" if quantity == "tpot" else "mean "
    return Annotated[float | None, typer.Option(name, *([] if statistic else [f"{name}-mean"]), parser=number,
                                                metavar="SECONDS", show_default=False, rich_help_panel=PANEL,
                                                help=f"Largest {of}{MEANING[quantity]}.")]


GOODPUT = Annotated[str | None, typer.Option(
    "--goodput", metavar="CONDITIONS", show_default=False, rich_help_panel=PANEL,
    help='What a request must meet to count: "ttft<=2, tpot<=0.05".')]
SHARE = Annotated[float | None, typer.Option(
    "--share", parser=share, metavar="SHARE", show_default=False, rich_help_panel=PANEL,
    help=f"The share of requests that must meet --goodput: {GOOD_SHARE:.0%} unless told otherwise.")]
TARGETS: Flags = {**{name: (_flag(name), None) for name in DELAYS}, "goodput": (GOODPUT, None), "share": (SHARE, None)}
