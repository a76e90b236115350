"""What the most expensive files cost to read, and what becomes of random hostile ones on the command line.

    python benchmarks/hostile_files.py [--worst] [--random 1500] [--megabytes 100]

--worst      files made to be slow or large to read, of so many megabytes once unzipped (or of the size that their kind
             may have), each read in a process of its own with at most 8 GB and 60 s: processor seconds of the
             reading, the most memory held, of which some 200 MB are the program's, and what was said
--random     so many mutations of good files of each kind (`tests/support/hostile_files.py`), given to the commands in
             processes with at most 3 GB and 60 s: how many ended with which status, the slowest, and every input that
             broke the promise: status 0, 1 or 2, and where it is 2 one line on standard error, nothing on standard
             output

With PYTHONPATH set to another checkout the numbers are those of its readers.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fluid import FluidwaitError, read_batches, read_trace
from fluid.hardware.catalogue import find_gpu
from fluid.hardware.huggingface import model_from_config
from fluid.hardware.placement import Placement
from fluidwait.__main__ import status
from fluidwait.commands import app  # noqa: F401 - loaded once, not by each process
from fluidwait.deployment.deployment import load
from thresholds import read_policy

WORST_MEMORY, RANDOM_MEMORY, SECONDS = 8 * 2**30, 3 * 2**30, 60
READERS: dict[str, Callable[[str], Any]] = {
    "trace": read_trace, "batches": read_batches, "policy": read_policy, "toml": load,
    "config": lambda path: Placement(model_from_config(path), find_gpu("h200")).weight_bytes}
DEPLOYMENT = """[replica]
model = "MODEL"
gpu = "h200"
tensor_parallel = 8
[[workload.type]]
prompt_tokens = 512
output_tokens = 20
rate = 2.0
"""

Pieces = Iterator[bytes]
Case = tuple[str, str, Callable[[], str]]  # its kind, what is shown of it, and what is done


def worst(size: int) -> Iterator[tuple[str, str, Callable[[], Pieces] | str]]:
    """The name of each case, its kind of file, and the pieces of its bytes, or the path of a device."""
    def of(head: bytes, unit: bytes, tail: bytes = b"", most: int = size) -> Callable[[], Pieces]:
        def pieces() -> Pieces:
            yield head
            block = unit * max(1, 2**20 // len(unit))
            for _ in range(max(1, most // len(block))):
                yield block
            yield tail
        return pieces

    vidur, azure = b"arrived_at,num_prefill_tokens,num_decode_tokens\n", b"TIMESTAMP,ContextTokens,GeneratedTokens\n"
    lens = b'{"input_lens":[1,1],"output_lens":[1,1],"itls":'
    yield "newlines", "trace", of(vidur, b"\n")
    yield "lines of a blank", "trace", of(vidur, b" \n")
    yield "good rows, short", "trace", of(vidur, b"1,1,1\n")
    yield "rows of one field", "trace", of(vidur, b"1\n")
    yield "good and bad rows", "trace", of(vidur, b"1,1,1\n1,\n")
    yield "rows with a stray quote", "trace", of(vidur, b'"a"b\n')
    yield "emoji fields, one line", "trace", of(vidur, "\U0001f600,".encode())
    yield "emoji fields, 16 MB lines", "trace", of(vidur, "\U0001f600,".encode() * 2**22 + b"\n")
    yield "one row of many lines", "trace", of(vidur, b'"\n",')
    yield "a header of 4 MB", "trace", of(b"", "\U0001f600,".encode(), b"\n", 2**22)
    yield "fields of 131,000 digits", "trace", of(vidur, b"1," + b"9" * 131_000 + b",1\n")
    yield "dates with 100,000 digits", "trace", of(azure, b"2023-11-16 18:15:46." + b"1" * 100_000 + b",1,1\n")
    yield "Mooncake, empty objects", "trace", of(b'{"input_length": 1}\n', b"{}\n")
    yield "Mooncake, 16 MB lines", "trace", of(b'{"input_length": 1}\n', b"[" + b"[]," * 5_500_000 + b"0]\n")
    yield "Mooncake, 1 MB lines", "trace", of(b'{"input_length": 1}\n', b"[" + b"{}," * 350_000 + b"0]\n")
    row = b'{"timestamp":1,"input_length":1,"output_length":1,"hash_ids":['
    yield "Mooncake, a million blocks a row", "trace", lambda: (
        row + b",".join(b"%d" % (1_000_000 * i + j) for j in range(400_000)) + b"]}\n"
        for i in range(max(1, size // 3_600_000)))
    yield "vLLM, empty lists", "trace", of(lens + b"[", b"[],", b"0]}")
    yield "vLLM, nested lists", "trace", of(lens + b"[", b"[[[[[[]]]]]],", b"0]}")
    yield "vLLM, brackets that never close", "trace", of(lens, b"[")
    yield "vLLM, empty texts", "trace", of(lens + b"[", b'"",', b"0]}")
    yield "vLLM, a text of backslashes", "trace", of(lens + b'"', b"\\\\", b'"}')
    yield "vLLM, times of tokens", "trace", of(lens + b"[", b"[0.012345678901,0.0234567890123],", b"0]}")
    yield "vLLM, many keys", "trace", lambda: (
        b'%s"%d":1' % (b"," if i else b"{", i) for i in range(size // 12))
    yield "vLLM, many requests", "trace", of(b'{"input_lens":[', b"1,", b'1],"output_lens":[1]}')
    record = b'[{"number_input_tokens":1,"number_output_tokens":1}'
    yield "records, empty objects in a list", "trace", of(record, b",{}", b"]")
    yield "records, numbers in a list", "trace", of(record, b",1", b"]")
    yield "records, lists in a list", "trace", of(record, b",[[]]", b"]")
    yield "records, brackets that never close", "trace", of(
        record + b',', b"[")
    yield "records, a text without end", "trace", of(record + b',"', b"x")
    yield "records, objects of 1 MB", "trace", of(
        record, b',{"a":[' + b"{}," * 350_000 + b"0]}", b"]")
    yield "records, objects of 16 MB", "trace", of(
        record, b',{"a":[' + b"{}," * 5_500_000 + b"0]}", b"]")
    yield "conversations of many turns", "trace", of(
        b'{"conversations":[{"from":"gpt","tokens":1}]}\n',
        b'{"conversations":[' + b'{"from":"gpt","tokens":1},' * 150_000 + b'{"from":"gpt","tokens":1}]}\n')
    yield "runs without end", "trace", of(lens + b"[]}\n", b'{"input_lens":[1],"output_lens":[1]}\n')
    yield "GuideLLM, empty benchmarks", "trace", of(b'{"benchmarks":[', b'{},', b"{}]}")
    yield "GuideLLM, empty requests", "trace", of(
        b'{"benchmarks":[{"requests":{"successful":[', b'{},', b"{}]}}]}")
    yield "gzip members without text", "trace", of(gzip.compress(vidur), gzip.compress(b""))
    yield "log, one line of 21 KB", "batches", of(b"", b"Decode batch. #running-req: 1, #token: 1, " * 8, b"\n", 21_000)
    yield "log, one line of 63 KB", "batches", of(b"", b"Decode batch. #running-req: 1, #token: 1, " * 8, b"\n", 63_000)
    statistics = (b"Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 1.0 tokens/s, Running: 1 reqs, ")
    yield "log, statistics in lines of 63 KB", "batches", of(b"", statistics * 660 + b"\n")
    yield "log, digits in lines of 63 KB", "batches", of(
        b"", b"Decode batch. #running-req: 1, #token: 1, gen throughput (token/s): " + b"1" * 63_000 + b"x\n" +
        b"Avg prompt throughput: " + b"1" * 63_000 + b"x\n")
    yield "log, lines of 16 characters", "batches", of(b"", b"GPU KV cache s:\n")
    yield "log, decode lines of their own rank", "batches", lambda: (
        b"DP%d Decode batch. #running-req: 1, #token: 1, gen throughput (token/s): 1.0\n" % i
        for i in range(size // 75))
    yield "batches, short rows", "batches", of(b"num_decode,kv_tokens_decode,batch_time_s\n", b"1,1,1\n")
    yield "batches, rows of one field", "batches", of(b"num_decode,kv_tokens_decode,batch_time_s\n", b"1\n")
    yield "batches, an endless row", "batches", of(b"num_decode,kv_tokens_decode,batch_time_s\n", b'"\n",')
    for kind in ("config", "policy", "toml", "trace"):
        yield f"/dev/zero as {kind}", kind, "/dev/zero"
    yield "config, empty objects", "config", of(b'{"a":[', b"{},", b"0]}", 2**22 - 2**20)
    layers = json.dumps({"model_type": "llama", "num_hidden_layers": 1000, "hidden_size": 64, "num_attention_heads": 8,
                         "intermediate_size": 64, "vocab_size": 64, "quantization_config": {
                             "quant_method": "fp8", "ignored_layers": ["re:(.*)*(.*)*x" for _ in range(4)]}}).encode()
    yield "config, a pattern that goes back", "config", of(layers, b" ", most=1)
    yield "config, patterns with three repeats", "config", of(
        layers.replace(b"(.*)*(.*)*x", b"[^.]*.*.*x"), b" ", most=1)
    yield "policy, 100,000 brackets", "policy", of(b"[" * 100_000, b" ", most=1)
    yield "policy, empty objects", "policy", of(b'{"schema":1,"policy":[', b"{},", b"0]}", 2**24 - 2**20)
    yield "TOML, dotted keys", "toml", of(b"", b"a." * 1990 + b"a=1\n", most=2**20)
    yield "TOML, headers", "toml", of(b"", b"[[a.b]]\n", most=2**20)
    yield "TOML, arrays in arrays", "toml", of(b"a=[", b"[],\n", b"]", 2**20)


def cases(size: int) -> None:
    print(f"{'':<38}{'seconds':>8}{'MB':>9}   outcome")
    with TemporaryDirectory() as folder:
        for name, kind, content in worst(size):
            path = Path(folder) / {"toml": "x.toml", "config": "config.json"}.get(kind, "x")
            if not isinstance(content, str):
                with (path.open("wb") if size < 2**21 or kind in ("config", "policy", "toml") or "members" in name
                      else gzip.open(path, "wb", compresslevel=1)) as file:
                    file.writelines(content())
            given = content if isinstance(content, str) else str(path)
            print(f"{name:<38}{apart(lambda kind=kind, given=given: read(kind, given), WORST_MEMORY)}",
                  flush=True)


def read(kind: str, path: str) -> str:
    """What reading a file cost."""
    start = time.process_time()
    try:
        found = type(READERS[kind](path)).__name__
    except Exception as error:
        found = f"{type(error).__name__}: {error}".replace(f"{path}: ", "")
    held = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    return f"{time.process_time() - start:8.1f}{held:9.0f}   {found[:110]}"


def commands(number: int) -> int:
    """Give random hostile files to the commands; how many broke the promise."""
    with TemporaryDirectory() as folder:
        return tally(_cases_of(Path(folder), number), number)


def _cases_of(folder: Path, number: int) -> Iterator[Case]:
    """Each file, written, and the command that reads it."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    from hostile_files import COMMAND_OF, hostile_files

    for i, (kind, suffix, content) in enumerate(hostile_files(seed=1, number=number, long=True)):
        path = folder / f"{i}-{kind}{suffix}"
        path.write_bytes(content)
        if kind == "config":  # of the model that a deployment names
            path = path.with_suffix(".toml")
            path.write_text(DEPLOYMENT.replace("MODEL", f"{i}-{kind}{suffix}"))
        yield kind, f"{i}-{kind}", partial(ended_with, [COMMAND_OF[kind], str(path)])


