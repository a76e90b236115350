"""The command line of fluidwait, and what it reads for Python: `fluidwait.load("deployment.toml")`."""

from typing import TYPE_CHECKING

from fluid.loading import on_demand

if TYPE_CHECKING:
    from fluidwait.deployment.deployment import Deployment, embedded, load
    from fluidwait.version import __version__ as __version__
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = ["Deployment", "embedded", "load"]
