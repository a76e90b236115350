"""The check of certificates in the documentation: it holds for what `certify` writes, and fails on changed numbers."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fluidwait.__main__ import status

PAGE = Path(__file__).resolve().parents[2] / "docs" / "certificates.md"
ALONE = ('\nnames = ("fluid", "fluidwait", "thresholds", "verification")\n'
         'assert not any(module.partition(".")[0] in names for module in sys.modules)\n')
LINES = "[replica.iteration_time]\noverhead = 0.0106\nper_kv_token = 4.013e-7\n"
TWO_LINES = ("[replica.iteration_time]\npieces = [ { overhead = 0.0101, per_kv_token = 2.5e-7 }, "
             "{ overhead = 0.0089, per_kv_token = 2.5e-7, per_prefill_token = 5.8e-5, per_sequence = 5.8e-5 } ]\n")


def kind(prompt: int, output: int, rate: float, more: str = "") -> str:
    """A type of a deployment file."""
    return f"[[workload.type]]\nprompt_tokens = {prompt}\noutput_tokens = {output}\nrate = {rate}\n{more}"


UNKNOWN = "[workload]\nlengths = \"unknown\"\n"
OUTPUTS = "".join(kind(64, output, rate) for output, rate in ((10, 8.0), (40, 4.0), (160, 2.0), (600, 0.5)))
DEPLOYMENTS = {
    "law": None,
    "known": ("[replica]\nkv_capacity = 60000\nmax_num_seqs = 128\nmax_num_batched_tokens = 2048\nblock = 16\n"
              "prefill = { chunk = 256 }\nfirst_token = \"prefill\"\n" + TWO_LINES + kind(1000, 60, 1.0)
              + kind(100, 300, 1.0)),
    "unknown": "[replica]\nkv_capacity = 40000\n" + LINES + UNKNOWN + OUTPUTS,
    "layers": ("[replica]\nkv_capacity = 60000\nattention_window = 128\nblock = 16\n" + LINES
               + UNKNOWN + OUTPUTS),
    "packed": "[replica]\nkv_capacity = 1001\n" + LINES + kind(500, 300, 0.1) + kind(520, 100, 0.1),
    "apart": ("[replica]\nkv_capacity = 500000\nprefill = { chunk = 4096 }\n[replica.iteration_time]\npieces = [ "
              "{ overhead = 0.01, per_kv_token = 4e-7 }, { overhead = 0.01, per_kv_token = 0.0, "
              "per_prefill_token = 1e-4 } ]\n" + kind(8000, 5, 0.3) + kind(1, 200, 30.0) + kind(300, 20, 1.0)),
    "decode": "[replica]\nkv_capacity = 9000\nprefill = \"decode-only\"\nblock = 16\n" + LINES + kind(700, 50, 1.0),
}
SETS = {"law": (), "known": ("--rates-within", "10%"), "unknown": ("--rates-within", "20%", "--set", "ellipsoid"),
        "layers": (), "packed": ("--rates-within", "5%"),
        "apart": ("--rates-within", "5%"), "decode": (), "trace": ("--rates-within", "5%"),
        "counts": ("--set", "ellipsoid", "--confidence", "99%"), "drawn": ("--set", "bootstrap")}


def trace(folder: Path) -> Path:
    """300 requests of some length pairs."""
    generator = np.random.default_rng(0)
    prompt, output = generator.choice([50, 200, 900], 300), generator.choice([5, 20, 80, 200], 300)
    rows = zip(np.arange(300) * 0.25, prompt, output, strict=True)
    path = folder / "trace.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n"
                    + "".join(f"2024-05-10 00:{int(at // 60):02}:{at % 60:05.2f},{a},{b}\n" for at, a, b in rows))
    return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What `certify --out` writes, by name."""
    folder, made = tmp_path_factory.mktemp("certificates"), {}
    for name, flags in SETS.items():
        file = [] if DEPLOYMENTS.get(name, "") is None else [str(folder / f"{name}.toml")]
        if DEPLOYMENTS.get(name):
            Path(file[0]).write_text(str(DEPLOYMENTS[name]), encoding="utf-8")
        elif name not in DEPLOYMENTS:
            file = [str(trace(folder))]
        out = folder / f"{name}.json"
        assert status(["certify", *file, *flags, "--out", str(out)]) in (0, 1)
        made[name] = json.loads(out.read_text(encoding="utf-8"))
    return made


def check(heading: str = "## The check") -> str:
    """The lines of the page under a heading."""
    text = PAGE.read_text(encoding="utf-8").split(heading, 1)[1].split("\n## ", 1)[0]
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


@pytest.fixture(scope="module")
def compiled() -> Any:
    """The same, compiled once."""
    return compile(check(), "check.py", "exec")


