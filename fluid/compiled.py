"""Compilation by numba, kept on disk where there is a place to keep it.

A user without a home folder, on an installation that is read-only (a container, say), has no such place: numba then
refuses to cache at all, and the code is compiled anew in every process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F, **options: Any) -> F:
    """The function compiled, bit for bit what its Python text says (no fast math), cached on disk if possible."""
    try:
        return cast(F, njit(cache=True, error_model="numpy", **options)(function))
    except RuntimeError:
        return cast(F, njit(error_model="numpy", **options)(function))
