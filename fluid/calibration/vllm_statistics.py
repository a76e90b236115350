"""Iterations from the statistics that vLLM writes every ten seconds, where those determine one.

    Engine 000: Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 519.5 tokens/s, Running: 8 reqs,
    Waiting: 0 reqs, GPU KV cache usage: 8.8%, Prefix cache hit rate: 0.0%

Throughputs are means since the line before of the same engine; Running and usage are of the moment. In a window without
prompt tokens every request that runs makes one token an iteration, so exactly

    mean iteration = mean Running over the window's iterations / generation throughput

but the window's mean Running is not in the log. It is known where two lines without prompt throughput follow each other
and Running hardly moves between them: by at most a twentieth, which is then the most that the time is off by. Rows are

    seconds = Running / throughput,    KV = usage x "GPU KV cache size: ... tokens"

KV the mean of the two usages where Running is the same in both (the cache fills steadily between), the line's own where
it moved; to 0.1% of the size, and in whole blocks. Asynchronous scheduling does not matter to a mean over ten seconds.
What such lines cannot say: an iteration that prefills (per_prefill_token is not told), the spread of times (outliers
are averaged away), idle time (a window in which nothing runs for a while gives too long an iteration: a steady Running
on both its ends speaks against it). Speculative decoding makes several tokens a request: such logs are refused.

Read in vLLM's sources: `v1/metrics/loggers.py` (LoggingStatLogger), `v1/spec_decode/metrics.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fluid.files.log_numbers import NUMBER, WHOLE, decimal, whole_number

STEADY = 0.05  # of Running: the most that it may move between two lines
ADVICE = "start vLLM with --enable-logging-iteration-details --no-async-scheduling for a row of every iteration"

_LINE = re.compile(rf"Avg prompt throughput: {NUMBER} tokens/s, Avg generation throughput: {NUMBER} tokens/s, "
                   rf"Running: {WHOLE} reqs, ", re.ASCII)
_USAGE = re.compile(rf"GPU KV cache usage: {NUMBER}%", re.ASCII)
_ENGINE = re.compile(r"Engine (\d{1,4})\b", re.ASCII)


class VllmStatistics:
    """The statistics lines of a log so far: how many, and of each engine the last without prompt throughput."""

    def __init__(self) -> None:
        self.lines, self.speculative = 0, False
        self.before: dict[str, tuple[int, float]] = {}  # Running and usage

    def read(self, line: str, size: int) -> Sequence[float] | None:
        """The mean iteration since the line before, where one can be derived, in a cache of `size` tokens."""
        self.speculative = self.speculative or "SpecDecoding metrics" in line
        match = _LINE.search(line) if "Avg prompt throughput" in line else None
        used = _USAGE.search(line, match.end()) if match else None
        if match is None or used is None:
            return None
        self.lines += 1
        engine = str(_ENGINE.findall(line[: match.start()])[-1:])
        throughput = decimal("Avg generation throughput", match[2])
        running, usage = whole_number("Running", match[3]), decimal("GPU KV cache usage", used[1]) / 100
        before = self.before.pop(engine, None)
        if decimal("Avg prompt throughput", match[1]) > 0 or not running:
            return None
        self.before[engine] = running, usage
        if before is None or not throughput or abs(running - before[0]) > STEADY * max(running, before[0]):
            return None
        share = (usage + before[1]) / 2 if running == before[0] else usage
        return running, max(round(share * size), running), 0, 0, running / throughput
