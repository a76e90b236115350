"""Figures as the bytes of their files: in our style whatever is set around us, and the same for the same data.

A matplotlibrc of the user or in the working folder changes nothing; an SVG carries no date, and its names come from a
salt of ours instead of from chance.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from fluidwait.figures.style import LETTERS


@contextmanager
def own_style() -> Iterator[None]:
    """Draw in the library's own defaults and our letters, with names in an SVG that do not depend on chance."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**LETTERS, "font.size": 10.0, "axes.titlesize": 10.5})
        matplotlib.rcParams["svg.hashsalt"] = "fluidwait"
        yield


def files_of(figures: Mapping[str, Figure]) -> dict[str, bytes]:
    """Each figure as PNG and as SVG, by the names of the files."""
    return {f"{name}.{kind}": _bytes(figure, kind) for name, figure in figures.items() for kind in ("png", "svg")}


def _bytes(figure: Figure, kind: str) -> bytes:
    if figure.get_layout_engine() is not None:
        _settle(figure)
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def _settle(figure: Figure) -> None:
    """Leave the panels where the layout puts them, but for its last bits: those differ from run to run."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for panel in figure.axes:
        panel.set_position(Bbox(np.round(panel.get_position().get_points(), 6)))
