"""Threshold policies as values: what they refuse, and their way through JSON and back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import sampled

from fluid import IterationTime, PromptType, Replica, Workload
from fluid.errors import InputError
from thresholds import WaitPolicy, read_policy, wait, write_policy
from thresholds.policies import LARGEST_FILE, from_json, to_json


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "1", None, float("nan"), float("inf"), 2**53 + 2, 10**400, [1]])
def test_a_threshold_that_is_not_a_whole_number_from_1_is_refused_by_its_place(bad: Any) -> None:
    with pytest.raises(InputError, match=r"^thresholds\[1\] must be a whole number .* in WaitPolicy$"):
        WaitPolicy((3, bad))


@pytest.mark.parametrize("bad", [(), "31", 3, None])
def test_thresholds_that_are_no_sequence_of_numbers_are_refused(bad: Any) -> None:
    with pytest.raises(InputError, match=r"^thresholds must be .*of whole numbers|^thresholds must be at least one"):
        WaitPolicy(bad)


@pytest.mark.parametrize("same", [[3, 1], (3.0, 1.0), np.array([3, 1]), iter([3, 1])])
def test_whole_numbers_of_any_kind_make_the_same_policy(same: Any) -> None:
    policy = WaitPolicy(same)
    assert policy == WaitPolicy((3, 1))
    assert hash(policy) == hash(WaitPolicy((3, 1)))
    assert all(type(n) is int for n in policy.thresholds)


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        WaitPolicy((3, 1)).thresholds = (1, 1)  # type: ignore[misc]


@sampled
@given(st.lists(st.integers(1, 2**53), min_size=1, max_size=8))
def test_a_policy_comes_back_from_json_as_it_was(counts: list[int]) -> None:
    policy = WaitPolicy(counts)
    assert from_json(json.loads(json.dumps(to_json(policy), allow_nan=False))) == policy


def test_a_policy_comes_back_from_its_file(tmp_path: Path) -> None:
    write_policy(WaitPolicy((5, 2, 7)), tmp_path / "policy.json")
    assert read_policy(tmp_path / "policy.json") == WaitPolicy((5, 2, 7))
    assert read_policy(str(tmp_path / "policy.json")).thresholds == (5, 2, 7)


def test_a_design_is_written_as_the_policy_to_install(tmp_path: Path) -> None:
    """One type, rate 10, Delta(n) = 1: the least n with n >= 10 Delta(n) is 10."""
    design = wait(Workload([PromptType(1, 1, 10.0)]), Replica(100, IterationTime(1.0, 0.0)))
    write_policy(design, tmp_path / "design.json")
    assert read_policy(tmp_path / "design.json") == WaitPolicy((10,))


def test_only_threshold_policies_are_written() -> None:
    with pytest.raises(InputError, match=r"^policy must be a threshold policy"):
        to_json("wait")  # type: ignore[arg-type]


GOOD = {"schema": 1, "policy": "wait", "thresholds": [3, 1]}


@pytest.mark.parametrize(("content", "message"), [
    (b"\xff\xfe\x00\x81", r"^policy file bad\.json must be JSON \(got .*\)$"),
    (b"thresholds = [3, 1]", r"^policy file bad\.json must be JSON \(got .*\)$"),
    (b"", r"^policy file bad\.json must be JSON \(got .*\)$"),
    (b"[" * 100_000, r"^policy file bad\.json must be JSON \(got 'brackets nested too deeply'\)$"),
    (b'{"schema": ' + b"9" * 5000 + b"}", r"^policy file bad\.json must be JSON \(got .*\)$"),
    (b" " * (LARGEST_FILE + 1), r"^policy file bad\.json must be a readable file \(got '.* at most 16,777,216 bytes"),
    (GOOD | {"schema": 0}, r"^schema must be 1 \(got 0\) in bad\.json$"),
    (GOOD | {"schema": -7}, r"^schema must be 1 \(got -7\) in bad\.json$"),
    (GOOD | {"thresholds": [2**53 + 1]}, r"^thresholds\[0\] must be .* \(got 9007199254740993\) in bad\.json$"),
    (GOOD | {"thresholds": [10**400]}, r"^thresholds\[0\] must be .* \(got 1000.*\) in bad\.json$"),
    (b"[3, 1]", r"^schema must be 1 \(got \[3, 1\]\) in bad\.json$"),
    (GOOD | {"schema": 2}, r"^schema must be 1 \(got 2\) in bad\.json$"),
    ({"thresholds": [3, 1]}, r"^schema must be 1 \(got None\) in bad\.json$"),
    (GOOD | {"policy": "sarathi"}, r"^policy must be .* \(got 'sarathi'\) in bad\.json$"),
    ({"schema": 1}, r"^policy must be .* \(got None\) in bad\.json$"),
    (GOOD | {"thresholds": [3, 0]}, r"^thresholds\[1\] must be .* \(got 0\) in bad\.json$"),
    (GOOD | {"thresholds": []}, r"^thresholds must be at least one .* in bad\.json$"),
    (GOOD | {"thresholds": 3}, r"^thresholds must be a sequence .* in bad\.json$"),
    (GOOD | {"thresholds": [float("nan")]}, r"^thresholds\[0\] must be .* \(got nan\) in bad\.json$"),
    ({"schema": 1, "policy": "wait"}, r"^thresholds must be at least one .* in bad\.json$"),
])
def test_a_file_without_a_policy_is_refused_in_one_line_that_names_it(
        content: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(InputError, match=message) as found:
        read_policy("bad.json")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_file_that_cannot_be_read_is_refused_in_one_line_that_names_it(
        name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"^policy file {re.escape(name)} must be a readable file \(got '") as found:
        read_policy(name)
    assert "\n" not in str(found.value)


def test_a_kind_that_is_not_a_name_is_refused_like_any_other() -> None:
    with pytest.raises(InputError, match=r"^policy must be"):
        from_json(GOOD | {"policy": ["wait"]})


def test_a_file_deep_in_folders_is_named_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / ("folder" * 12) / "missing.json"
    with pytest.raises(InputError, match=r"missing\.json"):
        read_policy(path)


def test_thresholds_that_do_not_exist_are_not_written(tmp_path: Path) -> None:
    """Rate 10 with 1 s of work each: rho = 10, no thresholds; a file with [] could never be read back."""
    design = wait(Workload([PromptType(1, 1, 10.0)]), Replica(100, IterationTime(1.0, 0.0, 0.0, 0.5)))
    with pytest.raises(InputError):
        write_policy(design, tmp_path / "none.json")


def test_a_policy_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert read_policy(tmp_path / "policy.json") == WaitPolicy((3, 1))
