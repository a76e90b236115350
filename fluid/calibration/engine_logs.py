"""Batches in the logs of serving engines: what a line says, and what can honestly be derived from it.

SGLang with `--disable-radix-cache --decode-log-interval 1` (any interval will do) writes, in one line,

    [2025-05-27 20:14:38 TP0] Decode batch. #running-req: 18, #token: 16384, token usage: 0.71, cuda graph: True,
    gen throughput (token/s): 2520.18, #queue-req: 3

("Decode batch," or "Decode batch [124]," since late 2025; "#full token:" for hybrid models), and a line "Prefill batch"
for every prefill. The throughput is the tokens generated since the decode line before, per second. Between two decode
lines with R requests each, more tokens in the second and no prefill between, every iteration generated R tokens: the
mean iteration took R / throughput and read (tokens + tokens before + R) / 2. Other decode lines are skipped. Prefills
have no time of their own in the log, so `per_prefill_token` cannot be estimated from it; a prefix that sequences share
in the radix cache is counted once.

vLLM with `--enable-logging-iteration-details --no-async-scheduling` writes, the first when it starts,

    GPU KV cache size: 137,072 tokens
    Engine 000: Iteration(42): 3 context requests, 6144 context tokens, 5 generation requests, 5 generation tokens,
    iteration elapsed time: 187.32 ms, GPU KV cache usage: 41.2%

KV tokens are usage x size: in whole blocks, to 0.1% of the size, after finished requests are freed. The time runs from
the launch of the model to its tokens, without the scheduling before and after: the overhead is underestimated by that.
Under asynchronous scheduling (the default since 0.16) it is the wait for a result that may be there already: such logs
are refused, and those of early 2026, which lack the usage. Exact batches under either scheduling come from a recorder,
`--scheduler-cls recorder.Recorder` (after vLLM's sources; run here on a stand-in only):

    class Recorder(AsyncScheduler):  # of vllm.v1.core.sched.async_scheduler; Scheduler with --no-async-scheduling
        due, last, out = deque(), 0.0, open("batches.csv", "w", buffering=1)
        print("num_decode,kv_tokens_decode,num_prefill,prefill_tokens,batch_time_s", file=out)
        def schedule(self, *args):
            batch = super().schedule(*args)
            held = {r: self.requests[r] for r in batch.num_scheduled_tokens}
            fill = [r for r in held if held[r].num_computed_tokens <= held[r].num_prompt_tokens]
            new = sum(batch.num_scheduled_tokens[r] for r in fill)
            read = sum(request.num_computed_tokens for request in held.values())  # this batch's tokens among them
            self.due.append((time.monotonic(), f"{len(held) - len(fill)},{read - new},{len(fill)},{new}"))
            return batch
        def update_from_output(self, batch, output):
            done, (start, row), now = super().update_from_output(batch, output), self.due.popleft(), time.monotonic()
            if batch.total_num_scheduled_tokens:
                print(row, now - max(start, self.last), sep=",", file=self.out)
            self.last = now
            return done

Where a log of vLLM holds no such iterations, its ten-second statistics are read (`fluid.calibration.vllm_statistics`).

Speculative decoding makes several tokens in an iteration, which the iteration time (mathematics, section 1.5) does not
cover: such lines are unusable rows, as are numbers of more than 15 digits. Lines of more than 2^16 characters are none
of these and are passed over; the others are searched forwards only, key by key, as prompts that a log quotes may hold
anything.

Read in the sources: SGLang's `scheduler.py` (2024), `scheduler_metrics_mixin.py` (2025, 2026); vLLM's
`v1/engine/core.py`, `v1/utils.py`, `v1/core/kv_cache_utils.py`, pull requests 31193 (the line), 35072 (time).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fluid.calibration.vllm_statistics import ADVICE, STEADY, VllmStatistics
from fluid.errors import FileError
from fluid.files.log_numbers import NUMBER, WHOLE, UnreadableError, decimal, whole_number
from fluid.files.text_file import TextFile

Row = tuple[int, Sequence[float] | str]  # a line number, and the five numbers of a batch or what is wrong with them

SHORTEST, LONGEST = len("Prefill batch. "), 2**16  # characters of a line that can tell anything
MOST_AVERAGES = 2**20  # four months of them
ENOUGH = 8  # rows of averages: fewer are not worth a fit, and the flags that give more are named

# the keys of a line one after the other, and no pattern that goes back
_DECODE = re.compile(rf"Decode batch(?: \[\d++\])?[.,] #running-req: {WHOLE}, ", re.ASCII)
_TOKENS = re.compile(rf"#(?:full )?token: {WHOLE}, ", re.ASCII)
_THROUGHPUT = re.compile(rf"gen throughput \(token/s\): {NUMBER}", re.ASCII)
_PREFILL = re.compile(r"Prefill batch(?: \[\d++\])?[.,] ", re.ASCII)
_RANK = re.compile(r"\bDP(\d{1,4})\b", re.ASCII)
_SIZE = re.compile(r"GPU KV cache size: ([\d,]++) tokens", re.ASCII)
_ITERATION = re.compile(rf"Iteration\(\d++\): {WHOLE} context requests, {WHOLE} context tokens, {WHOLE} generation "
                        rf"requests, {WHOLE} generation tokens, iteration elapsed time: {NUMBER} ms"
                        rf"(?:, GPU KV cache usage: {NUMBER}%)?", re.ASCII)
_COUNTED = ("context requests", "context tokens", "generation requests", "generation tokens")
_SPECULATIVE = "must be one token a sequence (speculative decoding has no iteration time of this form)"


def iterations(text: TextFile, remarks: list[str]) -> Iterator[Row]:
    """The batches in a log of SGLang or vLLM; raises FileError where it has no iterations, or does not tell enough.

    What to beware of in them is added to `remarks`.
    """
    sglang, vllm, statistics = _SGLang(), _VLLM(text.source), VllmStatistics()
    averages, found = list[Row](), False
    for number, line in enumerate(text.lines(), start=1):
        if not SHORTEST <= len(line) <= LONGEST:
            continue
        try:
            row = sglang.read(line) or vllm.read(line)
        except UnreadableError as error:
            row = str(error)
        if row is not None:
            found = True
            yield number, row
        try:
            average: Sequence[float] | str | None = statistics.read(line, vllm.size)
        except UnreadableError as error:
            average = str(error)
        if average is not None:
            averages.append((number, average))
            _refuse_too_many(text.source, averages)
    if not found and statistics.lines and not vllm.lines:
        _refuse_averages(text.source, statistics, averages, vllm.size)
        remarks.append(f"each row is a mean over ten seconds, from {statistics.lines:,} statistics lines of vLLM: "
                       f"decodes alone, times good to {100 * STEADY:.0f}% where requests came or went; {ADVICE}")
        yield from averages
    elif not found:
        raise FileError(text.source, "", _nothing(sglang.lines, vllm.lines))


def _refuse_too_many(source: str, averages: list[Row]) -> None:
    if len(averages) > MOST_AVERAGES:
        raise FileError(source, "", f"must hold at most {MOST_AVERAGES:,} statistics lines that tell an iteration")


def _nothing(decode_lines: int, iteration_lines: int) -> str:
    """What was found instead of a batch, and what to do about it."""
    if decode_lines:
        return (f"holds no batches: {decode_lines:,} decode line{'s were' if decode_lines > 1 else ' was'} found, none "
                "after one with the same #running-req, a smaller #token and no prefill between: log with "
                "--decode-log-interval 1")
    if iteration_lines:
        return f"holds no batches: {iteration_lines:,} iteration lines were found, all of them dummy iterations"
    return ("must be a CSV file with the columns num_decode, kv_tokens_decode, num_prefill, prefill_tokens and "
            f"batch_time_s, or a log of vLLM or SGLang with iterations in it ({ADVICE}; SGLang with "
            "--decode-log-interval 1)")


def _refuse_averages(source: str, statistics: VllmStatistics, averages: list[Row], size: int) -> None:
    problem = ""
    if statistics.speculative:
        problem = f"statistics lines {_SPECULATIVE}"
    elif averages and not size:
        problem = ('must hold the line "GPU KV cache size: ... tokens" that vLLM writes when it starts, before its '
                   f"statistics, or the iterations: {ADVICE}")
    elif len(averages) < ENOUGH:
        problem = (f"holds {len(averages) or 'no'} batches that can be told, of {ENOUGH} at least: "
                   f"{statistics.lines:,} statistics lines of vLLM were found, and an iteration's time follows only "
                   f"where two in a row have no prompt throughput and the same Running, or nearly: {ADVICE}")
    if problem:
        raise FileError(source, "", problem)


class _SGLang:
    """(requests, tokens) of the last line of each data-parallel rank, if that was a decode and not a prefill."""

    def __init__(self) -> None:
        self.before: dict[str, tuple[int, int]] = {}
        self.lines = 0

    def read(self, line: str) -> Sequence[float] | str | None:
        """The mean iteration since the decode line before, where one can be derived."""
        match = _DECODE.search(line) if "Decode batch" in line else None
        if match is None:
            if "Prefill batch" in line and _PREFILL.search(line):
                self.before.pop(_rank(line), None)
            return None
        held_now = _TOKENS.search(line, match.end())
        speed = _THROUGHPUT.search(line, held_now.end()) if held_now else None
        if held_now is None or speed is None:
            return None
        rank = _rank(line[: match.start()])
        self.lines += 1
        if "accept len" in line:
            return f"#running-req {_SPECULATIVE}"
        running, held_tokens = whole_number("#running-req", match[1]), whole_number("#token", held_now[1])
        throughput = decimal("gen throughput", speed[1])
        requests, held = self.before.get(rank, (0, 0))
        self.before[rank] = running, held_tokens
        if running != requests or held_tokens <= held or not throughput:
            return None
        return running, (held_tokens + held + running) // 2, 0, 0, running / throughput


def _rank(text: str) -> str:
    """The data-parallel rank that a line names first; "" where it names none."""
    match = _RANK.search(text)
    return match[1] if match else ""


class _VLLM:
    """The size of the KV cache in tokens, once a line of the log has stated it; 0 before."""

    def __init__(self, source: str) -> None:
        self.source, self.size, self.lines, self.asynchronous = source, 0, 0, False

    def read(self, line: str) -> Sequence[float] | str | None:
        """The iteration of a line, less dummy ones; raises FileError where the log does not tell its KV or time."""
        if "GPU KV cache size" in line and (size := _SIZE.search(line)):
            self.size = whole_number("GPU KV cache size", size[1].replace(",", ""), found=size[1])
        self.asynchronous = self.asynchronous or "Asynchronous scheduling is enabled" in line
        match = _ITERATION.search(line) if "Iteration(" in line else None
        self.lines += match is not None
        if match is None or "(dummy)" in line:
            return None
        self._refuse(usage=match[6])
        prefills, prompt, decodes, generated = (whole_number(name, match[i]) for i, name in enumerate(_COUNTED, 1))
        if generated != decodes:
            return f"generation tokens {_SPECULATIVE}"
        read = round(decimal("GPU KV cache usage", match[6]) / 100 * self.size)
        seconds = decimal("iteration elapsed time", match[5]) / 1000
        return decodes, max(read - prompt, decodes), prefills, prompt, seconds

    def _refuse(self, usage: str | None) -> None:
        if self.asynchronous:
            raise FileError(self.source, "", "must be logged with --no-async-scheduling (under asynchronous scheduling "
                                             "the elapsed times are waits, not iterations)")
        if usage is None:
            raise FileError(self.source, "", "must have the GPU KV cache usage in its iteration lines (this version of "
                                             "vLLM leaves it out: see the recorder in fluid.calibration.engine_logs)")
        if not self.size:
            raise FileError(self.source, "", 'must hold the line "GPU KV cache size: ... tokens" that vLLM writes when '
                                             "it starts, before the iterations")
