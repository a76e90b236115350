"""Figures on a page of text: one style for all notebooks.

Lines bear their names (`name_lines`), in their colour, at their right end: no legend lies over data. Levels and moments
are named on the line (`level`, `moment`). Colours are those of `fluidwait.figures.style`; lines also differ in style
and marker, so that a printed page without colours can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from fluid.arrays import Floats
from fluidwait.figures.style import AMBER, BLACK, BLUE, GREEN, GREY, ORANGE, PINK, SKY, VIOLET

__all__ = ["AMBER", "BLACK", "BLUE", "GREEN", "GREY", "ORANGE", "PINK", "SKY", "VIOLET", "level", "moment",
           "name_lines", "page", "panels", "plain"]

WIDTH, HEIGHT = 7.0, 3.6  # inches
GAP = 1.25  # between names at one end, in heights of their letters
STYLE: dict[Any, Any] = {
    "figure.figsize": (WIDTH, HEIGHT), "figure.dpi": 100, "figure.constrained_layout.use": True, "font.size": 9.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10, "axes.titlelocation": "left",
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PINK, SKY, VIOLET], ls=["-", "--", "-.", ":", "-", "--"]),
    "lines.linewidth": 1.6, "lines.markersize": 4.5, "legend.frameon": False, "errorbar.capsize": 2,
}


def page() -> None:
    """Set the style for all figures that follow."""
    plt.rcParams.update(STYLE)


def panels(count: int, *, height: float = HEIGHT, across: bool = False, **keywords: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, below one another or side by side; `height` of one in inches."""
    rows, columns = (1, count) if across else (count, 1)
    figure, grid = plt.subplots(rows, columns, figsize=(WIDTH, height * rows), squeeze=False, **keywords)
    return figure, list(grid.ravel())


def plain(axis: Axis, steps: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """Ticks as plain numbers, 1,000 and 0.5; of a logarithmic axis at `steps` of each decade."""
    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def level(axes: Axes, value: float, name: str, *, at: float = 0.01, below: bool = False, **look: Any) -> None:
    """Draw a horizontal line across and name it on the line, at a share `at` of the width."""
    look = {"color": BLACK, "lw": 1.0, "ls": "-", **look}
    axes.axhline(value, zorder=1, **look)
    axes.annotate(name, (at, value), (0, -3 if below else 3), xycoords=axes.get_yaxis_transform(),
                  textcoords="offset points", color=look["color"], va="top" if below else "bottom",
                  ha="left" if at < 0.5 else "right", fontsize="small")


def moment(axes: Axes, value: float, name: str, *, at: float = 0.98, left: bool = False, **look: Any) -> None:
    """Draw a vertical line and name it beside the line, at a share `at` of the height."""
    look = {"color": BLACK, "lw": 1.0, "ls": ":", **look}
    axes.axvline(value, zorder=1, **look)
    axes.annotate(name, (value, at), (-4 if left else 4, 0), xycoords=axes.get_xaxis_transform(),
                  textcoords="offset points", color=look["color"], va="top", ha="right" if left else "left",
                  fontsize="small")


def name_lines(axes: Axes, lines: Sequence[Line2D] | None = None) -> None:
    """Write the label of each line beside its right end, in its colour, names that would touch moved apart.

    Call it when the limits of the axes are set. Lines without a label, or that lie outside, get no name.
    """
    axes.figure.canvas.draw()
    labelled = [line for line in (axes.get_lines() if lines is None else lines)
                if not str(line.get_label()).startswith("_")]
    seen = [(line, points[-1]) for line in labelled if len(points := _seen(axes, line))]
    named, ends = [line for line, _ in seen], [end for _, end in seen]
    height = plt.rcParams["font.size"] * axes.figure.dpi / 72.0
    heights = [GAP * height * (1 + str(line.get_label()).count("\n")) for line in named]
    for line, (x, y), moved in zip(named, ends, spread([end[1] for end in ends], heights), strict=True):
        place, aside = axes.transData.inverted().transform((x, y)), (5, (moved - y) * 72.0 / axes.figure.dpi)
        axes.annotate(str(line.get_label()), (place[0], place[1]), aside, textcoords="offset points",
                      color=line.get_color(), va="center", ha="left", annotation_clip=False)


def spread(places: Sequence[float], heights: Sequence[float]) -> Floats:
    """Return the middles of boxes moved least, in the sum of squares, so that none overlap; their order is kept.

    With x the places in order less what the boxes below take, the answer is the isotonic regression of x plus the same.

    >>> spread([0.0, 0.0, 10.0], [1.0, 1.0, 1.0]).tolist()
    [-0.5, 0.5, 10.0]
    """
    order = np.argsort(places, kind="stable")
    high = np.asarray(heights, dtype=np.float64)[order]
    steps = np.cumsum(high) - high / 2
    groups: list[tuple[float, int]] = []
    for value in np.asarray(places, dtype=np.float64)[order] - steps:
        mean, size = float(value), 1
        while groups and groups[-1][0] >= mean:
            before, count = groups.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        groups.append((mean, size))
    moved = np.empty(len(order))
    moved[order] = np.concatenate([np.full(size, mean) for mean, size in groups] or [np.empty(0)]) + steps
    return moved


def _seen(axes: Axes, line: Line2D) -> Floats:
    """The points of a line that lie inside the axes, in pixels."""
    points = line.get_transform().transform(np.column_stack(line.get_data(orig=False)).astype(np.float64))
    box = axes.get_window_extent()
    inside = (points[:, 0] >= box.x0 - 1) & (points[:, 0] <= box.x1 + 1)
    inside &= (points[:, 1] >= box.y0 - 1) & (points[:, 1] <= box.y1 + 1)
    kept: Floats = points[inside & np.isfinite(points).all(axis=1)]
    return kept
