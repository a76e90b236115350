"""Our rule of vLLM's scheduler against the scheduler itself, request by request, and how fast each of them is.

    python benchmarks/vllm_scheduler.py --python VLLM/bin/python [--recordings ../shared/data/vllm_v1] [--only chat]
    python benchmarks/vllm_scheduler.py --python VLLM/bin/python --prompt 512 --output 1000 --rate 5 --budget 4096
    python benchmarks/vllm_scheduler.py --python VLLM/bin/python --scheduler paced.py:Paced [--asynchronous]

The scheduler of an installed vLLM runs in virtual time, without a model: a batch takes overhead + per_kv_token KV +
per_prefill_token prefill, and who is not in the middle of a prefill gets a token. `VllmV1` gets the same requests.
Compared are the first token and the finish of every request (largest relative error), preemptions and iterations; exit
status 1 where an error exceeds 1e-9 or a count differs. Options named after a setting of the engine change it in every
workload; `--recordings` takes the workloads of a folder and, unless changed, holds our rule against their times too.

`--asynchronous` drives AsyncScheduler in the order of events of EngineCore.step_with_batch_queue: a batch is scheduled
when the one before it begins to run. `--scheduler FILE:CLASS` drives a subclass of vLLM's Scheduler (AsyncScheduler
with `--asynchronous`) instead; then, and where our rule has no such mode, latencies (s) are printed, not errors. After
an empty schedule the engine waits 0.001 s; here `--sleep` seconds.

Speed is requests per second of processor time, of vLLM inside `add_request`, `schedule` and `update_from_output` alone,
of ours in `simulate` as a user calls it (median of rounds, compiled before). The ratio depends least on the machine.

vLLM is no dependency of ours: it runs in a process of its own, by the interpreter `--python` (default: this one).
Written for vLLM 0.33: `pip install vllm`, or, without a GPU, an environment to throw away, with the torch of the
package index (vLLM looks for the CUDA libraries, not for a GPU) and what vLLM imports:

    python3.11 -m venv VLLM && VLLM/bin/pip install --no-deps vllm && VLLM/bin/pip install torch transformers cbor2 \
        pyzmq urllib3 aiohttp requests openai openai_harmony pillow pybase64 uvloop py-cpuinfo prometheus_client \
        xgrammar fastapi partial_json_parser llguidance cachetools msgspec psutil cloudpickle
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from runpy import run_path
from statistics import median
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np

DRIVE = "--drive"  # how this file calls itself, by the interpreter that has vLLM and need not have our packages
if sys.argv[1:2] == [DRIVE]:
    logging.disable(logging.CRITICAL)
    try:
        import torch
        from vllm.config import CacheConfig, DeviceConfig, SchedulerConfig, VllmConfig
        from vllm.sampling_params import SamplingParams
        from vllm.v1.core.sched.async_scheduler import AsyncScheduler
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
        from vllm.v1.outputs import ModelRunnerOutput
        from vllm.v1.request import Request
        from vllm.v1.structured_output import StructuredOutputManager
    except (ImportError, OSError) as error:
        print(f"{sys.executable} cannot import vLLM ({error}): {__file__} says how to install it", file=sys.stderr)
        sys.exit(2)
else:
    from workbench import timed

    from fluid import IterationTime, Replica, Workload, solve
    from fluid.errors import InputError
    from fluidwait.reports.console import console, new_table
    from verification import Arrivals, VllmV1, simulate

TOLERANCE = 1e-9
MOST_IDLE = 1000  # empty schedules in a row with nothing running, after which only an arrival can change anything
COLUMNS = ("workload", "requests", "iterations", "preemptions")
COMPARED = (*COLUMNS, "max relative error", "vLLM requests/s", "ours", "ratio")
REPORTED = (*COLUMNS, "mean latency", "p99", "completed", "requests/s")


@dataclass(frozen=True)
class Engine:
    """What the scheduler is told, and the seconds of an iteration; each field is an option of the command."""

    capacity: int = 137_000  # KV tokens, of which whole blocks count
    block: int = 16
    budget: int = 8192  # max_num_batched_tokens
    cap: int = 256  # max_num_seqs
    watermark: float = 0.0
    reserve_full: bool = True  # scheduler_reserve_full_isl
    long_prefill: int = 0  # long_prefill_token_threshold
    overhead: float = 0.0106
    per_kv_token: float = 4.013e-7
    per_prefill_token: float = 0.0
    asynchronous: bool = False
    scheduler: str = ""
    sleep: float = 0.0


@dataclass(frozen=True)
class Case:
    """Requests, the engine they are for and, of a recording, first tokens and finishes, shape (2, N)."""

    name: str
    engine: Engine
    times: np.ndarray
    prompts: np.ndarray
    outputs: np.ndarray
    recorded: np.ndarray | None = None

    def __post_init__(self) -> None:
        engine, longest = self.engine, int((self.prompts + self.outputs).max()) - 1
        if longest > engine.capacity // engine.block * engine.block:
            raise InputError("capacity", f"at least {longest} tokens in whole blocks", engine.capacity, self.name)
        if engine.cap > engine.budget:
            raise InputError("cap", f"at most the budget, {engine.budget}", engine.cap, self.name)


CHAT, DOCUMENTS = 1, 20  # lengths as in chats, and prompts 20 times as long
SMALL = Engine(2048, budget=256, per_prefill_token=5e-5)
BUILT_IN: dict[str, tuple[Engine, tuple[int, int] | int, float]] = {  # engine, lengths, share of the region's edge
    "512+1000": (Engine(), (512, 1000), 0.98),
    "512+1000, d2": (Engine(per_prefill_token=58.5e-6), (512, 1000), 0.98),
    "chat": (Engine(per_prefill_token=58.5e-6), CHAT, 0.98),
    "small cache": (SMALL, CHAT, 1.5),
    "watermark 5%": (replace(SMALL, watermark=0.05), CHAT, 0.98),
    "reserve off": (replace(SMALL, reserve_full=False, budget=128, cap=128), DOCUMENTS, 0.98),
    "long prefills": (Engine(20_000, budget=512, long_prefill=100, per_prefill_token=5e-5), DOCUMENTS, 0.9),
    "block 1": (replace(SMALL, block=1), CHAT, 0.98),
    "budget 64": (replace(SMALL, budget=64, cap=64), CHAT, 0.98),
    "all at once": (Engine(2048, 8, 64, 32, 0.05, False, 24, per_prefill_token=5e-5), DOCUMENTS, 0.9),
}


class Replay:
    """EngineCore's loop around `step` or, asynchronous, `step_with_batch_queue`, in virtual time."""

    def __init__(self, engine: Engine, times: list[float], prompts: list[int], outputs: list[int]) -> None:
        self.engine, (self.scheduler, self.depth) = engine, make_scheduler(engine, max(prompts) + max(outputs) + 8192)
        self.requests = [Request(str(i), [7] * prompt, SamplingParams(max_tokens=output, ignore_eos=True), None)
                         for i, (prompt, output) in enumerate(zip(prompts, outputs, strict=True))]
        self.coming = deque(zip(times, self.requests, strict=True))
        self.first, self.finished = [math.nan] * len(times), [math.nan] * len(times)
        self.batches: deque[tuple[float, Any, Any]] = deque()  # under way: end, what was scheduled, what it makes
        self.now = self.free = self.seconds = 0.0  # `free`: when the accelerator is
        self.iterations = self.idle = 0

    def run(self) -> dict[str, Any]:
        """What became of the requests when all is done or nothing can move any more."""
        scheduler = self.scheduler
        while self.coming or self.batches or (scheduler.has_unfinished_requests() and self.idle <= MOST_IDLE):
            if self.coming and (self.idle > MOST_IDLE or not (self.batches or scheduler.has_requests())):
                self.now = max(self.now, self.coming[0][0])
            while self.coming and self.coming[0][0] <= self.now:
                self.clocked(scheduler.add_request, self.coming.popleft()[1])
            ran = scheduler.has_requests() and self.launch()
            if len(self.batches) == self.depth or not (ran or scheduler.has_requests()):
                self.finish(*self.batches.popleft())
            if not ran and scheduler.has_requests():
                self.now += self.engine.sleep
            busy = ran or any(batch.num_scheduled_tokens for _, batch, _ in self.batches)
            self.idle = 0 if busy else self.idle + 1
        preemptions = sum(request.num_preemptions for request in self.requests)
        return {"times": [self.first, self.finished], "seconds": self.seconds, "counts": [self.iterations, preemptions]}

    def clocked(self, call: Callable[..., Any], *arguments: Any) -> Any:
        start = time.process_time()
        answer = call(*arguments)
        self.seconds += time.process_time() - start
        return answer

    def launch(self) -> bool:
        """Schedule a batch, which begins when the accelerator is free; an empty one is over at once."""
        batch, engine, end = self.clocked(self.scheduler.schedule), self.engine, self.now
        taken = [(self.requests[int(name)], tokens) for name, tokens in batch.num_scheduled_tokens.items()]
        if taken:
            kv = sum(request.num_computed_tokens for request, _ in taken)  # the tokens of this batch included
            prefill = sum(tokens for request, tokens in taken
                          if tokens > 1 or request.num_computed_tokens <= request.num_prompt_tokens)
            spent = engine.overhead + engine.per_kv_token * kv + engine.per_prefill_token * prefill
            end = self.free = max(self.now, self.free) + spent
            self.iterations += 1
        places = {request.request_id: i for i, (request, _) in enumerate(taken)}
        made = [[] if request.is_prefill_chunk else [1] for request, _ in taken]
        self.batches.append((end, batch, ModelRunnerOutput(list(places), places, made)))
        return bool(taken)

    def finish(self, end: float, batch: Any, made: Any) -> None:
        """Wait for the oldest batch and tell the scheduler what it made."""
        self.now = max(self.now, end)
        for client in self.clocked(self.scheduler.update_from_output, batch, made).values():
            for output in client.outputs:
                i = int(output.request_id)
                self.first[i] = self.now if math.isnan(self.first[i]) else self.first[i]
                self.finished[i] = self.finished[i] if output.finish_reason is None else self.now


