"""Two figures of a trace: how its requests arrive, and how long they are."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fluid.traces.trace import Trace
from fluidwait.figures.drawn import files_of, own_style
from fluidwait.figures.style import BLACK, BLUE, GREEN, ORANGE

RATE_WINDOWS = 100  # the rate over time is drawn in so many windows
LENGTH_BINS = 60


def draw_trace(trace: Trace, dispersion: dict[float, float]) -> dict[str, bytes]:
    """The files of lengths, and of arrivals where the trace has times, PNG and SVG, by name."""
    with own_style():
        figures = {"lengths": _lengths(trace)}
        if trace.times is not None and trace.duration:
            figures["arrivals"] = _arrivals(trace, dispersion)
        for axes in (axes for figure in figures.values() for axes in figure.axes):
            axes.spines[["top", "right"]].set_visible(False)
        return files_of(figures)


def _lengths(trace: Trace) -> Figure:
    figure = Figure(figsize=(7, 6.5), layout="constrained")
    counts, work = figure.subplots(2, 1)
    for name, tokens, colour in (("prompt", trace.prompt_tokens, BLUE), ("output", trace.output_tokens, ORANGE)):
        edges = np.geomspace(tokens.min(), tokens.max() + 1, LENGTH_BINS)
        counts.hist(tokens, bins=edges, histtype="step", color=colour, lw=1.4,
                    label=f"{name} tokens (mean {tokens.mean():,.0f}, median {np.median(tokens):,.0f})")
    counts.set(xscale="log", xlabel="tokens", ylabel="requests", title="Lengths of prompts and outputs")
    counts.legend(frameon=False, fontsize=9)
    _concentration(work, trace.kv_work())
    return figure


def _concentration(panel: Axes, work: np.ndarray) -> None:
    """The share of the KV work that the largest requests hold, by their share of the requests."""
    held = np.cumsum(np.sort(work)[::-1].astype(np.float64))
    share = np.arange(len(work) + 1) / len(work)
    shown = np.unique(np.linspace(0, len(work), 400).astype(np.int64))
    panel.plot(share[shown], np.concatenate([[0.0], held / held[-1]])[shown], color=GREEN, lw=1.4, label="this trace")
    panel.plot([0, 1], [0, 1], color=BLACK, lw=1, ls=":", label="all requests alike")
    panel.set(xlabel="share of the requests, the ones with most KV work first", ylabel="share of the KV work",
              title="Who holds the KV cache", xlim=(0, 1), ylim=(0, 1.02))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    panel.legend(frameon=False, fontsize=9)


def _arrivals(trace: Trace, dispersion: dict[float, float]) -> Figure:
    figure = Figure(figsize=(7, 6.5 if dispersion else 3.5), layout="constrained")
    panels = figure.subplots(2 if dispersion else 1, 1, squeeze=False)[:, 0]
    edges, rates = trace.rates_over_time(float(trace.duration or 1.0) / RATE_WINDOWS)
    panels[0].stairs(rates, edges, color=BLUE, lw=1.2)
    panels[0].axhline(trace.rate, color=BLACK, lw=1, ls=":", label=f"mean {trace.rate:.4g} requests/s")
    panels[0].set(xlabel="seconds from the first request", ylabel="requests/s", title="Rate over time", ylim=(0, None))
    panels[0].legend(frameon=False, fontsize=9)
    if dispersion:
        panels[1].plot(list(dispersion), list(dispersion.values()), color=BLUE, marker="o", ms=4, lw=1.2,
                       label="this trace")
        panels[1].axhline(1.0, color=BLACK, lw=1, ls=":", label="Poisson")
        panels[1].set(xscale="log", yscale="log", xlabel="length of the windows (s)",
                      ylabel="variance / mean of counts", title="Index of dispersion of the arrivals")
        panels[1].legend(frameon=False, fontsize=9)
    return figure