def verdict(compiled: Any, certificate: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the check says of a certificate: "" where it holds."""
    path = tmp_path / "certificate.json"
    path.write_text(json.dumps(certificate), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["check.py", str(path)])
    try:
        with np.errstate(all="ignore"):
            exec(compiled, {})
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all numbers in an object."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from numbers(each, (*path, key))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from numbers(each, (*path, place))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def changed(certificate: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """The certificate with one number changed: a whole one by 1, another by a thousandth."""
    made = copy.deepcopy(certificate)
    place: Any = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] += 1 if isinstance(place[path[-1]], int) else 1e-3 * (place[path[-1]] or 1.0)
    return made


@pytest.mark.parametrize("name", SETS)
def test_certificates_hold(name: str, certificates: dict[str, dict[str, Any]], compiled: Any, tmp_path: Path,
                           monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's lines recompute every claim of certificates for all kinds of replicas, lengths and sets."""
    assert verdict(compiled, certificates[name], tmp_path, monkeypatch) == ""
    assert capsys.readouterr().out == f"holds: {certificates[name]['reason']}\n"


def test_the_check_needs_nothing_of_ours(certificates: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """In a process of its own it loads none of our packages, and holds."""
    (tmp_path / "check.py").write_text(check() + ALONE, encoding="utf-8")
    (tmp_path / "certificate.json").write_text(json.dumps(certificates["known"]), encoding="utf-8")
    done = subprocess.run([sys.executable, "-I", "check.py", "certificate.json"], cwd=tmp_path, capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("holds: windows carry")


def test_twenty_lines_check_both_ends(certificates: dict[str, dict[str, Any]], tmp_path: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """The short check holds for known lengths and one line, and not where a rate, a window or the cache is changed."""
    short = check("## Both ends in twenty lines")
    assert len([line for line in short.splitlines() if line and not line.startswith("#")]) <= 22
    ends = compile(short, "ends.py", "exec")
    for name in ("law", "decode"):
        certificate = certificates[name]
        assert verdict(ends, certificate, tmp_path, monkeypatch) == ""
        for path in (("types", "rate", 0), ("replica", "kv_capacity"), ("below", 0, "entries", 0),
                     ("below", 0, "iterations", 0), ("below", 0, "kv_bound"), ("below", 0, "factor"),
                     ("above", 0, "factor"), ("replica", "lines", 0, 0), ("types", "decode_stages", 0)):
            assert "AssertionError" in verdict(ends, changed(certificate, path), tmp_path, monkeypatch)


PROVED = ("rate", "below_factor", "above_factor", "gap", "types", "below", "above", "iteration_time")
REPLICA, WORST = ("kv_capacity", "lines", "block"), ("below", "above", "within", "high", "deviations")


def proves(path: tuple[Any, ...]) -> bool:
    """Whether claims rest on a number: on limits that do not bind, or chunks of whole prefills, they do not.

    Other offsets and multipliers may prove the same.
    """
    other = path[1:2] == ("chunk",) or "offsets" in path or "prices" in path
    return (path[0] in PROVED and not other) or (path[0] == "replica" and path[1] in REPLICA) or (
        path[0] == "uncertainty" and path[1] in WORST)


@pytest.mark.parametrize("name", ["law", "known", "unknown", "packed", "apart"])
def test_a_changed_number_is_found(name: str, certificates: dict[str, dict[str, Any]], compiled: Any, tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number that proves something, changed by a little, makes the check say so."""
    certificate = certificates[name]
    tried = [path for path in numbers(certificate) if proves(path)]
    assert len(tried) > 25
    assert [path for path in tried if not verdict(compiled, changed(certificate, path), tmp_path, monkeypatch)] == []


def test_a_window_that_overflows_is_found(certificates: dict[str, dict[str, Any]], compiled: Any, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry more, with the bound it has, is said to overflow; so is a chance that is told too small."""
    wide = copy.deepcopy(certificates["known"])
    wide["below"][0]["kv_bound"] = wide["replica"]["kv_capacity"] + 1
    wide["below"][0]["entries"][0] += 50
    assert "KV tokens" in verdict(compiled, wide, tmp_path, monkeypatch)
    small = copy.deepcopy(certificates["unknown"])
    small["below"][1]["overflow_probability"] *= 0.5
    assert "chance of an overflow" in verdict(compiled, small, tmp_path, monkeypatch)


def test_prices_that_prove_too_much_are_found(certificates: dict[str, dict[str, Any]], compiled: Any, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Multipliers that no batch pays for, other lines, or more KV with a prefill than it has: each is said."""
    above = certificates["apart"]["above"][1]
    assert above["limit"] == "prices"
    assert above["factor"] < certificates["apart"]["above"][0]["factor"]
    for path, factor in ((("classes", 0, "kv_sequence_token", 0), 1.01), (("lines", 0, 0), 1.01),
                         (("demand", "read_each", 0), 1.01), (("prices", "kv_read"), 1.01),
                         (("demand", "sizes", 0), 2.0)):
        made = copy.deepcopy(certificates["apart"])
        place = made["above"][1]["prices"]
        for key in path[:-1]:
            place = place[key]
        assert place[path[-1]] > 0
        place[path[-1]] *= factor
        assert "AssertionError" in verdict(compiled, made, tmp_path, monkeypatch), path


def test_the_packing_is_what_proves_where_requests_are_large(certificates: dict[str, dict[str, Any]]) -> None:
    """Requests of half the cache: never two together at their last stages, which the fluid limit does not know."""
    above = certificates["packed"]["above"]
    assert above[1]["limit"] == "packing"
    assert above[1]["factor"] < above[0]["factor"]
    assert certificates["packed"]["above_factor"] == above[1]["factor"]


@pytest.mark.parametrize(("seed", "number"), [(0, 12), pytest.param(1000, 400, marks=pytest.mark.slow)])
def test_certificates_of_random_deployments_hold(seed: int, number: int) -> None:
    """Whatever the replica, the lengths and the set of rates; and nothing is carried that is said to be impossible."""
    program = PAGE.parents[1] / "benchmarks" / "random_certificates.py"
    done = subprocess.run([sys.executable, program, "--number", str(number), "--seed", str(seed)], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"do not hold: 0 of {number};" in done.stdout
