"""What commands draw: nothing lies over data, touches or is cut off; axes hold what is drawn and blow up no noise."""

from __future__ import annotations

import colorsys
from itertools import combinations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fluid import solve
from fluid.calibration.batches import Batches
from fluid.calibration.fit import calibrate
from fluid.traces.burstiness import dispersion
from fluid.traces.trace import Trace
from fluidwait.deployment.deployment import parse
from fluidwait.figures.calibration import calibration_figure
from fluidwait.figures.drawn import own_style
from fluidwait.figures.labels import FAR, Level, draw_levels, name_beside
from fluidwait.figures.run import run_figures
from fluidwait.figures.style import style
from fluidwait.figures.sweep import sweep_figure
from fluidwait.figures.trace import trace_figures
from fluidwait.study.cell import DOUBTED, Finished, Kept
from fluidwait.study.grid import Cell, Grid
from fluidwait.study.outcomes import Plan, compare
from fluidwait.study.sweep import Sweep
from verification import Interval
from verification.experiments.targets.names import DELAYS

DEPLOYMENT = """[replica]
kv_capacity = 60000
iteration_time = { overhead = 0.0106, per_kv_token = 4.013e-7 }
[[workload.type]]
name = "chat"
prompt_tokens = 512
output_tokens = 20
rate = 60.0
[[workload.type]]
name = "a name that is longer than any that a figure has room for"
prompt_tokens = 100
output_tokens = 10
rate = 5.0
[target]
horizon = 5.0
"""


def laid_out(figure: Figure) -> Figure:
    """The figure drawn, when all that belongs to it lies within, no legend on a panel, no two texts on each other."""
    figure.draw_without_rendering()
    drawn, whole = figure.get_tightbbox(), figure.bbox_inches
    assert whole.x0 <= drawn.x0 + 0.01
    assert drawn.x1 <= whole.x1 + 0.01
    assert whole.y0 <= drawn.y0 + 0.01
    assert drawn.y1 <= whole.y1 + 0.01
    legends = [each for each in (*figure.legends, *(axes.get_legend() for axes in figure.axes)) if each]
    assert not any(legend.get_window_extent().overlaps(axes.bbox.padded(-1)) for legend in legends
                   for axes in figure.axes)
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in (*axes.texts, axes.title, axes._left_title)  # type: ignore[attr-defined]
                 if text.get_text() not in ("", "?")]
        assert not any(one.padded(-1).overlaps(other) for one, other in combinations(boxes, 2))
    return figure


def texts(axes: Axes) -> str:
    """All that is written in and beside a panel."""
    return "\n".join(text.get_text() for text in axes.texts)


# Policies and levels


def test_policies_that_are_drawn_together_have_different_hues_lines_and_markers() -> None:
    """No two blues: of the designs, the engine and greedy admission any two differ by 14 degrees, or in lightness."""
    looks = [style(name) for name in ("paced", "wait", "nested", "look-ahead", "vllm-v1", "greedy")]
    looks.append(style("vllm-v1", "watermark 1%"))
    assert len({str(look.line) for look in looks}) == len({look.marker for look in looks}) == len(looks)
    for one, other in combinations([[int(look.colour[i:i + 2], 16) / 255 for i in (1, 3, 5)] for look in looks], 2):
        turn = abs(colorsys.rgb_to_hsv(*one)[0] - colorsys.rgb_to_hsv(*other)[0])
        lighter = abs(np.dot([0.2126, 0.7152, 0.0722], np.subtract(one, other)))
        assert 360 * min(turn, 1 - turn) >= 14 or lighter > 0.2


def test_levels_that_coincide_are_one_line_with_both_names() -> None:
    """Equal ones, and those nearer than paper shows; others have lines of their own."""
    axes = Figure().subplots()
    levels = [Level(100.0, "bound", "blue"), Level(100.0, "capacity", width=2.0), Level(60.0, "fluid")]
    names = draw_levels(axes, levels, 80.0)
    assert len(axes.lines) == 2
    assert [each.text for each in names] == ["fluid", "capacity\nbound"]
    assert axes.lines[1].get_linewidth() == 2.0


