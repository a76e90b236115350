"""Compiled code: kept on disk, never older than the sources it is made of, and no hindrance to an upgrade in place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fluid import compiled

RULE = """
from typing import NamedTuple
from fluid.compiled import jit
from thresholds.{module} import State, STEP
@jit
def advance(state):
    return state.now + STEP
def run():
    return advance(State(1))
"""
STATE = """
from typing import NamedTuple
import fluid.compiled
STEP = {step}
class State(NamedTuple):
    now: int
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A small installation of two files that compile, with a `fluid.compiled` of its own."""
    for room in (*compiled.ROOMS, "fluid/files"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").touch()
    for name in ("compiled.py", "files/kept_code.py"):
        shutil.copy(Path(compiled.__file__).parent / name, tmp_path / "fluid" / name)
    write(tmp_path, "state", 1)
    return tmp_path


def write(root: Path, module: str, step: int) -> None:
    """The rule, and the state it works on in a module of that name."""
    (root / "thresholds" / "rule.py").write_text(RULE.format(module=module))
    (root / "thresholds" / f"{module}.py").write_text(STATE.format(step=step))


def run(root: Path, **environment: str) -> int:
    """What the rule answers in a process of its own."""
    code = "from thresholds.rule import run; print(run())"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "PYTEST"))}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root,
                           env={**kept, "PYTHONPATH": str(root), **environment})
    return int(found.stdout)


def code_of(root: Path) -> set[Path]:
    """The files of compiled code below a folder."""
    return set(root.rglob("*.nbc"))


def test_an_upgrade_in_place_that_moves_a_type_runs(installed: Path) -> None:
    """The code of the version before names a module that is gone; its rule's file need not even change."""
    assert run(installed) == 2
    assert code_of(installed / "fluid" / "__pycache__")
    (installed / "thresholds" / "state.py").unlink()
    write(installed, "moved", 1)
    assert run(installed) == 2


def test_an_edit_of_a_file_that_a_kernel_takes_a_number_from_is_seen(installed: Path) -> None:
    """The kernel's own file stays as it is."""
    assert run(installed) == 2
    write(installed, "state", 10)
    assert run(installed) == 11


def test_code_is_compiled_once_for_the_same_sources(installed: Path) -> None:
    """A file that compiles nothing may change."""
    run(installed)
    kept = code_of(installed)
    (installed / "thresholds" / "report.py").write_text("TITLE = 'Delays'")
    run(installed)
    assert code_of(installed) == kept


def test_code_lies_where_the_user_says(installed: Path, tmp_path: Path) -> None:
    """NUMBA_CACHE_DIR is obeyed."""
    place = tmp_path / "elsewhere"
    assert run(installed, NUMBA_CACHE_DIR=str(place)) == 2
    assert code_of(place) == code_of(installed)


def test_without_a_place_the_code_is_compiled_anew(installed: Path) -> None:
    """No folder can be made below a file."""
    nowhere = installed / "nowhere"
    nowhere.touch()
    assert run(installed, NUMBA_CACHE_DIR=str(nowhere)) == 2
    assert not code_of(installed)


def test_code_of_other_sources_goes_after_a_day(tmp_path: Path) -> None:
    """That of today may be in use by another version beside this one."""
    for name in ("compiled-old", "compiled-new", "compiled-mine"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "compiled-old", (0, 0))
    os.utime(tmp_path / "compiled-mine", (0, 0))
    compiled._forget(tmp_path, "compiled-mine")
    assert {path.name for path in tmp_path.iterdir()} == {"compiled-new", "compiled-mine"}
