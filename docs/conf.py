"""The documentation site: `sphinx-build -W --keep-going -b html docs docs/_build/html`. It needs no network."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from docstrings import as_rest

project = "fluidwait"
author = "the authors of fluidwait"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]
smartquotes = False  # quotes in docstrings are often those of the program
html_theme = "furo"
html_title = "fluidwait"
html_show_copyright = False

myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# as they are written, not what they stand for
autodoc_type_aliases = {name: name for name in ("ArrayLike", "Bools", "Dates", "Floats", "Ints")}
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
FIELD_OF_A_TUPLE = "Alias for field number"  # what Python itself writes on a field of a NamedTuple


def _rewrite(app, what, name, obj, options, lines) -> None:
    """A docstring in the words of this project, as reStructuredText."""
    lines[:] = as_rest(lines)


def _skip(app, what, name, obj, skip, options) -> bool | None:
    """Leave out what only Python itself describes."""
    return True if (getattr(obj, "__doc__", None) or "").startswith(FIELD_OF_A_TUPLE) else None


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _rewrite)
    app.connect("autodoc-skip-member", _skip)
