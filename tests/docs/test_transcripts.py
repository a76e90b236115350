"""The commands that pages show print what the pages say they print.

A transcript is a fenced block "console": a line "$ fluidwait ...", then lines of its output; "..." stands for lines
left out, and what is quoted may be the part of a line. White space is not compared, for tables and lines are broken by
the width of the terminal. Those marked <!-- slow --> are run with `pytest -m slow`.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fluidwait.__main__ import status

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"(<!-- slow -->\n)?^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def transcripts() -> list[object]:
    """Each command with what is quoted of its output, by page."""
    found: list[object] = []
    for page in PAGES:
        for slow, block in BLOCK.findall(page.read_text(encoding="utf-8")):
            command, _, quoted = block.partition("\n")
            found.append(pytest.param(command.removeprefix("$ fluidwait "), quoted, id=f"{page.stem}: {command[12:]}",
                                      marks=pytest.mark.slow if slow else ()))
    return found


@pytest.mark.parametrize(("command", "quoted"), transcripts())
def test_commands_print_what_pages_quote(command: str, quoted: str, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    """The parts of the output that are quoted stand in it, in their order."""
    monkeypatch.chdir(ROOT)
    status(shlex.split(command))
    printed, at = "".join(capsys.readouterr().out.split()), 0
    for part in re.split(r"^\.\.\.$", quoted, flags=re.MULTILINE):
        words = "".join(part.split())
        assert words in printed[at:], part
        at = printed.index(words, at) + len(words)