def tally(given: Iterable[Case], number: int) -> int:
    """Do so many pieces of work, each in a process of its own, and say what became of them; how many broke the promise.
    """
    ended, slowest, broken = Counter[str](), (0.0, ""), 0
    for kind, shown, work in given:
        said = apart(work, RANDOM_MEMORY)
        code, seconds, kept, line = json.loads(said) if said.startswith("[") else (-1, 0.0, False, said)
        ended[f"{kind}: status {code}"] += 1
        slowest = max(slowest, (seconds, shown))
        if not kept:
            broken += 1
            print(f"BROKEN by {shown!a}: status {code}, {line!a}", flush=True)
    for name, count in sorted(ended.items()):
        print(f"{name:<28}{count:>6}")
    print(f"slowest {slowest[0]:.1f} s ({slowest[1]!a}); promises broken: {broken} of {number}")
    return broken


def ended_with(arguments: list[str]) -> str:
    """How a command ended: status, seconds, whether that is as promised, what it said on standard error.

    Without a command the policy of that path is read.
    """
    out, err, start = io.StringIO(), io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = status(arguments) if arguments[0] else policy_status(arguments[1])
    kept = code in (0, 1) or (code == 2 and not out.getvalue() and err.getvalue().count("\n") == 1)
    return json.dumps([code, time.process_time() - start, kept, err.getvalue()[:300]])


def policy_status(path: str) -> int:
    try:
        read_policy(path)
    except FluidwaitError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def apart(work: Callable[[], str], memory: int) -> str:
    """What some work returns, done in a process of its own within limits."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        try:
            os.write(writing, work().encode())
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}"[:300].encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8", errors="replace") as answer:
        said = answer.read()
    _, how = os.waitpid(child, 0)
    return f"{'':>5}>{SECONDS}{'':>9}   stopped by signal {os.WTERMSIG(how)}" if os.WIFSIGNALED(how) else said


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of reading hostile files.")
    parser.add_argument("--worst", action="store_true", help="the most expensive files")
    parser.add_argument("--random", type=int, default=0, help="so many random hostile files")
    parser.add_argument("--megabytes", type=int, default=100, help="size of the most expensive files, unzipped")
    options = parser.parse_args()
    warnings.simplefilter("error")
    if options.worst:
        cases(options.megabytes * 10**6)
    if options.random:
        sys.exit(commands(options.random) > 0)


if __name__ == "__main__":
    main()
