"""The figure of a sweep: verdicts, mean latency and throughput against the arrival rate, a line for each policy.

The rows of the upper panel are the legend for the lines of the others: a marker is a cell, hollow where its verdict is
not stable or it overflows, and a bar marks the policy's largest stable rate. A line at the fluid limit runs through all
panels. Error bars are 95% intervals over replications. In the lower panels policies are shifted some points apart, so
that none hides another: never so far that a cell seems to lie at another rate, or beyond the fluid limit.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fluid.arrays import Floats
from fluidwait.figures.drawn import files_of, own_style
from fluidwait.figures.style import BLACK, style
from fluidwait.study.cell import Finished
from fluidwait.study.sweep import Sweep
from verification import Interval

WIDTH, PANEL, ROW, MARGINS = 7.0, 2.5, 0.24, 1.4  # inches
ACROSS = 380.0  # points, about: the width of a panel
APART = 4.0  # points, at most, between policies
ROOMY = 40  # with more rates markers and error bars shrink
NEAR = 1.5  # a fluid limit up to so many times the largest rate is drawn, a higher one only named


def draw_sweep(found: Sweep) -> dict[str, bytes]:
    """The files of the figure, PNG and SVG, by name."""
    with own_style():
        return files_of({"sweep": sweep_figure(found)})


def sweep_figure(found: Sweep) -> Figure:
    """The figure of a sweep."""
    heights = [ROW * (len(found.grid.policies) + 1), PANEL, PANEL]
    figure = Figure(figsize=(WIDTH, sum(heights) + MARGINS), layout="constrained")
    verdicts, delay, tokens = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    _verdicts(verdicts, found)
    _measured(delay, found, "latency")
    _measured(tokens, found, "throughput")
    _offered(tokens, found)
    for panel in (verdicts, delay, tokens):
        if _near(found):
            panel.axvline(found.fluid_limit, color=BLACK, ls="-.", lw=1.2, zorder=1)
        panel.spines[["top", "right"]].set_visible(False)
    verdicts.set_xlim(0, _end(found))
    _in_seconds(delay, found)
    tokens.set(xlabel="arrival rate (requests/s)", ylabel="throughput (output tokens/s)", ylim=(0, None))
    tokens.yaxis.set_major_formatter(FuncFormatter(_plain))
    figure.align_ylabels([delay, tokens])
    figure.legend(handles=_key(), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure


def _verdicts(panel: Axes, found: Sweep) -> None:
    """A row for each policy, and one for the fluid limit: names on the left, largest stable rates on the right."""
    limits = found.limits
    for row, (policy, limit) in enumerate(limits.items()):
        colour, line, _ = style(policy)
        cells = found.of(policy)
        at, level = np.array([each.cell.rate for each in cells]), np.full(len(cells), float(row))
        panel.plot(at, level, color=colour, ls=line, lw=1.2)
        if limit is not None:
            panel.plot([limit], [row], "|", color=colour, ms=15, mew=2.5)
        _markers(panel, cells, at, level, 6.0 * _scale(found))
    values = ["never" if limit is None else f"up to {limit:g}" for limit in limits.values()]
    for row, value in enumerate((*values, f"{found.fluid_limit:.4g}")):
        panel.text(1.01, row, value, va="center_baseline", transform=panel.get_yaxis_transform())
    if not _near(found):
        panel.plot([0.99], [len(limits)], ">", color=BLACK, ms=7, transform=panel.get_yaxis_transform())
    panel.set_yticks(range(len(limits) + 1), [*limits, "fluid limit"])
    panel.set_ylim(len(limits) + 0.6, -0.7)
    panel.tick_params(axis="y", length=0)
    panel.set_title("Verdict at each rate", fontsize=10, loc="left")


def _measured(panel: Axes, found: Sweep, name: str) -> None:
    """Each policy's means with their intervals."""
    apart, scale = _apart(found), _scale(found)
    for row, policy in enumerate(found.grid.policies):
        colour, line, _ = style(policy)
        cells = [each for each in found.of(policy) if each.measured is not None]
        intervals: list[Interval] = [getattr(each.measured, name) for each in cells]
        means = np.array([each.mean for each in intervals])
        ends = np.array([[each.mean - each.low, each.high - each.mean] for each in intervals]).reshape(-1, 2).T
        at = np.array([each.cell.rate for each in cells]) + (row - (len(found.grid.policies) - 1) / 2) * apart
        panel.errorbar(at, means, yerr=np.nan_to_num(ends), color=colour, ls=line, lw=1.2, elinewidth=1.2 * scale,
                       capsize=2 * scale)
        _markers(panel, cells, at, means, (7.0 - 0.6 * min(row, 5)) * scale)


def _markers(panel: Axes, cells: list[Finished], at: Floats, values: Floats, size: float) -> None:
    """A policy's cells, hollow where the verdict is not stable or something overflows."""
    sure = np.array([each.stable and not each.overflows for each in cells], dtype=bool)
    for chosen, hollow in ((sure, False), (~sure, True)):
        if chosen.any():
            colour, _, marker = style(cells[0].cell.policy)
            panel.plot(at[chosen], values[chosen], marker, ms=size, mew=min(1.0, size / 5), mec=colour,
                       mfc="white" if hollow else colour)


def _offered(panel: Axes, found: Sweep) -> None:
    """The output tokens that arrive: a straight line, for the mix keeps its proportions."""
    rates = np.array([0.0, found.grid.rates[-1]])
    per_request = found.equilibrium.throughput / found.equilibrium.workload.rate
    panel.plot(rates, rates * per_request, color=BLACK, ls=":", lw=1, zorder=1)


def _in_seconds(panel: Axes, found: Sweep) -> None:
    """A logarithmic axis whose numbers are plain; none where no request was completed."""
    panel.set_ylabel("mean latency (s)")
    if not any(each.measured is not None and np.isfinite(each.measured.latency.mean) for each in found.finished):
        panel.set_yticks([])
        panel.text(0.5, 0.5, "no request was completed", ha="center", backgroundcolor="white",
                   transform=panel.transAxes)
        return
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter(FuncFormatter(_plain))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _plain(value: float, _: int) -> str:
    return f"{value:,g}"


def _key() -> list[Line2D]:
    """The legend of the markers and lines that mean the same for every policy."""
    return [Line2D([], [], color=BLACK, ls="", marker="o", ms=5, label="stable"),
            Line2D([], [], color=BLACK, ls="", marker="o", ms=5, mfc="white", label="not stable, or overflows"),
            Line2D([], [], color=BLACK, ls="", marker="|", ms=10, mew=2.5, label="largest stable rate"),
            Line2D([], [], color=BLACK, ls=":", lw=1, label="offered"),
            Line2D([], [], color=BLACK, ls="-.", lw=1.2, label="fluid limit")]


def _near(found: Sweep) -> bool:
    """Whether the fluid limit is within the axes."""
    return found.fluid_limit <= NEAR * found.grid.rates[-1]


def _end(found: Sweep) -> float:
    """Where the axis of the rates ends."""
    return 1.05 * max(found.grid.rates[-1], found.fluid_limit if _near(found) else 0.0)


def _apart(found: Sweep) -> float:
    """How far apart policies stand, in requests/s: all of them within the gaps between rates and the fluid limit."""
    gaps = np.diff(np.unique([*found.grid.rates, found.fluid_limit, _end(found)]))
    return float(min(APART * _end(found) / ACROSS, 0.8 * gaps.min() / len(found.grid.policies)))


def _scale(found: Sweep) -> float:
    """How large markers and error bars are, at most 1."""
    return min(1.0, ROOMY / len(found.grid.rates))
