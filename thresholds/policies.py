"""Threshold policies as values: frozen, checked when made, written to JSON and read back.

A policy holds what a scheduler installs and nothing else; a design (`thresholds.wait`) is a policy together with
what it guarantees. Thresholds are in prompts per stage. Source: mathematics, sections 3.1, 4.1, 5.1 and 13.2.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from fluid.errors import FileError, InputError, shown, whole
from fluid.files.whole_file import read_small
from fluid.files.written import write_file
from fluid.tables import listed

SCHEMA = 1
LARGEST_FILE = 2**24  # bytes: thresholds for a million prompt types


@dataclass(frozen=True)
class WaitPolicy:
    """WAIT [A, Algorithm 1]: type j joins a batch once n_j of its prompts wait, n_j in every stage; else it pauses.

    `thresholds` holds n_j, one whole number of at least 1 per prompt type; InputError otherwise.

    >>> WaitPolicy(thresholds=(3, 1)).thresholds
    (3, 1)
    """

    name: ClassVar[str] = "wait"
    label: ClassVar[str] = "WAIT"
    thresholds: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", _counts("thresholds", self.thresholds, "prompts", "WaitPolicy"))

    @property
    def by_type(self) -> bool:
        """Whether the type of a request, its output length with it, must be known or predicted on arrival."""
        return True


@dataclass(frozen=True)
class PacedPolicy:
    """Paced WAIT: in any g_j consecutive iterations at most N_j prompts of type j enter; residents never pause.

    `entries` N_j and `iterations` g_j are whole numbers of at least 1, one pair per prompt type or one pair for the
    whole mix, first come first served. With `gate` a type enters only as a full cohort: N_j at once, when N_j wait and
    none entered in the last g_j - 1 iterations. Iterations are counted while something is resident; when nothing is,
    the count starts anew. Raises InputError otherwise.

    >>> PacedPolicy(entries=(2,), iterations=(15,))
    PacedPolicy(entries=(2,), iterations=(15,), gate=False)
    """

    name: ClassVar[str] = "paced"
    label: ClassVar[str] = "paced WAIT"
    entries: tuple[int, ...]
    iterations: tuple[int, ...]
    gate: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", _counts("entries", self.entries, "prompts", "PacedPolicy"))
        object.__setattr__(self, "iterations", _counts("iterations", self.iterations, "iterations", "PacedPolicy"))
        if len(self.entries) != len(self.iterations):
            raise InputError("iterations", f"{len(self.entries)} numbers, as many as entries", self.iterations,
                             "PacedPolicy")
        if not isinstance(self.gate, bool):
            raise InputError("gate", "true or false", self.gate, "PacedPolicy")

    @property
    def by_type(self) -> bool:
        """Whether the type of a request, its output length with it, must be known or predicted on arrival."""
        return len(self.entries) > 1


@dataclass(frozen=True)
class NestedWaitPolicy:
    """Nested WAIT [A, Algorithm 2]: decode stages cut at `boundaries` r_1 < ... < r_L, one threshold per segment.

    Segment k holds the stages r_{k-1} + 1..r_k (the first also the prefill, stage 0). It joins a batch, with n_k
    prompts in every stage, when every segment up to it has its n_k prompts waiting at its entry; else it pauses. Output
    lengths are never looked at. Raises InputError unless the boundaries increase and there is one threshold of at least
    1 for each.

    >>> NestedWaitPolicy(boundaries=(20, 60, 120), thresholds=(5, 4, 2)).boundaries
    (20, 60, 120)
    """

    name: ClassVar[str] = "nested"
    label: ClassVar[str] = "nested WAIT"
    boundaries: tuple[int, ...]
    thresholds: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "boundaries", _counts("boundaries", self.boundaries, "stages", "NestedWaitPolicy"))
        object.__setattr__(self, "thresholds", _counts("thresholds", self.thresholds, "prompts", "NestedWaitPolicy"))
        if len(self.boundaries) != len(self.thresholds):
            raise InputError("thresholds", f"{len(self.boundaries)} numbers, as many as boundaries", self.thresholds,
                             "NestedWaitPolicy")
        if any(low >= high for low, high in pairwise(self.boundaries)):
            raise InputError("boundaries", "increasing stages", self.boundaries, "NestedWaitPolicy")

    @property
    def by_type(self) -> bool:
        """Whether output lengths must be known on arrival: never."""
        return False


@dataclass(frozen=True)
class LookAheadPolicy:
    """Look-ahead admission: a prompt enters while more KV than C is improbable in every block of coming iterations.

    The rule is in `thresholds.look_ahead.exponents`. Prompts fall into classes by their length: `prompts` has the least
    and the most tokens of each, ascending, `survival` for each the chances that a life from the last prefill iteration
    on takes more than 0, s, 2 s, .. iterations, s the `step`. Block b begins `points`[b] iterations ahead and ends
    where the next begins; each of its iterations may overflow with probability exp(`log_chances`[b]). `thetas` (per KV
    token) are those of the bound. Raises InputError unless there is one survival function for each class, from 1
    downwards and all of one length, and one chance for each point.

    >>> policy = LookAheadPolicy(((512, 512),), 1, ((1.0, 0.5),), (0,), (0.01,), (-7.0,))
    >>> policy.by_type
    False
    """

    name: ClassVar[str] = "look-ahead"
    label: ClassVar[str] = "look-ahead admission"
    prompts: tuple[tuple[int, int], ...]
    step: int
    survival: tuple[tuple[float, ...], ...]
    points: tuple[int, ...]
    thetas: tuple[float, ...]
    log_chances: tuple[float, ...]

    def __repr__(self) -> str:
        return (f"LookAheadPolicy({len(self.prompts)} classes of prompts, {len(self.points)} blocks of iterations from "
                f"{listed(self.points)} on)")

    def __post_init__(self) -> None:
        def keep(field: str, value: object) -> None:
            object.__setattr__(self, field, value)

        where = "LookAheadPolicy"
        keep("step", whole("step", self.step, where, unit="iterations"))
        keep("prompts", tuple(_counts("prompts", each, "tokens", where) for each in _rows("prompts", self.prompts)))
        keep("survival", tuple(_numbers("survival", each) for each in _rows("survival", self.survival)))
        for field in ("points", "thetas", "log_chances"):
            keep(field, _numbers(field, getattr(self, field)))
        bounds = [bound for each in self.prompts for bound in each]
        _require("prompts", self.prompts, "the least and the most tokens of each class, ascending",
                 all(len(each) == 2 for each in self.prompts) and bounds == sorted(bounds))
        _require("survival", self.survival, "for each class, falling from 1, all of one length",
                 len(self.survival) == len(self.prompts) and len({len(each) for each in self.survival}) == 1
                 and all(each[0] == 1.0 and sorted(each) == list(each[::-1]) and each[-1] >= 0
                         for each in self.survival))
        _require("points", self.points, "increasing from 0, multiples of step",
                 self.points[0] == 0 and all(low < high for low, high in pairwise(self.points))
                 and all(point % self.step == 0 for point in self.points))
        keep("points", tuple(int(point) for point in self.points))
        _require("thetas", self.thetas, "positive", min(self.thetas) > 0)
        _require("log_chances", self.log_chances, "negative, one for each point",
                 len(self.log_chances) == len(self.points) and max(self.log_chances) < 0)

    @property
    def by_type(self) -> bool:
        """Whether output lengths must be known on arrival: never."""
        return False


ThresholdPolicy = WaitPolicy | PacedPolicy | NestedWaitPolicy | LookAheadPolicy
_KINDS: dict[str, type[ThresholdPolicy]] = {"wait": WaitPolicy, "paced": PacedPolicy, "nested": NestedWaitPolicy,
                                            "look-ahead": LookAheadPolicy}


def to_json(policy: ThresholdPolicy) -> dict[str, Any]:
    """Return the installable part of a policy as a JSON object: schema, kind, and its numbers.

    >>> to_json(WaitPolicy((3, 1)))
    {'schema': 1, 'policy': 'wait', 'thresholds': [3, 1]}
    """
    for kind, policy_type in _KINDS.items():
        if isinstance(policy, policy_type):
            if not getattr(policy, fields(policy_type)[0].name):
                raise InputError("policy", "one with thresholds, to be written", (), "to_json")
            values = {each.name: getattr(policy, each.name) for each in fields(policy_type)}
            numbers = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
            return {"schema": SCHEMA, "policy": kind, **numbers}
    raise InputError("policy", "a threshold policy", policy, "to_json")


def from_json(data: Any, where: str = "policy") -> ThresholdPolicy:
    """Return the policy that `to_json` wrote; raises InputError for anything else, naming `where`.

    >>> from_json({"schema": 1, "policy": "wait", "thresholds": [3, 1]})
    WaitPolicy(thresholds=(3, 1))
    """
    if not isinstance(data, dict) or data.get("schema") is True or data.get("schema") != SCHEMA:
        raise InputError("schema", str(SCHEMA), data.get("schema") if isinstance(data, dict) else data, where)
    kind = data.get("policy")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InputError("policy", " or ".join(f'"{name}"' for name in _KINDS), kind, where)
    names = [each.name for each in fields(_KINDS[kind])]
    unknown = sorted(set(data) - {"schema", "policy", *names})
    if unknown:
        raise InputError("policy key", " or ".join(names), unknown[0], where)
    try:
        return _KINDS[kind](**{name: data.get(name, ()) for name in names if name != "gate" or name in data})
    except InputError as error:
        raise InputError(error.field, error.requirement, error.value, where) from None


def policy_text(policy: ThresholdPolicy) -> str:
    """The text of a policy's JSON file."""
    return json.dumps(to_json(policy), indent=2) + "\n"


