"""Questions: the same text for the same parts, differences in words; the program that is one of them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from fluid.errors import InputError
from verification.store import program
from verification.store.question import Digest, Question

HERE = Question.of(workload=Digest("ab" * 32), horizon=60.0, scales=(1, 4, 16), program="fluidwait 1")


def test_the_text_is_json_and_the_digest_its_sha_256() -> None:
    """Whatever the order in which the parts are named; a digest in it is plain text."""
    assert json.loads(HERE.text) == {"workload": "ab" * 32, "horizon": 60.0, "scales": [1, 4, 16],
                                     "program": "fluidwait 1"}
    assert Question.of(b=1, a="x").text == Question.of(a="x", b=1).text == '{"a": "x", "b": 1}'
    assert HERE.digest == hashlib.sha256(HERE.text.encode()).hexdigest()


@pytest.mark.parametrize(("there", "words"), [
    ({}, ""),
    ({"horizon": 30.0}, "horizon 30.0 there, 60.0 here"),
    ({"workload": Digest("cd" * 32)}, "another workload"),
    ({"program": "fluidwait 0", "scales": (1, 4)},
     "scales [1, 4] there, [1, 4, 16] here; program fluidwait 0 there, fluidwait 1 here"),
    ({"policy": "wait"}, "policy wait there, None here"),
])
def test_differences_are_told_in_the_order_of_the_parts(there: dict[str, Any], words: str) -> None:
    """Numbers and words are shown, digests are not; a part that only the other has is one."""
    assert HERE.difference(Question.of(**(dict(HERE.parts) | there)).text) == words


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes", (1.0, float("nan"))])
def test_a_part_that_json_cannot_say_is_refused(value: Any) -> None:
    """In one line that names it."""
    with pytest.raises(InputError, match="horizon must be text, a finite number"):
        Question.of(horizon=value)


def test_a_part_is_named_once() -> None:
    """Else its text would hold the last one only."""
    with pytest.raises(InputError, match="named once each"):
        Question((("seed", 1), ("seed", 2)))


def test_a_question_is_a_value() -> None:
    """Equal questions are one key, and one that was sent to another process is the same."""
    again = pickle.loads(pickle.dumps(HERE))
    assert {HERE: 1}[again] == 1
    assert again.digest == HERE.digest


def test_the_program_names_its_sources_the_form_and_the_libraries() -> None:
    """Every version whose change may change a bit."""
    parts = program.program("runs 3").split(", ")
    assert [part.split()[0] for part in parts] == ["fluidwait", "sources", "runs", "python", "numpy", "scipy", "numba",
                                                   "llvmlite"]
    assert parts[4] == f"numpy {importlib.metadata.version('numpy')}"
    assert program.program("runs 4") == program.program("runs 3").replace("runs 3", "runs 4")


def test_the_sources_are_all_that_compute_and_not_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit, a new file or a name of a file in any floor is another program, an edit of the store is not."""
    room = tmp_path / "verification" / "store"
    for folder in (tmp_path / "fluid" / "traces", tmp_path / "thresholds", room):
        folder.mkdir(parents=True)
    monkeypatch.setattr(program, "HOUSE", tmp_path)
    monkeypatch.setattr(program, "ROOM", room)

    def digest() -> str:
        return str(program._digest.__wrapped__())

    found = [digest()]
    for name, text in (("fluid/traces/a.py", "1"), ("thresholds/b.py", "2"), ("verification/c.py", "3"),
                       ("verification/c.py", "4")):
        (tmp_path / name).write_text(text)
        found.append(digest())
    (tmp_path / "verification" / "c.py").rename(tmp_path / "verification" / "d.py")
    found.append(digest())
    assert len(set(found)) == 6
    (room / "store.py").write_text("5")
    (tmp_path / "fluid" / "py.typed").write_text("")
    assert digest() == found[-1]
