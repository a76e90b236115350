"""What a Python session sees: the names that are offered, and nothing of the rooms behind them."""

from __future__ import annotations

from importlib import import_module

import pytest

PACKAGES = ("fluid", "thresholds", "verification", "verification.asymptotics", "verification.hindsight",
            "verification.rounds")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_lists_what_it_offers(name: str) -> None:
    """`dir` holds the names of `__all__`, all of them there, and no module that happens to be loaded."""
    package = import_module(name)
    offered = [each for each in dir(package) if not each.startswith("__")]
    assert offered == sorted(package.__all__)
    assert all(hasattr(package, each) for each in offered)
