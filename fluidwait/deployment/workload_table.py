"""The [workload] table of a deployment file: prompt types or a trace, and how the requests arrive over time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fluid.errors import FileError, InputError, real
from fluid.replica import Replica
from fluid.stages import stage_profile
from fluid.traces.trace import Binned, Columns, Trace, read_trace
from fluid.varying_rates import Schedule, WindowEquilibrium, carries, solve_windows
from fluid.workload import PromptType, Workload
from fluidwait.deployment.schema import TypeTable, WindowTable, WorkloadTable
from fluidwait.deployment.toml import found, keys_of
from fluidwait.progress import reading
from verification.traffic.predicted_lengths import LogNormalError, Misclassified, Overestimate, Predictor
from verification.traffic.processes import POISSON, Poisson, Replay, Scheduled

Arriving = Poisson | Scheduled | Replay


@dataclass(frozen=True)
class Mix:
    """What arrives: the `workload`, the `traffic` that draws its arrivals, and the `trace` behind it, if any.

    Where rates change over time the workload's are those of the busiest window that fits: thresholds are designed for
    it; `windows` holds the equilibrium of each, and `mean_fits` says whether the mean rates are inside the region.
    `binned` says what was lost where the trace's length pairs were put together.
    """

    workload: Workload
    traffic: Arriving = field(default=POISSON, compare=False)
    trace: Trace | None = field(default=None, compare=False)
    binned: Binned | None = field(default=None, compare=False)
    windows: tuple[WindowEquilibrium, ...] = field(default=(), compare=False)
    mean_fits: bool = field(default=True, compare=False)

    @property
    def rate(self) -> float:
        """Requests/s of all types; the mean over a long time, where rates change."""
        return self.workload.rate * self.traffic.factor()

    def at(self, rate: float, replica: Replica) -> Mix:
        """The mix at another total rate, every proportion kept; at its own, the mix itself to the last bit.

        At a rate from a trace the types have the rates that `Trace.workload` gives them.
        """
        if rate == self.rate:
            return self
        workload = self._at(rate / self.traffic.factor())
        if not isinstance(self.traffic, Scheduled):
            return replace(self, workload=workload)
        return _scheduled(replace(self, workload=workload), self.traffic.schedule, replica)

    def _at(self, rate: float) -> Workload:
        mine, requests = self.workload, 1 if self.trace is None else len(self.trace)
        shares = mine.rates / mine.rate
        counts, names = (shares, mine.names) if self.trace is None else (np.rint(shares * requests), ())
        with np.errstate(over="ignore"):
            return Workload.from_arrays(mine.prompt_tokens, mine.output_tokens, counts * (rate / requests), names)

    @property
    def overload(self) -> str:
        """The windows that do not fit, in a sentence; empty where all do."""
        over = [each for each in self.windows if not each.equilibrium.stable]
        if not over:
            return ""
        rate = f"{self.workload.rate * self.traffic.factor():.4g} requests/s"
        waiting = max(each.backlog for each in over)
        end = (f"does: what piles up, {waiting:,.4g} s of work at most, is served in the others" if self.mean_fits
               else "does not fit either")
        return f"{len(over)} of {len(self.windows)} windows do not fit; the mean rate, {rate}, {end}"


def read_mix(table: WorkloadTable, replica: Replica, source: str, folder: Path) -> Mix:
    """The mix of a [workload] table; raises FileError, one line, for anything that cannot be used."""
    if table.trace is None:
        mix = Mix(_typed(table, replica, source))
    elif table.type is not None:
        raise FileError(source, "workload.trace", f"must stand without [[workload.type]] (got {found(table.trace)})")
    else:
        mix = _traced(table, table.trace, replica, source, folder)
    if table.window is None:
        return mix
    if isinstance(mix.traffic, Replay):
        raise FileError(source, "workload.window", 'must stand without workload.arrivals = "trace"')
    return _scheduled(mix, _schedule(table.window, source), replica)


def read_predictor(table: WorkloadTable, source: str) -> Predictor | None:
    """The model of the error of predicted output lengths; None where they are not predicted."""
    given = table.prediction
    if table.lengths != "predicted":
        if given is not None:
            raise FileError(source, "workload.prediction",
                            f'must go with workload.lengths = "predicted" (got {found(table.lengths)})')
        return None
    models = {} if given is None else {key: getattr(given, key) for key in ("sigma", "ratio", "misclassified")
                                       if getattr(given, key) is not None}
    if given is None or len(models) != 1 or (given.bias is not None and given.sigma is None):
        names = "none" if given is None else ", ".join(given.model_dump(exclude_none=True)) or "an empty table"
        raise FileError(source, "workload.prediction",
                        f"must hold one of sigma (with or without bias), ratio, misclassified (got {names})")
    with keys_of(source, "workload.prediction"):
        if given.sigma is not None:
            return LogNormalError(given.sigma, 1.0 if given.bias is None else given.bias)
        if given.ratio is not None:
            return Overestimate(given.ratio)
        share = real("misclassified", models["misclassified"], zero=True)
        if share > 1:
            raise InputError("misclassified", "a share of the requests, at most 1", share)
        return Misclassified(share)


def trace_mix(trace: Trace, replica: Replica) -> Mix:
    """The mix of a trace at its own rate, every length pair kept."""
    workload = trace.workload()
    stage_profile(workload, replica)
    return Mix(workload, POISSON, trace)


def _traced(table: WorkloadTable, name: str, replica: Replica, source: str, folder: Path) -> Mix:
    trace = _read(table, folder / name, source)
    replayed = table.arrivals == "trace"
    if replayed and table.bins is not None:
        raise FileError(source, "workload.bins", f'must stand without workload.arrivals = "trace" (got {table.bins})')
    with keys_of(source, "workload"):
        binned = trace.binned(table.bins, table.rate) if table.bins is not None else None
        workload = binned.workload if binned else trace.workload(table.rate)
        stage_profile(workload, replica)
        return Mix(workload, Replay(trace) if replayed else POISSON, trace, binned)


def _read(table: WorkloadTable, path: Path, source: str) -> Trace:
    try:
        with keys_of(source, "workload"), reading(path.name) as progress:
            columns = Columns.of(table.format, table.prompt_column, table.output_column, table.time_column)
            return read_trace(path, format=table.format, columns=columns, skip_bad_rows=bool(table.skip_bad_rows),
                              progress=progress)
    except FileError as error:
        if error.source == source:
            raise
        problem = error.problem.replace("--skip-bad-rows", "workload.skip_bad_rows = true")
        raise FileError(source, "workload.trace", f"must be a trace (got {found(table.trace)}): {problem}") from None


def _typed(table: WorkloadTable, replica: Replica, source: str) -> Workload:
    if table.type is None:
        raise FileError(source, "workload.type", "is missing: it must be at least one [[workload.type]] table")
    for key, value in table.trace_keys.items():
        remark = "; each workload.type has a rate of its own" if key == "rate" else ""
        raise FileError(source, f"workload.{key}", f"must go with workload.trace{remark} (got {found(value)})")
    types = [_type(each, i, replica, source) for i, each in enumerate(table.type)]
    workload = Workload(types)
    _refuse_duplicates(workload.names, source)
    return workload


def _schedule(windows: list[WindowTable], source: str) -> Schedule:
    for i, each in enumerate(windows):
        with keys_of(source, f"workload.window[{i}]"):
            real("duration", each.duration, unit="seconds")
            real("scale", each.scale)
    return Schedule([each.duration for each in windows], [each.scale for each in windows])


def _scheduled(mix: Mix, schedule: Schedule, replica: Replica) -> Mix:
    windows = solve_windows(mix.workload, schedule, replica)
    fit = [each.equilibrium.stable for each in windows]
    factor = float(schedule.factors[fit].max() if any(fit) else schedule.factors.min())
    return Mix(mix.workload.scaled(factor), Scheduled(Schedule(schedule.durations, schedule.factors / factor)),
               mix.trace, mix.binned, windows, carries(mix.workload, schedule, replica))


def _type(table: TypeTable, i: int, replica: Replica, source: str) -> PromptType:
    with keys_of(source, f"workload.type[{i}]"):
        made = PromptType(table.prompt_tokens, table.output_tokens, table.rate, table.name)
        stage_profile(Workload([made]), replica)
    return made


def _refuse_duplicates(names: tuple[str, ...], source: str) -> None:
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if first.setdefault(name, i) < i:
            raise FileError(source, f"workload.type[{i}].name",
                            f"must differ from that of workload.type[{first[name]}] (got {found(name)})")
