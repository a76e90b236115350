"""The flags of targets: a bound on every statistic of the delays, goodput; and how they join those of the file."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from fluid.errors import InputError
from fluidwait.commands.options import number, share
from verification import Bound, Goodput, Targets
from verification.experiments.targets.bounds import SHARE
from verification.experiments.targets.delays import DELAYS, base

PANEL = "Targets (seconds)"
MEANING = {"latency": "latency", "ttft": "time to the first token", "tpot": "mean time between tokens of a request",
           "itl": "time between two tokens, every gap"}


def with_targets(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the flags of all targets: it gets them as `targets`, None where there is none of them."""
    hints = get_type_hints(command, include_extras=True)
    del hints["targets"]
    hints |= {name: _flag(name) for name in DELAYS} | {"goodput": GOODPUT, "share_": SHARE_OF}
    own = [each.replace(annotation=hints[name])
           for name, each in inspect.signature(command).parameters.items() if name != "targets"]
    added = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=hints[name])
             for name in (*DELAYS, "goodput", "share_")]

    @wraps(command)
    def run(**given: Any) -> None:
        asked = {name: given.pop(name) for name in (*DELAYS, "goodput", "share_")}
        command(targets=_targets(asked), **given)

    del vars(run)["__wrapped__"]  # its signature is another
    run.__annotations__ = hints
    vars(run)["__signature__"] = inspect.Signature([*own, *added])
    return run


def _targets(asked: dict[str, Any]) -> Targets | None:
    """What the flags ask for."""
    bounds = tuple(_bound(name, asked[name]) for name in DELAYS if asked[name] is not None)
    if asked["goodput"] is None and asked["share_"] is not None:
        raise InputError("--share", "given beside --goodput only", asked["share_"])
    goodput = None
    if asked["goodput"] is not None:
        goodput = Goodput.read(asked["goodput"], SHARE if asked["share_"] is None else asked["share_"], "--goodput")
    return Targets(bounds, goodput) if bounds or goodput else None


def _bound(name: str, seconds: float) -> Bound:
    try:
        return Bound(name, seconds)
    except InputError as error:
        raise InputError(_name(name), error.requirement, seconds) from None


def _name(delay: str) -> str:
    return f"--{delay.replace('_', '-')}"


def _flag(delay: str) -> Any:
    """The flag of a statistic of the delays; of a mean it may be written out."""
    quantity, statistic = base(delay), delay.partition("_")[2]
    names = [_name(delay)] if statistic else [_name(delay), f"{_name(delay)}-mean"]
    of = f"{statistic[1:]}th percentile of the " if statistic else "" if quantity == "tpot" else "mean "
    return Annotated[float | None, typer.Option(*names, parser=number, metavar="SECONDS", show_default=False,
                                                help=f"Largest {of}{MEANING[quantity]}.", rich_help_panel=PANEL)]


GOODPUT = Annotated[str | None, typer.Option(
    "--goodput", metavar="CONDITIONS", show_default=False, rich_help_panel=PANEL,
    help='What a request must meet to count: "ttft<=2, tpot<=0.05".')]
SHARE_OF = Annotated[float | None, typer.Option(
    "--share", parser=share, metavar="SHARE", show_default=False, rich_help_panel=PANEL,
    help=f"The share of requests that must meet --goodput: {SHARE:.0%} unless told otherwise.")]
