"""The commands: parse, call, print. Exit status 0: done, and the answer is yes; 1: the answer is no; 2: bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from fluid import FluidwaitError, solve
from fluid.errors import one_line, one_of
from fluid.files.written import write_file
from fluidwait.commands import measurements, rates
from fluidwait.commands.knobs import knobs_command
from fluidwait.commands.options import (
    Against,
    AskedPrecision,
    DesignName,
    File,
    Horizon,
    Install,
    Json,
    Out,
    PolicyName,
    Replications,
    Seed,
    Verbose,
    Version,
    Watermark,
)
from fluidwait.commands.targets import with_targets
from fluidwait.deployment.deployment import Deployment, deployment_of, embedded, embedded_text
from fluidwait.deployment.policy_names import AUTO, BASELINES, DESIGNED, known, visible
from fluidwait.reports import answers
from fluidwait.reports.console import give, write
from fluidwait.reports.run import show_equilibrium, show_outcome, show_plugin, show_run, show_thresholds
from fluidwait.study.advice import ENGINE, advise
from fluidwait.study.designs import choose, holds
from fluidwait.study.outcomes import Comparison, Plan, compare, examine
from fluidwait.study.plugin import INSTALLED, written
from thresholds.policies import policy_text
from verification import Targets

app = typer.Typer(add_completion=False, rich_markup_mode="rich",
                  help="How much traffic can this GPU carry, and how do I admit it?")


@app.callback()
def _everything(version: Version = False) -> None:
    """Fluid model, WAIT thresholds and simulation of LLM inference."""


@app.command("run", epilog="Example: fluidwait run deployment.toml --out results")
def run_command(file: File = None, horizon: Horizon = None, replications: Replications = 10,
                precision: AskedPrecision = None, seed: Seed = 0, against: Against = "", out: Out = None,
                verbose: Verbose = False, json: Json = False, version: Version = False) -> None:
    """Solve, derive thresholds and verify what is best to use, beside vLLM V1, in one report."""
    rivals = tuple(known("--against", name.strip(), BASELINES) for name in against.split(",") if name.strip())
    deployment = deployment_of(file)
    for rival in rivals:
        visible("--against", rival, deployment)
    plan = Plan.checked(deployment, horizon, replications, seed, precision)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    found = compare(deployment, plan, rivals)
    answer = {**answers.provenance("run", deployment), "seed": seed, **answers.run_answer(found)}
    if out is not None:
        _write(out, found, answer)
    give(answer, json, lambda: show_run(deployment, found, out, verbose))
    _say(found.yes)


@app.command("solve", epilog="Example: fluidwait solve deployment.toml --json")
def solve_command(file: File = None, json: Json = False, version: Version = False) -> None:
    """Solve the fluid equilibrium: batch, KV cache, iteration time, how far the mix can grow."""
    deployment = deployment_of(file)
    equilibrium = solve(deployment.workload, deployment.replica)
    answer = {**answers.provenance("solve", deployment), **answers.solve_answer(equilibrium),
              **answers.timing_answer(deployment), **answers.mix_answer(deployment.mix)}
    give(answer, json, lambda: show_equilibrium(deployment, equilibrium))
    _say(equilibrium.stable and not deployment.mix.overload)


@app.command("thresholds", epilog="Example: fluidwait thresholds deployment.toml --policy paced")
def thresholds_command(file: File = None, policy: DesignName = AUTO, install: Install = None, out: Out = None,
                       json: Json = False, version: Version = False) -> None:
    """Derive admission thresholds, say what they guarantee and how to install them."""
    known("--policy", policy, (AUTO, *DESIGNED))
    _check_install(install, policy, out)
    deployment = deployment_of(file)
    visible("--policy", policy, deployment)
    if install is not None and out is not None:
        path = written(deployment, install, out)
        answer = {**answers.provenance("thresholds", deployment), "install": install, "file": str(path)}
        give(answer, json, lambda: show_plugin(path))
        return
    choice = choose(deployment, policy)
    advice = advise(deployment, choice) if policy == AUTO else None
    answer = {**answers.provenance("thresholds", deployment), "why": choice.why,
              **answers.thresholds_answer(choice.design), "advice": answers.advice_answer(advice),
              **answers.mix_origin(deployment.mix)}
    if not holds(deployment, choice.design):
        answer["overflow_probability"] = None
    give(answer, json, lambda: show_thresholds(deployment, choice, advice))
    _say(choice.design.feasible)


@app.command("verify", epilog="Example: fluidwait verify deployment.toml --policy greedy --horizon 600")
@with_targets
def verify_command(targets: Targets | None, file: File = None, policy: PolicyName = AUTO, horizon: Horizon = None,
                   replications: Replications = 10, precision: AskedPrecision = None, seed: Seed = 0,
                   watermark: Watermark = None, json: Json = False, version: Version = False) -> None:
    """Simulate a policy and hold the predictions of the fluid model against it, and the targets."""
    known("--policy", policy)
    deployment = deployment_of(file)
    deployment = deployment if targets is None else replace(deployment, targets=targets)
    visible("--policy", policy, deployment)
    plan = Plan.checked(deployment, horizon, replications, seed, precision)
    if policy == ENGINE:
        _refuse_what_never_fits(deployment)
    outcome = examine(deployment, policy, plan, watermark)
    answer = {**answers.provenance("verify", deployment), **answers.verify_answer(outcome)}
    give(answer, json, lambda: show_outcome(outcome))
    _say(outcome.yes)


@app.command("init", epilog="Example: fluidwait init my-deployment.toml")
def init_command(file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("deployment.toml"),
                 force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
                 json: Json = False, version: Version = False) -> None:
    """Write a commented example deployment."""
    if file.exists() and not force:
        raise FluidwaitError(f"{file}: exists already; choose another name or say --force")
    write_file(file, embedded_text())
    answer = {**answers.provenance("init", embedded()), "file": str(file)}
    give(answer, json, lambda: typer.echo(one_line(f"wrote {file}; next: fluidwait run {file}")))


app.command("trace", epilog="Example: fluidwait trace requests.csv --out results")(measurements.trace_command)
app.command("calibrate", epilog="Example: fluidwait calibrate batches.csv --pieces 2")(measurements.calibrate_command)
app.command("sweep", epilog="Example: fluidwait sweep --rates 10:80:10 --policies greedy,paced --out results"
            )(rates.sweep_command)
app.command("capacity", epilog="Example: fluidwait capacity deployment.toml --policy paced --latency 2"
            )(rates.capacity_command)
app.command("knobs", epilog="Example: fluidwait knobs deployment.toml --ttft-p99 2 --tpot-mean 0.05")(knobs_command)


def _refuse_what_never_fits(deployment: Deployment) -> None:
    """As the engine does, which takes no request that is longer than its cache."""
    equilibrium = solve(deployment.workload, deployment.replica)
    if equilibrium.limit == "length":
        raise FluidwaitError(f"{deployment.source}: {equilibrium.reason}, and vLLM refuses such requests")


def _check_install(install: str | None, policy: str, out: Path | None) -> None:
    if install is None and out is not None:
        raise FluidwaitError("--out goes with --install (got --out alone)")
    if install is None:
        return
    one_of("--install", install, tuple(INSTALLED))
    one_of("--policy", policy, (AUTO, "paced"))
    if out is None:
        raise FluidwaitError("--install must have --out FOLDER beside it (got none)")


def _write(folder: Path, found: Comparison, answer: dict[str, Any]) -> None:
    from fluidwait.figures.run import draw  # matplotlib takes a second to load

    policy = {"policy.json": policy_text(found.used)} if found.used.exists else {}
    write(folder, answer, {**policy, **draw(found)})


def _say(yes: bool) -> None:
    if not yes:
        raise typer.Exit(1)
