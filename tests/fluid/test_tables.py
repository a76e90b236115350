"""Results as tables: the same columns in a data frame and in HTML, nothing interpreted as markup."""

from __future__ import annotations

import builtins
from dataclasses import dataclass

import numpy as np
import pytest

from fluid.errors import FluidwaitError
from fluid.tables import MOST_ROWS, Tabular


@dataclass(frozen=True)
class Squares(Tabular):
    """The squares below a number."""

    count: int

    def columns(self) -> dict[str, object]:
        n = np.arange(self.count)
        return {"n": n, "n^2 <tokens>": (n**2).astype(float), "even": n % 2 == 0}

    def caption(self) -> str:
        return "squares & roots"


def test_a_frame_has_the_columns() -> None:
    """Names and values in order."""
    frame = Squares(4).to_frame()
    assert list(frame.columns) == ["n", "n^2 <tokens>", "even"]
    assert frame["n^2 <tokens>"].tolist() == [0.0, 1.0, 4.0, 9.0]


def test_without_pandas_one_line_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """pandas is not among what fluidwait needs."""
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FluidwaitError, match="pip install pandas"):
        Squares(2).to_frame()


def test_markup_in_names_and_captions_is_shown_as_text() -> None:
    """A name with a bracket is no tag."""
    html = Squares(3)._repr_html_()
    assert "n^2 &lt;tokens&gt;" in html
    assert "<caption>squares &amp; roots</caption>" in html
    assert "yes" in html


def test_a_long_table_shows_its_ends() -> None:
    """Of 1,000 rows the first and the last dozen, and a row of dots between."""
    html = Squares(1000)._repr_html_()
    assert html.count("…") == 3
    assert "998,001" in html
    assert html.count("<td") == 3 * (MOST_ROWS + 1)
