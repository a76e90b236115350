"""Reports on terminals that show ASCII alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fluidwait.signs import SIGNS, in_ascii


def test_every_sign_has_one_in_ascii() -> None:
    """And the eight heights of a sparkline have eight."""
    assert all(each.isascii() for each in SIGNS.values())
    assert len(set(in_ascii("▁▂▃▄▅▆▇█"))) == 8


@pytest.mark.parametrize("setting", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX"}])
@pytest.mark.parametrize("command", [["trace", "examples/requests.csv"], ["calibrate", "examples/batches.csv"],
                                     ["--help"]])
def test_reports_are_written_in_ascii(command: list[str], setting: dict[str, str]) -> None:
    """No character is lost, none is asked for that is not there, and lines stay as long as they may be."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("LC_")}
    ran = subprocess.run([sys.executable, "-m", "fluidwait", *command], env={**plain, "COLUMNS": "80", **setting},
                         capture_output=True, check=True)
    lines = ran.stdout.decode("ascii").split("To paste")[0].splitlines()
    assert "?" not in "".join(lines).replace("it?", "")
    assert max(map(len, lines)) <= 80
    assert ran.stderr == b""
