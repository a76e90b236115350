"""Every example in the documentation runs: the README's Python lines and every docstring."""

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

README = Path(__file__).parent.parent / "README.md"


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


def test_readme_examples_run() -> None:
    """The README's Python lines print what they say."""
    result = doctest.testfile(str(README), module_relative=False)
    assert result.attempted > 3
    assert result.failed == 0


def test_the_readme_names_its_two_commands() -> None:
    """One command to run, one to test, both from nothing but Python 3.11."""
    text = README.read_text(encoding="utf-8")
    assert "<!-- test command -->" in text
    assert "fluidwait run" in text
