"""The fluid equilibrium and the stability region as formulas, derived by computer algebra."""

from fluid.symbolic.equilibrium import SymbolicEquilibrium, derive
from fluid.symbolic.region import SymbolicRegion, derive_region
from fluid.symbolic.symbols import Symbols

__all__ = ["SymbolicEquilibrium", "SymbolicRegion", "Symbols", "derive", "derive_region"]
