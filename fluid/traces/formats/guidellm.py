"""Results of GuideLLM: an object with a list `benchmarks`, in each of them `requests` by how they ended.

    benchmarks[].requests.successful[]     prompt_tokens, output_tokens, request_start_time, time_to_first_token_ms, ...
    benchmarks[].requests.errored[]        failed, as are those under `incomplete`
    benchmarks[].config.strategy           type_: constant, poisson; no traffic: concurrent, synchronous, throughput

A benchmark is a run; a sweep has several. Before version 0.4 a request has start_time, first_token_time and end_time,
and the strategy stands under `args`. Sources: GuideLLM, schemas/request_stats.py, schemas/info.py; before, its
benchmark/benchmark.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fluid.errors import FileError
from fluid.files.json_object import NotJsonError, Wanted, parts
from fluid.files.text_file import TextFile
from fluid.traces.formats.format import GUIDELLM, Asked, Chunk, Rows
from fluid.traces.formats.records import under

MOST_RUNS = 1000
ENDED = ("successful", "errored", "incomplete")
PATHS = tuple(f"benchmarks.requests.{each}" for each in ENDED)
STRATEGY = tuple(f"benchmarks.{each}.strategy.type_" for each in ("config", "args"))
TOTAL = "benchmarks.request_totals.successful"
CLOSED = ("concurrent", "synchronous", "throughput")
START = ("info.timings.request_start", "request_start_time", "start_time")
FIRST = ("info.timings.first_token_iteration", "first_token_time")
END = ("info.timings.request_end", "request_end_time", "end_time")
PROMPT = ("prompt_tokens", "input_metrics.total_tokens", "input_metrics.text_tokens")
OUTPUT = ("output_tokens", "output_metrics.total_tokens", "output_metrics.text_tokens")


def guidellm_rows(text: TextFile, asked: Asked) -> Rows:
    """The rows of a result: the requests of its benchmarks."""
    rows = Rows(GUIDELLM, iter(()), "request")
    rows.chunks = _chunks(text, asked, rows)
    return rows


def _chunks(text: TextFile, asked: Asked, rows: Rows) -> Iterator[Chunk]:
    wanted = Wanted(records=PATHS, values=(*STRATEGY, TOTAL), objects=("", "benchmarks"))
    kept = place = 0
    try:
        for part in parts(text, wanted):
            here = asked.run in (None, len(rows.runs) + 1)
            if part.path == "benchmarks":
                rows.runs.append(_told(part.value, kept, rows, here))
                if len(rows.runs) > MOST_RUNS:
                    raise FileError(text.source, "", f"must hold at most {MOST_RUNS:,} runs")
                kept = 0
            elif part.path in PATHS:
                kept += len(part.value) if part.path == PATHS[0] else 0
                if here:
                    yield _chunk(part.value, part.path == PATHS[0], place, asked.measured)
                    place += len(part.value)
    except NotJsonError:
        raise FileError(text.source, "", "must be one JSON object, as GuideLLM writes it") from None
    if asked.run is not None and asked.run > len(rows.runs):
        raise FileError(text.source, "", f"must have a run {asked.run} (it has {len(rows.runs)}): choose with --run")
    if len(rows.runs) > 1 and asked.run is None:
        rows.closed = f"the file holds {len(rows.runs)} runs, which have no traffic rate together: --run chooses one"


def _told(said: dict[str, Any], kept: int, rows: Rows, here: bool) -> str:
    """A benchmark in a few words; what it says of its traffic goes into the rows where it is one of those asked for."""
    strategy = next((said[key] for key in STRATEGY if isinstance(said.get(key), str)), "not told")
    total = said.get(TOTAL)
    if here and strategy in CLOSED:
        rows.closed = (f"the strategy is {strategy}: requests were sent as fast as the server took them, so no traffic "
                       "rate is in the file")
    elif here and isinstance(total, int) and total > kept:
        rows.closed = f"the file holds a sample of {kept:,} of {total:,} requests, so no traffic rate is in it"
    return f"{kept:,} requests, strategy {strategy[:40]}"


def _chunk(records: list[Any], good: bool, before: int, measured: bool) -> Chunk:
    places = range(before + 1, before + 1 + len(records))
    pairs = [(place, each) for place, each in zip(places, records, strict=True) if isinstance(each, dict)]
    broken = [(place, "the request must be a JSON object")
              for place, each in zip(places, records, strict=True) if not isinstance(each, dict)]
    objects = [each for _, each in pairs]
    prompt, time = _column(objects, PROMPT), _column(objects, START)
    output = _column(objects, OUTPUT) if good else [0] * len(objects)
    ttft = latency = None
    if measured:
        ttft, latency = (list(map(_difference, time, _column(objects, keys))) for keys in (FIRST, END))
    return Chunk([place for place, _ in pairs], prompt, output, time, broken, None, ttft, latency)


def _column(objects: list[dict[str, Any]], keys: tuple[str, ...]) -> list[Any]:
    """Of each object the value of the first of the keys that it has one of."""
    return [next((found for key in keys if (found := under(each, key)) is not None), None) for each in objects]


def _difference(start: Any, moment: Any) -> float | None:
    given = all(isinstance(each, int | float) and abs(each) < 1e300 for each in (start, moment))
    return moment - start if given else None
