"""The figure of a sweep: every limit is shown, nothing is clipped, and policies are told apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sweeps import EDGE, finished, text_of

from fluid import solve
from fluidwait.deployment.deployment import parse
from fluidwait.deployment.policy_names import BASELINES, DESIGNED
from fluidwait.figures.style import style
from fluidwait.figures.sweep import sweep_figure
from fluidwait.study import sweep
from fluidwait.study.grid import Grid
from fluidwait.study.outcomes import Plan


def test_every_policy_has_a_colour_and_a_marker_of_its_own() -> None:
    """Lines are told apart without colours: no two policies share a marker."""
    names = (*DESIGNED, *BASELINES)
    assert len({style(name).marker for name in names}) == len({style(name).colour for name in names}) == len(names)


@pytest.mark.parametrize(("rates", "stable"), [
    ("20:200:20", {"greedy": 160.0, "paced": 180.0, "wait": None}),  # the fluid limit, EDGE, lies among the rates
    ("20:60:20", {"greedy": 60.0}),  # beyond all of them
    ("180", dict.fromkeys((*DESIGNED, *BASELINES), 180.0)),  # a single one
    ("300,400", {"paced": None, "wait": None}),  # before all of them, and nothing was simulated
])
def test_the_figure_shows_every_limit_and_clips_nothing(rates: str, stable: dict[str, float | None]) -> None:
    """Limits are drawn within the axes and written beside them; all that is drawn is within the figure."""
    grid, deployment = Grid.read(rates, ",".join(stable)), parse(text_of().encode(), "mix.toml")
    cells = [replace(finished(*cell, simulated=min(grid.rates) < 300.0),
                     verdict="stable" if cell.rate <= (stable[cell.policy] or 0.0) else "unstable")
             for cell in grid.cells]
    found = sweep.Sweep(grid, Plan(30.0, 2, 0), tuple(cells), solve(deployment.workload, deployment.replica))
    figure = sweep_figure(found)
    figure.draw_without_rendering()
    verdicts, _, tokens = figure.axes
    values = {each.get_position()[1]: each.get_text() for each in verdicts.texts}
    assert [values[row] for row in range(len(stable))] == [
        "never" if stable[each] is None else f"up to {stable[each]:g}" for each in grid.policies]
    assert float(values[len(stable)]) == pytest.approx(EDGE, abs=0.05)
    bars = [line.get_xdata()[0] for line in verdicts.lines if line.get_marker() == "|"]
    assert bars == [stable[each] for each in grid.policies if stable[each] is not None]
    beyond = any(line.get_marker() == ">" for line in verdicts.lines)
    assert beyond == (tokens.get_xlim()[1] < EDGE)
    assert all(bar < tokens.get_xlim()[1] for bar in bars)
    drawn, whole = figure.get_tightbbox(), figure.bbox_inches
    assert whole.x0 <= drawn.x0 < drawn.x1 <= whole.x1
    assert whole.y0 <= drawn.y0 < drawn.y1 <= whole.y1
