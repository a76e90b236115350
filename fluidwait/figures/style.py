"""The look of all figures: colours, letters, and how each policy is drawn.

The palette is that of Okabe and Ito, a violet, a brown, and for further policies colours of Tol, which colour-blind
readers can distinguish. Policies that are often drawn together have different hues (the engine with flags, an amber,
stands beside the engine as it comes, an orange); all differ in marker, and most in line style, for black and white
print.
"""

from __future__ import annotations

from typing import Any

from verification.rules import rule_named
from verification.rules.rule import Look

BLUE, ORANGE, GREEN, BLACK, PINK, SKY = "#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#56B4E9"
AMBER, GREY, VIOLET, BROWN = "#E69F00", "#777777", "#6A3D9A", "#7F4F24"
OLIVE, WINE, TEAL, INDIGO, FOREST, ROSE = "#999933", "#882255", "#44AA99", "#332288", "#117733", "#CC6677"
COLOURS = {"blue": BLUE, "orange": ORANGE, "green": GREEN, "pink": PINK, "sky": SKY, "brown": BROWN, "grey": GREY,
           "violet": VIOLET, "olive": OLIVE, "wine": WINE, "teal": TEAL, "indigo": INDIGO, "forest": FOREST,
           "rose": ROSE}
BAND = "#DDDDDD"  # what chance alone gives
FLAGGED = Look(AMBER, (0, (3, 1, 1, 1)), ">")  # a policy with other flags than its own

LETTERS: dict[Any, Any] = {
    "font.size": 9.5, "axes.titlesize": 10, "axes.titlelocation": "left", "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": "small", "errorbar.capsize": 2,
}


def style(policy: str, setting: str = "") -> Look:
    """How a policy is drawn, by its name: colour, line, marker; with a setting of its own as no other policy is."""
    look = rule_named(policy).look
    return FLAGGED if setting else look._replace(colour=COLOURS[look.colour])
