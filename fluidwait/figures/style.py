"""The colours of all figures, and how each policy is drawn.

The palette is that of Okabe and Ito, a violet, and for further policies colours of Tol, which colour-blind readers can
distinguish; policies also differ in line style and marker, for black and white print.
"""

from __future__ import annotations

from verification.rules import rule_named
from verification.rules.rule import Look

BLUE, ORANGE, GREEN, BLACK, PINK, SKY = "#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#56B4E9"
AMBER, GREY, VIOLET = "#E69F00", "#777777", "#6A3D9A"
OLIVE, WINE, TEAL, INDIGO, FOREST, ROSE = "#999933", "#882255", "#44AA99", "#332288", "#117733", "#CC6677"
COLOURS = {"blue": BLUE, "orange": ORANGE, "green": GREEN, "pink": PINK, "sky": SKY, "amber": AMBER, "grey": GREY,
           "violet": VIOLET, "olive": OLIVE, "wine": WINE, "teal": TEAL, "indigo": INDIGO, "forest": FOREST,
           "rose": ROSE}


def style(policy: str) -> Look:
    """How a policy is drawn, by its name: colour, line, marker."""
    look = rule_named(policy).look
    return look._replace(colour=COLOURS[look.colour])
