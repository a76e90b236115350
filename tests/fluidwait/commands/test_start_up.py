"""What starts at once: help, the version and completion, which load nothing that computes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fluid.traces.fields import UNITS
from fluid.traces.formats.format import FORMATS
from fluidwait.commands import __all__ as work
from fluidwait.commands import options, trace_options
from fluidwait.deployment.policy_names import BASELINES, DESIGNED
from fluidwait.study.plugin import INSTALLED
from verification.rules import RULES
from verification.statistics.precision import MOST_REPLICATIONS

HEAVY = ("numpy", "scipy", "numba", "matplotlib", "cvxpy", "pandas", "sympy")
COMMANDS = [name.removesuffix("_command") for name in work]
LOADED = f"""
import sys
from fluidwait.__main__ import status
code = status(sys.argv[1:])
print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("asked", [["--help"], ["--version"], *([name, "--help"] for name in sorted(COMMANDS))],
                         ids=" ".join)
def test_help_and_version_load_nothing_that_computes(asked: list[str]) -> None:
    """Neither NumPy nor what stands on it."""
    ran = subprocess.run([sys.executable, "-c", LOADED, *asked], capture_output=True, text=True, check=True)
    assert (ran.stderr.strip(), bool(ran.stdout)) == ("", True)


@pytest.mark.parametrize(("typed", "offered"), [
    ("fluidwait ver", {"verify"}),
    ("fluidwait verify --policy mc-", {"mc-sf", "mc-benchmark"}),
    ("fluidwait thresholds --policy ", {"auto", *DESIGNED}),
    ("fluidwait sweep --policies greedy,pa", {"greedy,paced"}),
    ("fluidwait run --against greedy,gr", set()),
    ("fluidwait thresholds --install g", {"gateway"}),
    ("fluidwait trace --format az", {"azure"}),
])
def test_the_shell_completes_names(typed: str, offered: set[str]) -> None:
    """As bash asks for it: commands, policies one by one and in lists, engines, formats."""
    asked = {**os.environ, "_FLUIDWAIT_COMPLETE": "complete_bash", "COMP_WORDS": typed,
             "COMP_CWORD": str(typed.count(" "))}
    ran = subprocess.run([sys.executable, "-m", "fluidwait"], env=asked, capture_output=True, text=True, check=False)
    assert set(ran.stdout.split()) == offered


def test_names_that_flags_tell_are_those_of_the_program() -> None:
    """They are written out where the flags are, so that help does not load what they name."""
    assert tuple(rule.name for rule in RULES if rule.made is None) == DESIGNED
    assert tuple(rule.name for rule in RULES if rule.made) == BASELINES
    assert tuple(INSTALLED) == options.INSTALLED
    assert options.MOST_REPLICATIONS == MOST_REPLICATIONS
    assert tuple(FORMATS) == trace_options.FORMATS
    assert tuple(UNITS) == trace_options.UNITS