def make_scheduler(engine: Engine, longest: int) -> tuple[Any, int]:
    """The scheduler, and how many batches are under way at once."""
    told = SchedulerConfig(
        max_num_batched_tokens=engine.budget, max_num_seqs=engine.cap, watermark=engine.watermark,
        scheduler_reserve_full_isl=engine.reserve_full, long_prefill_token_threshold=engine.long_prefill,
        async_scheduling=engine.asynchronous, max_model_len=longest, is_encoder_decoder=False)
    cache = CacheConfig(block_size=engine.block, enable_prefix_caching=False)
    cache.num_gpu_blocks = engine.capacity // engine.block + 1  # one is the pool's own
    config = VllmConfig(scheduler_config=told, cache_config=cache, device_config=DeviceConfig("cpu"))
    config.__dict__["model_config"] = SimpleNamespace(  # what a scheduler reads of it; a real one comes from a hub
        max_model_len=longest, runner_type="generate", uses_mrope=False, is_encoder_decoder=False, is_diffusion=False,
        supports_multimodal_inputs=False, return_sampling_mask=False, skip_tokenizer_init=True, multimodal_config=None)
    layer = FullAttentionSpec(block_size=engine.block, num_kv_heads=1, head_size=1, dtype=torch.float32)
    file, _, name = engine.scheduler.rpartition(":")
    try:
        kind = run_path(file)[name] if name else told.get_scheduler_cls()
    except (OSError, KeyError) as error:
        refuse(f"{engine.scheduler} is not there: {error}")
    if issubclass(kind, AsyncScheduler) != engine.asynchronous:
        refuse(f"{engine.scheduler} must be a subclass of AsyncScheduler with --asynchronous, and only then")
    return kind(vllm_config=config, block_size=engine.block, log_stats=False,
                kv_cache_config=KVCacheConfig(cache.num_gpu_blocks, [], [KVCacheGroupSpec(["layer"], layer)]),
                structured_output_manager=StructuredOutputManager(config)), config.max_concurrent_batches


