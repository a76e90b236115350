"""The formats of request traces: what a row is, and which fields hold the lengths and arrival time of a request.

    azure          TIMESTAMP (date and time), ContextTokens, GeneratedTokens        the Azure LLM inference traces
    burstgpt       Timestamp (s), Request tokens, Response tokens (0: failed)       BurstGPT, both releases
    vidur          arrived_at (s), num_prefill_tokens, num_decode_tokens            Vidur's processed traces
    servegen       request_id, timestamp (s), input_tokens, output_tokens           what ServeGen generates
    llmservingsim  arrival_time_ns, input_toks, output_toks; its results: arrival (ns), input, output, TTFT, latency
    mooncake       timestamp (ms), input_length, output_length                      Mooncake's traces (hash_ids: blocks)
    bailian        the same keys, but seconds and blocks of 16 tokens; chat_id      Alibaba's Qwen traces
    vllm, sglang   input_lens, output_lens, errors, duration (s), start_times       results of vllm bench serve and
                                                                                    sglang.bench_serving, one or several
    aiperf         metadata.request_start_ns, metrics.input_sequence_length, ...    profile_export.jsonl of AIPerf
    guidellm       benchmarks, requests.successful: prompt_tokens, output_tokens    results of GuideLLM
    llmperf        number_input_tokens, number_output_tokens                        individual_responses.json of LLMPerf
    sharegpt       conversations or messages, a token count at each turn            conversations, no arrival times
    columns        any other, by the names of its columns or keys

A file that begins with a brace or a bracket is JSON (an object a line, one list of objects, lists in one object), any
other a CSV whose first row names the columns: in any order, other columns beside them, case and blanks around a name
ignored. In JSON a name with dots goes into objects: `metrics.output_sequence_length.value`. Sources: the files
themselves; vllm/benchmarks/serve.py; python/sglang/bench_serving.py; AIPerf, working-with-profile-exports.md; GuideLLM,
schemas/request_stats.py and, before 0.4, benchmark/benchmark.py; ServeGen, servegen/utils.py; LLMPerf,
common_metrics.py; LLMServingSim, workloads/README.md; the README of qwen-bailian-usagetraces-anon.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fluid.errors import FileError, InputError
from fluid.traces.fields import Column, between, spans

COLUMN_NAME = "the name of a column"
CHUNK = 4096  # rows: larger ones leave the processor's caches
CHUNK_TEXT = 2**21  # characters, after which a chunk ends however few its rows
_ENDINGS = {"ns": "ns|nanos|nanosec|nanosecs|nanoseconds?", "us": "us|micros|microseconds?|usec",
            "ms": "ms|millis|msec|milliseconds?", "s": "s|sec|secs|seconds?"}
_ENDING = {unit: re.compile(rf"(?:.*[^a-z])?(?:{words})\W*", re.DOTALL) for unit, words in _ENDINGS.items()}


@dataclass(frozen=True)
class Columns:
    """The names of the columns, or keys, that hold prompt tokens, output tokens and, if there is one, the arrival time.

    Times are numbers in a unit (`fluid.read_trace`), or dates with a time of day: which of the two, the first of them
    decides. Of a measured run `first` and `end` are the moments of the first token and of the end, written alike.
    """

    prompt: str
    output: str
    time: str | None = None
    first: str | None = None
    end: str | None = None

    def __post_init__(self) -> None:
        for key in ("prompt", "output", "time", "first", "end"):
            value = getattr(self, key)
            if not isinstance(value, str) and (key in ("prompt", "output") or value is not None):
                raise InputError(key, COLUMN_NAME, value, "columns")

    @classmethod
    def of(cls, format: str | None, prompt_column: str | None,  # noqa: A002, the word of flags and files
           output_column: str | None, time_column: str | None) -> Columns | None:
        """Return the columns that a user named, for a format that the user may have named as well.

        None where no column is named and the format needs none. Raises InputError for the first name that is missing.
        """
        if format != "columns" and prompt_column is None and output_column is None and time_column is None:
            return None
        if prompt_column is None or output_column is None:
            why = ', for the format "columns"' if format == "columns" else ""
            raise InputError("prompt_column" if prompt_column is None else "output_column", COLUMN_NAME + why, None)
        return cls(prompt_column, output_column, time_column)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are given of lengths and arrival time."""
        return tuple(each for each in (self.prompt, self.output, self.time) if each is not None)


