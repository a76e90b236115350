"""The formats of request traces: what a row is, and which fields hold the lengths and arrival time of a request.

    azure      CSV, TIMESTAMP (date and time), ContextTokens, GeneratedTokens      the Azure LLM inference traces
    burstgpt   CSV, Timestamp (s), Request tokens, Response tokens (0: failed)     BurstGPT, both releases
    vidur      CSV, arrived_at (s), num_prefill_tokens, num_decode_tokens          Vidur's processed traces
    mooncake   a JSON object a line: timestamp (ms), input_length, output_length   Mooncake's traces (hash_ids: blocks)
    vllm       JSON, input_lens, output_lens, errors, duration (s), start_times    vllm bench serve --save-detailed
    columns    any CSV, by the names of its columns

A file that begins with a brace is JSON, any other a CSV whose first row names the columns: in any order, other columns
beside them, case and blanks around a name ignored. Older versions of vLLM write no `start_times`, and some of its
clients leave them 0: then there are no arrival times, and the rate is the number of requests over `duration`. Sources:
the files themselves; vllm/benchmarks/serve.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from fluid.errors import InputError
from fluid.traces.fields import Column

COLUMN_NAME = "the name of a column"
CHUNK = 4096  # rows: larger ones leave the processor's caches
CHUNK_TEXT = 2**21  # characters, after which a chunk ends however few its rows


@dataclass(frozen=True)
class Columns:
    """The names of the columns of a CSV that hold prompt tokens, output tokens and, if there is one, the arrival time.

    Times are numbers of seconds, or dates with a time of day: which of the two, the first of them decides.
    """

    prompt: str
    output: str
    time: str | None = None

    def __post_init__(self) -> None:
        for key in ("prompt", "output", "time"):
            value = getattr(self, key)
            if not isinstance(value, str) and not (key == "time" and value is None):
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


class Format(NamedTuple):
    """A format: its name and columns, the units of its numeric times per second, whether output 0 means failure."""

    name: str
    columns: Columns
    per_second: float = 1.0
    fails: bool = False


AZURE = Format("azure", Columns("ContextTokens", "GeneratedTokens", "TIMESTAMP"))
BURSTGPT = Format("burstgpt", Columns("Request tokens", "Response tokens", "Timestamp"), fails=True)
VIDUR = Format("vidur", Columns("num_prefill_tokens", "num_decode_tokens", "arrived_at"))
MOONCAKE = Format("mooncake", Columns("input_length", "output_length", "timestamp"), per_second=1000.0)
VLLM = Format("vllm", Columns("input_lens", "output_lens", "start_times"), fails=True)
CSV_FORMATS = {each.name: each for each in (AZURE, BURSTGPT, VIDUR)}
FORMATS = (*CSV_FORMATS, "mooncake", "vllm", "columns")


class Chunk(NamedTuple):
    """Some rows of a file, in order: where each begins and its three fields; `broken` are rows without such fields.

    `hashes` are those of the blocks that each prompt is made of, where the format has them.
    """

    places: list[int]
    prompt: Column
    output: Column
    time: Column | None
    broken: list[tuple[int, str]]
    hashes: Column | None = None


class Rows(NamedTuple):
    """The rows of a trace: their format; chunks of them; what `places` count ("line"); the stated duration (s)."""

    format: Format
    chunks: Iterator[Chunk]
    place: str = "line"
    duration: float | None = None
