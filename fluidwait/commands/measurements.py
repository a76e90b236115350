"""The commands on what users have measured: a trace of their requests, batches of their GPU."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from fluid import Equilibrium, solve
from fluid.calibration.batches import read_batches
from fluid.calibration.calibration import Calibration
from fluid.calibration.fit import calibrate
from fluid.errors import real, whole
from fluid.traces.summary import TraceSummary, summarise
from fluid.traces.trace import Trace
from fluidwait.deployment.deployment import Deployment, deployment_of
from fluidwait.deployment.trace_keys import Flags, TraceKeys, as_flags
from fluidwait.deployment.write_workload import workload_section
from fluidwait.reports import answers
from fluidwait.reports.calibration import calibration_answer, show_calibration
from fluidwait.reports.console import give, write
from fluidwait.reports.trace import show_trace, trace_answer

DIFFERENT = 0.2  # of the iteration time: what one line may forecast otherwise without a warning


def trace_command(file: Path, keys: Flags, bins: int | None, window: float | None, deployment: Path | None,
                  out: Path | None, json: bool) -> None:
    """Summarise a request trace and print a workload section for it."""
    read = TraceKeys.of_flags(keys)
    bins = bins if bins is None else whole("--bins", bins, unit="types")
    window = window if window is None else real("--window", window, unit="seconds")
    replica = None if deployment is None else deployment_of(deployment).replica
    with as_flags():
        trace = read.read(file, str(file))
    section = workload_section(trace, read.of_reading, rate=read.rate, bins=bins, window=window)
    summary = summarise(trace, replica=replica)
    answer = {**answers.provenance("trace", trace), **trace_answer(trace, summary, section)}
    figures = [] if out is None else _write_trace(out, trace, summary, answer)
    give(answer, json, lambda: show_trace(trace, summary, section, out, figures))


def calibrate_command(file: Path, pieces: int, skip_bad_rows: bool, deployment: Path | None, out: Path | None,
                      json: bool) -> None:
    """Fit the iteration time to measured batches and print its section for a deployment file."""
    lines = whole("--pieces", pieces, unit="lines", most=8)
    aim = None if deployment is None else deployment_of(deployment)
    batches = read_batches(file, skip_bad_rows=skip_bad_rows)
    found = calibrate(batches if aim is None else batches.within(aim.replica), lines)
    warnings = () if aim is None else _warnings(found, aim, len(batches) - len(found.batches))
    answer = {**answers.provenance("calibrate", found.batches),
              **calibration_answer(found, warnings)}
    if out is not None:
        _write_calibration(out, found, answer)
    give(answer, json, lambda: show_calibration(found, warnings, out))


def _warnings(found: Calibration, deployment: Deployment, beyond: int) -> tuple[str, ...]:
    """What did not fit the deployment, and where its equilibrium, as fitted, leaves the range of the batches."""
    left_out = f"{deployment.source}: its replica cannot hold {beyond:,} of the batches: they were left out"
    replica = replace(deployment.replica, iteration_time=found.iteration_time)
    equilibrium = solve(deployment.workload, replica)
    if equilibrium.inventory is None:
        outside = [f"{deployment.source}: no equilibrium to compare: {equilibrium.reason}"]
    else:
        outside = [f"{deployment.source}: {sentence}" for sentence in found.warnings_for(equilibrium)]
    if found.one_line is not None:
        one = solve(deployment.workload, replace(replica, iteration_time=found.one_line))
        outside += _disagreement(deployment.source, equilibrium, one)
    return (*([left_out] if beyond else []), *outside)


def _disagreement(source: str, several: Equilibrium, one: Equilibrium) -> list[str]:
    """What one line forecasts at the deployment's rates, where that differs from what the lines chosen forecast."""
    times = [f"{1e3 * each.iteration_time:.3g} ms" if each.iteration_time else "none" for each in (several, one)]
    alike = several.iteration_time and one.iteration_time and \
        abs(math.log(several.iteration_time / one.iteration_time)) < math.log(1 + DIFFERENT)
    if alike or times == ["none", "none"]:
        return []
    return [f"{source}: at its rates these lines forecast an iteration time of {times[0]}, one line {times[1]}: so "
            "near the edge the batches do not settle the waiting times"]


def _write_trace(folder: Path, trace: Trace, summary: TraceSummary, answer: dict[str, Any]) -> list[str]:
    from fluidwait.figures.trace import draw_trace  # matplotlib takes a second to load

    figures = draw_trace(trace, summary.dispersion)
    write(folder, answer, figures)
    return sorted({Path(name).stem for name in figures})


def _write_calibration(folder: Path, found: Calibration, answer: dict[str, Any]) -> None:
    from fluidwait.figures.calibration import draw_calibration  # as above

    write(folder, answer, {"iteration_time.toml": found.to_toml(), **draw_calibration(found)})
