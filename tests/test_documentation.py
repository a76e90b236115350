"""Every example in the documentation runs: the Python lines of the README and of the pages, and every docstring."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import fluid
import fluidwait
import thresholds
import verification

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
EXAMPLES = [path for path in (README, *sorted((ROOT / "docs").rglob("*.md")))
            if ">>> " in path.read_text(encoding="utf-8")]


def modules() -> list[str]:
    """Every module of the four packages."""
    packages = (fluid, thresholds, verification, fluidwait)
    found = [each.name for package in packages
             for each in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    return [name for name in found if not name.endswith("__main__")]


@pytest.mark.parametrize("name", modules())
def test_docstring_examples_run(name: str) -> None:
    """The examples of a module's docstrings print what they say."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_pages_run(page: Path) -> None:
    """The Python lines of the README, and of a page, print what they say; the end of a fence ends what is printed."""
    lines = ["" if line.startswith("```") else line for line in page.read_text(encoding="utf-8").splitlines()]
    example = doctest.DocTestParser().get_doctest("\n".join(lines) + "\n", {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner()
    runner.run(example)
    assert runner.tries > 0
    assert runner.failures == 0


def test_the_readme_names_its_two_commands() -> None:
    """One command to run, one to test, both from nothing but Python 3.11."""
    text = README.read_text(encoding="utf-8")
    assert "<!-- test command -->" in text
    assert "fluidwait run" in text


def test_the_readme_is_short() -> None:
    """At most 150 lines; what is longer has a page in docs/."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150
