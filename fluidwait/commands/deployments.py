"""The commands on a deployment: run, solve, thresholds, verify, init. Each says whether the answer is yes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from fluid import FluidwaitError, solve
from fluid.errors import one_line, one_of, whole
from fluid.files.written import write_file
from fluidwait.deployment.deployment import Deployment, deployment_of, embedded, embedded_text
from fluidwait.deployment.policy_names import AUTO, BASELINES, DESIGNED, known, visible
from fluidwait.deployment.read_targets import Asked, asked_targets
from fluidwait.deployment.trace_keys import Flags, TraceKeys
from fluidwait.reports import answers
from fluidwait.reports.batch import makespans_answer, show_makespans
from fluidwait.reports.burstiness import burstiness_answer
from fluidwait.reports.console import give, write
from fluidwait.reports.energy import compared_money, measured_money, predicted_answer
from fluidwait.reports.run import show_equilibrium, show_outcome, show_plugin, show_run, show_thresholds
from fluidwait.study.advice import ENGINE, advise
from fluidwait.study.batch import is_batch, makespans, refuse_batch
from fluidwait.study.burstiness import beside_poisson
from fluidwait.study.designs import choose, holds
from fluidwait.study.outcomes import Comparison, Plan, compare, examine
from fluidwait.study.plugin import INSTALLED, written
from thresholds.policies import policy_text


def run_command(file: Path | None, keys: Flags, horizon: float | None, replications: int, precision: float | None,
                seed: int, against: str, out: Path | None, verbose: bool, json: bool) -> bool:
    """Solve, design and simulate what is best to use, beside vLLM V1 and the policies `against`."""
    rivals = tuple(known("--against", name.strip(), BASELINES) for name in against.split(",") if name.strip())
    deployment = deployment_of(file, TraceKeys.of_flags(keys))
    for rival in rivals:
        visible("--against", rival, deployment)
    plan = Plan.checked(deployment, horizon, replications, seed, precision)
    if is_batch(deployment):
        return _batch("run", deployment, (AUTO, *rivals), plan, json)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    found = compare(deployment, plan, rivals)
    bursts = beside_poisson(deployment, found.chosen, plan)
    answer = {**answers.provenance("run", deployment), "seed": seed,
              **answers.run_answer(found, deployment.dispersion), **burstiness_answer(bursts),
              **predicted_answer(deployment, found.equilibrium),
              "money": compared_money(deployment, found)}
    if out is not None:
        _write(out, found, answer)
    give(answer, json, lambda: show_run(deployment, found, bursts, out, verbose))
    return found.yes


def solve_command(file: Path | None, keys: Flags, json: bool) -> bool:
    """Solve the fluid equilibrium."""
    deployment = deployment_of(file, TraceKeys.of_flags(keys))
    equilibrium = solve(deployment.workload, deployment.replica)
    answer = {**answers.provenance("solve", deployment), **answers.solve_answer(equilibrium),
              **answers.timing_answer(deployment), **answers.mix_answer(deployment.mix),
              **predicted_answer(deployment, equilibrium)}
    give(answer, json, lambda: show_equilibrium(deployment, equilibrium))
    return (equilibrium.stable or deployment.mix.closed is not None) and not deployment.mix.overload


def thresholds_command(file: Path | None, keys: Flags, policy: str, install: str | None, out: Path | None,
                       json: bool) -> bool:
    """Design thresholds, or write them as what an engine loads."""
    known("--policy", policy, (AUTO, *DESIGNED))
    _check_install(install, policy, out)
    deployment = deployment_of(file, TraceKeys.of_flags(keys))
    visible("--policy", policy, deployment)
    if install is not None and out is not None:
        path = written(deployment, install, out)
        answer = {**answers.provenance("thresholds", deployment), "install": install, "file": str(path)}
        give(answer, json, lambda: show_plugin(path))
        return True
    choice = choose(deployment, policy)
    advice = advise(deployment, choice) if policy == AUTO else None
    answer = {**answers.provenance("thresholds", deployment), "why": choice.why,
              **answers.thresholds_answer(choice.design, deployment.dispersion),
              "advice": answers.advice_answer(advice), **answers.mix_origin(deployment.mix)}
    if not holds(deployment, choice.design):
        answer["overflow_probability"] = None
    give(answer, json, lambda: show_thresholds(deployment, choice, advice))
    return choice.design.feasible


def verify_command(file: Path | None, keys: Flags, policy: str, asked: Asked, horizon: float | None, replications: int,
                   precision: float | None, seed: int, watermark: float | None, json: bool) -> bool:
    """Simulate a policy and hold the predictions against it, and the targets."""
    known("--policy", policy)
    targets = asked_targets(asked)
    deployment = deployment_of(file, TraceKeys.of_flags(keys))
    if targets is not None:
        whole("--replications", replications, unit="replications", least=2)  # intervals decide
        refuse_batch(deployment, "targets")
        deployment = replace(deployment, targets=targets)
    visible("--policy", policy, deployment)
    plan = Plan.checked(deployment, horizon, replications, seed, precision)
    if is_batch(deployment):
        return _batch("verify", deployment, (policy,), plan, json)
    if policy == ENGINE:
        _refuse_what_never_fits(deployment)
    outcome = examine(deployment, policy, plan, watermark)
    bursts = beside_poisson(deployment, outcome, plan)
    answer = {**answers.provenance("verify", deployment), **answers.verify_answer(outcome),
              **burstiness_answer(bursts), "money": measured_money(deployment, outcome)}
    give(answer, json, lambda: show_outcome(outcome, bursts))
    return outcome.yes


def init_command(file: Path, force: bool, json: bool) -> None:
    """Write the built-in deployment as a file."""
    if file.exists() and not force:
        raise FluidwaitError(f"{file}: exists already; choose another name or say --force")
    write_file(file, embedded_text())
    answer = {**answers.provenance("init", embedded()), "file": str(file)}
    give(answer, json, lambda: typer.echo(one_line(f"wrote {file}; next: fluidwait run {file}")))


def _refuse_what_never_fits(deployment: Deployment) -> None:
    """As the engine does, which takes no request that is longer than its cache."""
    equilibrium = solve(deployment.workload, deployment.replica)
    if equilibrium.limit == "length":
        raise FluidwaitError(f"{deployment.source}: {equilibrium.reason}, and vLLM refuses such requests")


def _batch(command: str, deployment: Deployment, names: tuple[str, ...], plan: Plan, json: bool) -> bool:
    """Simulate policies on requests that are all there at time 0."""
    found = makespans(deployment, names, plan)
    answer = {**answers.provenance(command, deployment), **makespans_answer(found),
              **answers.mix_origin(deployment.mix)}
    give(answer, json, lambda: show_makespans(deployment, found))
    return bool(answer["answer"])


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
