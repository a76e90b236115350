"""What computes: a digest of the sources, and the versions whose change may change a bit of a row.

The sources are those of `fluid`, `thresholds` and `verification`, without this room: a store keeps rows and computes
none of their numbers, and what it writes has versions of its own. The digest is of whole files, so that an edit of a
comment makes another program too: what is computed anew for nothing costs time, what is not costs the truth.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HOUSE, ROOM = Path(__file__).parents[2], Path(__file__).parent
FLOORS = ("fluid", "thresholds", "verification")
COMPUTING = ("numpy", "scipy", "numba", "llvmlite")


@cache
def program(form: str) -> str:
    """What computes rows of a form (a word and its version, to be raised when columns change their meaning).

    >>> program("replications 1").split(", ")[2]
    'replications 1'
    """
    versions = [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in COMPUTING)]
    return ", ".join([f"fluidwait {_release()}", f"sources {_digest()[:12]}", form, *versions])


@cache
def _digest() -> str:
    digest = hashlib.sha256()
    for floor in FLOORS:
        for path in _sources(HOUSE / floor):
            digest.update(path.relative_to(HOUSE / floor).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _sources(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.rglob("*.py")) if ROOM not in path.parents)


def _release() -> str:
    try:
        return version("fluidwait")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+unknown"
