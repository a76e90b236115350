"""Files that nobody should have written: good ones of every kind the program reads, damaged at random, from a seed.

What is done to them: a piece cut out, doubled, moved or put in from elsewhere; bytes flipped; numbers of any size in
place of others; brackets, quotes, keys and lines repeated; digits of other scripts; other encodings, NULs, byte order
marks, other line ends; all of it on one line; gzip, whole, cut or twice. Up to four of these at a time.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tool_files import PICKED


class HostileFile(NamedTuple):
    """A file: the kind of good file it was made of, the ending of its name, its bytes."""

    kind: str
    suffix: str
    content: bytes


_SGLANG = "\n".join(
    f"[2025-05-27 20:14:38 TP0] Decode batch. #running-req: {n}, #token: {16_000 + 100 * i}, token usage: 0.71, cuda "
    f"graph: True, gen throughput (token/s): {400 + 7 * i}.25, #queue-req: 3, "
    for i, n in enumerate([16] * 10 + [20] * 10))
_ITERATIONS = "\n".join([
    "(EngineCore_DP0 pid=1) INFO 02-18 16:20:20 [kv_cache_utils.py:1291] GPU KV cache size: 100,000 tokens", *(
        f"INFO 02-18 16:21:20 [loggers.py:182] Engine 000: Iteration({i}): {i % 2} context requests, {256 * (i % 2)} "
        f"context tokens, {5 + i} generation requests, {5 + i} generation tokens, iteration elapsed time: {32 + i}.50 "
        f"ms, GPU KV cache usage: {i}.2%" for i in range(1, 20))])
_STATISTICS = "\n".join([
    "INFO 07-28 06:40:00 [kv_cache_utils.py:864] GPU KV cache size: 100,000 tokens", *(
        f"INFO 07-28 06:41:00 [loggers.py:118] Engine 000: Avg prompt throughput: 0.0 tokens/s, Avg generation "
        f"throughput: {500 + i}.0 tokens/s, Running: 8 reqs, Waiting: 0 reqs, GPU KV cache usage: {10 + i}.0%, Prefix "
        "cache hit rate: 0.0%" for i in range(12))])
_CONFIG = {"model_type": "mixtral", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
           "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000, "tie_word_embeddings": False,
           "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None, "torch_dtype": "bfloat16",
           "quantization_config": {"quant_method": "compressed-tensors", "ignore": ["lm_head", "re:.*gate$"],
                                   "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
                                       "num_bits": 8, "type": "float", "strategy": "channel"}}}}}
_TOML = """[replica]
kv_capacity = 137000
max_num_seqs = 256
prefill = { chunk = 512 }
[replica.iteration_time]
overhead = 0.0106
per_kv_token = 4.013e-7
per_prefill_token = 1e-6
per_sequence = 1e-5
[[workload.type]]
name = "chat"
prompt_tokens = 512
output_tokens = 20
rate = 20.0
[[workload.type]]
name = "summary"
prompt_tokens = 2000
output_tokens = 30
rate = 1.5
[[workload.window]]
duration = 600.0
scale = 1.25
[[workload.window]]
duration = 1200.0
scale = 0.75
[target]
horizon = 3600.0
overflow_probability = 0.001
"""
GOOD: dict[str, tuple[str, str]] = {
    "azure": (".csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
        f"2023-11-16 18:15:{46 + i}.6805900,{374 + i},{44 + i}\n" for i in range(8))),
    "burstgpt": (".csv", "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens\n"
                 "5,abc,1.2,ChatGPT,472,18,490\n45,,,GPT-4,1087,0,1087\n118,abc,2,ChatGPT,417,276,693\n"),
    "vidur": (".csv", 'arrived_at,num_prefill_tokens,num_decode_tokens,note\n0.5,374,44,"a, b"\n2.0,396,109,"c\nd"\n'
              '3.5,"12",7,\n'),
    "mooncake": (".jsonl", "".join(json.dumps({"timestamp": 27_482 + 31 * i, "input_length": 6955 + i,
                                               "output_length": 5, "hash_ids": [4, 7, i]}) + "\n" for i in range(5))),
    "vllm": (".json", json.dumps({"date": "20250101", "duration": 6.0, "completed": 2, "input_lens": [10, 20, 30, 40],
                                  "output_lens": [5, 0, 7, 3], "errors": ["", "timeout", "", "no"],
                                  "start_times": [1.5, 2.5, 3.0, 4.0], "itls": [[0.01, 0.02], [], [0.1], []],
                                  "generated_texts": ["a", "", "b \"c\" [", "{"]})),
    **PICKED,
    "batches": (".csv", "num_decode,kv_tokens_decode,num_prefill,prefill_tokens,batch_time_s\n" + "".join(
        f"{8 + i},{4096 + 512 * i},{i % 3},{200 * (i % 3)},0.0{120 + 3 * i + 20 * (i % 3)}\n" for i in range(24))),
    "sglang": (".log", _SGLANG), "iterations": (".log", _ITERATIONS), "statistics": (".log", _STATISTICS),
    "config": (".json", json.dumps(_CONFIG, indent=1)),
    "policy": (".json", '{"schema": 1, "policy": "paced", "entries": [2, 3], "iterations": [15, 4], "gate": true}'),
    "toml": (".toml", _TOML),
}
TRACES = ("azure", "burstgpt", "vidur", "mooncake", "vllm", *PICKED)
COMMAND_OF = {**dict.fromkeys(TRACES, "trace"),
              **dict.fromkeys(("batches", "sglang", "iterations", "statistics"), "calibrate"),
              "config": "solve", "toml": "solve", "policy": ""}  # "": no command reads policies

NUMBERS = ("0", "-1", "1", "1.5", "3", "8", "12.0", "64", "0.25", "100", "1e-12", "1e12", "1e9", "65536", "1073741824",
           "1000000007", "007", "1e3", "1e-320", "5e-324", "1e14", "1e-14", "1e400", "-1e400", "16777217",
           "4294967296", "9007199254740993", "9223372036854775808", "1_000", "1,000", ",,,", "0x10", "nan", "inf",
           "-inf", "NaN", "Infinity", "true", "null", '""', "[]", "{}", "1979-05-27", "\uff11\uff12", "\u0661\u0662",
           "\u00b2", "1" * 16, "9" * 400, "9" * 5000, "0." + "0" * 400 + "1", "1" + "0" * 400, "1e" + "9" * 30)
TOKENS = ("\n", "\r", "\r\n", "\t", ",", ",,,", ";", ":", '"', '""', "'", "\\", "\\u0000", "[", "]", "{", "}", "[[",
          "#", "=", ".", "\u2028", "\x1c", "\x0b", "\ufeff", "\U0001f600", "\x00", "\x7f", "\u202e", "%", "re:(a+)+")
_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:e-?\d+)?")

Damage = Callable[[random.Random, str], str]


def _cut(chance: random.Random, text: str) -> str:
    start, end = _span(chance, text)
    return text[:start] + text[end:]


def _end_early(chance: random.Random, text: str) -> str:
    return text[: chance.randrange(len(text) + 1)]


def _move(chance: random.Random, text: str) -> str:
    (start, end), place = _span(chance, text), chance.randrange(len(text) + 1)
    return text[:place] + text[start:end] + text[place:]


def _repeat(chance: random.Random, text: str) -> str:
    start, end = _span(chance, text)
    return text[:start] + text[start:end] * chance.choice([2, 3, 20]) + text[end:]


def _repeat_line(chance: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    place = chance.randrange(len(lines))
    return "".join([*lines[:place], *[lines[place]] * chance.choice([2, 30]), *lines[place + 1 :]])


def _put_in(chance: random.Random, text: str) -> str:
    place = chance.randrange(len(text) + 1)
    return text[:place] + chance.choice(TOKENS) * chance.choice([1, 1, 1, 2, 5]) + text[place:]


def _renumber(chance: random.Random, text: str) -> str:
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        return text
    chosen, new = chance.choice(numbers), chance.choice(NUMBERS)
    if chance.random() < 0.2:  # this number wherever it stands
        return text.replace(chosen[0], new)
    return text[: chosen.start()] + new + text[chosen.end() :]


def _nest(chance: random.Random, text: str) -> str:
    start, end = _span(chance, text)
    (left, right), depth = chance.choice([("[", "]"), ('{"a":', "}"), ("(", ")")]), chance.choice([1, 7, 990, 5000])
    return text[:start] + left * depth + text[start:end] + (right * depth if chance.random() < 0.7 else "") + text[end:]


def _one_line(chance: random.Random, text: str) -> str:
    return text.replace("\n", chance.choice([" ", "", "\r", "\r\n", "\u2028"]))


def _lengthen(chance: random.Random, text: str) -> str:
    place, unit = chance.randrange(len(text) + 1), chance.choice(["1", " ", ",", "x", "[", '"', "\u00e9", '{"a":'])
    return text[:place] + unit * chance.choice([200, 3000, 20_000]) + text[place:]


def _far_longer(chance: random.Random, text: str) -> str:
    place = chance.randrange(len(text) + 1)
    unit = chance.choice([*TOKENS, *NUMBERS, text[:300], text[place : place + 100]])
    return text[:place] + unit * (3_000_000 // max(1, len(unit))) + text[place:]


def _span(chance: random.Random, text: str) -> tuple[int, int]:
    start = chance.randrange(len(text) + 1)
    return start, min(len(text), start + chance.choice([1, 2, 5, 20, 100]))


DAMAGES: tuple[Damage, ...] = (_cut, _end_early, _move, _repeat, _repeat_line, _put_in, _put_in, _renumber, _renumber,
                               _renumber, _renumber, _nest, _one_line, _lengthen)


def _encoded(chance: random.Random, text: str) -> bytes:
    """The bytes of a text, most times as they should be."""
    data = text.encode("utf-8", "surrogatepass")
    match chance.randrange(16):
        case 0:
            return b"\xef\xbb\xbf" + data
        case 1:
            return text.encode(chance.choice(["utf-16", "utf-32", "latin-1"]), "replace")
        case 2:
            return data.replace(b"\n", chance.choice([b"\r\n", b"\r", b"\n\n\n"]))
        case 3:
            flipped = bytearray(data or b"x")
            for _ in range(chance.choice([1, 3, 30])):
                flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
            return bytes(flipped)
        case 4:
            return gzip.compress(data, mtime=0)
        case 5:
            return gzip.compress(data, mtime=0)[: chance.randrange(1, 200)] + chance.choice([b"", b"\0" * 50, data])
        case 6:
            return gzip.compress(data, mtime=0) * 2
    return data


def hostile_files(seed: int, number: int, *, long: bool = False) -> Iterator[HostileFile]:
    """So many hostile files, the kinds in turn; with `long` one in ten has some megabytes."""
    chance, kinds = random.Random(seed), list(GOOD)
    for i in range(number):
        kind = kinds[i % len(kinds)]
        suffix, text = GOOD[kind]
        only_numbers = chance.random() < 0.4  # so that more of the files are read in which every key matters
        for _ in range(chance.choice([1, 1, 2, 4])):
            text = (_renumber if only_numbers else chance.choice(DAMAGES))(chance, text)
        if long and chance.random() < 0.1:
            text = _far_longer(chance, text)
        yield HostileFile(kind, suffix, text.encode() if only_numbers else _encoded(chance, text))
