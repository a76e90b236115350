"""Docstrings as we write them become reStructuredText that says the same."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

CONVERTER = Path(__file__).resolve().parents[2] / "docs" / "docstrings.py"


@pytest.fixture(scope="module")
def as_rest() -> Callable[[str], str]:
    """The converter, from text to text."""
    convert = runpy.run_path(str(CONVERTER))["as_rest"]
    return lambda text: "\n".join(convert(text.split("\n"))).strip()


@pytest.mark.parametrize(("written", "meant"), [
    ("Return `x` and `a b`s.", "Return ``x`` and ``a b``\\ s."),
    ("`names`[j] = P(Q = j)", "``names``\\ [j] = P(Q = j)"),
    ("**How sure.** n_j* of lambda_j |x|", "**How sure.** n_j\\* of lambda_j \\|x\\|"),
    ("- one\n- two", "- one\n- two"),
    ("so many are left\n- 1 of them", "so many are left\n\\- 1 of them"),
    ("(a) with one line", "\\(a) with one line"),
    ("`a\nb`", "``a b``")])
def test_text_keeps_its_marks(as_rest: Callable[[str], str], written: str, meant: str) -> None:
    """Code spans are literals, bold stays bold, lists stay lists, and whatever else is no mark is escaped."""
    assert as_rest(written) == meant


def test_a_formula_is_one_literal_block(as_rest: Callable[[str], str]) -> None:
    """Indented lines, and empty lines between them, are kept as they stand."""
    formula = "    M* = Delta* W\n\n    n_j* = lambda_j Delta*"
    assert as_rest(f"Flow:\n\n{formula}\n\nEnd.") == f"Flow:\n\n.. code-block:: text\n\n{formula}\n\n\nEnd."


def test_an_example_is_kept(as_rest: Callable[[str], str]) -> None:
    """A doctest with its output, up to the next empty line."""
    example = ">>> solve(x).reason\n'n_j* `of` it'"
    assert as_rest(f"Words.\n\n{example}\n\nMore.") == f"Words.\n\n{example}\n\nMore."
