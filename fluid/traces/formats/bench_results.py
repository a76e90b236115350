"""Results of `vllm bench serve` and `sglang.bench_serving`: objects that hold a list for each field, one object a run.

Both append a run to the file they are given, as an object on a line of its own. A run says what its client was asked
for, and only some of it is traffic:

    request_rate inf                     all requests at once: the file has lengths, and no rate of arrivals
    request_rate inf, max_concurrency    a request is sent when another ends: its rate is the server's, no traffic
    ramp_up_strategy, self-timed traces  the start times are traffic though request_rate is inf
    a number                             the start times, or, where there are none, requests over `duration`

Older versions write no `start_times`, and some clients leave them 0: then there are no arrival times, and the rate is
the number of requests over `duration`. Several runs have no rate together. The times from a start to the first token
and to the end are `ttfts` and `ttfts + sum(itls)`. Sources: vllm/benchmarks/serve.py; python/sglang/bench_serving.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from fluid.errors import FileError, InputError, real, shown
from fluid.files.json_object import NotJsonError, Part, Wanted, parts
from fluid.files.text_file import TextFile
from fluid.traces.fields import LATEST, numbers
from fluid.traces.formats.format import SGLANG, VLLM, Asked, Chunk, Rows

LENGTHS = ("input_lens", "output_lens")
LISTS = (*LENGTHS, "errors", "start_times", "ttfts")
SAID = ("duration", "request_rate", "max_concurrency", "ramp_up_strategy", "completed", "input_throughput",
        "total_output_tokens_retokenized")
MOST_REQUESTS = 2**20  # of one benchmark
MOST_RUNS = 1000
AT_ONCE = 0.05  # of the duration: start times that spread over less are those of one burst
FLAGS = {"vllm": "--save-result --save-detailed", "sglang": "--output-details"}


def is_result(keys: set[str]) -> bool:
    """Whether an object with these keys is such a result, be it without its lists."""
    return bool(keys & set(LENGTHS)) or {"duration", "completed", "total_input_tokens"} <= keys


def bench_rows(text: TextFile, asked: Asked) -> Rows:
    """The rows of a result: its requests, a chunk for each run."""
    rows = Rows(SGLANG if asked.name == "sglang" else VLLM, iter(()), "request")
    rows.chunks = _chunks(text, asked, rows)
    return rows


def _chunks(text: TextFile, asked: Asked, rows: Rows) -> Iterator[Chunk]:
    wanted = Wanted(lists=LISTS, sums=("itls",) if asked.measured else (), values=SAID)
    columns = _Columns(text.source)
    runs = 0
    try:
        for part in parts(text, wanted):
            if not part.ended:
                columns.take(part)
                continue
            runs += 1
            if runs > MOST_RUNS:
                raise FileError(text.source, "", f"must hold at most {MOST_RUNS:,} runs")
            rows.runs.append(_described(part.value))
            if asked.run in (None, runs):
                yield _Run(columns, part.value).chunk(rows)
            columns = _Columns(text.source)
    except NotJsonError:
        raise FileError(text.source, "", "must be one JSON object, or one a line, as vllm bench serve and "
                                         "sglang.bench_serving write it") from None
    if asked.run is not None and asked.run > runs:
        raise FileError(text.source, "", f"must have a run {asked.run} (it has {runs}): choose with --run")
    if runs > 1 and asked.run is None:
        rows.closed = f"the file holds {runs} runs, which have no traffic rate together: --run chooses one"
        rows.notes.clear()  # of one run each


class _Columns:
    """The lists of a run, their pieces put together. Of errors it only matters whether there is one."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.values: dict[str, list[Any]] = {}

    def take(self, part: Part) -> None:
        """Add a piece."""
        column = self.values.setdefault(part.path, [])
        column += map(bool, part.value) if part.path == "errors" else part.value
        if len(column) > MOST_REQUESTS:
            raise FileError(self.source, part.path, f"must have at most {MOST_REQUESTS:,} entries")

    def given(self, key: str, flags: str) -> list[Any]:
        """A list that a run must have."""
        if key not in self.values:
            raise FileError(self.source, key, f"must be a list of tokens by request, which {flags}")
        return self.values[key]


