"""The flags that commands share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fluid.errors import shown
from fluidwait import __version__
from verification.sequential import MOST_REPLICATIONS


def number(text: str) -> float:
    """A number, as a flag gives it."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"must be a number (got {shown(text)})") from None


def whole_number(text: str) -> int:
    """A whole number, as a flag gives it."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"must be a whole number (got {shown(text)})") from None


def share(text: str) -> float:
    """A share of one, as a flag gives it: 2% or 0.02."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise typer.BadParameter(f'must be a share, as "2%" or "0.02" (got {shown(text)})') from None


def folder(text: str) -> Path:
    """The name of a folder."""
    if not text:
        raise typer.BadParameter("must be the name of a folder (got '')")
    return Path(text)


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        typer.echo(f"fluidwait {__version__}")
        raise typer.Exit


File = Annotated[Path | None, typer.Argument(help="Deployment file (TOML), or a trace for the built-in A100; without "
                                                  "it the built-in deployment.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the report.")]
Version = Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True,
                                       help="Print the version and exit.")]
Horizon = Annotated[float | None, typer.Option(parser=number, metavar="SECONDS", show_default=False,
                                               help="Time to simulate; by default target.horizon.")]
Replications = Annotated[int, typer.Option(parser=whole_number, metavar="NUMBER", help="Independent simulations.")]
Precision = Annotated[float | None, typer.Option(
    parser=share, metavar="SHARE", show_default=False,
    help=f"Simulate more, up to {MOST_REPLICATIONS:,}, until mean latency and throughput are known this well: 2%.")]
Seed = Annotated[int, typer.Option(parser=whole_number, metavar="NUMBER", help="Seed of the random streams.")]
Out = Annotated[Path | None, typer.Option(parser=folder, metavar="FOLDER", show_default=False,
                                          help="Where to put the figures and the report.")]
ForDeployment = Annotated[Path | None, typer.Option("--deployment", metavar="FILE", show_default=False,
                                                    help="Deployment file whose replica counts.")]
SkipBadRows = Annotated[bool, typer.Option("--skip-bad-rows", help="Leave out rows that cannot be used, and count "
                                                                   "them, instead of refusing the file.")]