class Format(NamedTuple):
    """A format: its name and columns, the unit of its numeric times, whether output 0 means failure.

    `sure` says whether the unit is that of every file of this format; `ttft` and `latency` are the columns of the times
    from arrival to the first token and to the end, or, with `moments`, of when those were; `block` the tokens that a
    hash stands for.
    """

    name: str
    columns: Columns
    unit: str = "s"
    fails: bool = False
    sure: bool = True
    ttft: str | None = None
    latency: str | None = None
    moments: bool = False
    block: int | None = None
    also: tuple[str, ...] = ()  # other columns, without which a file is of another format

    @property
    def spent(self) -> tuple[str, ...]:
        """The columns of measured times that there are."""
        return tuple(each for each in (self.ttft, self.latency) if each is not None)


AZURE = Format("azure", Columns("ContextTokens", "GeneratedTokens", "TIMESTAMP"))
BURSTGPT = Format("burstgpt", Columns("Request tokens", "Response tokens", "Timestamp"), fails=True)
VIDUR = Format("vidur", Columns("num_prefill_tokens", "num_decode_tokens", "arrived_at"))
SERVEGEN = Format("servegen", Columns("input_tokens", "output_tokens", "timestamp"), also=("request_id",))
SIMULATED = Format("llmservingsim", Columns("input", "output", "arrival"), "ns", ttft="TTFT", latency="latency",
                   also=("queuing_delay",))
LLMSERVINGSIM = Format("llmservingsim", Columns("input_toks", "output_toks", "arrival_time_ns"), "ns")
BAILIAN = Format("bailian", Columns("input_length", "output_length", "timestamp"), block=16,
                 also=("chat_id", "parent_chat_id"))
MOONCAKE = Format("mooncake", Columns("input_length", "output_length", "timestamp"), "ms", sure=False, block=512)
LLMPERF = Format("llmperf", Columns("number_input_tokens", "number_output_tokens"), fails=True, ttft="ttft_s",
                 latency="end_to_end_latency_s")
VLLM = Format("vllm", Columns("input_lens", "output_lens", "start_times"), fails=True)
SGLANG = VLLM._replace(name="sglang")
AIPERF = Format("aiperf", Columns("metrics.input_sequence_length", "metrics.output_sequence_length",
                                  "metadata.request_start_ns"), "ns", fails=True)
GUIDELLM = Format("guidellm", Columns("prompt_tokens", "output_tokens", "request_start_time"), fails=True)
SHAREGPT = Format("sharegpt", Columns("turns before an answer", "answer"))
KEYED = (AZURE, BURSTGPT, VIDUR, SERVEGEN, SIMULATED, LLMSERVINGSIM, BAILIAN, MOONCAKE, LLMPERF)  # the first that fits
FORMATS = (*dict.fromkeys(each.name for each in KEYED), "vllm", "sglang", "aiperf", "guidellm", "sharegpt", "columns")


class Asked(NamedTuple):
    """What the user says of a file: its format, columns, unit of times, which of its runs, whether measured times of
    each request are wanted.
    """

    name: str | None = None
    columns: Columns | None = None
    unit: str | None = None
    run: int | None = None
    measured: bool = False


def in_unit(found: Format, asked: Asked) -> Format:
    """The format, its times in the unit that the user says."""
    return found if asked.unit is None or found.columns.time is None else found._replace(unit=asked.unit)


class Chunk(NamedTuple):
    """Some rows of a file, in order: where each begins and its three fields; `broken` are rows without such fields.

    `hashes` are those of the blocks that each prompt is made of, `ttft` and `latency` the seconds from arrival to the
    first token and to the end, where the format has them.
    """

    places: list[int]
    prompt: Column
    output: Column
    time: Column | None
    broken: list[tuple[int, str]]
    hashes: Column | None = None
    ttft: Column | None = None
    latency: Column | None = None


