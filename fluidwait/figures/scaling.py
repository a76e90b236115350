"""A measure against zeta T on logarithmic axes: means with intervals, and the line through them, named by its slope."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from fluidwait.figures.page import BLUE
from verification.asymptotics import HeavyTraffic, slope


def draw_scaling(axes: Axes, found: HeavyTraffic, measure: str, name: str = "", *, colour: str = BLUE,
                 marker: str = "o", line: str = "-") -> None:
    """Draw a measure of an experiment, its 95% intervals and its power law; the slope is written at the line's end."""
    law, means = slope(found, measure), found.of(measure).mean(axis=1)
    ends = np.abs([[each.low, each.high] for each in found.intervals(measure)] - means[:, None]).T
    axes.set(xscale="log", yscale="log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.errorbar(found.sizes, means, yerr=ends, fmt=marker, color=colour, elinewidth=1.0, label="_")
    text = f"{name}\nslope ${law.value.mean:+.2f} \\pm {law.half_width:.2f}$".strip()
    axes.plot(found.sizes, law.at(found.sizes), color=colour, ls=line, lw=1.2, label=text)
