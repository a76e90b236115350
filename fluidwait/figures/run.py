"""Two figures of a run: the batch against the equilibrium, and KV tokens over time against C.

Colours, line styles and markers: `fluidwait.figures.style`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fluidwait.figures.drawn import files_of, own_style
from fluidwait.figures.style import BLACK, GREEN, style
from fluidwait.study.outcomes import Comparison, Outcome
from thresholds import Design, PacedDesign, WaitDesign
from verification import Run

MOST_TYPES = 4
MOST_PANELS = 24  # types; with more of them no four represent the mix
LIVES_SHOWN = 12  # the time shown, in lifetimes of the type with the most stages
POINTS = 2000  # of a line


def draw(found: Comparison) -> dict[str, bytes]:
    """The files of batch and kv, PNG and SVG, by name; none where no policy was simulated."""
    runs = [(each, each.found.runs[0]) for each in found.outcomes if each.found is not None]
    if not runs:
        return {}
    end = _shown(found, runs[0][1])
    with own_style():
        return files_of({"batch": _batch(found, runs, end), "kv": _kv(found, runs, end)})


def _shown(found: Comparison, run: Run) -> float:
    iteration = found.design.iteration_time or found.equilibrium.iteration_time or 1.0
    return float(min(run.end_time, LIVES_SHOWN * iteration * found.equilibrium.profile.stages.max()))


def _batch(found: Comparison, runs: list[tuple[Outcome, Run]], end: float) -> Figure:
    equilibrium = found.equilibrium
    if len(equilibrium.workload) > MOST_PANELS:
        return _batch_of_all(found, runs, end)
    weights = equilibrium.workload.rates * equilibrium.profile.kv_work
    shown = np.argsort(-weights, kind="stable")[:MOST_TYPES]
    figure = Figure(figsize=(7, 1.2 + 1.7 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for j, panel in zip(shown, panels, strict=True):
        stages = int(equilibrium.profile.stages[j])
        _lines(panel, runs, partial(_per_stage, int(j)), end)
        _level(panel, equilibrium.inventory, j, "fluid equilibrium n*", BLACK)
        _level(panel, _thresholds(found.design), j, "threshold", GREEN)
        panel.set_ylabel("requests per stage")
        panel.set_title(f"{equilibrium.workload.names[j]} ({stages} stages)", fontsize=10, loc="left")
    figure.suptitle("Requests on the GPU, per stage", fontsize=12)
    _finish(figure, panels[0], panels[-1])
    return figure


def _batch_of_all(found: Comparison, runs: list[tuple[Outcome, Run]], end: float) -> Figure:
    """For many types, such as those of a trace: all requests on the GPU, and the sequences at equilibrium."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    panel = figure.subplots()
    _lines(panel, runs, _present, end)
    if found.equilibrium.sequences is not None and found.equilibrium.stable:
        panel.axhline(found.equilibrium.sequences, color=BLACK, lw=1, ls=":", label="fluid equilibrium")
    panel.set_ylabel("requests")
    figure.suptitle("Requests on the GPU", fontsize=12)
    _finish(figure, panel, panel)
    return figure


def _kv(found: Comparison, runs: list[tuple[Outcome, Run]], end: float) -> Figure:
    figure = Figure(figsize=(7, 4), layout="constrained")
    panel = figure.subplots()
    _lines(panel, runs, _held, end)
    panel.axhline(found.equilibrium.kv_capacity, color=BLACK, lw=1.5, label="capacity C")
    if found.equilibrium.kv_required is not None and found.equilibrium.limit != "memory":
        panel.axhline(found.equilibrium.kv_required, color=BLACK, lw=1, ls=":", label="fluid equilibrium M*")
    if found.design.kv_required is not None and found.design.feasible:
        panel.axhline(found.design.kv_required, color=GREEN, lw=1, ls="-.", label="bound of the thresholds")
    panel.set_ylabel("KV tokens")
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    figure.suptitle("KV cache over time", fontsize=12)
    _finish(figure, panel, panel)
    return figure


Series = Callable[[Run, np.ndarray], np.ndarray]


def _thresholds(design: Design) -> np.ndarray | None:
    """The most prompts per stage that the design admits: n_j, or N_j/g_j; None where it has no limit by type."""
    if isinstance(design, WaitDesign) and design.exists:
        return np.array(design.thresholds)
    return design.rates if isinstance(design, PacedDesign) and design.exists else None


def _lines(panel: Axes, runs: list[tuple[Outcome, Run]], value: Series, end: float) -> None:
    at = np.linspace(0.0, end, POINTS)
    for outcome, run in runs:
        colour, line, _ = style(outcome.policy)
        panel.plot(at, value(run, at), color=colour, ls=line, lw=1.1, label=outcome.label)


def _level(panel: Axes, values: np.ndarray | None, j: int, label: str, colour: str) -> None:
    if values is not None:
        panel.axhline(values[j], color=colour, lw=1, ls=":" if colour == BLACK else "-.", label=label)


def _finish(figure: Figure, labelled: Axes, lowest: Axes) -> None:
    for axes in figure.axes:
        axes.set_ylim(bottom=0)
        axes.margins(x=0)
        axes.spines[["top", "right"]].set_visible(False)
    lowest.set_xlabel("seconds from an empty replica")
    figure.legend(*labelled.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8, frameon=False)


def _per_stage(j: int, run: Run, at: np.ndarray) -> np.ndarray:
    """Requests of type j on the GPU at each moment, in the batch or paused, over its stages."""
    return np.asarray(_present(run, at, run.arrivals.types == j) / run.profile.stages[j])


def _present(run: Run, at: np.ndarray, mine: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Requests on the GPU at each moment, in the batch or paused."""
    entered, left = np.sort(run.admitted[mine]), np.sort(run.finished[mine])
    return np.searchsorted(entered, at, side="right") - np.searchsorted(left, at, side="right")


def _held(run: Run, at: np.ndarray) -> np.ndarray:
    """KV tokens all residents hold in the latest iteration before each moment."""
    if run.timeline is None or not len(run.timeline.start):
        return np.zeros(len(at))
    latest = np.searchsorted(run.timeline.start, at, side="right") - 1
    return np.where(latest >= 0, run.timeline.kv[np.maximum(latest, 0)], 0)
