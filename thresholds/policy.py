"""Threshold policies as values: frozen, checked when made, written to JSON and read back.

A policy holds what a scheduler installs and nothing else; a design (`thresholds.wait`) is a policy together with
what it guarantees. Thresholds are in prompts per stage. Source: model.md section 3.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluid.errors import InputError, shown, whole

SCHEMA = 1


@dataclass(frozen=True)
class WaitPolicy:
    """WAIT [A, Algorithm 1]: type j is served once n_j of its prompts wait, n_j of them in every stage.

    `thresholds` holds n_j, one whole number of at least 1 per prompt type; InputError otherwise.

    >>> WaitPolicy(thresholds=(3, 1)).thresholds
    (3, 1)
    """

    thresholds: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", _counts("thresholds", self.thresholds, "prompts", "WaitPolicy"))


_KINDS = {"wait": WaitPolicy}


def to_json(policy: WaitPolicy) -> dict[str, Any]:
    """Return the installable part of a policy as a JSON object: schema, kind, thresholds.

    >>> to_json(WaitPolicy((3, 1)))
    {'schema': 1, 'policy': 'wait', 'thresholds': [3, 1]}
    """
    for kind, policy_type in _KINDS.items():
        if isinstance(policy, policy_type):
            return {"schema": SCHEMA, "policy": kind, "thresholds": list(policy.thresholds)}
    raise InputError("policy", "a threshold policy", policy, "to_json")


def from_json(data: Any, where: str = "policy") -> WaitPolicy:
    """Return the policy that `to_json` wrote; raises InputError for anything else, naming `where`.

    >>> from_json({"schema": 1, "policy": "wait", "thresholds": [3, 1]})
    WaitPolicy(thresholds=(3, 1))
    """
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise InputError("schema", str(SCHEMA), data.get("schema") if isinstance(data, dict) else data, where)
    kind = data.get("policy")
    if kind not in _KINDS:
        raise InputError("policy", " or ".join(f'"{name}"' for name in _KINDS), kind, where)
    try:
        return _KINDS[kind](data.get("thresholds", ()))
    except InputError as error:
        raise InputError(error.field, error.requirement, error.value, where) from None


def write_policy(policy: WaitPolicy, path: str | Path) -> None:
    """Write a policy to a JSON file."""
    Path(path).write_text(json.dumps(to_json(policy), indent=2) + "\n", encoding="utf-8")


def read_policy(path: str | Path) -> WaitPolicy:
    """Read a policy from a JSON file; raises InputError naming the file where it holds none."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError("policy file", f"readable ({error.strerror})", str(path)) from None
    except ValueError as error:
        raise InputError("policy file", f"JSON text ({error})", str(path)) from None
    return from_json(data, str(path))


def _counts(field: str, values: Any, unit: str, where: str) -> tuple[int, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(field, f"a sequence of whole numbers of {unit}", values, where)
    values = tuple(values)
    if not values:
        raise InputError(field, f"at least one whole number of {unit}", shown(values), where)
    return tuple(whole(f"{field}[{i}]", value, where, unit=unit) for i, value in enumerate(values))
