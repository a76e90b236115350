"""Two figures of a trace: how its requests arrive, and how long they are.

Grey bands hold what Poisson arrivals at the trace's mean rate give in 95% of cases: counts of a window between the
quantiles of the Poisson law, the index of dispersion of n windows between those of chi^2 / (n - 1), n - 1 degrees of
freedom (mathematics, section 12.1). Windows of the rate are so long that ten requests come in one. Axes reach far
enough around the bands that chance does not look like structure.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.stats import chi2, poisson

from fluid.arrays import Floats, Ints
from fluid.traces.trace import Trace
from fluidwait.figures.drawn import files_of, own_style
from fluidwait.figures.labels import Name, key_above, name_beside, plain, unit_of
from fluidwait.figures.style import BAND, BLACK, BLUE, GREEN, ORANGE

RATE_WINDOWS, PER_WINDOW = 100, 10  # the rate is drawn in at most so many windows, with so many requests in one
LENGTH_BINS = 90
TAILS = (0.025, 0.975)
LEAST_INDEX = 0.01  # of dispersion: below it arrivals are as good as even, and a marker at the edge says so
AROUND = 1.5  # how far the axes reach beyond what they show, as a factor


def draw_trace(trace: Trace, dispersion: dict[float, float]) -> dict[str, bytes]:
    """The files of lengths, and of arrivals where the trace has times, PNG and SVG, by name."""
    with own_style():
        return files_of(trace_figures(trace, dispersion))


def trace_figures(trace: Trace, dispersion: dict[float, float]) -> dict[str, Figure]:
    """The figures lengths, and arrivals where the trace has times."""
    figures = {"lengths": _lengths(trace)}
    if trace.times is not None and trace.duration:
        figures["arrivals"] = _arrivals(trace, dispersion)
    return figures


def _lengths(trace: Trace) -> Figure:
    figure = Figure(figsize=(7, 6.5), layout="constrained")
    counts, work = figure.subplots(2, 1)
    edges = _edges(np.concatenate([trace.prompt_tokens, trace.output_tokens]))
    looks = (("prompt", trace.prompt_tokens, BLUE, "-", 2.0), ("output", trace.output_tokens, ORANGE, "--", 1.2))
    for name, tokens, colour, line, width in looks:
        counts.stairs(np.histogram(tokens, edges)[0], edges, color=colour, ls=line, lw=width,
                      label=f"{name}: mean {tokens.mean():,.0f}, median {np.median(tokens):,.0f}")
    counts.set(xscale="log", xlabel="tokens", ylabel="requests in a bin", xlim=(edges[0], edges[-1]), ylim=(0, None))
    plain(counts.xaxis, (1.0,) if edges[-1] > 1000 * edges[0] else (1.0, 2.0, 5.0))
    counts.yaxis.set_major_locator(MaxNLocator(integer=True))
    plain(counts.yaxis)
    key_above(counts, f"Lengths of prompts and outputs, {len(trace):,} requests")
    _concentration(work, trace.kv_work())
    return figure


def _edges(tokens: Ints) -> Floats:
    """Edges of bins, half way between whole numbers of tokens, at even steps of the logarithm where there are many."""
    ends = max(1.0, tokens.min() / AROUND), tokens.max() * AROUND + 1
    return np.unique(np.floor(np.geomspace(*ends, LENGTH_BINS))) - 0.5


def _concentration(panel: Axes, work: Ints | Floats) -> None:
    """The share of the KV work that the largest requests hold, by their share of the requests."""
    held = np.cumsum(np.sort(work)[::-1].astype(np.float64))
    share, held = np.arange(len(work) + 1) / len(work), np.concatenate([[0.0], held / held[-1]])
    shown = np.unique(np.linspace(0, len(work), 400).astype(np.int64))
    panel.plot(share[shown], held[shown], color=GREEN, lw=2.0, label="this trace")
    panel.plot([0, 1], [0, 1], color=BLACK, lw=1, ls=":", label="if all requests were alike")
    panel.set(xlabel="share of the requests, the ones with most KV work first", ylabel="share of the KV work",
              xlim=(0, 1), ylim=(0, 1.02))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    tenth = -(-len(work) // 10)
    key_above(panel, f"The largest {share[tenth]:.0%} of the requests hold {held[tenth]:.0%} of the KV work")


def _arrivals(trace: Trace, dispersion: dict[float, float]) -> Figure:
    figure = Figure(figsize=(7, 6.5 if dispersion else 3.5), layout="constrained")
    panels = figure.subplots(2 if dispersion else 1, 1, squeeze=False)[:, 0]
    names = [_rate(panels[0], trace)]
    if dispersion:
        names.append(_dispersion(panels[1], float(trace.duration or 1.0), dispersion))
    figure.draw_without_rendering()
    for panel, beside in zip(panels, names, strict=True):
        name_beside(panel, beside)
    return figure


def _rate(panel: Axes, trace: Trace) -> list[Name]:
    """The rate in windows, over the band of a Poisson stream; what to write beside the panel."""
    duration = float(trace.duration or 1.0)
    count = int(np.clip(len(trace) // PER_WINDOW, 1, RATE_WINDOWS))
    edges, rates = trace.rates_over_time(duration / count * (1 + 1e-9))
    mean, window = len(trace) / duration, duration / count
    low, high = (float(each) / window for each in poisson.ppf(TAILS, mean * window))
    unit, name = unit_of(duration)
    panel.axhspan(low, high, color=BAND, lw=0, zorder=0)
    panel.axhline(mean, color=BLACK, lw=1, ls=":", zorder=1)
    panel.stairs(rates, edges / unit, color=BLUE, lw=1.4, baseline=None)
    outside = int(np.count_nonzero((rates < low) | (rates > high)))
    panel.set(xlabel=f"{name} from the first request", ylabel="requests/s", xlim=(0, duration / unit),
              ylim=(0, 1.06 * max(high, rates.max())),
              title=f"Rate in windows of {window:,.3g} s: {outside} of {len(rates)} outside the band")
    for axis in (panel.xaxis, panel.yaxis):
        plain(axis)
    return [Name(mean, f"mean {mean:,.4g}\nband: 95% of\nPoisson counts")]


def _dispersion(panel: Axes, duration: float, dispersion: dict[float, float]) -> list[Name]:
    """The index of dispersion by the length of the windows, over the band of a Poisson stream."""
    windows, index = np.array(list(dispersion)), np.array(list(dispersion.values()))
    low, high = _band(windows, duration)
    grid = np.geomspace(windows[0] / AROUND, windows[-1] * AROUND, 100)
    panel.fill_between(grid, *_band(grid, duration), color=BAND, lw=0, zorder=0)
    panel.axhline(1.0, color=BLACK, lw=1, ls=":", zorder=1)
    seen = index >= LEAST_INDEX
    panel.plot(windows, np.maximum(index, LEAST_INDEX), color=BLUE, lw=1.2)
    panel.plot(windows[seen], index[seen], "o", color=BLUE, ms=5)
    if not seen.all():
        panel.plot(windows[~seen], np.full((~seen).sum(), LEAST_INDEX), "v", color=BLUE, ms=7, clip_on=False)
    ends = min(0.5, low.min(), index[seen].min(initial=1.0)), max(2.0, high.max(), index.max())
    panel.set(xscale="log", yscale="log", xlabel="length of the windows (s)", ylabel="variance / mean of counts",
              xlim=(grid[0], grid[-1]), ylim=(ends[0] / AROUND if seen.all() else LEAST_INDEX, ends[1] * AROUND))
    plain(panel.xaxis, (1.0,) if len(windows) > 2 else (1.0, 2.0, 5.0))
    plain(panel.yaxis, (1.0,) if ends[1] > 100 * ends[0] or not seen.all() else (1.0, 2.0, 5.0))
    outside = [f"{number} of {len(index)} {side}" for number, side in (
        (np.count_nonzero(index > high), "above"), (np.count_nonzero(index < low), "below")) if number]
    panel.set_title(f"Index of dispersion: {', '.join(outside) or 'all within'} the band")
    below = [] if seen.all() else [Name(LEAST_INDEX, f"▼ {np.count_nonzero(~seen)} below {LEAST_INDEX:g}", BLUE)]
    return [Name(1.0, "Poisson: 1\nband: 95% of\nPoisson streams"), *below]


def _band(windows: Floats, duration: float) -> tuple[Floats, Floats]:
    """Between what the index of dispersion of Poisson arrivals is in 95% of cases, for windows of so many seconds."""
    freedom = np.maximum(duration / windows - 1, 1.0)
    low, high = (chi2.ppf(tail, freedom) / freedom for tail in TAILS)
    return low, high