def drive(file: Path) -> None:
    """Replay the cases of a file, in the process that has vLLM, and put what became of them in their place."""
    answers = []
    for case in json.loads(file.read_text()):
        print(f"vLLM on {case['name']} ...", file=sys.stderr, flush=True)
        answers.append(Replay(Engine(**case["engine"]), case["times"], case["prompts"], case["outputs"]).run())
    file.write_text(json.dumps(answers))


def played(cases: list[Case], python: str) -> list[dict[str, Any]]:
    """What vLLM makes of the cases."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "cases.json"
        file.write_text(json.dumps([asdict(case) for case in cases], default=np.ndarray.tolist))
        try:
            subprocess.run([python, __file__, DRIVE, str(file)], check=True)
        except OSError as error:
            refuse(f"{python} does not run: {error.strerror}")
        except subprocess.CalledProcessError:
            sys.exit(2)  # it has said why
        answers: list[dict[str, Any]] = json.loads(file.read_text())
        return answers


def refuse(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    sys.exit(2)


def built_in(asked: argparse.Namespace) -> Iterator[Case]:
    """The workloads of this file, or the one asked for, at their share of the edge unless a rate is asked for."""
    one = {f"{asked.prompt}+{asked.output}": (Engine(), (asked.prompt, asked.output), 0.98)}
    for name, (engine, kind, share) in (one if asked.prompt and asked.output else BUILT_IN).items():
        random = np.random.default_rng(0)
        prompts, outputs = lengths(kind, asked.requests, random)
        unit = Case(name, replace(engine, **asked.given), np.zeros(asked.requests), prompts, outputs)
        workload, _, replica = deployment(unit)
        rate = asked.rate or share * solve(workload, replica).max_rate_scale
        yield replace(unit, times=np.cumsum(random.exponential(1 / rate, asked.requests)))


def lengths(kind: tuple[int, int] | int, requests: int, random: np.random.Generator) -> list[np.ndarray]:
    """Prompts and outputs: all alike, or lognormal, means 58 and 147, medians 21 and 117, prompts `kind` times that."""
    if isinstance(kind, tuple):
        return [np.full(requests, tokens) for tokens in kind]
    return [np.rint(times * middle * np.exp(math.sqrt(2 * math.log(mean / middle)) * random.standard_normal(requests)))
            .clip(1, most).astype(int) for times, mean, middle, most in ((kind, 58, 21, 1500), (1, 147, 117, 500))]


def recordings(asked: argparse.Namespace) -> Iterator[Case]:
    """Those of a folder: index.json with the settings, and a table for each."""
    for run in json.loads((asked.recordings / "index.json").read_text()):
        times, prompts, outputs, *recorded = np.loadtxt(asked.recordings / f"{run['run']}.csv.gz", delimiter=",",
                                                        skiprows=1, unpack=True)
        engine = Engine(run["kv_blocks"] * run["block"], run["block"], run["max_num_batched_tokens"],
                        run["max_num_seqs"], run["watermark"], run["scheduler_reserve_full_isl"], 0,
                        run["overhead"], run["per_kv_token"], run["per_prefill_token"])
        changed = replace(engine, **asked.given)
        yield Case(run["run"], changed, times, prompts.astype(int), outputs.astype(int),
                   np.array(recorded) if changed == engine else None)


def deployment(case: Case) -> tuple[Workload, Arrivals, Replica]:
    """The pairs of lengths as types, one request a second in all; who arrives when; the replica."""
    engine, pairs = case.engine, np.stack([case.prompts, case.outputs], axis=1)
    pairs, types, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    time = IterationTime(engine.overhead, engine.per_kv_token, engine.per_prefill_token)
    replica = Replica(engine.capacity // engine.block * engine.block, time, block=engine.block, first_token="prefill",
                      max_num_seqs=engine.cap)
    workload = Workload.from_arrays(pairs[:, 0], pairs[:, 1], counts / len(case.times))
    return workload, Arrivals(case.times, types.ravel()), replica


def compared(case: Case, theirs: dict[str, Any], repeats: int) -> tuple[list[str], bool]:
    """The rest of a row, and whether ours is the same."""
    engine, (workload, arrivals, replica) = case.engine, deployment(case)
    mode: dict[str, Any] = {"asynchronous": True} if engine.asynchronous else {}
    rule = VllmV1(engine.budget, engine.watermark, engine.reserve_full, engine.long_prefill or None, **mode)
    run = simulate(rule, workload, replica, arrivals=arrivals)
    spent = median(timed(lambda: simulate(rule, workload, replica, arrivals=arrivals)) for _ in range(repeats))
    expected = [np.array(theirs["times"]), *([] if case.recorded is None else [case.recorded])]
    errors = [np.abs(np.stack([run.first_token, run.finished]) / each - 1) for each in expected]
    error = float(np.max(np.nan_to_num(errors, nan=math.inf)))  # also where one has what the other has not
    counts = list(zip(theirs["counts"], (run.iterations, run.evictions), strict=True))
    shown = [f"{a:,}" if a == b else f"{a:,}, ours {b:,}" for a, b in counts]
    speed, own = len(arrivals) / theirs["seconds"], len(arrivals) / spent
    return ([*shown, f"{error:.1e}", f"{speed:,.0f}", f"{own:,.0f}", f"{own / speed:,.0f}"],
            error <= TOLERANCE and all(a == b for a, b in counts))


def reported(case: Case, theirs: dict[str, Any]) -> list[str]:
    """The rest of a row on what a scheduler did, latencies of those completed."""
    latency = np.array(theirs["times"][1]) - case.times
    done = latency[np.isfinite(latency)] if np.any(np.isfinite(latency)) else np.array([math.nan])
    return [*(f"{count:,}" for count in theirs["counts"]), f"{np.mean(done):.4g}", f"{np.percentile(done, 99):.4g}",
            f"{np.mean(np.isfinite(latency)):.1%}", f"{len(latency) / theirs['seconds']:,.0f}"]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Hold our rule of vLLM's scheduler against vLLM's own.")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has vLLM")
    parser.add_argument("--recordings", type=Path, help="a folder of recordings, in place of the built-in workloads")
    parser.add_argument("--only", default="", metavar="TEXT", help="only workloads with this in their name")
    parser.add_argument("--requests", type=int, default=1000, help="of each built-in workload")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of ours, the median of which counts")
    parser.add_argument("--prompt", type=int, help="tokens; with --output one workload in place of those built in")
    parser.add_argument("--output", type=int)
    parser.add_argument("--rate", type=float, help="requests per second, in place of a share of the region's edge")
    for each in fields(Engine):
        kind = type(each.default)
        how = {"action": argparse.BooleanOptionalAction} if kind is bool else {"type": kind}
        parser.add_argument("--" + each.name.replace("_", "-"), **how)
    asked = parser.parse_args()
    settings = {each.name: getattr(asked, each.name) for each in fields(Engine)}
    return argparse.Namespace(**vars(asked), given={k: value for k, value in settings.items() if value is not None})


def main() -> None:
    asked = options()
    try:
        cases = [case for case in (recordings if asked.recordings else built_in)(asked) if asked.only in case.name]
    except (InputError, OSError) as error:
        refuse(str(error))
    if not cases:
        refuse(f"no workload has {asked.only!r} in its name")
    both = not (asked.scheduler or (asked.asynchronous and "asynchronous" not in VllmV1.__dataclass_fields__))
    table, same = new_table(*(COMPARED if both else REPORTED)), True
    for case, theirs in zip(cases, played(cases, asked.python), strict=True):
        row, agrees = compared(case, theirs, asked.repeats) if both else (reported(case, theirs), True)
        table.add_row(case.name, f"{len(case.times):,}", *row)
        same = same and agrees
    console.width = max(console.width, 110)
    console.print(table)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == [DRIVE]:
        drive(Path(sys.argv[2]))
    else:
        main()