class _Run:
    """One run: its lists and what it says of itself."""

    def __init__(self, columns: _Columns, said: dict[str, Any]) -> None:
        self.columns, self.said, self.source = columns, said, columns.source
        sglang = {"input_throughput", "total_output_tokens_retokenized"} & said.keys()
        self.format = SGLANG if sglang else VLLM
        tool = "sglang.bench_serving" if sglang else "vllm bench serve"
        self.flags = f"{tool} writes with {FLAGS[self.format.name]}"
        self.prompt, self.output = self._lengths()
        self.duration = _duration(said.get("duration"), self.source)

    def chunk(self, rows: Rows) -> Chunk:
        """The requests of the run; what is known of its traffic goes into the rows."""
        times = self._start_times()
        rows.format, rows.duration, rows.closed = self.format, self.duration, self._closed(times)
        limit = self.said.get("max_concurrency")
        if not rows.closed and _positive(limit):
            rows.notes.append(f"the client had at most {limit:,} requests under way: arrivals beyond were late")
        if not rows.closed and times is None and _positive(self.said.get("request_rate")):
            rows.notes.append(f"the client was asked for {self.said['request_rate']:g} requests/s, and the file has no "
                              "start times")
        ttft, latency = self._spans()
        return Chunk(list(range(1, len(self.prompt) + 1)), self.prompt, self.output, times, [], None, ttft, latency)

    def _lengths(self) -> tuple[list[Any], list[Any]]:
        prompt, output = (self.columns.given(key, self.flags) for key in LENGTHS)
        if len(output) != len(prompt):
            problem = f"must have {len(prompt)} entries like input_lens (got {len(output)})"
            raise FileError(self.source, "output_lens", problem)
        errors = self.columns.values.get("errors", [])
        if len(errors) == len(output):
            output = [0 if error else tokens for error, tokens in zip(errors, output, strict=True)]
        return prompt, output

    def _start_times(self) -> list[Any] | None:
        """The start times; None where the file has none, or the client left that of a successful request 0."""
        given = self.columns.values.get("start_times")
        if given is None or len(given) != len(self.output):
            return None
        return given if all(time for time, tokens in zip(given, self.output, strict=True) if tokens) else None

    def _closed(self, times: list[Any] | None) -> str:
        """Why the arrivals are no traffic; "" where they are, or the file does not say."""
        if _rate(self.said.get("request_rate")) != "inf" or self.said.get("ramp_up_strategy"):
            return ""
        limit, served = self.said.get("max_concurrency"), self._served()
        if _positive(limit):
            return (f"request_rate is inf with at most {limit:,} requests under way: each was sent when another had "
                    f"ended, so no traffic rate is in the file{served}")
        good = numbers(times or [])
        good = good[numbers(self.output) > 0] if len(good) else good
        if len(good) > 1 and self.duration and good.max() - good.min() > AT_ONCE * self.duration:
            return ""  # a trace that times itself
        return f"request_rate is inf: all requests were sent at once, so no traffic rate is in the file{served}"

    def _served(self) -> str:
        count = sum(bool(tokens) for tokens in self.output)
        if not self.duration or not count:
            return ""
        return f" ({count:,} requests were served in {self.duration:,.4g} s, {count / self.duration:.4g} a second)"

    def _spans(self) -> tuple[Any, Any]:
        """Seconds from start to first token and to the end; None where the file does not tell."""
        ttfts, itls = (self.columns.values.get(key, []) for key in ("ttfts", "itls"))
        if len(ttfts) != len(self.prompt) or len(itls) != len(self.prompt):
            return None, None
        first, rest = numbers(ttfts), numbers(itls)
        return first, first + rest


def _described(said: dict[str, Any]) -> str:
    """A run in a few words."""
    completed = said.get("completed")
    count = f"{completed:,} requests completed" if type(completed) is int else "requests"
    return f"{count} at request_rate {_rate(said.get('request_rate'))}"


def _rate(given: Any) -> str:
    """The rate a client was asked for, as it is written: "inf", a number, "not told"."""
    if given == "inf" or (isinstance(given, float) and math.isinf(given)):
        return "inf"
    return f"{given:g}" if _positive(given) else "not told"


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < LATEST


def _duration(given: Any, source: str) -> float | None:
    """The seconds a benchmark took; None where the file does not say."""
    if given is None:
        return None
    try:
        duration = real("duration", given, unit="seconds")
    except InputError as error:
        raise FileError(source, "duration", f"must be {error.requirement} (got {shown(given)})") from None
    if duration > LATEST:
        raise FileError(source, "duration", f"must be at most {LATEST:g} seconds (got {shown(given)})")
    return duration
