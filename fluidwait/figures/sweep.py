"""The figure of a sweep: verdicts, mean latency and throughput against the arrival rate, a line for each policy.

The rows of the upper panel are the legend for the lines of the others: a marker is a cell, hollow where its verdict is
not stable, half filled where it is and the cell overflows, and a bar marks the policy's largest stable rate. A line at
the fluid limit runs through all panels. Error bars are 95% intervals over replications, with a question mark above one
that cannot be trusted. In the lower panels policies are shifted some points apart, so that none hides another: never so
far that a cell seems to lie at another rate, or beyond the fluid limit. Axes begin near the first rate and near the
least value, and hold every error bar.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fluid.arrays import Floats
from fluidwait.figures.drawn import files_of, own_style
from fluidwait.figures.labels import plain
from fluidwait.figures.style import BLACK, style
from fluidwait.study.cell import Finished
from fluidwait.study.sweep import Sweep
from verification import Interval

WIDTH, PANEL, ROW, MARGINS = 7.0, 2.5, 0.24, 1.4  # inches
ACROSS = 380.0  # points, about: the width of a panel
APART = 4.0  # points, at most, between policies
ROOMY = 40  # with more rates markers and error bars shrink
NEAR = 1.5  # a fluid limit within such a factor of the rates is drawn, another one only named
MARGIN = 0.06  # of an axis, beyond what it shows
ALONE = 0.2  # of a single rate: half of what the axis shows
SHORT = 0.02  # of a single rate: how far to either side what is offered is drawn
FROM_ZERO = 0.5  # throughputs begin at 0 unless the least is above this share of the largest
LEAST = 0.1  # of the mean: where an interval that reaches 0 ends on a logarithmic axis, with an arrow
QUESTIONS = 20  # with more rates there is no room for question marks


def draw_sweep(found: Sweep) -> dict[str, bytes]:
    """The files of the figure, PNG and SVG, by name."""
    with own_style():
        return files_of({"sweep": sweep_figure(found)})


def sweep_figure(found: Sweep) -> Figure:
    """The figure of a sweep."""
    heights = [ROW * (len(found.grid.policies) + 1), PANEL, PANEL]
    figure = Figure(figsize=(WIDTH, sum(heights) + MARGINS), layout="constrained")
    verdicts, delay, tokens = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    verdicts.set_xlim(*_ends(found))
    _verdicts(verdicts, found)
    measured = [_measured(delay, found, "latency"), _measured(tokens, found, "throughput")]
    _offered(tokens, found)
    for panel in (verdicts, *(panel for panel, seen in zip((delay, tokens), measured, strict=True) if len(seen))):
        if _near(found):
            panel.axvline(found.fluid_limit, color=BLACK, ls="-.", lw=1.2, zorder=1)
    _in_seconds(delay, measured[0], found)
    _in_tokens(tokens, measured[1], found)
    plain(tokens.xaxis)
    tokens.set_xlabel("arrival rate (requests/s)")
    figure.align_ylabels([delay, tokens])
    figure.legend(handles=_key(found), loc="outside lower center", ncols=4, handlelength=2.5)
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
        _markers(panel, cells, at, level, 5.5 * _scale(found))
    values = ["never" if limit is None else f"up to {limit:g}" for limit in limits.values()]
    for row, value in enumerate((*values, f"{found.fluid_limit:.4g}")):
        panel.text(1.01, row, value, va="center_baseline", transform=panel.get_yaxis_transform())
    if not _near(found):
        beyond = found.fluid_limit > found.grid.rates[-1]
        panel.plot([0.99 if beyond else 0.01], [len(limits)], ">" if beyond else "<", color=BLACK, ms=7,
                   transform=panel.get_yaxis_transform())
    panel.set_yticks(range(len(limits) + 1), [*limits, "fluid limit"])
    panel.set_ylim(len(limits) + 0.6, -0.7)
    panel.tick_params(axis="y", length=0)
    best = max((limit for limit in limits.values() if limit is not None), default=None)
    stable = "Stable at none of these rates" if best is None else f"Stable up to {best:g} at best"
    panel.set_title(f"{stable}; the fluid limit is {found.fluid_limit:.4g} requests/s")


def _measured(panel: Axes, found: Sweep, name: str) -> Floats:
    """Draw each policy's means with their intervals; return the ends of all that is drawn, finite and positive."""
    apart, scale, seen = _apart(found), _scale(found), []
    for row, policy in enumerate(found.grid.policies):
        colour, line, _ = style(policy)
        cells = [each for each in found.of(policy) if each.measured is not None]
        if not cells:
            continue
        means, low, high = _values([each.measured.interval(name) for each in cells if each.measured is not None])
        at = np.array([each.cell.rate for each in cells]) + (row - (len(found.grid.policies) - 1) / 2) * apart
        panel.errorbar(at, means, yerr=(means - low, high - means), color=colour, ls=line, lw=1.2,
                       elinewidth=1.2 * scale, capsize=2.5 * scale)
        _markers(panel, cells, at, means, 5.5 * scale)
        doubted = [i for i, each in enumerate(cells) if name in each.doubted]
        for i in doubted if len(found.grid.rates) <= QUESTIONS else []:
            panel.annotate("?", (at[i], high[i]), (0, 2), textcoords="offset points", color=colour, ha="center",
                           va="bottom", fontsize="small", annotation_clip=True)
        seen += [low, high]
    values: Floats = np.concatenate([*seen, np.empty(0)])
    return values[values > 0]  # NaN is not


