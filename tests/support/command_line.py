"""The command as tests run it: a file to read, the object it answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fluidwait.__main__ import status

ONE_TYPE = """
[replica]
kv_capacity = 137000
[replica.iteration_time]
overhead = 0.0106
per_kv_token = 4.013e-7
[[workload.type]]
name = "chat"
prompt_tokens = 512
output_tokens = 20
rate = {rate}
"""

# M/D/1 of 100 requests/s
ONE_SERVER = """
[replica]
kv_capacity = 10
max_num_seqs = 1
first_token = "prefill"
[replica.iteration_time]
overhead = 0.01
per_kv_token = 0.0
[[workload.type]]
prompt_tokens = 5
output_tokens = 1
rate = {rate}
"""


def written(folder: Path, text: str) -> Path:
    """The text as a deployment file."""
    path = folder / "mix.toml"
    path.write_text(text, encoding="utf-8")
    return path


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit status and the JSON object of a command; standard output must hold nothing else."""
    code = status([str(argument) for argument in arguments] + ["--json"])
    return code, json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
