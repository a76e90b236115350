"""The pages say what the program says: generated parts, policies, keys of JSON, the Python names, links."""

from __future__ import annotations

import re
import runpy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from command_line import ONE_TYPE, answer, written

from fluidwait.deployment.policy_names import POLICIES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PACKAGES = ("fluid", "fluid.planning", "fluid.symbolic", "fluid.uncertainty", "thresholds", "verification",
            "verification.asymptotics", "verification.rounds", "verification.hindsight", "fluidwait")
PACED = ("--policy", "paced")
SHORT = ("--replications", "2", "--horizon", "60")


@pytest.fixture(scope="module")
def generated() -> dict[str, Any]:
    """The names of docs/generated.py."""
    return runpy.run_path(str(DOCS / "generated.py"))


def test_generated_parts_are_fresh(generated: dict[str, Any]) -> None:
    """What is stored is what the program says; `python docs/generated.py` writes it anew."""
    found = list(generated["pages"]())
    assert {path.stem for path, _ in found} == {"command-line", "deployment-file", "replicas"}
    for path, text in found:
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python docs/generated.py"


def test_every_key_has_a_meaning(generated: dict[str, Any]) -> None:
    """The last column of the table of keys, written by hand, is empty nowhere."""
    rows = list(generated["_cells"]((DOCS / "deployment-file.md").read_text(encoding="utf-8")))
    assert len(rows) > 50
    assert [row[0] for row in rows if len(row) != 4 or not row[3]] == []


def test_every_policy_has_a_row() -> None:
    """The table of policies names those of the command line, all of them and no other."""
    text = (DOCS / "policies.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w[\w-]*)` \|", text, re.MULTILINE)) == set(POLICIES) - {"auto"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_in_the_reference(package: str) -> None:
    """Each name that a package gives out is described in one place."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    described = re.findall(rf"auto(?:class|function|data):: {re.escape(package)}\.(\w+)$", text, re.MULTILINE)
    assert sorted(described) == sorted(import_module(package).__all__)


@pytest.mark.parametrize("command", [
    ("solve",), ("thresholds", *PACED), ("verify", *PACED, *SHORT), ("run", *SHORT),
    ("sweep", "--policies", "paced", "--rates", "5", *SHORT),
    ("plan",), ("certify",), ("knobs", "--horizon", "30", "--replications", "2"),
    ("capacity", *PACED, *SHORT, "--precision", "50%")], ids=lambda command: command[0])
def test_json_has_the_keys_of_the_page(command: tuple[str, ...], tmp_path: Path,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    """The object of a command has the keys that docs/json.md lists for it, and no others."""
    _, found = answer(capsys, command[0], written(tmp_path, ONE_TYPE.format(rate=5.0)), *command[1:])
    assert set(found) == listed("Every object") | listed(command[0])


def test_json_of_a_trace_has_the_keys_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    """The same of `trace`."""
    _, found = answer(capsys, "trace", ROOT / "examples" / "requests.csv")
    assert set(found) == listed("Every object") | listed("trace")


def test_json_of_a_calibration_has_the_keys_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same of `calibrate`, on batches that a line describes exactly."""
    rows = [(n, 100 * k, 0.01 + 1e-6 * 100 * k + 1e-4 * n) for n in range(1, 9) for k in range(n, 9 * n)]
    path = tmp_path / "batches.csv"
    path.write_text("num_decode,kv_tokens_decode,num_prefill,prefill_tokens,batch_time_s\n"
                    + "".join(f"{n},{kv},0,0,{seconds}\n" for n, kv, seconds in rows), encoding="utf-8")
    _, found = answer(capsys, "calibrate", path)
    assert set(found) == listed("Every object") | listed("calibrate")


def listed(heading: str) -> set[str]:
    """The keys in the first table under a heading of docs/json.md, and those that windows add to `thresholds`."""
    text = (DOCS / "json.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0].strip().split("\n\n")[0]
    found = {key for row in section.splitlines()[2:] for key in re.findall(r"`(\w+)`", row.split(" | ")[0])}
    return found | ({"fluid_share", "types"} if heading == "thresholds" else set())


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page is to a file that is there."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
