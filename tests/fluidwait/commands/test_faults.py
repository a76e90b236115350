"""What goes wrong around the command: full disks, closed streams, Ctrl-C, odd names, settings of others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import ONE_TYPE, written

import fluidwait.commands.deployments
from fluidwait.__main__ import TRACEBACK, UNFORESEEN, status

SMALL = ONE_TYPE.format(rate=100.0)
QUICKLY = """
import sys
from fluidwait.__main__ import main
from verification.experiments import trials
trials.REQUESTS //= 100
main(sys.argv[1:])
"""
FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
""" + QUICKLY
QUICK = ["--horizon", "20", "--replications", "2"]


def command(*arguments: object, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with short trials."""
    return subprocess.run([sys.executable, "-c", QUICKLY, *map(str, arguments)], capture_output=True, text=True,
                          check=False, **keywords)


@pytest.mark.parametrize("traceback", [False, True])
def test_what_nobody_foresaw_is_one_line_and_a_status_of_its_own(
        traceback: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1 says that the answer is no: an error of ours is 3, and its traceback is shown where it is asked for."""
    def fails(*_: object) -> None:
        raise ZeroDivisionError("no\nsense\x1b[31m")

    monkeypatch.setattr(fluidwait.commands.deployments, "solve", fails)
    monkeypatch.setenv(TRACEBACK, "1" if traceback else "")
    assert status(["solve"]) == UNFORESEEN
    found = capsys.readouterr()
    last = found.err.splitlines()[-1]
    assert last.startswith("fluidwait: unforeseen ZeroDivisionError: no\\nsense\\x1b[31m; ")
    assert ("Traceback" in found.err) == traceback
    assert found.out == ""


@pytest.mark.parametrize("arguments", [("run", *QUICK, "--out"), ("thresholds", "--install", "gateway", "--out")])
def test_a_full_disk_leaves_nothing_half_written(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Files of at most a kilobyte: one line that names one of the files, status 2, and no file."""
    deployment, out = written(tmp_path, SMALL), tmp_path / "out"
    run = subprocess.run([sys.executable, "-c", FULL.format(size=1000), arguments[0], str(deployment), *arguments[1:],
                          str(out)], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stdout == ""
    assert f"{out}{os.sep}" in run.stderr
    assert run.stderr.endswith("cannot be written: File too large\n")
    assert os.listdir(out) == []


def test_an_example_that_was_not_written_can_be_written_again(tmp_path: Path) -> None:
    """`init` on a full disk leaves no empty file that a second `init` would refuse to replace."""
    file = tmp_path / "mine.toml"
    run = subprocess.run([sys.executable, "-c", FULL.format(size=100), "init", str(file)], capture_output=True,
                         text=True, check=False)
    assert run.returncode == 2
    assert not file.exists()
    assert status(["init", str(file)]) == 0


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_stream_takes_nothing_from_the_other(closed: int, tmp_path: Path) -> None:
    """With standard error closed a refusal goes nowhere, not into the report; with standard output closed likewise."""
    streams = {name: None if number == closed else subprocess.PIPE for number, name in ((1, "stdout"), (2, "stderr"))}
    run = subprocess.run([sys.executable, "-m", "fluidwait", "solve", tmp_path / "none.toml"], **streams, text=True,
                         check=False, preexec_fn=lambda: os.close(closed))
    assert run.returncode == 2
    if closed == 2:
        assert run.stdout == ""
    else:
        assert run.stderr.startswith("fluidwait: ")


@pytest.mark.parametrize("after", [0.15, 0.4, 0.8])
def test_an_interrupt_while_the_program_is_loaded_is_one_line(after: float) -> None:
    """Ctrl-C in the first seconds: no traceback, status 130 (or the command was done already)."""
    code = ("import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # whoever ignores it around us
            "from fluidwait.__main__ import main; print('here', flush=True); main(['run'])")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "fluidwait: interrupted"


def test_an_interrupt_that_a_library_turned_into_its_own_error_is_one(monkeypatch: pytest.MonkeyPatch,
                                                                      capsys: pytest.CaptureFixture[str]) -> None:
    """As where it hits the import of a compiled module: status 130, not an unforeseen fault."""
    def interrupted(_: list[str]) -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemError("initialization failed") from None

    monkeypatch.setattr("fluidwait.__main__._status", interrupted)
    assert status(["run"]) == 130
    assert capsys.readouterr().err == "fluidwait: interrupted\n"


def test_names_with_escape_sequences_are_printed_as_escapes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file's name may hold what moves a terminal's cursor: it is shown, not obeyed, also on standard output."""
    odd = tmp_path / "a\x1b[31mb"
    odd.mkdir()
    deployment = written(odd, SMALL)
    assert status(["run", str(deployment), *QUICK, "--out", str(odd / "out")]) in (0, 1)
    assert status(["init", str(odd / "new.toml")]) == 0
    found = capfd.readouterr()
    assert "\x1b[31m" not in found.out + found.err
    assert "\\x1b[31m" in found.out


def test_figures_do_not_depend_on_the_settings_around_them(tmp_path: Path) -> None:
    """Two runs, one beside a matplotlibrc of somebody else's: the same bytes in every file."""
    deployment = written(tmp_path, SMALL)
    for name, settings in (("plain", ""), ("loud", "axes.facecolor: red\nfont.size: 30\nsvg.hashsalt: other\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "matplotlibrc").write_text(settings)
        run = command("run", deployment, *QUICK, "--out", "out", cwd=tmp_path / name)
        assert run.returncode in (0, 1), run.stderr
    plain, loud = ({each.name: each.read_bytes() for each in (tmp_path / name / "out").iterdir()}
                   for name in ("plain", "loud"))
    assert {"batch.svg", "kv.svg", "kv.png", "report.json"} <= set(plain)
    assert plain == loud


@pytest.mark.parametrize(("arguments", "said"), [
    (("verify", "--horizon", "1e-307"), "--horizon must be a number of seconds from 1e-09 to 1e+12 (got 1e-307)"),
    (("verify", "--horizon", "1e308"), "--horizon must be a number of seconds from 1e-09 to 1e+12 (got 1e+308)"),
    (("verify", "--horizon", "1e-6"), "--horizon must be 0.001 seconds at least, in which a request arrives at 100 "
                                      "requests/s (got 1e-06)"),
    (("verify", "--horizon", "１０"), "Invalid value for '--horizon': must be a number (got '１０')"),
    (("verify", "--replications", "１０"), "Invalid value for '--replications': must be a whole number (got '１０')"),
    (("sweep", "--policies", "greedy", "--rates", "1e300"),
     "--rates must be a number of requests/s from 1e-09 to 1e+12 (got 1e+300)"),
    (("sweep", "--policies", "greedy", "--rates", "1e-9,1"),
     "--horizon must be 1e+08 seconds at least, in which a request arrives at 1e-09 requests/s (got 3600.0)"),
    (("capacity", "--precision", "1e-16"),
     '--precision must be a share from 0.01% to below 1, as "2%" or "0.02" (got 1e-16)'),
])
def test_numbers_that_answer_nothing_are_refused(arguments: tuple[str, ...], said: str, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    """Too small or too large for any machine, so short that nothing arrives, so precise that no search ends."""
    name, *flags = arguments
    assert status([name, str(written(tmp_path, SMALL)), *flags]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err == f"fluidwait: {said}\n"


@pytest.mark.parametrize("command_line", [("verify", "--policy", "greedy"), ("run",),
                                          ("sweep", "--policies", "greedy,paced", "--rates", "0.1")])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_in_which_nothing_arrives_says_nothing_false(seed: int, command_line: tuple[str, ...], tmp_path: Path,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    """A request every ten seconds, two runs of six: in none or one of them comes a request, no number is "nan", no
    prediction "differs" from it.
    """
    deployment = written(tmp_path, SMALL.replace("100.0", "0.1"))
    assert status([command_line[0], str(deployment), *command_line[1:], "--horizon", "6", "--replications", "2",
                   "--seed", str(seed)]) in (0, 1)
    out = capsys.readouterr().out
    assert "nan" not in out
    assert "differs" not in out