def write_policy(policy: ThresholdPolicy, path: str | Path) -> None:
    """Write a policy to a JSON file, whole or not at all; raises FileError where it cannot be written."""
    write_file(Path(path), policy_text(policy))


def read_policy(path: str | Path) -> ThresholdPolicy:
    """Read a policy from a JSON file; raises InputError naming the file where it holds none."""
    try:
        data = json.loads(read_small(path, LARGEST_FILE).decode("utf-8-sig"))
    except FileError as error:
        raise InputError(f"policy file {path}", "a readable file", error.problem) from None
    except ValueError as error:
        raise InputError(f"policy file {path}", "JSON", str(error)) from None
    except RecursionError:
        raise InputError(f"policy file {path}", "JSON", "brackets nested too deeply") from None
    return from_json(data, str(path))


def _counts(field: str, values: Any, unit: str, where: str) -> tuple[int, ...]:
    if isinstance(values, str | set | frozenset | dict) or not isinstance(values, Iterable):
        raise InputError(field, f"a sequence of whole numbers of {unit}", values, where)
    values = tuple(values)
    if not values:
        raise InputError(field, f"at least one whole number of {unit}", shown(values), where)
    return tuple(whole(f"{field}[{i}]", value, where, unit=unit) for i, value in enumerate(values))


def _rows(field: str, values: Any) -> tuple[Any, ...]:
    entries = isinstance(values, list | tuple) and bool(values)
    _require(field, values, "a sequence with an entry for each class", entries)
    return tuple(values)


def _numbers(field: str, values: Any) -> tuple[float, ...]:
    numbers = isinstance(values, list | tuple) and bool(values) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values)
    _require(field, values, "a sequence of finite numbers", numbers)
    return tuple(float(value) for value in values)


def _require(field: str, value: Any, requirement: str, met: bool) -> None:
    if not met:
        raise InputError(field, requirement, value, "LookAheadPolicy")