def test_a_level_far_above_the_data_is_named_and_does_not_squeeze_it() -> None:
    """The axis ends with the data; beside its upper end stands an arrow with the name."""
    with own_style():
        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.subplots()
        names = draw_levels(axes, [Level(8.0, "mean"), Level(10.1 * FAR, "capacity"), Level(10.2 * FAR, "bound")], 10.0)
        assert axes.get_ylim()[1] < 12
        assert len(axes.lines) == 1
        figure.draw_without_rendering()
        name_beside(axes, names)
        assert "↑ capacity" in texts(axes)
        assert "↑ bound" in texts(axes)
        laid_out(figure)


# Traces


def trace_of(times: np.ndarray, seed: int = 0) -> Trace:
    """Requests of random lengths at given times."""
    rng = np.random.default_rng(seed)
    lengths = rng.lognormal(5, 1, (2, len(times))).astype(int) + 1
    return Trace(*lengths, times=times - times[0])


def drawn(trace: Trace) -> dict[str, Figure]:
    """The figures of a trace, laid out."""
    assert trace.times is not None
    with own_style():
        return {name: laid_out(each) for name, each in trace_figures(trace, dispersion(trace.times)).items()}


def test_noise_of_poisson_arrivals_stays_small_and_inside_its_band() -> None:
    """The axis reaches from below 1/2 to above 2, the band holds what is expected: about 95 of 100 windows."""
    times = np.cumsum(np.random.default_rng(3).exponential(0.1, 20_000))
    rate, index = drawn(trace_of(times))["arrivals"].axes
    assert index.get_ylim()[0] <= 0.5 < 2.0 <= index.get_ylim()[1]
    assert len(index.collections) == 1
    assert "95%" in texts(index)
    assert "all within" in index.get_title(loc="left")
    outside = int(rate.get_title(loc="left").split(": ")[1].split(" of ")[0])
    assert outside <= 5 + 4 * np.sqrt(100 * 0.05 * 0.95)


def test_even_arrivals_are_below_the_axis_and_counted_there() -> None:
    """Their index of dispersion is near 0, which a logarithmic axis does not hold."""
    index = drawn(trace_of(np.arange(5000) * 0.2))["arrivals"].axes[1]
    assert "2 below 0.01" in texts(index)
    assert "2 of 2 below the band" in index.get_title(loc="left")


@pytest.mark.parametrize("trace", [
    Trace([512] * 50, [512] * 50, times=np.arange(50.0)), Trace([10, 20], [30, 40], times=[0.0, 5.0]),
    Trace([1], [1], times=[0.0]), Trace([1, 10**6], [10**6, 1], times=[0.0, 1e6]),
])
def test_awkward_traces_are_drawn_with_every_length_inside_the_axis(trace: Trace) -> None:
    """One length, two requests, one request, lengths six decades apart."""
    counts, _ = drawn(trace)["lengths"].axes
    low, high = counts.get_xlim()
    assert low < min(trace.prompt_tokens.min(), trace.output_tokens.min())
    assert high > max(trace.prompt_tokens.max(), trace.output_tokens.max())


# Calibrations


def test_batches_set_aside_do_not_squeeze_the_others_and_are_counted() -> None:
    """Axes are those of the batches kept; at the edge stands how many lie beyond, and how far."""
    rng = np.random.default_rng(0)
    sequences = rng.integers(1, 100, 60)
    kv = sequences * rng.integers(100, 900, 60)
    seconds = (0.01 + 4e-7 * kv) * rng.normal(1, 0.01, 60)
    seconds[[10, 20, 30]] *= [20.0, 300.0, 4000.0]
    found = calibrate(Batches.from_arrays(sequences, kv, seconds))
    assert found.outliers == 3
    with own_style():
        fit, errors = laid_out(calibration_figure(found)).axes
    for panel in (fit, errors):
        assert "3 batches above" in texts(panel)
    assert fit.get_ylim()[1] < 2e3 * seconds[found.kept].max()
    assert fit.get_ylim()[0] < 1e3 * seconds.min()
    assert 1e3 * seconds[found.kept].max() < fit.get_ylim()[1]
    assert 0.05 <= errors.get_ylim()[1] < 0.2
    inside = [each.get_offsets() for each in fit.collections if isinstance(each, PathCollection)]
    assert sum(map(len, inside)) == 60


