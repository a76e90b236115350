"""JSON of any shape, by the keys that the user names: an object a line, one list, lists in one object, nested ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tool_files import ROWS, lines, written

from fluid import Columns, FileError, read_trace
from fluid.files import text_file

FLAT = [{"when": time, "in": prompt, "out": output} for time, prompt, output in ROWS]
DEEP = [{"at": {"t": time}, "usage": {"tokens.in": prompt, "tokens": {"out": output}}} for time, prompt, output in ROWS]
NAMES, DEEP_NAMES = Columns("in", "out", "when"), Columns("usage.tokens.in", "usage.tokens.out", "at.t")
LISTS = {"note": "x", "in": [p for _, p, _ in ROWS], "out": [o for _, _, o in ROWS], "when": [t for t, _, _ in ROWS]}
FLATTENED = [{"usage.tokens.in": p, "usage.tokens.out": o, "at.t": t} for t, p, o in ROWS]


@pytest.mark.parametrize(("text", "names"), [
    (lines(FLAT), NAMES),
    (json.dumps(FLAT), NAMES),
    (json.dumps(FLAT, indent=1), NAMES),
    ("\n".join(json.dumps(each, indent=1) for each in FLAT), NAMES),
    ("[\n" + ",\n".join(json.dumps(each) for each in FLAT) + "\n]\n", NAMES),
    (lines(FLATTENED), DEEP_NAMES),
    (json.dumps(LISTS), NAMES),
    (json.dumps(LISTS, indent=1), NAMES),
    (json.dumps({"run": LISTS}), Columns("run.in", "run.out", "run.when")),
    (json.dumps({"meta": {"a": [1]}, "requests": FLAT}), Columns("requests.in", "requests.out", "requests.when")),
    (json.dumps({"data": {"requests": FLAT}}, indent=1),
     Columns("data.requests.in", "data.requests.out", "data.requests.when")),
])
def test_json_of_any_shape_is_read_by_its_keys(tmp_path: Path, monkeypatch: Any, text: str, names: Columns) -> None:
    """However its text is cut into blocks: the head of the file may hold its first object, or not."""
    path = written(tmp_path, text)
    for block in (2**20, 20):
        monkeypatch.setattr(text_file, "BLOCK", block)
        monkeypatch.setattr(text_file, "MOST_LINE_ENDS", block)
        trace = read_trace(path, columns=names)
        assert trace.times is not None
        found = zip(trace.times.tolist(), trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
        assert list(found) == ROWS
        assert trace.format == "columns"


def test_dots_go_into_objects_unless_a_key_is_written_so(tmp_path: Path) -> None:
    rows = [{"usage": {"in": 5, "out": 2}}, {"usage.in": 7, "usage.out": 3, "usage": {"in": 1}}]
    trace = read_trace(written(tmp_path, lines(rows)), columns=Columns("usage.in", "usage.out"))
    assert trace.prompt_tokens.tolist() == [5, 7]
    assert trace.output_tokens.tolist() == [2, 3]


@pytest.mark.parametrize(("text", "names", "problem"), [
    (lines(FLAT), Columns("in", "outs"), 'has no key "outs" (its keys are when, in, out)'),
    (json.dumps(FLAT), Columns("ins", "out"), 'has no key "ins" (its keys are when, in, out)'),
    (json.dumps(LISTS), Columns("in", "outs"), 'has no list "outs" (it has in)'),
    (json.dumps({**LISTS, "out": [1]}), NAMES, "out must have 4 entries like in (got 1)"),
    (json.dumps(FLAT)[:-9], NAMES, "must be JSON (it is not from request 1 on)"),
    (lines([*FLAT, {"in": 5}]), NAMES, "1 of 5 rows cannot be used: line 5, out must be a whole number of tokens"),
    (json.dumps([*FLAT, 7]), NAMES, "1 of 5 rows cannot be used: request 5, the row must be a JSON object; skip"),
])
def test_keys_that_are_not_there_are_named(tmp_path: Path, text: str, names: Columns, problem: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(FileError) as caught:
        read_trace(path, columns=names)
    assert str(caught.value).removeprefix(f"{path}: ").startswith(problem)
