"""The figure of a calibration: measured against fitted times, and relative errors against the KV tokens of a batch.

The axes are those of the batches kept. Batches that were set aside and lie beyond them are arrows at the edge, with
their number. The errors are drawn on 5% to either side at least: smaller ones are not blown up.
"""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fluid.arrays import Bools, Floats
from fluid.calibration.calibration import Calibration
from fluidwait.figures.drawn import files_of, own_style
from fluidwait.figures.labels import key_above, plain
from fluidwait.figures.style import BLACK, BLUE, ORANGE

AROUND = 1.25  # how far the axes of times reach beyond the batches kept, as a factor
NARROW = 8.0  # from here on a logarithmic axis has ticks enough at 1, 2 and 5
LEAST_ERROR = 0.05  # to either side
INSIDE = 0.015  # of the height: how far from the edge arrows stand
MANY = 300  # batches: with more of them points are smaller
MOST_NOTES, LETTERS_A_LINE = 2, 100


def draw_calibration(found: Calibration) -> dict[str, bytes]:
    """The files of the figure, PNG and SVG, by name."""
    with own_style():
        return files_of({"fit": calibration_figure(found)})


def calibration_figure(found: Calibration) -> Figure:
    """The figure of a calibration."""
    figure = Figure(figsize=(7, 7.4), layout="constrained")
    fit, errors = figure.subplots(2, 1)
    measured, fitted = found.batches.seconds * 1e3, found.fitted * 1e3
    _times(fit, found, measured, fitted)
    _errors(errors, found, measured / fitted - 1)
    figure.align_ylabels([fit, errors])
    if found.notes:
        lines = (textwrap.fill(f"note: {note}", LETTERS_A_LINE) for note in found.notes[:MOST_NOTES])
        figure.supxlabel("\n".join(lines), fontsize="small", x=0.01, ha="left")
    return figure


def _times(panel: Axes, found: Calibration, measured: Floats, fitted: Floats) -> None:
    kept = found.kept
    low = min(measured[kept].min(), fitted[kept].min()) / AROUND
    high = max(measured[kept].max(), fitted[kept].max()) * AROUND
    panel.set(xscale="log", yscale="log", xlabel="fitted (ms)", ylabel="measured (ms)", xlim=(low, high),
              ylim=(low, high))
    panel.plot([low, high], [low, high], color=BLACK, lw=1, ls=":", label="measured as fitted")
    _points(panel, found, fitted, measured, " ms")
    for axis in (panel.xaxis, panel.yaxis):
        plain(axis, (1.0, 2.0, 5.0) if high > NARROW * low else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0))
    key_above(panel, f"Iteration time of {found.rows:,} batches: mean error {found.mape:.1%}, R² {found.r2:.4f}")


def _errors(panel: Axes, found: Calibration, errors: Floats) -> None:
    kept = errors[found.kept]
    reach = 1.1 * max(LEAST_ERROR, float(np.abs(kept).max()))
    most = float(np.quantile(np.abs(kept), 0.9))
    panel.axhline(0.0, color=BLACK, lw=1, ls=":")
    panel.set(xlabel="KV tokens read", ylabel="measured / fitted - 1", ylim=(-reach, reach))
    _points(panel, found, found.batches.kv_read, errors, "")
    panel.set_title(f"Relative error: within ±{most:.1%} for 90% of the batches kept")
    panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:+,.3g}%" if abs(value) > 1e-12 else "0%")
    plain(panel.xaxis)


def _points(panel: Axes, found: Calibration, x: Floats, y: Floats, unit: str) -> None:
    """The batches by kind; those beyond the axis at its edge, counted."""
    prefills, (low, high) = found.batches.prefill_tokens > 0, panel.get_ylim()
    size = 14 if found.rows > MANY else 24
    groups = (("decodes only", found.kept & ~prefills, BLUE, "o", 0.5),
              ("with prefills", found.kept & prefills, ORANGE, "^", 0.5), ("set aside", ~found.kept, BLACK, "x", 1.0))
    for name, rows, colour, marker, alpha in groups:
        if rows.any():
            style: dict[str, Any] = {"s": size, "color": colour, "marker": marker, "alpha": alpha, "linewidths": 0.8}
            inside = rows & (y >= low) & (y <= high)
            panel.scatter(x[inside], y[inside], label=f"{name} ({np.count_nonzero(rows):,})", **style)
    _beyond(panel, x, y, y > high, 1.0, unit)
    _beyond(panel, x, y, y < low, 0.0, unit)


def _beyond(panel: Axes, x: Floats, y: Floats, rows: Bools, edge: float, unit: str) -> None:
    """Arrows at the upper or lower edge for the batches beyond it, and how many there are, how far away."""
    if not rows.any():
        return
    up = edge > 0
    count = int(np.count_nonzero(rows))
    panel.scatter(x[rows], np.full(count, abs(edge - INSIDE)), marker="^" if up else "v", s=30, color=BLACK,
                  transform=panel.get_xaxis_transform(), clip_on=False, zorder=3)
    furthest = float(y[rows].max() if up else y[rows].min())
    furthest *= 1.0 if unit else 100.0
    far = f"{furthest:,.{0 if abs(furthest) >= 100 else 1}f}{unit or '%'}"
    text = f"{'▲' if up else '▼'} {count:,} {'batch' if count == 1 else 'batches'} {'above' if up else 'below'},\n"
    panel.annotate(f"{text}{'up' if up else 'down'} to {far}", (1.0, edge), (4, 0), xycoords="axes fraction",
                   textcoords="offset points", va="top" if up else "bottom", ha="left", fontsize="small",
                   annotation_clip=False)
