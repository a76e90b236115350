"""Figures on a page of text: one style for all notebooks.

Lines bear their names, in their colour, at their right end, and levels and moments on the line
(`fluidwait.figures.labels`). Colours are those of `fluidwait.figures.style`; lines also differ in style and marker, so
that a printed page without colours can be read.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fluidwait.figures.labels import level, moment, name_lines, plain
from fluidwait.figures.style import AMBER, BLACK, BLUE, GREEN, GREY, LETTERS, ORANGE, PINK, SKY, VIOLET

__all__ = ["AMBER", "BLACK", "BLUE", "GREEN", "GREY", "ORANGE", "PINK", "SKY", "VIOLET", "level", "moment",
           "name_lines", "page", "panels", "plain"]

WIDTH, HEIGHT = 7.0, 3.6  # inches
STYLE: dict[Any, Any] = {
    **{name: value for name, value in LETTERS.items() if name != "legend.fontsize"},
    "figure.figsize": (WIDTH, HEIGHT), "figure.dpi": 100, "figure.constrained_layout.use": True,
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PINK, SKY, VIOLET], ls=["-", "--", "-.", ":", "-", "--"]),
    "lines.linewidth": 1.6, "lines.markersize": 4.5,
}


def page() -> None:
    """Set the style for all figures that follow."""
    plt.rcParams.update(STYLE)


def panels(count: int, *, height: float = HEIGHT, across: bool = False, **keywords: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, below one another or side by side; `height` of one in inches."""
    rows, columns = (1, count) if across else (count, 1)
    figure, grid = plt.subplots(rows, columns, figsize=(WIDTH, height * rows), squeeze=False, **keywords)
    return figure, list(grid.ravel())
