"""Packages that load what they offer when it is first used: a look at `--help` need not wait for SciPy.

The imports of such a package stand under `if TYPE_CHECKING:`, where readers and the type checker find them. At run time
they are read from its source, and each is made when its name is first used (PEP 562). What is offered has its name for
itself: a module of the same name, `thresholds.look_ahead` say, is imported from, and never in its place.

>>> import fluid
>>> fluid.Workload.__module__
'fluid.workload'
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any


def on_demand(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package whose names are loaded when they are first used."""
    module = sys.modules[package]
    module.__class__ = _Offering

    def load(name: str) -> Any:
        home = _homes(package).get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home), name)
        setattr(module, name, value)  # from now on it is found without us
        return value

    def offered() -> list[str]:
        return [*module.__all__, *(name for name in vars(module) if name.startswith("__"))]

    return load, offered


class _Offering(ModuleType):
    """A package in which no module covers what is offered: the importer would set it there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in self.__all__):
            super().__setattr__(name, value)


@cache
def _homes(package: str) -> dict[str, str]:
    """The module that each name comes from, as the package's own text says."""
    spec = sys.modules[package].__spec__
    source: str = spec.loader.get_source(package)  # type: ignore[union-attr]
    blocks = [node for node in ast.parse(source).body if isinstance(node, ast.If)]
    return {name.name: node.module or "" for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)
            for name in node.names}