def _values(intervals: list[Interval]) -> tuple[Floats, Floats, Floats]:
    """Means and the ends of their error bars: the mean itself where an end is unknown, LEAST of it for one below 0."""
    means, low, high = (np.array(ends, dtype=np.float64) for ends in zip(*intervals, strict=True))
    low, high = (np.where(np.isfinite(end), end, means) for end in (low, high))
    return means, np.where(low > LEAST * means, low, LEAST * means), high


def _markers(panel: Axes, cells: list[Finished], at: Floats, values: Floats, size: float) -> None:
    """A policy's cells: full where stable, half where something overflows, hollow where not stable."""
    stable = np.array([each.stable for each in cells], dtype=bool)
    over = np.array([each.overflows for each in cells], dtype=bool)
    for chosen, fill in ((stable & ~over, "full"), (stable & over, "bottom"), (~stable, "white")):
        if chosen.any():
            colour, _, marker = style(cells[0].cell.policy)
            panel.plot(at[chosen], values[chosen], marker, ms=size, mew=min(1.0, size / 5), mec=colour, mfcalt="white",
                       mfc="white" if fill == "white" else colour, fillstyle="bottom" if fill == "bottom" else "full")


def _offered(panel: Axes, found: Sweep) -> None:
    """The output tokens that arrive: a straight line, for the mix keeps its proportions."""
    rates = np.array([found.grid.rates[0], found.grid.rates[-1]])
    if rates[0] == rates[1]:
        rates *= 1 - SHORT, 1 + SHORT
    panel.plot(rates, rates * _per_request(found), color=BLACK, ls=":", lw=1, zorder=1)


def _per_request(found: Sweep) -> float:
    """Output tokens of the mean request."""
    return float(found.equilibrium.throughput / found.equilibrium.workload.rate)


def _in_seconds(panel: Axes, values: Floats, found: Sweep) -> None:
    """A logarithmic axis around all that is drawn; a sentence where that is nothing."""
    panel.set_ylabel("mean latency (s)")
    if not len(values):
        panel.set_yticks([])
        simulated = any(each.measured is not None for each in found.finished)
        panel.text(0.5, 0.5, "no request was completed" if simulated else
                   "nothing was simulated: overloaded, or without thresholds at these rates", ha="center",
                   transform=panel.transAxes)
        return
    panel.set_yscale("log")
    panel.set_ylim(values.min() / (1 + 2 * MARGIN), values.max() * (1 + 3 * MARGIN))
    low, high = panel.get_ylim()
    plain(panel.yaxis, (1.0,) if high > 1e3 * low else (1.0, 2.0, 5.0) if high > 4 * low else tuple(range(1, 10)))


def _in_tokens(panel: Axes, values: Floats, found: Sweep) -> None:
    """An axis from 0, or from near the least value where that is far above 0, that holds what is offered, too."""
    panel.set_ylabel("throughput (output tokens/s)")
    offered = np.array([(1 - SHORT) * found.grid.rates[0], (1 + SHORT) * found.grid.rates[-1]]) * _per_request(found)
    seen = np.concatenate([values, offered])
    low = seen.min() if seen.min() > FROM_ZERO * seen.max() else 0.0
    room = 1.5 * MARGIN * (seen.max() - low)
    panel.set_ylim(max(0.0, low - room) if low else 0.0, seen.max() + room)
    plain(panel.yaxis)


def _key(found: Sweep) -> list[Line2D]:
    """The legend of the markers and lines that mean the same for every policy, of those that are drawn."""
    mark: dict[str, Any] = {"color": BLACK, "ls": "", "marker": "o", "ms": 5}
    over = [Line2D([], [], fillstyle="bottom", mfcalt="white", label="stable, but overflows", **mark)]
    doubt = [Line2D([], [], color=BLACK, ls="", marker="$?$", ms=5, label="interval may not hold")]
    single = found.plan.replications == 1
    return [Line2D([], [], label="stable", **mark),
            *(over if any(each.stable and each.overflows for each in found.finished) else []),
            Line2D([], [], mfc="white", label="not stable", **mark),
            Line2D([], [], color=BLACK, ls="", marker="|", ms=10, mew=2.5, label="largest stable rate"),
            Line2D([], [], color=BLACK, ls=":", lw=1, label="offered"),
            Line2D([], [], color=BLACK, ls="-.", lw=1.2, label="fluid limit"),
            *(doubt if any({"latency", "throughput"} & set(each.doubted) for each in found.finished) else []),
            *([Line2D([], [], ls="", label="one replication: no intervals")] if single else [])]


def _near(found: Sweep) -> bool:
    """Whether the fluid limit is within the axes."""
    return found.grid.rates[0] / NEAR <= found.fluid_limit <= NEAR * found.grid.rates[-1]


def _ends(found: Sweep) -> tuple[float, float]:
    """The axis of the rates: the rates, the fluid limit where it is near, and a margin; never below 0."""
    shown = [*found.grid.rates, *([found.fluid_limit] if _near(found) else [])]
    room = MARGIN * (max(shown) - min(shown)) or ALONE * max(shown)
    return max(0.0, min(shown) - room), max(shown) + room


def _apart(found: Sweep) -> float:
    """How far apart policies stand, in requests/s: all of them within the gaps between rates and the fluid limit."""
    low, high = _ends(found)
    inside = [rate for rate in (*found.grid.rates, found.fluid_limit) if low <= rate <= high]
    gaps = np.diff(np.unique([low, *inside, high]))
    return float(min(APART * (high - low) / ACROSS, 0.8 * gaps.min() / len(found.grid.policies)))


def _scale(found: Sweep) -> float:
    """How large markers and error bars are, at most 1."""
    return min(1.0, ROOMY / len(found.grid.rates))