# Sweeps


def swept(rates: str, ends: tuple[float, float], doubted: str = "") -> Figure:
    """The figure of a sweep whose mean latency is the rate / 10, with an interval between two multiples of it."""
    grid, deployment = Grid.read(rates, "paced,wait"), parse(DEPLOYMENT.encode(), "mix.toml")
    nothing = Interval(0.0, 0.0, 0.0)
    cells = []
    for cell in grid.cells:
        latency = Interval(cell.rate / 10, cell.rate / 10 * ends[0], cell.rate / 10 * ends[1])
        tokens = Interval(30 * cell.rate, 10 * cell.rate, 50 * cell.rate)
        kept = Kept((*[latency] * len(DELAYS), tokens, nothing), 1, int(cell.policy == "wait"), 0.0, 1.0)
        cells.append(Finished(Cell(*cell), "stable", "why" + (DOUBTED + doubted if doubted else ""), kept))
    found = Sweep(grid, Plan(30.0, 2, 0), tuple(cells), solve(deployment.workload, deployment.replica))
    with own_style():
        return laid_out(sweep_figure(found))


@pytest.mark.parametrize("rates", ["80:100:5", "90", "1,100"])
@pytest.mark.parametrize("ends", [(0.5, 8.0), (-3.0, 40.0), (float("nan"), float("nan"))])
def test_axes_of_a_sweep_hold_every_error_bar(rates: str, ends: tuple[float, float]) -> None:
    """Also of intervals that reach below 0, on a logarithmic axis, and of ends that are unknown."""
    for panel in swept(rates, ends).axes[1:]:
        low, high = panel.get_ylim()
        bars = np.concatenate([np.concatenate(each.get_segments()) for each in panel.collections])
        assert low < bars[:, 1].min()
        assert bars[:, 1].max() < high
        assert panel.get_xlim()[0] < bars[:, 0].min()
        assert bars[:, 0].max() < panel.get_xlim()[1]


def test_the_axis_of_a_sweep_begins_near_the_first_rate() -> None:
    """The rates fill most of the width, where the fluid limit is not near."""
    low, high = swept("4,5", (0.9, 1.1)).axes[2].get_xlim()
    assert low > 3.8
    assert high < 5.2


def test_what_overflows_and_what_is_doubted_is_marked_and_in_the_key() -> None:
    """Half a marker, and a question mark over each cell of the measure that is doubted."""
    figure = swept("80,90,100", (0.9, 1.1), "latency")
    _, delay, tokens = figure.axes
    assert [text.get_text() for text in delay.texts] == ["?"] * 6
    assert not tokens.texts
    halves = [line for line in delay.lines if isinstance(line, Line2D) and line.get_fillstyle() == "bottom"]
    assert len(halves) == 1
    assert len(halves[0].get_xdata()) == 3
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"stable, but overflows", "interval may not hold"} <= labels


# Runs


@pytest.mark.parametrize("against", [(), ("vllm-v0", "greedy", "sarathi")])
def test_policies_of_a_run_are_told_apart_and_bounds_bear_their_names(against: tuple[str, ...]) -> None:
    """Lines in a panel differ in colour and width; with more than four policies each has a panel."""
    deployment = parse(DEPLOYMENT.encode(), "mix.toml")
    found = compare(deployment, Plan(5.0, 1, 0), against)
    simulated = [each for each in found.outcomes if each.found is not None]
    with own_style():
        figures = {name: laid_out(each) for name, each in run_figures(found).items()}
    panels = figures["kv"].axes
    assert len(panels) == (1 if len(simulated) <= 4 else len(simulated))
    assert all("capacity C\n60,000" in texts(panel) for panel in panels)
    assert "bound of paced" in "\n".join(map(texts, panels))
    for panel in (*panels, *figures["batch"].axes):
        lines = [line for line in panel.lines if not str(line.get_label()).startswith("_")]
        assert len({line.get_color() for line in lines}) == len({line.get_linewidth() for line in lines}) == len(lines)
        assert len(lines) <= 4
