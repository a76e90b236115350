"""One JSON object read in pieces: what the standard library reads, and limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from fluid import FileError
from fluid.files import json_object, text_file
from fluid.files.json_object import read_object
from fluid.files.text_file import opened


def read(path: Path, content: str) -> tuple[dict[str, Any] | None, list[Any] | None]:
    """The member "wanted" in an object and the list "listed", None where there is none."""
    path.write_text(content, encoding="utf-8")
    listed: list[Any] = []
    with opened(path) as text:
        found = read_object(text, {"listed": lambda piece: listed.append(piece)}, ("wanted",))
    return found, [each for piece in listed for each in piece] if listed else None


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=12))
VALUES = SCALARS
for _ in range(7):
    VALUES = st.one_of(SCALARS, st.lists(VALUES, max_size=3), st.dictionaries(st.text(max_size=3), VALUES, max_size=3))


@examples(100)
@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4), SCALARS, st.lists(SCALARS, max_size=12),
       st.sampled_from([1, 3, 8, 60]), st.booleans(), st.sampled_from([None, 1]))
def test_members_are_those_that_the_standard_library_reads(tmp_path_factory: pytest.TempPathFactory, others: Any,
                                                           wanted: Any, listed: Any, block: int, ascii_: bool,
                                                           indent: int | None) -> None:
    """However the text is cut into blocks and written, nested at most 8 deep."""
    document = {**others, "wanted": wanted, "listed": listed, "last": [5]}
    text = json.dumps(document, ensure_ascii=ascii_, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_file, "BLOCK", block)
        patch.setattr(text_file, "MOST_LINE_ENDS", block)
        found, given_list = read(tmp_path_factory.getbasetemp() / "object.json", text)
    assert found == {"wanted": wanted}
    assert given_list == listed


@pytest.mark.parametrize("content", [
    "[1]", "{", '{"a"', '{"a":', '{"a": }', '{"a": 1', '{"a": 1,', '{"a": 1,}', '{"a" 1}', "{a: 1}", '{"a": 1} x',
    '{"a": 1}{"b": 2}', '{"a": [1, 2}', '{"a": "b', '{"a": ]}', '{"listed": [1, 2', '{"listed": [1, ]}', '{"a": 1 2}',
    '{"a": 12', "x" * 50])
def test_a_text_that_is_no_object_is_none(tmp_path, monkeypatch, content):
    for block in (1, 4, 100):
        monkeypatch.setattr(text_file, "BLOCK", block)
        assert read(tmp_path / "object.json", content)[0] is None


@pytest.mark.parametrize(("content", "problem"), [
    ('{"listed": [1, [2]]}', "listed must be a list of numbers or texts (got '[')"),
    ('{"listed": [1, two]}', "listed must be JSON (got 'two')"),
    ('{"listed": [1, ' + "9" * 5000 + "]}", "listed must be JSON (got '" + "9" * 76 + "...)"),
    ('{"wanted": 01}', "wanted must be JSON (got '01')"),
    ('{"wanted": 1, "wanted": 2}', "wanted must stand in the object once"),
    ('{"a": "' + "x" * 300 + '"}', "a must have numbers and texts of at most 100 characters"),
    ('{"a": ' + "[" * 9 + "]" * 9 + "}", "a must have lists and objects at most 8 deep"),
    ("{" + ", ".join(f'"{i}": 1' for i in range(1001)) + "}", "must have at most 1,000 keys")])
def test_what_is_read_must_be_json_within_limits(tmp_path, monkeypatch, content, problem):
    monkeypatch.setattr(text_file, "BLOCK", 50)
    monkeypatch.setattr(json_object, "LONGEST_LINE", 100 if "xxx" in content else 10_000)
    with pytest.raises(FileError) as error:
        read(tmp_path / "object.json", content)
    assert str(error.value) == f"{tmp_path / 'object.json'}: {problem}"


def test_what_was_passed_over_is_shown_by_its_brackets(tmp_path):
    found, _ = read(tmp_path / "object.json", '{"wanted": [1, {"a": "]"}], "b": {}}')
    assert repr(found) == "{'wanted': [...]}"
