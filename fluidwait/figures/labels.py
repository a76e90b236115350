"""Names beside what they name: at the ends of lines, on levels and moments; what lies beyond the axes is said there.

No legend lies over data. Names that would touch are moved apart, least in the sum of squares (`spread`). Levels that
cannot be told apart on paper are one line that bears all their names; a level far above the data does not squeeze it:
it is named at the upper edge, with an arrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from fluid.arrays import Floats
from fluidwait.figures.style import BLACK

GAP = 1.25  # between names at one end, in heights of their letters
ALIKE = 0.006  # levels that are nearer, as a share of the axis, are one line
FAR = 4.0  # levels so many times higher than the data are only named
HEADROOM = 1.06
TIMES = ((5 * 86400.0, 86400.0, "days"), (7200.0, 3600.0, "hours"), (0.0, 1.0, "seconds"))


class Level(NamedTuple):
    """A horizontal line: its value, its name with the value in it, how it is drawn."""

    value: float
    name: str
    colour: str = BLACK
    line: str = ":"
    width: float = 1.0


class Name(NamedTuple):
    """A text beside a panel, at a place on its vertical axis."""

    place: float
    text: str
    colour: str = BLACK


def plain(axis: Axis, steps: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """Ticks as plain numbers, 1,000 and 0.5; of a logarithmic axis at `steps` of each decade."""
    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def unit_of(duration: float) -> tuple[float, str]:
    """The unit for an axis of so many seconds: its seconds and its name."""
    return next((unit, name) for least, unit, name in TIMES if duration >= least)


def key_above(axes: Axes, title: str, handles: Sequence[Any] | None = None, **look: Any) -> None:
    """The legend between the panel and its title, where no data lies."""
    given = {} if handles is None else {"handles": handles}
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), borderaxespad=0.1, columnspacing=1.4, ncols=4, **given,
                **look)
    axes.set_title(title, pad=20)


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


def draw_levels(axes: Axes, levels: Sequence[Level], highest: float) -> list[Name]:
    """Draw levels over data that reaches from 0 to `highest`, set the axis, return their names for `name_beside`."""
    near = [each for each in levels if each.value <= FAR * highest or highest <= 0]
    far = [each for each in levels if each not in near]
    top = HEADROOM * max([highest, *(each.value for each in near)]) or 1.0
    axes.set_ylim(0, top)
    names = []
    for group in _together(near, ALIKE * top):
        axes.axhline(group[0].value, color=group[0].colour, ls=group[0].line, lw=group[0].width, zorder=1)
        names.append(Name(group[0].value, _joined(group), group[0].colour))
    apart = ALIKE * max((each.value for each in far), default=0.0)
    return names + [Name(top, f"↑ {_joined(group)}", group[0].colour) for group in _together(far, apart)]


def name_beside(axes: Axes, names: Sequence[Name]) -> None:
    """Write names beside the right end of the panel, moved apart where they would touch, none of them above it.

    Call it when the figure has been laid out.
    """
    if not names:
        return
    size = 0.85 * matplotlib.rcParams["font.size"]
    dots = axes.figure.dpi / 72.0
    ends = np.array([axes.transData.transform((0.0, each.place))[1] for each in names]) / dots
    heights = [GAP * size * (1 + each.text.count("\n")) for each in names]
    moved = _below(spread(ends.tolist(), heights), np.array(heights), axes.bbox.y1 / dots)
    for each, aside in zip(names, moved - ends, strict=True):
        axes.annotate(each.text, (1.0, each.place), (4, round(float(aside), 1)), xycoords=axes.get_yaxis_transform(),
                      textcoords="offset points", color=each.colour, va="center", ha="left", fontsize=size,
                      annotation_clip=False)


def name_lines(axes: Axes, lines: Sequence[Line2D] | None = None) -> None:
    """Write the label of each line beside its right end, in its colour, names that would touch moved apart.

    Call it when the limits of the axes are set. Lines without a label, or that lie outside, get no name.
    """
    axes.figure.canvas.draw()
    labelled = [line for line in (axes.get_lines() if lines is None else lines)
                if not str(line.get_label()).startswith("_")]
    seen = [(line, points[-1]) for line in labelled if len(points := _seen(axes, line))]
    named, ends = [line for line, _ in seen], [end for _, end in seen]
    height = matplotlib.rcParams["font.size"] * axes.figure.dpi / 72.0
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


def _below(middles: Floats, heights: Floats, top: float) -> Floats:
    """Middles of boxes, moved down until the highest ends at the top and none overlaps."""
    order = np.argsort(-middles, kind="stable")
    moved = middles.copy()
    for i in order:
        moved[i] = min(moved[i], top - heights[i] / 2)
        top = moved[i] - heights[i] / 2
    return moved


def _together(levels: Sequence[Level], apart: float) -> list[list[Level]]:
    """Groups in rising order of levels less than `apart` above the lowest; the boldest is the first of its group."""
    groups: list[list[Level]] = []
    lowest = -np.inf
    for each in sorted(levels, key=lambda each: each.value):
        if each.value - lowest > apart:
            groups.append([])
            lowest = each.value
        groups[-1].append(each)
    return [sorted(group, key=lambda each: -each.width) for group in groups]


def _joined(levels: Sequence[Level]) -> str:
    return "\n".join(each.name for each in levels)


def _seen(axes: Axes, line: Line2D) -> Floats:
    """The points of a line that lie inside the axes, in pixels."""
    points = line.get_transform().transform(np.column_stack(line.get_data(orig=False)).astype(np.float64))
    box = axes.get_window_extent()
    inside = (points[:, 0] >= box.x0 - 1) & (points[:, 0] <= box.x1 + 1)
    inside &= (points[:, 1] >= box.y0 - 1) & (points[:, 1] <= box.y1 + 1)
    kept: Floats = points[inside & np.isfinite(points).all(axis=1)]
    return kept