@dataclass
class Rows:
    """The rows of a trace: their format; chunks of them; what `places` count ("line"); the stated duration (s).

    Known at the latest when the last chunk has been read: `notes` on what the file says; `closed`, why its arrivals are
    no traffic, "" where they are; `runs`, what is said of each, where it holds several.
    """

    format: Format
    chunks: Iterator[Chunk]
    place: str = "line"
    duration: float | None = None
    notes: list[str] = field(default_factory=list)
    closed: str = ""
    runs: list[str] = field(default_factory=list)


class ReadAs(NamedTuple):
    """What a file was read as: its columns or keys, the unit of its times (None: no times), and how that is known."""

    prompt: str
    output: str
    time: str | None
    unit: str | None
    why: str = ""

    def __str__(self) -> str:
        times = "no arrival times" if self.time is None else f"times {self.time} in {self.unit}, {self.why}"
        return f"prompt tokens {self.prompt}, output tokens {self.output}, {times}"


def unit_in(name: str | None) -> str | None:
    """The unit of time that a column is named after; None where its name has none.

    >>> unit_in("arrival_time_ns"), unit_in("Elapsed (ms)"), unit_in("arrivals")
    ('ns', 'ms', None)
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", (name or "")[-80:]).casefold()
    return next((unit for unit, ending in _ENDING.items() if ending.fullmatch(words)), None)


def recognised(keys: Iterable[str]) -> Format | None:
    """The format of rows with these columns or keys, up to case and blanks around; None where it is none of them."""
    given = {normal(each) for each in keys}
    return next((each for each in KEYED if {normal(name) for name in (*each.columns.names, *each.also)} <= given), None)


def named(columns: Columns, found: Format | None) -> Format:
    """The format of rows whose columns the user named: the unit of a format `found` is that of the same column."""
    unit = found.unit if found is not None and found.columns.time == columns.time and found.sure else None
    unit = unit or unit_in(columns.time)
    return Format("columns", columns, unit or "s", sure=unit is not None, ttft=columns.first, latency=columns.end,
                  moments=True)


def of_name(name: str, found: Format | None, source: str) -> Format:
    """The format of that name: the one `found` where it is called so; raises FileError where its rows have no keys."""
    alike = [each for each in KEYED if each.name == name]
    if not alike:
        raise FileError(source, "", f"must be JSON as the format {name} is")
    return found if found is not None and found.name == name else alike[0]


def measured(found: Format, columns: Sequence[Column], start: Column | None) -> tuple[Column | None, Column | None]:
    """The fields `ttft` and `latency` of a chunk (seconds) from the columns that `Format.spent` names, and arrivals."""
    given = {name: between(each, start, found.unit) if found.moments else spans(each, found.unit)
             for name, each in zip(found.spent, columns, strict=True)}
    return given.get(found.ttft or ""), given.get(found.latency or "")


def unknown(names: list[str], what: str) -> str:
    """The complaint about a file of no known format: what it lacks, and the flags by which it can be read.

    >>> unknown(["TIMESTAMP", "ContextTokens"], "columns")[:60]
    'is in no known format (azure without GeneratedTokens): name '
    """
    given = {normal(each) for each in names}
    lacking = {each.name: [name for name in (*each.columns.names, *each.also) if normal(name) not in given]
               for each in KEYED}
    near = next((f" ({name} without {columns[0]})" for name, columns in lacking.items() if len(columns) == 1), "")
    return (f"is in no known format{near}: name its {what} of prompt and output tokens, --prompt-column and "
            f"--output-column, and of arrival times, --time-column (its {what} are {listed(names)})")


def normal(name: str) -> str:
    """A name as names are compared."""
    return name.strip().casefold()


def listed(names: list[str]) -> str:
    """The names in a message, cut where they are many."""
    text = ", ".join(each.strip() for each in names)
    return text if len(text) <= 200 else text[:197] + "..."
