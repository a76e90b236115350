"""Results as tables: the same columns in a data frame and in HTML, nothing interpreted as markup."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape

import numpy as np
import pytest

from fluid import IterationTime, PromptType, Replica, Workload, solve
from fluid.errors import FluidwaitError
from fluid.tables import MOST_ROWS, Tabular
from thresholds import WaitPolicy, nested, paced, wait
from verification import verify


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


REPLICA = Replica(137_000, IterationTime(0.0106, 4.013e-7))
MIX = Workload([PromptType(64, 20, 20.0, "chat"), PromptType(300, 40, 2.0)])


RESULTS: dict[str, Callable[[], Tabular]] = {
    "equilibrium": lambda: solve(MIX, REPLICA),
    "overload": lambda: solve(MIX.scaled(1000.0), REPLICA),
    "thresholds": lambda: wait(MIX, REPLICA),
    "no thresholds": lambda: wait(MIX.scaled(1000.0), REPLICA),
    "windows": lambda: paced(MIX, REPLICA),
    "a window": lambda: paced(MIX, REPLICA, lengths="unknown"),
    "boundaries": lambda: nested(Workload([PromptType(64, 20, 5.0)]), REPLICA),
    "verification": lambda: verify(WaitPolicy((3, 1)), MIX, REPLICA, horizon=20.0, replications=2),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_show_themselves_in_a_notebook(name: str) -> None:
    """Equilibria, designs and verifications are tables under their sentence, also where there is nothing to install."""
    result = RESULTS[name]()
    html, frame = result._repr_html_(), result.to_frame()
    assert result.caption() in unescape(html)
    assert len(frame.columns) >= 3
    assert html.count("<tr>") == 1 + len(frame)
