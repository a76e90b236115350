"""The command line of fluidwait, and what it reads for Python: `fluidwait.load("deployment.toml")`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fluidwait.deployment.deployment import Deployment, embedded, load

try:
    __version__ = version("fluidwait")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"

__all__ = ["Deployment", "embedded", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fluidwait.deployment import deployment  # a second to load, which `fluidwait --version` need not wait for

    return getattr(deployment, name)


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
