"""Sets of rates, shares or coefficients that data leave possible, and the edge of the region in the worst of them."""

from typing import TYPE_CHECKING

from fluid.loading import on_demand

if TYPE_CHECKING:
    from fluid.uncertainty.bootstrap import Bootstrap
    from fluid.uncertainty.box import Box
    from fluid.uncertainty.chi_square import ChiSquareBall
    from fluid.uncertainty.edge import RobustEdge, coefficient_edge, robust_edge
    from fluid.uncertainty.ellipsoid import Ellipsoid
    from fluid.uncertainty.worst import Worst
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = ["Bootstrap", "Box", "ChiSquareBall", "Ellipsoid", "RobustEdge", "Worst", "coefficient_edge", "robust_edge"]
