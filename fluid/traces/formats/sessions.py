"""Workloads of LLMServingSim: flat requests, and sessions whose requests follow one another.

    {"input_toks": 128, "output_toks": 512, "arrival_time_ns": 0}
    {"session_id": "a", "arrival_time_ns": 4059740, "sub_requests": [{"input_toks": 1472, "output_toks": 133}, ...]}

Of a session only its start is traffic: a later request is sent when the one before it was answered and its tool has
run. So a file with sessions has no arrival times of requests, and no rate. Source: LLMServingSim, workloads/README.md.
"""

from __future__ import annotations

from typing import Any

from fluid.traces.formats.format import LLMSERVINGSIM, Rows
from fluid.traces.formats.records import Fields, Kind

FOLLOW = ("requests of a session are sent when the one before them has been answered: only the sessions have arrival "
          "times, and no traffic rate of requests is in the file")


def is_session(record: dict[str, Any]) -> bool:
    """Whether this is a session."""
    return isinstance(record.get("sub_requests"), list)


def _fields(objects: list[dict[str, Any]], measured: bool, rows: Rows) -> Fields:
    prompt, output, time, owners = list[Any](), list[Any](), list[Any](), list[int]()
    for owner, each in enumerate(objects):
        requests = each["sub_requests"] if is_session(each) else [each]
        if is_session(each):
            rows.closed = FOLLOW
        for request in requests:
            given = request if isinstance(request, dict) else {}
            prompt.append(given.get("input_toks"))
            output.append(given.get("output_toks"))
            time.append(each.get("arrival_time_ns"))
            owners.append(owner)
    return Fields(prompt, output, time, owners=owners)


KIND = Kind(LLMSERVINGSIM, _fields)
