"""Writing the [workload] section of a deployment file for a trace: ready to paste, and `read_mix` reads it back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from fluid.errors import one_line
from fluid.traces.trace import Binned, Trace

UNKNOWN_RATE = 1.0


def workload_section(trace: Trace, keys: dict[str, Any], *, rate: float | None = None, bins: int | None = None,
                     window: float | None = None) -> str:
    """The section: the trace by name with the `keys` it was read with, or with `bins` the types it is binned into.

    With `window` (s) also [[workload.window]] tables that follow its rate over time. `rate` is in requests/s; None is
    the trace's own, or, where it has none, a number to be replaced.
    """
    known = rate or trace.rate
    if bins is None:
        given = {"trace": trace.source, **{key: value for key, value in keys.items() if value}}
        lines = ["[workload]  # its paths start from the folder of the deployment file",
                 *(f"{key} = {_toml(value)}" for key, value in given.items()),
                 f"rate = {known or UNKNOWN_RATE:<20.6g}# requests/s"
                 + ("" if known else ": the trace has no rate of its own, put yours here"),
                 'lengths = "known"           # what a policy may see on arrival: "known" or "unknown" output lengths']
    else:
        lines = list(_type_tables(one_line(trace.source), trace.binned(bins, known or UNKNOWN_RATE)))
    return "\n".join([*lines, *(_window_tables(trace, window) if window else ())]).rstrip("\n") + "\n"


def _type_tables(name: str, binned: Binned) -> Iterator[str]:
    workload = binned.workload
    yield f"# {name} {binning_errors(binned)}\n"
    for j, name in enumerate(_distinct(workload.names)):
        yield (f"[[workload.type]]\nname = {_toml(name)}\nprompt_tokens = {workload.prompt_tokens[j]}\n"
               f"output_tokens = {workload.output_tokens[j]}\nrate = {workload.rates[j]:.6g}\n")


def binning_errors(binned: Binned) -> str:
    """The errors made by binning the length pairs of a trace, in words."""
    return (f"in {len(binned.workload)} types: KV work {binned.kv_work_error:+.2%}, prompt tokens "
            f"{binned.prompt_tokens_error:+.2%}, output tokens {binned.output_tokens_error:+.2%} against the trace")


def _distinct(names: tuple[str, ...]) -> list[str]:
    """The names, a number added to all but the first of several equal ones."""
    seen = Counter[str]()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return numbered


def _window_tables(trace: Trace, window: float) -> Iterator[str]:
    """The trace's rate over time, as factors on its mean rate."""
    edges, rates = trace.rates_over_time(window)
    durations, scales = np.diff(edges), rates / float(trace.rate or 1.0)
    for duration, scale in _merged(durations.tolist(), scales.tolist()):
        yield f"[[workload.window]]\nduration = {duration:.6g}\nscale = {scale:.6g}\n"


def _merged(durations: list[float], scales: list[float]) -> list[tuple[float, float]]:
    """The windows; one that is empty, or shorter than half the first, is merged into the one before it."""
    merged: list[tuple[float, float]] = []
    for duration, scale in zip(durations, scales, strict=True):
        if merged and (scale == 0 or 2 * duration < durations[0]):
            before, factor = merged.pop()
            scale = (factor * before + scale * duration) / (before + duration)
            duration = before + duration
        merged.append((duration, scale))
    return merged


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
