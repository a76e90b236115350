"""The figure of a sweep: mean latency and throughput against the arrival rate, a line for each policy.

Bars are 95% intervals over replications; a hollow marker is a cell whose verdict is not stable, or that overflows. The
fluid limit is a vertical line; above the panels each policy's marker stands at its largest stable rate.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fluidwait.cells import Finished
from fluidwait.figures import BLACK, STYLES
from fluidwait.sweep import Sweep
from verification import Interval

GREY = "#777777"


def draw_sweep(found: Sweep, folder: Path) -> None:
    """Write sweep as PNG and SVG into the folder; the same sweep gives the same bytes."""
    with rc_context({"svg.hashsalt": "fluidwait"}):
        figure = _figure(found)
        figure.savefig(folder / "sweep.png", dpi=150)
        figure.savefig(folder / "sweep.svg", metadata={"Date": None})


def _figure(found: Sweep) -> Figure:
    figure = Figure(figsize=(7, 6.5), layout="constrained")
    delay, tokens = figure.subplots(2, 1, sharex=True)
    for row, policy in enumerate(found.grid.policies):
        cells = [each for each in found.of(policy) if each.measured is not None]
        for panel, name in ((delay, "latency"), (tokens, "throughput")):
            _line(panel, cells, policy, name, size=9.0 - 1.5 * min(row, 4))
        _limit(delay, tokens, policy, found.limits[policy], row)
    _offered(tokens, found)
    for panel in (delay, tokens):
        _finish(panel, found)
    delay.set_yscale("log")
    delay.set_ylabel("mean latency (s)")
    tokens.set_ylim(bottom=0)
    tokens.set_ylabel("completed output tokens/s")
    tokens.set_xlabel("requests/s")
    figure.legend(*tokens.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _line(panel: Axes, cells: list[Finished], policy: str, name: str, size: float) -> None:
    """A policy's means with their intervals; lines that lie upon each other show markers of different sizes."""
    colour, line, marker = STYLES[policy]
    at = np.array([each.cell.rate for each in cells])
    intervals: list[Interval] = [getattr(each.measured, name) for each in cells]
    means = np.array([each.mean for each in intervals])
    ends = np.array([[each.mean - each.low, each.high - each.mean] for each in intervals]).reshape(-1, 2).T
    panel.errorbar(at, means, yerr=np.nan_to_num(ends), color=colour, ls=line, lw=1.2, capsize=2)
    sure = np.array([each.stable and not each.overflows for each in cells], dtype=bool)
    for chosen, fill in ((sure, colour), (~sure, "white")):
        panel.plot(at[chosen], means[chosen], marker, ms=size, mfc=fill, mec=colour)


def _limit(above: Axes, named: Axes, policy: str, limit: float | None, row: int) -> None:
    """A policy's marker above the upper panel at its largest stable rate, and its entry in the legend."""
    colour, line, marker = STYLES[policy]
    label = f"{policy}, never stable" if limit is None else f"{policy}, stable up to {limit:g}"
    named.plot([], [], color=colour, ls=line, marker=marker, lw=1.2, label=label)
    if limit is not None:
        above.plot([limit], [1.03 + 0.06 * row], marker, ms=6, mfc=colour, mec=colour, clip_on=False,
                   transform=above.get_xaxis_transform())


def _offered(panel: Axes, found: Sweep) -> None:
    """The output tokens that arrive: a straight line, for the mix keeps its proportions."""
    rates = np.array([0.0, found.grid.rates[-1]])
    per_request = found.equilibrium.throughput / found.equilibrium.workload.rate
    panel.plot(rates, rates * per_request, color=GREY, ls=":", lw=1, zorder=0, label="offered")


def _finish(panel: Axes, found: Sweep) -> None:
    label = f"fluid limit {found.fluid_limit:.4g}"
    if found.fluid_limit <= 1.2 * found.grid.rates[-1]:
        panel.axvline(found.fluid_limit, color=BLACK, lw=1.2, ls="-.", label=label)
    else:
        panel.plot([], [], color=BLACK, lw=1.2, ls="-.", label=f"{label} (to the right)")
    panel.set_xlim(left=0)
    panel.spines[["top", "right"]].set_visible(False)
