"""profile_export.jsonl of AIPerf: an object a request, its moments under `metadata`, what was measured under `metrics`.

    metadata.request_start_ns, request_end_ns      ns since 1970
    metrics.input_sequence_length, output_sequence_length, time_to_first_token, request_latency    {value, unit}
    error, metadata.was_cancelled                  of a request that failed

Requests of the warm-up phase are no traffic and left out. Source: AIPerf, working-with-profile-exports.md.
"""

from __future__ import annotations

from typing import Any

from fluid.traces.formats.format import AIPERF, Rows
from fluid.traces.formats.records import Fields, Kind, under

SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}
OLDER = {"time_to_first_token": "ttft"}  # names before version 0.2
WARM_UP = "requests of the warm-up are left out"


def is_aiperf(record: dict[str, Any]) -> bool:
    """Whether this is an object of such a file."""
    return under(record, "metadata.request_start_ns") is not None


def _fields(objects: list[dict[str, Any]], measured: bool, rows: Rows) -> Fields:
    owners = [i for i, each in enumerate(objects) if under(each, "metadata.benchmark_phase") != "warmup"]
    if len(owners) < len(objects) and WARM_UP not in rows.notes:
        rows.notes.append(WARM_UP)
    kept = [objects[i] for i in owners]
    prompt = [_metric(each, "input_sequence_length") for each in kept]
    output = [0 if _failed(each) else _output(each) for each in kept]
    time = [under(each, "metadata.request_start_ns") for each in kept]
    ttft, latency = ([_span(each, name) for each in kept] if measured else None
                     for name in ("time_to_first_token", "request_latency"))
    return Fields(prompt, output, time, None, ttft, latency, owners)


def _failed(record: dict[str, Any]) -> bool:
    return bool(record.get("error")) or under(record, "metadata.was_cancelled") is True


def _output(record: dict[str, Any]) -> Any:
    found = _metric(record, "output_sequence_length")
    return _metric(record, "output_token_count") if found is None else found


def _metric(record: dict[str, Any], name: str) -> Any:
    """The value of a metric, however it is written."""
    found = under(record, f"metrics.{name}")
    return found.get("value") if isinstance(found, dict) else found


def _span(record: dict[str, Any], name: str) -> float | None:
    """A measured time in seconds; of the latency, the time between start and end where it is not given."""
    for key in (name, OLDER.get(name, name)):
        value, unit = _metric(record, key), under(record, f"metrics.{key}.unit")
        if _number(value) and unit in SECONDS:
            return float(value) * SECONDS[unit]
    start, end = (under(record, f"metadata.request_{each}_ns") for each in ("start", "end"))
    return (end - start) / 1e9 if name == "request_latency" and _number(start) and _number(end) else None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


KIND = Kind(AIPERF, _fields)
