"""Two figures of a run: the batch against the equilibrium, and KV tokens over time against C.

Each shows the beginning of one run, or where rates change over time the whole of it. Up to four policies are lines in
one panel, wider ones below narrower ones, so that policies that do the same are both seen; more of them have a panel
each for the KV cache, and the batch is that of the first four. Bounds are those of the designs that are drawn, in their
colours.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fluid.arrays import Floats
from fluidwait.figures.drawn import files_of, own_style
from fluidwait.figures.labels import Level, Name, draw_levels, name_beside, plain, unit_of
from fluidwait.figures.style import style
from fluidwait.study.outcomes import Comparison, Outcome
from thresholds import Design, PacedDesign, WaitDesign, name_of
from verification import Run

MOST_TYPES = 4
MOST_PANELS = 24  # types; with more of them no four represent the mix
MOST_LINES = 4  # policies in one panel
LETTERS_A_LINE = 92
MOST_LETTERS = 40  # of the name of a type
LIVES_SHOWN = 12  # the time shown, in lifetimes of the type with the most stages
POINTS = 2000  # of a line
BOUND = 0.8  # points: how wide the line of a bound is
WIDTH, THIN, STEP = 7.0, 0.9, 0.6  # inches; points of the narrowest line, and how much wider the next one is

Drawn = Sequence[tuple[Outcome, Run]]
Series = Callable[[Run, Floats], Floats]


def draw(found: Comparison) -> dict[str, bytes]:
    """The files of batch and kv, PNG and SVG, by name; none where no policy was simulated."""
    with own_style():
        return files_of(run_figures(found))


def run_figures(found: Comparison) -> dict[str, Figure]:
    """The figures batch and kv; none where no policy was simulated."""
    runs = [(each, each.found.runs[0]) for each in found.outcomes if each.found is not None]
    if not runs:
        return {}
    end = float(runs[0][1].end_time)
    if not found.period:
        end = min(end, LIVES_SHOWN * _lifetime(found, found.design.iteration_time))
    return {"batch": _batch(found, runs, end), "kv": _kv(found, runs, end)}


def _lifetime(found: Comparison, iteration: float | None = None) -> float:
    """The seconds that the type with the most stages is served for, in iterations of so many seconds."""
    iteration = iteration or found.equilibrium.iteration_time or 1.0
    return float(iteration * found.equilibrium.profile.stages.max())


def _first(found: Comparison, runs: Drawn) -> Drawn:
    """What is used, the engine as it comes, the designs, then others: as many as one panel holds."""
    designs = {name_of(each) for each in found.choice.candidates}
    ranked = sorted(runs, key=lambda each: (each[0] is not found.chosen, each[0] is not found.engine,
                                            each[0].policy not in designs))
    return ranked[:MOST_LINES]


def _batch(found: Comparison, runs: Drawn, end: float) -> Figure:
    equilibrium = found.equilibrium
    if len(equilibrium.workload) > MOST_PANELS:
        return _batch_of_all(found, runs, end)
    weights = equilibrium.workload.rates * equilibrium.profile.kv_work
    shown = np.argsort(-weights, kind="stable")[:MOST_TYPES]
    figure = Figure(figsize=(WIDTH, 1.2 + 1.7 * len(shown)), layout="constrained")
    panels = list(figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0])
    names = []
    for j, panel in zip(shown, panels, strict=True):
        highest = _lines(panel, _first(found, runs), partial(_per_stage, int(j)), end)
        names.append(draw_levels(panel, _thresholds(found, runs, int(j)), highest))
        panel.set_ylabel("requests per stage")
        plain(panel.yaxis)
        panel.set_title(f"{_shortened(equilibrium.workload.names[j])} ({int(equilibrium.profile.stages[j]):,} stages)")
    types = len(equilibrium.workload)
    of_types = "" if types == len(shown) else f", the {len(shown)} of {types} types with most KV work"
    _finish(figure, panels, names, found, end, _begin(f"Requests on the GPU per stage{of_types}", end, runs))
    return figure


def _batch_of_all(found: Comparison, runs: Drawn, end: float) -> Figure:
    """For many types, such as those of a trace: all requests on the GPU, and the sequences at equilibrium."""
    figure = Figure(figsize=(WIDTH, 4), layout="constrained")
    panel, sequences = figure.subplots(), found.equilibrium.sequences
    highest = _lines(panel, _first(found, runs), _present, end)
    levels = [] if sequences is None or not found.equilibrium.stable else [
        Level(sequences, f"fluid equilibrium\n{sequences:,.4g}")]
    panel.set_ylabel("requests")
    plain(panel.yaxis)
    _finish(figure, [panel], [draw_levels(panel, levels, highest)], found, end,
            _begin("Requests on the GPU, all types", end, runs))
    return figure


def _kv(found: Comparison, runs: Drawn, end: float) -> Figure:
    """All policies in one panel, or where they are many in one each."""
    capacity, single = found.equilibrium.kv_capacity, len(runs) > MOST_LINES
    figure = Figure(figsize=(WIDTH, 1.0 + 1.25 * len(runs) if single else 4), layout="constrained")
    panels = list(figure.subplots(len(runs) if single else 1, 1, sharex=True, squeeze=False)[:, 0])
    groups = [[each] for each in runs] if single else [list(runs)]
    highest = [_lines(panel, group, _held, end) for panel, group in zip(panels, groups, strict=True)]
    names = []
    for panel, group in zip(panels, groups, strict=True):
        names.append(draw_levels(panel, _bounds(found, group), max(highest)))
        panel.set_ylabel("KV tokens")
        plain(panel.yaxis)
    top = max(panel.get_ylim()[1] for panel in panels)
    for panel in panels:
        panel.set_ylim(0, top)
    shares = [f"{outcome.label} {_share(_held_until(run, end).max() / capacity)}" for outcome, run in runs]
    if single:
        for panel, share in zip(panels, shares, strict=True):
            panel.set_title(f"{share} of C at its peak")
    peaks = "one policy in each panel" if single else f"at its peak {', '.join(shares)} of C"
    _finish(figure, panels, names, found, end, f"KV cache, first {_seconds(end)} of a run: {peaks}", key=not single)
    return figure


def _bounds(found: Comparison, runs: Drawn) -> list[Level]:
    """Capacity, what the fluid equilibrium holds, and the bounds of the designs that are drawn."""
    equilibrium = found.equilibrium
    levels = [Level(equilibrium.kv_capacity, f"capacity C\n{equilibrium.kv_capacity:,}", line="-", width=1.8)]
    if equilibrium.kv_required is not None and equilibrium.limit != "memory":
        levels.append(Level(equilibrium.kv_required, f"fluid equilibrium M*\n{equilibrium.kv_required:,.0f}"))
    for name, design in _designs(found, runs).items():
        if design.kv_required is not None and design.feasible:
            levels.append(Level(design.kv_required, f"bound of {name}\n{design.kv_required:,.0f}", style(name).colour,
                                "-", BOUND))
    return levels


def _thresholds(found: Comparison, runs: Drawn, j: int) -> list[Level]:
    """Of type j, prompts per stage at equilibrium, and the most that each design admits: n_j, or N_j/g_j."""
    levels = []
    if found.equilibrium.inventory is not None:
        fluid = found.equilibrium.inventory[j]
        levels.append(Level(fluid, f"equilibrium n* {fluid:,.3g}"))
    for name, design in _designs(found, runs).items():
        admitted = _admitted(design)
        if admitted is not None:
            levels.append(Level(float(admitted[j]), f"{name} admits {admitted[j]:,.3g}", style(name).colour, "-",
                                BOUND))
    return levels


def _designs(found: Comparison, runs: Drawn) -> dict[str, Design]:
    """The designs among the policies that are drawn, by name, and the best one, also where others run."""
    drawn = {outcome.policy for outcome, _ in runs} | ({name_of(found.design)} if len(runs) > 1 else set())
    return {name_of(each): each for each in (found.design, *found.choice.candidates)
            if each.exists and name_of(each) in drawn}


def _admitted(design: Design) -> Floats | None:
    """None where it has no limit by type."""
    if isinstance(design, WaitDesign):
        return np.array(design.thresholds, dtype=np.float64)
    return design.rates if isinstance(design, PacedDesign) else None


def _lines(panel: Axes, runs: Drawn, value: Series, end: float) -> float:
    """Draw each policy, whole lines first and widest; return the highest value."""
    at, highest, unit = np.linspace(0.0, end, POINTS), 0.0, unit_of(end)[0]
    looks = [style(outcome.policy, outcome.setting) for outcome, _ in runs]
    for below, i in enumerate(sorted(range(len(runs)), key=lambda i: looks[i].line != "-")):
        outcome, run = runs[i]
        values = value(run, at)
        highest = max(highest, float(values.max()))
        panel.plot(at / unit, values, color=looks[i].colour, ls=looks[i].line if len(runs) > 1 else "-",
                   lw=THIN + STEP * (len(runs) - 1 - below), label=outcome.label)
    panel.set_xlim(0, end / unit)
    return highest


def _finish(figure: Figure, panels: list[Axes], names: list[list[Name]], found: Comparison, end: float, title: str,
            key: bool = True) -> None:
    too_short = end < _lifetime(found)
    panels[-1].set_xlabel(f"{unit_of(end)[1]} from an empty replica" + (
        "; levels are those of the busiest window that fits" if found.period else
        f"; the run ends before a lifetime of {_seconds(_lifetime(found))}: it is still filling" if too_short else ""))
    plain(panels[-1].xaxis)
    figure.suptitle(textwrap.fill(title, LETTERS_A_LINE), fontsize="medium", x=0.01, ha="left")
    if key:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=MOST_LINES,
                      handlelength=4)
    figure.draw_without_rendering()
    for panel, beside in zip(panels, names, strict=True):
        name_beside(panel, beside)


def _begin(what: str, end: float, runs: Drawn) -> str:
    """A title with what is drawn."""
    more = f"; {len(runs) - MOST_LINES} more policies in kv" if len(runs) > MOST_LINES else ""
    return f"{what}, first {_seconds(end)} of a run{more}"


def _seconds(time: float) -> str:
    unit, name = unit_of(time)
    return f"{time / unit:,.3g} {name}" if unit > 1 else f"{time:,.0f} s" if time >= 100 else f"{time:.3g} s"


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.01 or value == 0 else f"{value:.1%}"


def _shortened(name: str) -> str:
    return name if len(name) <= MOST_LETTERS else f"{name[:MOST_LETTERS - 1]}…"


def _per_stage(j: int, run: Run, at: Floats) -> Floats:
    """Requests of type j on the GPU at each moment, in the batch or paused, over its stages."""
    return np.asarray(_present(run, at, run.arrivals.types == j) / run.profile.stages[j])


def _present(run: Run, at: Floats, mine: np.ndarray | slice = slice(None)) -> Floats:
    """Requests on the GPU at each moment, in the batch or paused."""
    entered, left = np.sort(run.admitted[mine]), np.sort(run.finished[mine])
    there = np.searchsorted(entered, at, side="right") - np.searchsorted(left, at, side="right")
    return there.astype(np.float64)


def _held(run: Run, at: Floats) -> Floats:
    """KV tokens all residents hold in the latest iteration before each moment."""
    if run.timeline is None or not len(run.timeline.start):
        return np.zeros(len(at))
    latest = np.searchsorted(run.timeline.start, at, side="right") - 1
    return np.where(latest >= 0, run.timeline.kv[np.maximum(latest, 0)], 0.0)


def _held_until(run: Run, end: float) -> Floats:
    """KV tokens all residents hold in each iteration that begins before a moment."""
    if run.timeline is None or not len(run.timeline.start):
        return np.zeros(1)
    kept = run.timeline.kv[run.timeline.start <= end]
    return np.concatenate([[0.0], kept.astype(np.float64)])
