"""The flags of the commands, how their values are read, and what the shell completes them to.

Nothing here loads what the commands work with, for `--help` and completion load this.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from fluid.errors import number_meant, shown
from fluidwait.deployment.policy_names import AUTO, BASELINES, DESIGNED, POLICIES

MOST_REPLICATIONS = 1000  # that of `verification.statistics.precision`
INSTALLED = ("vllm", "gateway")  # those of `fluidwait.study.plugin`


def number(text: str) -> float:
    """A number, as a flag gives it: in digits that everybody reads."""
    try:
        return float(text.encode("ascii"))
    except ValueError:
        raise typer.BadParameter(_refusal("a number", text)) from None


def whole_number(text: str) -> int:
    """A whole number, as a flag gives it."""
    try:
        return int(str(text).encode("ascii"))
    except ValueError:
        raise typer.BadParameter(_refusal("a whole number", str(text))) from None


def share(text: str) -> float:
    """A share of one, as a flag gives it: 2% or 0.02."""
    try:
        given = str(text).encode("ascii")  # a default comes as a number
        return float(given[:-1]) / 100 if given.endswith(b"%") else float(given)
    except ValueError:
        raise typer.BadParameter(_refusal('a share, as "2%" or "0.02"', str(text))) from None


def _refusal(requirement: str, text: str) -> str:
    guess = "" if "%" in text + requirement and "," not in text else number_meant(text)
    return f"must be {requirement} (got {shown(text)})" + (f"; {guess}" if guess else "")


def folder(text: str) -> Path:
    """The name of a folder."""
    if not text:
        raise typer.BadParameter("must be the name of a folder (got '')")
    return Path(text)


def either(names: tuple[str, ...]) -> str:
    """Names in a sentence: "auto, wait or paced."."""
    return f"{', '.join(names[:-1])} or {names[-1]}."


def one_of_these(names: tuple[str, ...]) -> Callable[[str], list[str]]:
    """What the shell completes a name to."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def some_of_these(names: tuple[str, ...]) -> Callable[[str], list[str]]:
    """What the shell completes the last of several names to, commas between them."""
    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + name for name in names if name.startswith(last) and name not in before.split(",")]

    return complete


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        from fluidwait.version import __version__

        typer.echo(f"fluidwait {__version__}")
        raise typer.Exit


File = Annotated[Path | None, typer.Argument(help="Deployment file (TOML), or a trace for the built-in A100; without "
                                                  "it the built-in deployment.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the report.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Print everything: the equilibrium, the trials, each "
                                                         "simulation.")]
Version = Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True,
                                       help="Print the version and exit.")]
Horizon = Annotated[float | None, typer.Option(parser=number, metavar="SECONDS", show_default=False,
                                               help="Time to simulate; by default target.horizon.")]
Replications = Annotated[int, typer.Option(parser=whole_number, metavar="NUMBER", help="Independent simulations.")]
AskedPrecision = Annotated[float | None, typer.Option(
    parser=share, metavar="SHARE", show_default=False,
    help=f"Simulate more, up to {MOST_REPLICATIONS:,}, until mean latency and throughput are known this well: 2%.")]
Seed = Annotated[int, typer.Option(parser=whole_number, metavar="NUMBER", help="Seed of the random streams.")]
Out = Annotated[Path | None, typer.Option(parser=folder, metavar="FOLDER", show_default=False,
                                          help="Where to put the figures and the report.")]
Rates = Annotated[str, typer.Option(metavar="RATES", show_default=False,
                                    help="Total requests/s: start:stop:step, stop included, or 5,10,20.")]
Loads = Annotated[str, typer.Option(metavar="SHARES", show_default=False,
                                    help="Instead of rates, shares of the edge: 0.7,0.9,0.98 or start:stop:step.")]
Policies = Annotated[str, typer.Option(metavar="NAMES", show_default=False,
                                       autocompletion=some_of_these((*DESIGNED, *BASELINES)),
                                       help=f"Policies with commas between: {', '.join((*DESIGNED, *BASELINES))}.")]
Jobs = Annotated[int | None, typer.Option(parser=whole_number, metavar="NUMBER", show_default=False,
                                          help="Cells at a time; by default one per core.")]
Dask = Annotated[str | None, typer.Option(metavar="ADDRESS", show_default=False,
                                          help="Run the cells on the Dask cluster with this scheduler.")]
PolicyName = Annotated[str, typer.Option(metavar="NAME", help=either(POLICIES),
                                         autocompletion=one_of_these(POLICIES))]
Watermark = Annotated[float | None, typer.Option(
    parser=share, metavar="SHARE", show_default=False,
    help="Keep this share of the KV cache free when admitting, under a policy that evicts: 5%.")]
Install = Annotated[str | None, typer.Option(
    metavar="ENGINE", show_default=False, autocompletion=one_of_these(INSTALLED),
    help='Write the windows as a scheduler class ("vllm") or a gateway ("gateway") into --out FOLDER instead.')]
Against = Annotated[str, typer.Option(
    metavar="NAMES", autocompletion=some_of_these(BASELINES),
    help=f"Simulate these beside it too, with commas between: {', '.join(BASELINES)}.")]
DesignName = Annotated[str, typer.Option(metavar="NAME", help=either((AUTO, *DESIGNED)),
                                         autocompletion=one_of_these((AUTO, *DESIGNED)))]
SearchPrecision = Annotated[float, typer.Option("--precision", parser=share, metavar="SHARE",
                                                help="Width of the answer over the rate, such as 2% or 0.02.")]
ForDeployment = Annotated[Path | None, typer.Option("--deployment", metavar="FILE", show_default=False,
                                                    help="Deployment file whose replica counts.")]
SkipBadRows = Annotated[bool, typer.Option("--skip-bad-rows", help="Leave out rows that cannot be used, and count "
                                                                   "them, instead of refusing the file.")]
NewFile = Annotated[Path, typer.Argument(help="The file to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
TraceFile = Annotated[Path, typer.Argument(help="Request trace: CSV, JSON lines or JSON, also gzipped.")]
Bins = Annotated[int | None, typer.Option(parser=whole_number, metavar="NUMBER", show_default=False,
                                          help="Put the lengths together into so many types.")]
RateWindow = Annotated[float | None, typer.Option(parser=number, metavar="SECONDS", show_default=False,
                                                  help="Let the rate of the section follow the trace's, in windows.")]
BatchFile = Annotated[Path, typer.Argument(help="Measured batches: CSV, or the log of an engine, also gzipped.")]
Pieces = Annotated[int, typer.Option(parser=whole_number, metavar="NUMBER", help="Lines; the largest counts.")]
CertificateFile = Annotated[Path | None, typer.Option(
    "--out", metavar="FILE", show_default=False, help="Write the certificate, as JSON.")]
Headroom = Annotated[float, typer.Option(parser=share, metavar="SHARE",
                                         help="Carry so much more than the demand: 10%.")]
Tails = Annotated[bool, typer.Option("--tails", help="Simulate a replica of each kind, to keep all targets.")]
Headrooms = Annotated[str, typer.Option(metavar="SHARES", help="Head-rooms with commas between: 0,10%,20%.")]
Spares = Annotated[str, typer.Option(metavar="NUMBERS", help="Spare replicas with commas between: 0,1.")]
Prices = Annotated[str, typer.Option(metavar="KIND=PRICES", show_default=False,
                                     help="Prices of one kind with commas between: big=3,4,5.")]
Spare = Annotated[int, typer.Option(parser=whole_number, metavar="NUMBER",
                                    help="Carry it without so many replicas of any one kind, too.")]
