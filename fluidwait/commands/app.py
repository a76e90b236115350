"""The command line: what each command takes and says of itself. What it does is loaded when it is called.

Exit status 0: done, and the answer is yes; 1: the answer is no; 2: bad input.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from fluidwait import commands
from fluidwait.commands.flag_groups import with_flags
from fluidwait.commands.options import (
    Against,
    AskedPrecision,
    BatchFile,
    Bins,
    CertificateFile,
    Dask,
    DesignName,
    File,
    Force,
    ForDeployment,
    Headroom,
    Headrooms,
    Horizon,
    Install,
    Jobs,
    Json,
    Loads,
    NewFile,
    Out,
    Pieces,
    Policies,
    PolicyName,
    Prices,
    Rates,
    RateWindow,
    Replications,
    SearchPrecision,
    Seed,
    SkipBadRows,
    Spare,
    Spares,
    Tails,
    TraceFile,
    Verbose,
    Version,
    Watermark,
)
from fluidwait.commands.plan_options import POSSIBLE, SIMULATED
from fluidwait.commands.targets import TARGETS
from fluidwait.commands.trace_options import HOW, TRACE, End, FirstToken, RunFile
from fluidwait.deployment.policy_names import AUTO

Group = dict[str, Any]  # flags by name
app = typer.Typer(rich_markup_mode="rich", help="How much traffic can this GPU carry, and how do I admit it?")


@app.callback()
def _everything(version: Version = False) -> None:
    """Fluid model, WAIT thresholds and simulation of LLM inference."""


@app.command("run", epilog="Example: fluidwait run deployment.toml --out results")
@with_flags(keys=TRACE)
def _run(keys: Group, file: File = None, horizon: Horizon = None, replications: Replications = 10,
         precision: AskedPrecision = None, seed: Seed = 0, against: Against = "", out: Out = None,
         verbose: Verbose = False, json: Json = False, version: Version = False) -> None:
    """Solve, derive thresholds and verify what is best to use, beside vLLM V1, in one report."""
    _say(commands.run_command(file, keys, horizon, replications, precision, seed, against, out, verbose, json))


@app.command("solve", epilog="Example: fluidwait solve deployment.toml --json")
@with_flags(keys=TRACE)
def _solve(keys: Group, file: File = None, json: Json = False, version: Version = False) -> None:
    """Solve the fluid equilibrium: batch, KV cache, iteration time, how far the mix can grow."""
    _say(commands.solve_command(file, keys, json))


@app.command("thresholds", epilog="Example: fluidwait thresholds deployment.toml --policy paced")
@with_flags(keys=TRACE)
def _thresholds(keys: Group, file: File = None, policy: DesignName = AUTO, install: Install = None, out: Out = None,
                json: Json = False, version: Version = False) -> None:
    """Derive admission thresholds, say what they guarantee and how to install them."""
    _say(commands.thresholds_command(file, keys, policy, install, out, json))


@app.command("verify", epilog="Example: fluidwait verify deployment.toml --policy greedy --horizon 600")
@with_flags(keys=TRACE, asked=TARGETS)
def _verify(keys: Group, asked: Group, file: File = None, policy: PolicyName = AUTO, horizon: Horizon = None,
            replications: Replications = 10, precision: AskedPrecision = None, seed: Seed = 0,
            watermark: Watermark = None, json: Json = False, version: Version = False) -> None:
    """Simulate a policy and hold the predictions of the fluid model against it, and the targets."""
    _say(commands.verify_command(file, keys, policy, asked, horizon, replications, precision, seed, watermark, json))


@app.command("init", epilog="Example: fluidwait init my-deployment.toml")
def _init(file: NewFile = Path("deployment.toml"), force: Force = False, json: Json = False,
          version: Version = False) -> None:
    """Write a commented example deployment."""
    commands.init_command(file, force, json)


@app.command("trace", epilog="Example: fluidwait trace requests.csv --out results")
@with_flags(keys=TRACE)
def _trace(keys: Group, file: TraceFile, bins: Bins = None, window: RateWindow = None,
           deployment: ForDeployment = None, out: Out = None, json: Json = False, version: Version = False) -> None:
    """Summarise a request trace and print a workload section for it."""
    commands.trace_command(file, keys, bins, window, deployment, out, json)


@app.command("diagnose", epilog="Example: fluidwait diagnose result.json --deployment deployment.toml")
@with_flags(keys=HOW)
def _diagnose(keys: Group, file: RunFile, first_token_column: FirstToken = None, end_column: End = None,
              deployment: ForDeployment = None, json: Json = False, version: Version = False) -> None:
    """Say of a measured run whether the server keeps up, where time goes, and how far a deployment is from it."""
    _say(commands.diagnose_command(file, keys, first_token_column, end_column, deployment, json))


@app.command("calibrate", epilog="Example: fluidwait calibrate batches.csv --pieces 2")
def _calibrate(file: BatchFile, pieces: Pieces = 1, skip_bad_rows: SkipBadRows = False,
               deployment: ForDeployment = None, out: Out = None, json: Json = False,
               version: Version = False) -> None:
    """Fit the iteration time to measured batches and print its section for a deployment file."""
    commands.calibrate_command(file, pieces, skip_bad_rows, deployment, out, json)


@app.command("sweep", epilog="Example: fluidwait sweep --rates 10:80:10 --policies greedy,paced --out results")
@with_flags(keys=TRACE)
def _sweep(keys: Group, policies: Policies, rates: Rates = "", loads: Loads = "", file: File = None,
           horizon: Horizon = None, replications: Replications = 10, seed: Seed = 0, out: Out = None,
           jobs: Jobs = None, dask: Dask = None, json: Json = False, version: Version = False) -> None:
    """Simulate policies over a range of rates; with --out every finished cell is kept, and the same command goes on."""
    commands.sweep_command(policies, rates, loads, file, keys, horizon, replications, seed, out, jobs, dask, json)


@app.command("capacity", epilog="Example: fluidwait capacity deployment.toml --policy paced --latency 2")
@with_flags(keys=TRACE, asked=TARGETS)
def _capacity(keys: Group, asked: Group, file: File = None, policy: PolicyName = AUTO,
              precision: SearchPrecision = 0.02, horizon: Horizon = None, replications: Replications = 10,
              seed: Seed = 0, json: Json = False, version: Version = False) -> None:
    """Search for the largest rate that a policy sustains, within the targets of the flags, or else of the file."""
    _say(commands.capacity_command(file, keys, policy, asked, precision, horizon, replications, seed, json))


@app.command("knobs", epilog="Example: fluidwait knobs deployment.toml --ttft-p99 2 --tpot-mean 0.05")
@with_flags(keys=TRACE, asked=TARGETS)
def _knobs(keys: Group, asked: Group, file: File = None, horizon: Horizon = None, replications: Replications = 4,
           seed: Seed = 0, json: Json = False, version: Version = False) -> None:
    """Find the flags of vLLM for a workload and targets: what each setting costs and gains, and a line to paste."""
    _say(commands.knobs_command(file, keys, asked, horizon, replications, seed, json))


@app.command("plan", epilog="Example: fluidwait plan deployment.toml --headroom 10% --spare 1")
@with_flags(keys=TRACE, possible=POSSIBLE, simulated=SIMULATED)
def _plan(keys: Group, possible: Group, simulated: Group, file: File = None, headroom: Headroom = 0.0,
          spare: Spare = 0, tails: Tails = False, json: Json = False, version: Version = False) -> None:
    """Find the cheapest fleet for a demand, what the fleet there is carries, and what more of anything is worth."""
    _say(commands.plan_command(file, keys, headroom, spare, tails, possible, simulated, json))


@app.command("certify", epilog="Example: fluidwait certify deployment.toml --rates-within 10% --out certificate.json")
@with_flags(keys=TRACE, possible=POSSIBLE)
def _certify(keys: Group, possible: Group, file: File = None, out: CertificateFile = None, json: Json = False,
             version: Version = False) -> None:
    """Prove what windows carry and what nobody does, with all numbers that anyone needs to check it."""
    _say(commands.certify_command(file, keys, possible, out, json))


@app.command("plans", epilog="Example: fluidwait plans deployment.toml --rates 10:80:10 --headrooms 0,10%")
@with_flags(keys=TRACE)
def _plans(keys: Group, file: File = None, rates: Rates = "", headrooms: Headrooms = "0", spares: Spares = "0",
           prices: Prices = "", out: Out = None, jobs: Jobs = None, dask: Dask = None, json: Json = False,
           version: Version = False) -> None:
    """Plan a fleet for every rate, head-room, spare and price; with --out plans are kept, the same command goes on."""
    commands.plans_command(file, keys, rates, headrooms, spares, prices, out, jobs, dask, json)


def _say(yes: bool) -> None:
    if not yes:
        raise typer.Exit(1)
