"""How the simulator's functions are compiled: the loop of a rule, and the steps it is made of."""

from __future__ import annotations

from fluid.compiled import F, jit

# Kernels are compiled by `fluid.compiled` to run without the interpreter. They allocate nothing, so reference
# counting is off (`_nrt`): counting the arrays of a tuple at each call made them ten times slower. Without inlining
# they are four times slower again; how a step is inlined decides how long the compiler takes, by a factor of three.


def entry(function: F) -> F:
    """A loop over the iterations of a run: what Python calls."""
    return jit(function, nogil=True, _nrt=False)


def for_each(function: F) -> F:
    """A loop over replicas, each of which runs on: called at every arrival at a fleet.

    Replicas come in a list of numba's, of which it counts the references: without that the list would be copied.
    """
    return jit(function, nogil=True)


def compiled(function: F) -> F:
    """A short step, inlined wherever it is taken."""
    return jit(function, nogil=True, forceinline=True, **_INNER)


def woven(function: F) -> F:
    """A step made of many, compiled not by itself but as part of whatever takes it."""
    return jit(function, nogil=True, inline="always", **_INNER)


def apart(function: F) -> F:
    """A step that is rarely taken, compiled as a function of its own."""
    return jit(function, nogil=True, **_INNER)


_INNER = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # never called from Python
