"""The figure of a calibration: measured against fitted times, and relative errors against the KV tokens of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fluid.calibration.calibration import Calibration
from fluidwait.figures.drawn import files_of, own_style
from fluidwait.figures.style import BLACK, BLUE, ORANGE, PINK


def draw_calibration(found: Calibration) -> dict[str, bytes]:
    """The files of the figure, PNG and SVG, by name."""
    with own_style():
        figure = Figure(figsize=(7, 7), layout="constrained")
        _draw_panels(found, *figure.subplots(2, 1))
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        return files_of({"fit": figure})


def _draw_panels(found: Calibration, fit: Axes, errors: Axes) -> None:
    batches, prefills = found.batches, found.batches.prefill_tokens > 0
    groups = (("decodes only", found.kept & ~prefills, BLUE, "o"),
              ("with prefills", found.kept & prefills, ORANGE, "^"), ("set aside", ~found.kept, PINK, "x"))
    measured, fitted = batches.seconds * 1e3, found.fitted * 1e3
    for name, rows, colour, marker in groups:
        if rows.any():
            style: dict[str, Any] = {"s": 14, "color": colour, "marker": marker, "alpha": 0.6, "linewidths": 0.8}
            fit.scatter(fitted[rows], measured[rows], label=f"{name} ({np.count_nonzero(rows):,})", **style)
            errors.scatter(batches.kv_read[rows], measured[rows] / fitted[rows] - 1, **style)
    ends = [min(measured.min(), fitted.min()), max(measured.max(), fitted.max())]
    fit.plot(ends, ends, color=BLACK, lw=1, ls=":")
    fit.set(xscale="log", yscale="log", xlabel="fitted (ms)", ylabel="measured (ms)", title="Iteration time")
    errors.axhline(0.0, color=BLACK, lw=1, ls=":")
    errors.set(xlabel="KV tokens read", ylabel="measured / fitted - 1", title="Relative error")
    errors.yaxis.set_major_formatter(PercentFormatter(1.0))
    errors.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    fit.legend(frameon=False, fontsize=9)
