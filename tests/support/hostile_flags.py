"""Values that nobody should give a flag: for every flag of every command, at random from a seed.

The flags are those that the commands themselves name, so that a new one is tested without a word here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import typer

from fluidwait.commands.app import app

NUMBERS = ("", " ", "nan", "inf", "-inf", "-1", "0", "-0.0", "1e-320", "5e-324", "1e-16", "1e-9", "1e308", "1e309",
           "1" + "0" * 400, "-" + "9" * 5000, "9007199254740993", "2147483648", "0.5.5", "1_000", "0x10", "1e", "5 s",
           " 5 ", "²", "１２", "٣", "2%", "0%", "-3%", "100%", "200%", "1e400%", "nan%", "%", "1,5", "1;5", "None",
           "true", "1+1", "()", "[1]", "1e-7", "0.3", "3")
LISTS = (",", ",,,", "5,", ",5", "5,,10", "5,10,", "5,5", "10,5", "5,nan", "5,-1", "0,5", ":", "::", "1:2", "1:2:0",
         "1:2:-1", "2:1:1", "1:1e9:1e-9", "1:2:nan", "1:inf:1", "nan:2:1", "1:2:3:4", "1e-320:1e-319:1e-320", "5:5:1",
         "1,2:3:1", "5,1e300", "1" * 3000, "5," * 20_000 + "5", "greedy", "greedy,greedy", "greedy,,paced", "nobody",
         "auto", "GREEDY", "greedy;paced", " greedy , paced ", "paced,look-ahead,nested,wait", "vllm-v1,mc-sf")
NAMES = ("-", "--", ".", "..", "/", "/dev/null", "/dev/full", "/proc/self/mem", "/proc/self/environ", "missing/at/all",
         "x" * 300, "x/" * 3000, "a\x1b[31mb", "a\nb", "\ud800", "🙂", "~", "$HOME", "*", "a'b\"c", "tcp://", "tls://127.0.0.1:1",
         "ucx://127.0.0.1:1", "inproc://", "127.0.0.1:1", "tcp://127.0.0.1:0", "tcp://[::1", "http://127.0.0.1:1",
         "vllm", "gateway", "sglang", "--json", "--help ")
NEEDED = {"sweep": ["--rates", "1,2", "--policies", "greedy"]}
QUICK = {"--horizon": "20", "--replications": "2"}


def hostile_flags(seed: int, number: int, deployment: str, batches: str, trace: str) -> Iterator[list[str]]:
    """So many lists of arguments: a command, one to three flags with hostile values, its good file or a hostile one."""
    random_ = random.Random(seed)
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    good = {"trace": trace, "calibrate": batches}
    for _ in range(number):
        name = random_.choice(sorted(commands))
        options = [each for each in commands[name].params if each.param_type_name == "option"]
        valued = [each.opts[0] for each in options if not each.is_flag]
        chosen = random_.sample(valued, min(len(valued), random_.choice((1, 1, 2, 3))))
        flags = {flag: _value(random_) for flag in chosen}
        quick = {flag: value for flag, value in QUICK.items() if flag in valued}
        needed = NEEDED.get(name, [])
        given = dict(zip(needed[::2], needed[1::2], strict=True)) | quick | flags
        file = good.get(name, deployment) if random_.random() < 0.85 else random_.choice(NAMES)
        files = [] if name == "init" else [file]
        switches = [each.opts[0] for each in options if each.is_flag and random_.random() < 0.15]
        pairs = [f"{flag}={value}" for flag, value in given.items() if random_.random() < 0.97]
        yield [name, *files, *pairs, *switches]


def _value(random_: random.Random) -> str:
    kind = random_.random()
    if kind < 0.5:
        return random_.choice(NUMBERS)
    if kind < 0.75:
        return random_.choice(LISTS)
    if kind < 0.9:
        return random_.choice(NAMES)
    alphabet = "0123456789.-+eE%,:; \tnaif_²\x00\x7f٣é"
    return "".join(random_.choices(alphabet, k=random_.randint(1, 12))).replace("\x00", "")
