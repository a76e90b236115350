"""What was probably meant, where a file or a value cannot be used or no deployment has it: a question, never a repair.

A question is asked behind a refusal, or, where the value is legal, as a remark that commands print. Remarks are made of
what no GPU does: an iteration of seconds whatever the batch (milliseconds for seconds), KV tokens at 0.1 ms each
(microseconds, milliseconds), a cache smaller than any request (gigabytes). A rate per minute, or lengths in characters,
look like any other; nothing is asked about them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from fluid.errors import number_meant
from fluid.replica import Replica
from fluid.workload import Workload
from fluidwait.deployment.schema import IterationTimeTable, LineTable, ReplicaTable

LONG = 2.0  # seconds of an iteration without a batch
SLOW = {"per_kv_token": 1e-4, "per_prefill_token": 1e-2, "per_sequence": 1e-1}  # seconds, of each
STANDSTILL = 10.0  # seconds that the most of them take
FEW = 1000  # KV tokens
OTHER_NAMES = {"gpu_memory_utilization": "memory_fraction", "mem_fraction_static": "memory_fraction",
               "tensor_parallel_size": "tensor_parallel", "tp": "tensor_parallel", "block_size": "block",
               "kv_cache_dtype": "kv_dtype", "quantization": "weight_dtype", "max_running_requests": "max_num_seqs",
               "input_tokens": "prompt_tokens", "qps": "rate", "request_rate": "rate"}  # of engines and benchmarks
_YAML = re.compile(r"---|[\"']?[\w.-]+[\"']?:(\s|$)")
_SLIPS = (  # of what stands behind the equals sign
    (r".*;.*", "semicolons separate nothing: commas stand inside brackets, and each key on its line"),
    (r"(True|False|TRUE|FALSE|yes|no|on|off)\b.*", "true and false are written so"),
    (r"(None|null|nil|NULL|~)?", "a key without a value is left out"),
    (r"[-+]?(\.\d+|\d+\.)(e[-+]?\d+)?", "a decimal point has digits on both sides"),
    (r"[A-Za-z][^\s'\"=]*", 'text stands in quotes: "{}"'),
)


def format_meant(text: str) -> str:
    """What a text that is no TOML looks like; "" where nothing shows.

    >>> format_meant("replica:\\n  kv_capacity: 137000\\n")
    'this looks like YAML; a deployment file is TOML, as `fluidwait init` writes it'
    """
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    if first.startswith("{") or first in ("[", "[{"):
        return _not("JSON")
    if _YAML.match(first):
        return _not("YAML")
    if "=" not in first and not first.startswith("[") and re.search(r"[,;\t]", first):
        return "this looks like a table; a trace is known by the ending of its name: .csv, .jsonl or .json"
    return ""


def _not(form: str) -> str:
    return f"this looks like {form}; a deployment file is TOML, as `fluidwait init` writes it"


def slip(line: str) -> str:
    """What is probably wrong with a line that is no TOML; "" where nothing shows.

    >>> slip("kv_capacity = 137,000"), slip("model = llama-2-7b")
    ('is 137000 meant?', 'text stands in quotes: "llama-2-7b"')
    """
    key, equals, rest = line.partition("=")
    value = rest.partition("#")[0].strip()
    if not equals:
        return "a key and its value have an equals sign between them" if re.match(r"\s*[\w.-]+\s*:", key) else ""
    if re.fullmatch(r"[^\[{]*,", value):
        return "a line ends without a comma"
    unquoted = re.sub(r"\"[^\"]*\"|'[^']*'", '""', value)
    return number_meant(value) or next((says.format(value) for pattern, says in _SLIPS
                                        if re.fullmatch(pattern, unquoted)), "")


def value_meant(key: str, value: Any, requirement: str) -> str:
    """What was probably meant by a value of a wrong type or size; "" where nothing shows."""
    if isinstance(value, str) and key == "kv_capacity" and re.fullmatch(r"[\d.]+ ?[kMGT]i?B", value):
        return "it counts tokens, not bytes: an engine prints them when it starts"
    if isinstance(value, str) and "number" in requirement:
        return "numbers stand without quotes" if re.fullmatch(r"[-+\d._e]+", value) else number_meant(value)
    if isinstance(value, int) and value.bit_length() > 63:
        return "TOML's integers have 64 bits"
    if isinstance(value, float) and "whole number" in requirement:
        if value.is_integer() and 0 < value <= 2**53:
            return f"is {value:.0f} meant? A whole number has neither a point nor an exponent"
        if key == "kv_capacity" and 0 < value < FEW:
            return "are these GB? An engine prints the tokens when it starts"
    return ""


def unlikely(given: ReplicaTable, workload: Workload, replica: Replica) -> Iterator[str]:
    """A question about each number of the file that is legal, and that no deployment has."""
    if given.kv_capacity is not None and given.kv_capacity < FEW:
        shortest = int((workload.prompt_tokens + workload.output_tokens).min())
        if given.kv_capacity < shortest:
            yield (f"replica.kv_capacity, {given.kv_capacity:,} tokens, is less than the shortest request has, "
                   f"{shortest:,}: are these GB? An engine prints the tokens when it starts")
    if given.iteration_time is not None:
        most = {"per_kv_token": (replica.kv_capacity, "reads a full cache"),
                "per_prefill_token": (int(workload.prompt_tokens.max()), "prefills the longest prompt"),
                "per_sequence": (replica.max_num_seqs or 256, "has as many sequences as engines take")}
        lines: Sequence[LineTable | IterationTimeTable] = given.iteration_time.pieces or [given.iteration_time]
        for line in lines:
            yield from _unlikely_times(line, most)


def _unlikely_times(line: LineTable | IterationTimeTable, most: dict[str, tuple[int, str]]) -> Iterator[str]:
    if line.overhead is not None and line.overhead >= LONG:
        yield (f"replica.iteration_time.overhead makes every iteration last {line.overhead:g} s: are these "
               f"milliseconds ({line.overhead / 1e3:g})?")
    for key, (count, what) in most.items():
        each = getattr(line, key) or 0.0
        if each >= SLOW[key] and each * count > STANDSTILL:
            unit, per_second = ("micro", 1e6) if each >= 100 * SLOW[key] else ("milli", 1e3)
            yield (f"replica.iteration_time.{key} makes an iteration that {what} last {each * count:,.4g} s: are these "
                   f"{unit}seconds ({each / per_second:g})?")
