"""Compilation by numba, kept on disk where there is a place to keep it.

Numba keeps the code of a function beside its file, under a stamp of that file alone. Ours is made of functions of many
files, and of types that a later version may call otherwise: after an edit or an upgrade in place the old code would be
run, or its types not be found. So it lies in a folder named after all sources that it is compiled from: below
`NUMBA_CACHE_DIR` where that is set, else in the `__pycache__` of this package or, where that is read-only, in the
user's cache folder. Where nothing can be written (a container without a home folder, say) it is compiled anew in every
process. How the files are written, and checked before they are used, is `fluid.files.kept_code`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import njit

from fluid.files.kept_code import kept

F = TypeVar("F", bound=Callable[..., Any])

config: Any = numba.config  # its names are made as it is imported

ROOMS = ("fluid", "thresholds", "verification")
MARKS = (b"fluid.compiled", b"verification.engine")  # whoever compiles imports one of these
FORGOTTEN = 86_400.0  # seconds after which the code of other sources is deleted


def jit(function: F, **options: Any) -> F:
    """The function compiled, bit for bit what its Python text says (no fast math), cached on disk if possible."""
    made, folder, places = njit(error_model="numpy", **options)(function), cache_folder(), list(_places())
    with _numba_keeps_code_in(folder):
        made._cache = kept(function, folder, places)
    return cast(F, made)


@cache
def cache_folder() -> Path | None:
    """Where the compiled code of these sources lies; None where it cannot be kept."""
    name = f"compiled-{_digest(Path(__file__).parents[1])}"
    for place in _places():
        with suppress(OSError):
            (place / name).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place / name).close()
            _forget(place, name)
            return place / name
    return None


def _digest(root: Path) -> str:
    """The beginning of the SHA-256 of every source that is compiled, or holds a number that is compiled in."""
    digest = hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (root / room).rglob("*.py")):
        source = path.read_bytes()
        if any(mark in source for mark in MARKS):
            digest.update(path.relative_to(root).as_posix().encode() + source)
    return digest.hexdigest()[:16]


def _places() -> Iterator[Path]:
    if config.CACHE_DIR:
        yield Path(config.CACHE_DIR)
        return
    yield Path(__file__).parent / "__pycache__"
    with suppress(RuntimeError):  # nobody's home
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fluidwait"


def _forget(place: Path, name: str) -> None:
    """Delete what was compiled from other sources and has not been added to for a day."""
    for other in place.glob("compiled-*"):
        with suppress(OSError):
            if other.name != name and time.time() - other.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(other)


@contextmanager
def _numba_keeps_code_in(folder: Path | None) -> Iterator[None]:
    """Numba asks where to keep the code of a function when it is decorated: others' functions go where they went."""
    before = config.CACHE_DIR
    config.CACHE_DIR = before if folder is None else str(folder)
    try:
        yield
    finally:
        config.CACHE_DIR = before
